// SPDX-License-Identifier: Apache-2.0

//! The accounts: who writes them is the thread that moves events, who reads them is everybody else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nixl_telemetry_ring::Lost;

use crate::collect::status::{Agent, Exporter, State, Status};

/// What one exporter did with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) exported: u64,
    pub(crate) failed: u64,
    pub(crate) unsupported: u64,
}

/// Accounts of all rings there are and were.
#[derive(Debug)]
pub(crate) struct Ledger {
    started: SystemTime,
    consume: bool,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    state: State,
    agents: BTreeMap<PathBuf, Row>,
    forgotten: u64,
    forgotten_sum: Agent,
    /// Files and directories that cannot be read, and why.
    unreadable: BTreeMap<PathBuf, String>,
    /// The call into a plugin that is under way.
    call: Option<Call>,
}

#[derive(Debug)]
struct Row {
    agent: Agent,
    gone: Option<Instant>,
}

/// A call into a plugin.
#[derive(Clone, Debug)]
struct Call {
    /// Such as "agent a: exporter csv".
    who: String,
    since: Instant,
}

/// A plugin that has not come back for so long is a problem.
const STUCK: Duration = Duration::from_secs(30);

/// Agents that are gone and still have rows of their own; a process that runs for months sees many.
const REMEMBERED: usize = 100;

impl Ledger {
    pub(crate) fn new(consume: bool) -> Self {
        let books = Books {
            state: State::Running,
            agents: BTreeMap::new(),
            forgotten: 0,
            forgotten_sum: Agent::default(),
            unreadable: BTreeMap::new(),
            call: None,
        };
        Self { started: SystemTime::now(), consume, books: Mutex::new(books) }
    }

    /// A ring is there, or there again.
    pub(crate) fn came(&self, ring: &Path, agent: &str, exporters: &[&str]) {
        let mut books = self.books();
        let row = books.agents.entry(ring.to_owned()).or_insert_with(|| {
            let exporter = |name: &&str| Exporter { exporter: (*name).to_owned(), ..Exporter::default() };
            let exporters = exporters.iter().map(exporter).collect();
            let (agent, ring) = (agent.to_owned(), ring.display().to_string());
            Row { agent: Agent { agent, ring, exporters, ..Agent::default() }, gone: None }
        });
        row.agent.present = true;
        row.gone = None;
    }

    /// A ring is there no more, and no exporter of its agent.
    pub(crate) fn gone(&self, ring: &Path) {
        let mut books = self.books();
        books.unreadable.remove(ring);
        if let Some(row) = books.agents.get_mut(ring) {
            row.agent.present = false;
            row.gone = Some(Instant::now());
            row.agent.exporters.iter_mut().for_each(|exporter| exporter.problem = None);
        }
        let gone = books.agents.iter().filter_map(|(ring, row)| Some((row.gone?, ring)));
        let (count, longest) = (gone.clone().count(), gone.min().map(|(_, ring)| ring.clone()));
        if count > REMEMBERED
            && let Some(row) = longest.and_then(|ring| books.agents.remove(&ring))
        {
            books.forgotten += 1;
            books.forgotten_sum.add(&row.agent);
        }
    }

    /// What a look at the ring has told, besides events.
    pub(crate) fn looked(&self, ring: &Path, lost: Lost, restarted: bool) {
        self.update(ring, |agent| {
            agent.lost += lost.events;
            agent.lost_or_more |= lost.or_more;
            agent.restarts += u64::from(restarted);
        });
    }

    /// Events are read, and every exporter is to have them.
    pub(crate) fn read(&self, ring: &Path, events: u64, left_out: u64) {
        self.update(ring, |agent| {
            agent.read += events;
            agent.left_out += left_out;
            agent.exporters.iter_mut().for_each(|exporter| exporter.pending += events);
        });
    }

    /// The exporter of this index is through with a batch.
    pub(crate) fn done(&self, ring: &Path, index: usize, done: Done) {
        let now = unix(SystemTime::now()).as_millis();
        self.update(ring, |agent| {
            let exporter = &mut agent.exporters[index];
            exporter.exported += done.exported;
            exporter.failed += done.failed;
            exporter.unsupported += done.unsupported;
            exporter.pending -= done.exported + done.failed + done.unsupported;
            exporter.batches += 1;
            if done.failed == 0 {
                exporter.last_success_unix_ms = u64::try_from(now).ok();
            }
        });
    }

    /// What is wrong with the exporter of this index from now on.
    pub(crate) fn set_problem(&self, ring: &Path, index: usize, problem: Option<String>) {
        self.update(ring, |agent| agent.exporters[index].problem = problem);
    }

    /// What is wrong with a file or directory from now on.
    pub(crate) fn set_unreadable(&self, path: &Path, why: Option<String>) {
        let mut books = self.books();
        match why {
            Some(why) => drop(books.unreadable.insert(path.to_owned(), why)),
            None => drop(books.unreadable.remove(path)),
        }
    }

    /// Calls into a plugin, and says so meanwhile. `who` is such as "agent a: exporter csv".
    pub(crate) fn during<R>(&self, who: &str, call: impl FnOnce() -> R) -> R {
        self.books().call = Some(Call { who: who.to_owned(), since: Instant::now() });
        let result = call();
        self.books().call = None;
        result
    }

