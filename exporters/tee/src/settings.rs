// SPDX-License-Identifier: Apache-2.0

//! The settings of the tee, and one of the host's that concerns it.

use std::time::Duration;

use nixl_telemetry_sdk::{Millis, Setting};

use crate::list::List;

/// No wait is longer, whatever was set: there are times that cannot be added to the clock.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) static TEE: Setting<List> = Setting::required(
    "NIXL_TELEMETRY_TEE",
    "Exporters by name, separated by commas. Each may be given only events whose name fits one of some patterns, as with \
     csv:agent_err_*+ucx_*, and only one of N transfers, as with jsonl@1/100.",
);

pub(crate) static QUEUE_SIZE: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_TEE_QUEUE_SIZE",
    "1000000",
    "Events that may wait for one exporter; what finds no room is dropped and counted.",
)
.unit("events")
.check("a decimal or 0x-hex number from 1 to 18446744073709551615", |events| *events > 0);

/// The default is that of `nixl_telemetry_sdk::queue`.
pub(crate) static QUEUE_BYTES: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_TEE_QUEUE_BYTES",
    "33554432",
    "Memory that may be taken by what waits for one exporter. What waits for several is kept once, and counts for each.",
)
.unit("bytes");

pub(crate) static OPEN_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_TEE_OPEN_TIMEOUT",
    "2000",
    "Time the start of an agent may wait for exporters to open. One that takes longer has its events wait; if \
     NIXL_TELEMETRY_ON_ERROR is fail, it is an error.",
);

/// Shorter than what this project's host gives an exporter, 2000, which would leave the tee itself behind.
pub(crate) static SHUTDOWN_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_TEE_SHUTDOWN_TIMEOUT",
    "1500",
    "Time the end of an agent may wait until each exporter has what waits for it, and has ended. What is left then is \
     dropped and counted.",
);

/// The host's: whether dropped events are to be told of by an event.
pub(crate) static ENABLED_METRICS: Setting<String> =
    Setting::new("NIXL_TELEMETRY_ENABLED_METRICS", "", "Patterns of the events to record; empty records all.");
