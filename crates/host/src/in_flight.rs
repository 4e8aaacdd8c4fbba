// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::Status;

use crate::clock::monotonic_ns;
use crate::{Direction, Recorder, Transfer};

/// A transfer whose clock is running; see [`Recorder::start`].
///
/// Dropped without [`complete`](Self::complete) or [`fail`](Self::fail) it records nothing, as in NIXL, where a request
/// that is released before its completion was observed leaves no event.
#[derive(Debug)]
#[must_use = "a transfer that is neither completed nor failed is not recorded"]
pub struct InFlight {
    recorder: Recorder,
    direction: Direction,
    bytes: u64,
    descriptors: u64,
    start_ns: u64,
    post_us: Option<u64>,
}

/// What is known of one completed transfer: NIXL's `nixlXferTelemetry`, which no setting filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XferTelemetry {
    /// When the transfer started, in microseconds on `CLOCK_MONOTONIC`.
    pub start_us: u64,
    /// Microseconds until the backend's post call returned, truncated.
    pub post_us: u64,
    /// Microseconds until completion was observed, truncated. Never less than `post_us`.
    pub xfer_us: u64,
    /// Bytes of the whole request.
    pub bytes: u64,
    /// Pieces the request consists of.
    pub descriptors: u64,
}

impl InFlight {
    pub(crate) fn start(recorder: Recorder, direction: Direction, bytes: u64, descriptors: u64) -> Self {
        Self { recorder, direction, bytes, descriptors, start_ns: monotonic_ns(), post_us: None }
    }

    /// The backend's post call returned, and the transfer is still running. Only the first call counts.
    pub fn posted(&mut self) {
        if self.post_us.is_none() {
            self.post_us = Some(self.elapsed_us());
        }
    }

    /// The transfer is complete: records it. Without [`posted`](Self::posted) it was complete at its post, and both
    /// times are the same.
    pub fn complete(self) -> XferTelemetry {
        let xfer_us = self.elapsed_us();
        let post_us = self.post_us.unwrap_or(xfer_us);
        self.recorder.transfer(Transfer {
            direction: self.direction,
            bytes: self.bytes,
            post_time_us: post_us,
            transfer_time_us: xfer_us,
        });
        let Self { bytes, descriptors, start_ns, .. } = self;
        XferTelemetry { start_us: start_ns / 1000, post_us, xfer_us, bytes, descriptors }
    }

    /// The transfer failed: records the error, and nothing else.
    pub fn fail(self, status: Status) {
        self.recorder.error(status);
    }

    fn elapsed_us(&self) -> u64 {
        monotonic_ns().saturating_sub(self.start_ns) / 1000
    }
}
