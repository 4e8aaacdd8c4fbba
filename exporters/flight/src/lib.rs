// SPDX-License-Identifier: Apache-2.0

//! A flight recorder: keeps the last NIXL telemetry events of an agent, with their times, in a file that survives the
//! process. `NIXL_TELEMETRY_EXPORTER=flight`.
//!
//! The file is a ring, of the first version of NIXL's own ring files, in which the oldest events give way. Nothing has to be
//! done at the end of a process, so that none can prevent it. Where errors come at a rate, and where a process begins whose
//! predecessor left events, what the ring holds is copied into a file of its own, a dump.

#![forbid(unsafe_code)]

mod dumps;
mod trigger;

use std::path::PathBuf;
use std::time::Instant;

use nixl_telemetry_event::Generation;
use nixl_telemetry_ring::{Keep, Options, Writer};
use nixl_telemetry_sdk::{
    Agent, Batch, Describe, Error, Event, Exporter, FileMode, Millis, Setting, Settings, absolute, export_plugin, warn,
};

use crate::dumps::Dumps;
use crate::trigger::{Errors, Trigger};

static DIR: Setting<PathBuf> = Setting::required(
    "NIXL_TELEMETRY_FLIGHT_DIR",
    "Directory of the recorders' files, which must exist; a file is named after its agent, other bytes than letters, \
     digits, -, _ and . written as %XX.",
);
static EVENTS: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_FLIGHT_EVENTS",
    "65536",
    "Room for so many events of 56 bytes, rounded up to a power of two; at least the last seven eighths of them are kept.",
)
.unit("events")
.check("a number from 16 to 1073741824", |events| (16..=1 << 30).contains(events));
static MODE: Setting<FileMode> =
    Setting::new("NIXL_TELEMETRY_FLIGHT_MODE", "600", "Permissions of recorders' files and dumps, in octal.")
        .check("permissions in octal digits with which the owner may read and write, from 600 to 777", |mode| {
            mode.0 & 0o600 == 0o600
        });
static DUMP_DIR: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_FLIGHT_DUMP_DIR",
    "Directory of the dumps, made with the first if it is not there; if unset, the folder dumps beside the files.",
);
static ERRORS: Setting<Errors> = Setting::new(
    "NIXL_TELEMETRY_FLIGHT_ERRORS",
    "10/1s",
    "Errors within a time at which a dump is made, such as 10/1s or 1/500ms; off makes none.",
);
static COOLDOWN: Setting<Millis> =
    Setting::new("NIXL_TELEMETRY_FLIGHT_COOLDOWN", "60000", "Least time between two dumps that errors make.");
static MAX_DUMPS: Setting<u32> = Setting::new(
    "NIXL_TELEMETRY_FLIGHT_MAX_DUMPS",
    "10",
    "Dumps that are kept of each recorder, beyond which the oldest is removed; those that were asked for do not count. \
     0 makes none.",
);

/// The recorder of one agent.
struct Flight {
    writer: Writer,
    trigger: Trigger,
    dumps: Dumps,
}

impl Exporter for Flight {
    const SETTINGS: &'static [&'static dyn Describe] =
        &[&DIR, &EVENTS, &MODE, &DUMP_DIR, &ERRORS, &COOLDOWN, &MAX_DUMPS];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let directory = absolute(DIR.name(), &settings.get(&DIR)?.value)?;
        let dumps = match settings.find(&DUMP_DIR)? {
            Some(found) => absolute(DUMP_DIR.name(), &found.value)?,
            None => directory.join("dumps"),
        };
        let mode = settings.get(&MODE)?.value.0;
        let dumps = Dumps { directory: dumps, mode, most: settings.get(&MAX_DUMPS)?.value };
        let trigger = Trigger::new(settings.get(&ERRORS)?.value.0, settings.get(&COOLDOWN)?.value.duration());
        let events = settings.get(&EVENTS)?.value;
        let capacity = events.next_power_of_two();
        if capacity != events {
            warn!("exporter flight: {} is {events}, which is no power of two: {capacity} it is", EVENTS.name());
        }
        let options = Options { capacity, generation: Generation::V0_9, keep: Keep::Newest, mode };
        let writer = Writer::create_saving(&directory, agent.name(), options, &mut |left| dumps.previous(left))
            .map_err(|(path, error)| format!("{}: {}: {error}", DIR.name(), path.display()))?;
        Ok(Self { writer, trigger, dumps })
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let path = self.writer.path().to_owned();
        if !self.writer.check().map_err(|error| format!("{}: {error}", path.display()))? {
            warn!("exporter flight: {} was removed or cut short, and is begun anew", path.display());
        }
        let (events, now) = (batch.iter().collect::<Vec<_>>(), Instant::now());
        let mut rest = events.as_slice();
        // A dump ends with the error that called for it.
        while let Some(at) = rest.iter().position(|event| self.trigger.sees(event, now)) {
            let (before, after) = rest.split_at(at + 1);
            self.record(before);
            self.dumps.errors(&self.writer);
            rest = after;
        }
        self.record(rest);
        Ok(())
    }
}

impl Flight {
    fn record(&mut self, events: &[Event<'_>]) {
        let pushed = self.writer.push(events);
        debug_assert_eq!(pushed.written, events.len() as u64, "the form holds every event, and the oldest give way");
    }
}

export_plugin!("flight", Flight);

#[cfg(test)]
mod tests;
