// SPDX-License-Identifier: Apache-2.0

//! `BUFFER`: NIXL's ring file.

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_log::{error, info, warn};
use nixl_telemetry_ring::{Keep, Options, Writer};
use nixl_telemetry_settings::Origin;

use crate::choose::Context;
use crate::lenient::Lenient;
use crate::settings::{BUFFER_KEEP, BUFFER_MODE, BUFFER_SIZE, BufferKeep, DIR, OnError};
use crate::{Exported, Sink};

/// A sink that writes one agent's ring file.
pub(crate) struct Buffer {
    agent: String,
    writer: Writer,
    /// Whether the number of refused events is an event itself.
    reports: bool,
    /// Events refused that no event has told of.
    untold: u64,
}

impl Buffer {
    /// The agent's file, made; or what is wrong, naming the setting or the file.
    pub(crate) fn create(context: &Context, lenient: &mut Lenient<'_>) -> Result<Self, String> {
        let said = |error: crate::Error| error.to_string();
        let Some(directory) = lenient.find(&DIR).map_err(said)? else {
            return Err(format!("{} is not set: expected the directory of the ring files", DIR.name()));
        };
        let options = Options {
            capacity: capacity(context, lenient)?,
            generation: context.generation,
            keep: match lenient.get(&BUFFER_KEEP).map_err(said)? {
                BufferKeep::Oldest => Keep::Oldest,
                BufferKeep::Newest => Keep::Newest,
            },
            mode: lenient.get(&BUFFER_MODE).map_err(said)?.0,
        };
        let writer = Writer::create(&directory.value, &context.agent, options).map_err(|(path, error)| {
            format!("{} is {:?} ({}): {}: {error}", DIR.name(), directory.value, directory.origin, path.display())
        })?;
        info!("agent {}: {} slots in {}", context.agent, writer.capacity(), writer.path().display());
        Ok(Self { agent: context.agent.to_string(), writer, reports: context.reports_drops, untold: 0 })
    }

    /// Whether the file is there to be written.
    fn is_there(&mut self) -> Result<(), String> {
        match self.writer.check() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let path = self.writer.path().display();
                warn!(
                    "agent {}: {path} was removed, or its length changed, by somebody else; it is made anew",
                    self.agent
                );
                Ok(())
            }
            Err(error) => Err(format!("{}: {error}", self.writer.path().display())),
        }
    }
}

/// The number of slots: where the setting is no power of two, the next one, unless that is to be an error as with NIXL.
fn capacity(context: &Context, lenient: &mut Lenient<'_>) -> Result<u64, String> {
    let asked = lenient.get(&BUFFER_SIZE).map_err(|error| error.to_string())?;
    let slots = asked.checked_next_power_of_two().unwrap_or(1 << 63).max(2);
    if slots == asked {
        return Ok(slots);
    }
    let origin = lenient.settings().find(&BUFFER_SIZE).ok().flatten().map_or(Origin::Default, |found| found.origin);
    let problem = format!("{} is {asked} ({origin}): expected a power of two from 2 on", BUFFER_SIZE.name());
    if lenient.policy() == OnError::Fail {
        return Err(problem);
    }
    error!("agent {}: {problem}; the ring file has {slots} slots", context.agent);
    Ok(slots)
}

impl Sink for Buffer {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        if let Err(problem) = self.is_there() {
            self.untold += batch.len() as u64;
            return Exported { failed: batch.len() as u64, first_failure: Some(problem), ..Exported::default() };
        }
        if self.reports && self.untold > 0 {
            let report = Event::new(Kind::TELEMETRY_EVENTS_DROPPED, self.untold);
            let time = batch.first().and_then(Event::timestamp_us);
            if self.writer.push(&[time.map_or(report, |time| report.at(time))]).written == 1 {
                self.untold = 0;
            }
        }
        let pushed = self.writer.push(batch);
        self.untold += pushed.refused;
        Exported {
            accepted: pushed.written,
            failed: pushed.refused,
            unsupported: pushed.unsupported,
            first_failure: (pushed.refused > 0)
                .then(|| format!("{} is full: nobody takes events out of it", self.writer.path().display())),
            ..Exported::default()
        }
    }
}