    pub(crate) fn set_state(&self, state: State) {
        self.books().state = state;
    }

    /// Who has been called and has not come back.
    pub(crate) fn called(&self) -> Option<String> {
        self.books().call.as_ref().map(|call| call.who.clone())
    }

    /// All of it as it is now.
    pub(crate) fn status(&self) -> Status {
        let books = self.books();
        let problems = books.problems();
        Status {
            healthy: problems.is_empty(),
            problems,
            state: books.state,
            pid: std::process::id(),
            started_unix: unix(self.started).as_secs(),
            consume: self.consume,
            agents: books.agents.values().map(|row| row.agent.clone()).collect(),
            forgotten: books.forgotten,
            forgotten_sum: (books.forgotten > 0).then(|| books.forgotten_sum.clone()),
        }
    }

    fn update(&self, ring: &Path, change: impl FnOnce(&mut Agent)) {
        if let Some(row) = self.books().agents.get_mut(ring) {
            change(&mut row.agent);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Plugins are called without it; every change is whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn problems(&self) -> Vec<String> {
        let exporters = self.agents.values().flat_map(|Row { agent, .. }| {
            let problem = |exporter: &Exporter| {
                let problem = exporter.problem.as_ref()?;
                Some(format!("agent {}: exporter {} {problem}", agent.agent, exporter.exporter))
            };
            agent.exporters.iter().filter_map(problem)
        });
        let files = self.unreadable.iter().map(|(path, why)| format!("{}: {why}", path.display()));
        let call = self.call.iter().filter(|call| call.since.elapsed() >= STUCK);
        let stuck = call.map(|call| format!("{} has not come back for {} s", call.who, call.since.elapsed().as_secs()));
        stuck.chain(exporters).chain(files).collect()
    }
}

fn unix(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_somewhere_at_every_moment() {
        let ledger = Ledger::new(false);
        let ring = Path::new("/r/a");
        ledger.came(ring, "a", &["csv", "NOP"]);
        let check = |pending: [u64; 2]| {
            let agent = &ledger.status().agents[0];
            for (exporter, pending) in agent.exporters.iter().zip(pending) {
                let Exporter { exported, failed, unsupported, .. } = exporter;
                assert_eq!((exporter.pending, exported + failed + unsupported + pending), (pending, agent.read));
            }
        };
        check([0, 0]);
        ledger.read(ring, 10, 3);
        check([10, 10]);
        ledger.done(ring, 0, Done { exported: 7, failed: 2, unsupported: 1 });
        check([0, 10]);
        ledger.done(ring, 1, Done { exported: 10, ..Done::default() });
        check([0, 0]);
        ledger.looked(ring, Lost { events: 5, or_more: true }, true);
        let agent = &ledger.status().agents[0];
        assert_eq!((agent.read, agent.left_out, agent.lost, agent.lost_or_more, agent.restarts), (10, 3, 5, true, 1));
        assert!(agent.exporters[0].last_success_unix_ms.is_none() && agent.exporters[1].last_success_unix_ms.is_some());
    }

    #[test]
    fn health_is_what_is_wrong_now() {
        let ledger = Ledger::new(true);
        let (ring, other) = (Path::new("/r/a"), Path::new("/r/b"));
        ledger.came(ring, "a", &["csv"]);
        assert!(ledger.status().healthy);
        ledger.set_problem(ring, 0, Some("is ill".to_owned()));
        ledger.set_unreadable(other, Some("is no ring".to_owned()));
        let status = ledger.status();
        assert_eq!((status.healthy, status.problems.len()), (false, 2));
        assert_eq!(status.problems, ["agent a: exporter csv is ill", "/r/b: is no ring"]);
        ledger.gone(ring);
        ledger.set_unreadable(other, None);
        assert!(ledger.status().healthy && !ledger.status().agents[0].present);
        assert_eq!(
            ledger.during("agent a: exporter csv", || ledger.called()).as_deref(),
            Some("agent a: exporter csv")
        );
        assert_eq!(ledger.called(), None);
    }

    #[test]
    fn agents_long_gone_are_one_row() {
        let ledger = Ledger::new(true);
        let rings: Vec<_> = (0..REMEMBERED as u64 + 5).map(|i| PathBuf::from(format!("/r/{i:03}"))).collect();
        for ring in &rings {
            ledger.came(ring, "a", &["csv"]);
            ledger.read(ring, 2, 0);
            ledger.done(ring, 0, Done { exported: 2, ..Done::default() });
            ledger.gone(ring);
        }
        let status = ledger.status();
        assert_eq!((status.agents.len(), status.forgotten, status.agents[0].ring.as_str()), (REMEMBERED, 5, "/r/005"));
        let sum = status.forgotten_sum.as_ref().unwrap();
        assert_eq!((sum.read, sum.exporters[0].exported, sum.exporters[0].batches), (10, 10, 5));
        assert_eq!(status.rows().map(|agent| agent.read).sum::<u64>(), 2 * rings.len() as u64);
        assert!(status.text(crate::common::terminal::Stream::Out).contains("  5 forgotten  csv "));
    }
}
