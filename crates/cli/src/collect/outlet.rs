// SPDX-License-Identifier: Apache-2.0

//! One exporter of one agent: made when it can be, and again and again while it cannot.

use std::time::{Duration, Instant};

use nixl_telemetry_event::{BatchId, Event};
use nixl_telemetry_loader::{CreateError, Exporter, Plugin};

use crate::collect::ledger::Done;

/// The exporter that discards.
pub(crate) const NOP: &str = "NOP";

/// An exporter by name, before there are agents.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// None for [`NOP`].
    pub(crate) plugin: Option<Plugin>,
}

/// The place of an exporter.
#[derive(Debug)]
pub(crate) struct Outlet {
    kind: Kind,
    slot: Slot,
    /// Whether the last batch failed, so that only the first of several in a row is worth a line.
    is_failing: bool,
}

#[derive(Debug)]
enum Slot {
    Discards,
    Exports(Exporter),
    Missing(Missing),
}

/// Since when there is none, and when it is tried again.
#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    again: Instant,
    pause: Duration,
    tries: u32,
}

/// What trying to make an exporter came to.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It is there, after so many tries.
    Made { tries: u32 },
    /// It could not be made the first time.
    Failed(CreateError),
    /// It could not be made, as before.
    FailedAgain(CreateError),
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Outlet {
    /// An outlet without its exporter, which is to be made at once.
    pub(crate) fn new(kind: Kind, now: Instant) -> Self {
        let slot = match kind.plugin {
            None => Slot::Discards,
            Some(_) => Slot::Missing(Missing { since: now, again: now, pause: FIRST_PAUSE, tries: 0 }),
        };
        Self { kind, slot, is_failing: false }
    }

    pub(crate) fn name(&self) -> &str {
        &self.kind.name
    }

    /// Whether its exporter is missing, and it is time to try.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.slot, Slot::Missing(missing) if missing.again <= now)
    }

    /// For how long its exporter has been missing, if it is.
    pub(crate) fn missing_for(&self, now: Instant) -> Option<Duration> {
        match self.slot {
            Slot::Missing(missing) => Some(now.saturating_duration_since(missing.since)),
            _ => None,
        }
    }

    /// Tries to make its exporter, unless there is one.
    pub(crate) fn make(&mut self, agent: &str, now: Instant) -> Option<Tried> {
        let (Slot::Missing(missing), Some(plugin)) = (&mut self.slot, &self.kind.plugin) else { return None };
        missing.tries += 1;
        let tries = missing.tries;
        Some(match plugin.create_exporter(agent, BatchId::MOST_EVENTS as u64) {
            Ok(exporter) => {
                self.slot = Slot::Exports(exporter);
                Tried::Made { tries }
            }
            Err(error) => {
                missing.again = now + missing.pause;
                missing.pause = (missing.pause * 2).min(LONGEST_PAUSE);
                if tries == 1 { Tried::Failed(error) } else { Tried::FailedAgain(error) }
            }
        })
    }

    /// Hands over a batch. Also says what went wrong, where anything did.
    pub(crate) fn export(&mut self, events: &[Event<'_>]) -> (Done, Option<String>) {
        let all = events.len() as u64;
        match &mut self.slot {
            Slot::Discards => (Done { exported: all, ..Done::default() }, None),
            Slot::Missing(_) => (Done { failed: all, ..Done::default() }, None),
            Slot::Exports(exporter) => {
                let done = exporter.export(events);
                let (exported, unsupported) = (done.accepted, done.unsupported);
                let failed = all - exported - unsupported;
                let first =
                    done.first_failure.map_or_else(|| "no reason given".to_owned(), |failure| failure.to_string());
                let why = (failed > 0).then_some(first);
                (Done { exported, failed, unsupported }, why)
            }
        }
    }

    /// Notes whether the last batch failed; true if that is another answer than before.
    pub(crate) fn set_failing(&mut self, is_failing: bool) -> bool {
        std::mem::replace(&mut self.is_failing, is_failing) != is_failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_discards_takes_everything_and_is_never_missing() {
        let now = Instant::now();
        let mut outlet = Outlet::new(Kind { name: NOP.to_owned(), plugin: None }, now);
        assert!(!outlet.is_due(now) && outlet.missing_for(now).is_none() && outlet.make("a", now).is_none());
        let events = [Event::backend("x", 1); 3];
        assert_eq!(outlet.export(&events), (Done { exported: 3, ..Done::default() }, None));
        assert!(outlet.set_failing(true) && !outlet.set_failing(true) && outlet.set_failing(false));
    }
}
