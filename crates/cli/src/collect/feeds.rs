// SPDX-License-Identifier: Apache-2.0

//! From rings to exporters: each agent's events to all of its exporters, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nixl_telemetry_event::{BatchId, Event};
use nixl_telemetry_ring::{Batch, Change, Follower, Header, Mode, ReadError, Taken};

use crate::collect::ledger::Ledger;
use crate::collect::outlet::{Kind, Outlet, Tried};
use crate::common::human;
use crate::common::terminal::{Style, complain};
use crate::rings::selection::Selection;

/// What is done with the events of all rings.
#[derive(Debug)]
pub(crate) struct Feeds {
    pub(crate) mode: Mode,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) selection: Selection,
    /// Whether events of an agent wait for an exporter that cannot be made, however long that takes.
    pub(crate) is_patient: bool,
    /// Whether only what goes wrong is said.
    pub(crate) quiet: bool,
    pub(crate) ledger: Arc<Ledger>,
    /// By the paths of the rings.
    pub(crate) feeds: BTreeMap<PathBuf, Feed>,
}

/// One agent, and its exporters.
#[derive(Debug)]
pub(crate) struct Feed {
    agent: String,
    outlets: Vec<Outlet>,
    /// The header as it was when the ring was full at the last look.
    full: Option<Header>,
    is_told_full: bool,
    is_told_contended: bool,
}

/// How long events wait in their ring for an exporter that cannot be made, before the others get them.
const PATIENCE: Duration = Duration::from_secs(10);

impl Feeds {
    /// Does what there is to do about a change.
    pub(crate) fn visit(&mut self, follower: &Follower, change: Change<'_>) -> Taken {
        match change {
            Change::Came => self.come(follower),
            Change::Events(batch) => return self.feed(follower, batch),
            Change::Gone => self.go(follower.path()),
            Change::Unreadable(error) => self.unreadable(follower.path(), error),
            Change::Readable => self.ledger.set_unreadable(follower.path(), None),
            Change::Foreign(error) => {
                self.note(&format!("{} is left alone: it {error}", follower.path().display()));
            }
        }
        Taken::Yes
    }

    /// Tries to make exporters that are missing, those whose time has come or all.
    pub(crate) fn make_missing(&mut self, all: bool) {
        let (ledger, quiet) = (&self.ledger, self.quiet);
        for (ring, feed) in &mut self.feeds {
            for index in 0..feed.outlets.len() {
                let now = Instant::now();
                if feed.outlets[index].is_due(now) || (all && feed.outlets[index].missing_for(now).is_some()) {
                    feed.make(ring, index, ledger, quiet);
                }
            }
        }
    }

    /// Says so where a ring that nobody consumes is full, and has been at the last look.
    pub(crate) fn look_for_full_rings<'a>(&mut self, rings: impl Iterator<Item = &'a Follower>) {
        for follower in rings {
            let Some(feed) = self.feeds.get_mut(follower.path()) else { continue };
            let full = header(follower).filter(Header::is_full);
            let is_stuck = full.is_some() && full == std::mem::replace(&mut feed.full, full);
            if is_stuck && !std::mem::replace(&mut feed.is_told_full, true) {
                let what = "its ring is full and nobody consumes, so that what it does next is not in it: --consume \
                            makes room";
                complain(Style::Odd, "warning", &human::line(&format!("agent {}: {what}", feed.agent)));
            }
        }
    }

    /// Ends all exporters.
    pub(crate) fn close(&mut self) {
        while let Some((_, feed)) = self.feeds.pop_first() {
            feed.close(&self.ledger);
        }
    }

    fn come(&mut self, follower: &Follower) {
        let ring = follower.path();
        self.ledger.set_unreadable(ring, None);
        if self.feeds.contains_key(ring) {
            return;
        }
        let now = Instant::now();
        let mut feed = Feed {
            agent: follower.agent().to_owned(),
            outlets: self.kinds.iter().map(|kind| Outlet::new(kind.clone(), now)).collect(),
            full: None,
            is_told_full: false,
            is_told_contended: false,
        };
        let names: Vec<_> = self.kinds.iter().map(|kind| kind.name.as_str()).collect();
        self.ledger.came(ring, &feed.agent, &names);
        self.note(&format!("agent {} came: {}", feed.agent, ring.display()));
        for index in 0..names.len() {
            feed.make(ring, index, &self.ledger, self.quiet);
        }
        self.feeds.insert(ring.to_owned(), feed);
    }

    fn feed(&mut self, follower: &Follower, batch: &Batch) -> Taken {
        let ring = follower.path();
        let Some(feed) = self.feeds.get_mut(ring) else { return Taken::NotYet };
        if self.mode == Mode::Consume && feed.waits(follower, self.is_patient) {
            return Taken::NotYet;
        }
        self.ledger.looked(ring, batch.lost(), batch.restarted());
        if batch.contended() && !std::mem::replace(&mut feed.is_told_contended, true) {
            let what = "somebody else consumes from its ring, too: each has a part of the events";
            complain(Style::Odd, "warning", &human::line(&format!("agent {}: {what}", feed.agent)));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = u64::try_from(now).unwrap_or_default();
        let mut chunk = Vec::with_capacity(batch.len().min(BatchId::MOST_EVENTS));
        let mut rest = batch.events();
        while rest.len() > 0 {
            let before = rest.len();
            chunk.clear();
            let wanted = rest.by_ref().filter(|event| self.selection.wants(event));
            chunk.extend(wanted.map(|event| timed(event, now)).take(BatchId::MOST_EVENTS));
            let left_out = before - rest.len() - chunk.len();
            self.ledger.read(ring, chunk.len() as u64, left_out as u64);
            if !chunk.is_empty() {
                feed.export(ring, &chunk, &self.ledger, self.quiet);
            }
        }
        Taken::Yes
    }

    fn go(&mut self, ring: &Path) {
        if let Some(feed) = self.feeds.remove(ring) {
            let agent = feed.agent.clone();
            feed.close(&self.ledger);
            self.note(&format!("agent {agent} is gone: {}", ring.display()));
        }
        self.ledger.gone(ring);
    }

    fn unreadable(&self, path: &Path, error: &ReadError) {
        // Its rings are gone with it, and may come again.
        if error.is_absent() {
            self.note(&format!("waiting for {}, which does not exist any more", path.display()));
            return;
        }
        let why = format!("cannot be read: it {error}");
        complain(Style::Bad, "error", &human::line(&format!("{} {why}", path.display())));
        self.ledger.set_unreadable(path, Some(why));
    }

    /// Says something that is as it should be.
    pub(crate) fn note(&self, what: &str) {
        note(self.quiet, what);
    }
}

impl Feed {
    /// Whether events are left in their ring, where there is room for some more, because an exporter is missing.
    fn waits(&self, follower: &Follower, is_patient: bool) -> bool {
        let now = Instant::now();
        let Some(missing) = self.outlets.iter().filter_map(|outlet| outlet.missing_for(now)).max() else {
            return false;
        };
        let header = header(follower);
        is_patient || (missing < PATIENCE && header.is_some_and(|header| header.unread() < header.capacity / 2))
    }

    fn make(&mut self, ring: &Path, index: usize, ledger: &Ledger, quiet: bool) {
        let (outlet, agent) = (&mut self.outlets[index], &self.agent);
        let who = who(outlet.name(), agent);
        let tried = ledger.during(&who, || outlet.make(agent, Instant::now()));
        let problem = match tried {
            None => return,
            Some(Tried::Made { tries }) => {
                if tries > 1 {
                    note(quiet, &format!("{who} is there at last, after {tries} attempts"));
                }
                None
            }
            Some(Tried::Failed(error)) => {
                let text = format!("{who} cannot be had: {error}; it is tried again after 1 s and later");
                complain(Style::Bad, "error", &human::line(&text));
                Some(format!("cannot be had: {error}"))
            }
            Some(Tried::FailedAgain(error)) => Some(format!("cannot be had: {error}")),
        };
        ledger.set_problem(ring, index, problem);
    }

    fn export(&mut self, ring: &Path, events: &[Event<'_>], ledger: &Ledger, quiet: bool) {
        let agent = &self.agent;
        for (index, outlet) in self.outlets.iter_mut().enumerate() {
            let who = who(outlet.name(), agent);
            let (done, why) = ledger.during(&who, || outlet.export(events));
            ledger.done(ring, index, done);
            if outlet.missing_for(Instant::now()).is_some() {
                continue;
            }
            let why = why.map(|why| format!("failed at {} of {} events: {why}", done.failed, events.len()));
            if outlet.set_failing(why.is_some()) {
                match &why {
                    Some(why) => complain(Style::Bad, "error", &human::line(&format!("{who} {why}"))),
                    None => note(quiet, &format!("{who} works again")),
                }
                ledger.set_problem(ring, index, why);
            }
        }
    }

    /// Deletes its exporters, which write what they hold.
    fn close(self, ledger: &Ledger) {
        for outlet in self.outlets {
            ledger.during(&who(outlet.name(), &self.agent), || drop(outlet));
        }
    }
}

/// The header of a ring as it is now.
fn header(follower: &Follower) -> Option<Header> {
    follower.reader()?.header().ok()
}

/// The event with the time it has, or else this one.
fn timed(event: Event<'_>, now: u64) -> Event<'_> {
    // A ring with times has 0 where there was none.
    match event.timestamp_us() {
        None | Some(0) => event.at(now),
        Some(_) => event,
    }
}

fn who(exporter: &str, agent: &str) -> String {
    format!("agent {agent}: exporter {exporter}")
}

/// Says something that is as it should be.
fn note(quiet: bool, what: &str) {
    if !quiet {
        complain(Style::Good, "note", &human::line(what));
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::Kind as EventKind;

    use super::*;

    #[test]
    fn events_keep_the_time_they_have() {
        let event = Event::new(EventKind::TX_BYTES, 1);
        for (event, expected) in [(event, 7), (event.at(0), 7), (event.at(5), 5)] {
            assert_eq!(timed(event, 7).timestamp_us(), Some(expected));
        }
    }
}
