// SPDX-License-Identifier: Apache-2.0

//! From ring files into the model.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nixl_telemetry_ring::{Batch, Change, Follower, Mode, Watcher};

use crate::common::human;
use crate::rings::selection::Selection;
use crate::top::model::{Model, When};
use crate::top::snapshot::Snapshot;

/// How often files are looked at: often enough that a reader of NIXL's, which sleeps while there is nothing, seldom
/// takes out events that were not seen here.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// How long is read at once, at the beginning, before somebody wants to see something.
const AT_FIRST: Duration = Duration::from_millis(500);

/// Ring files that are watched, and what is known of their agents.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    selection: Selection,
    paths: Vec<PathBuf>,
    begun: Instant,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    model: Model,
    /// What cannot be read, and why.
    problems: BTreeMap<PathBuf, String>,
    /// Files that are no rings.
    foreign: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins: what waits in the files is counted, and is no traffic of now.
    pub(crate) fn begin(paths: Vec<PathBuf>, selection: Selection) -> Self {
        let watcher = Watcher::new(paths.iter().map(PathBuf::as_path), Mode::Peek);
        let mut this = Self { watcher, selection, paths, begun: Instant::now(), found: Found::default() };
        while this.read(When::Before) && this.begun.elapsed() < AT_FIRST {}
        this
    }

    /// Reads what is new.
    pub(crate) fn poll(&mut self) {
        self.read(When::Now);
    }

    /// The figures now, at a refresh; refreshes are this far apart.
    pub(crate) fn refresh(&mut self, interval: Duration) -> Snapshot {
        for follower in self.watcher.rings() {
            // One that cannot be read now is told by the next poll.
            if let Some(reader) = follower.reader()
                && let Ok(header) = reader.header()
            {
                self.found.model.ring(follower.path(), reader.shape(), &header);
            }
        }
        let problem = |(path, problem): (&PathBuf, &String)| human::line(&format!("{}: {problem}", path.display()));
        let paths: Vec<_> = self.paths.iter().map(|path| human::line(&path.display().to_string())).collect();
        Snapshot {
            time: SystemTime::now(),
            rows: self.found.model.refresh(self.begun.elapsed(), interval),
            problems: self.found.problems.iter().map(problem).collect(),
            watched: paths.join(", "),
            foreign: self.found.foreign.len(),
        }
    }

    fn read(&mut self, when: When) -> bool {
        let Self { watcher, selection, begun, found, .. } = self;
        let is_first = when == When::Before;
        let wants = |agent: &str| selection.wants_agent(agent);
        let Ok(is_new) = watcher.poll_agents(is_first, wants, |follower, change| {
            found.change(follower, change, selection, when, begun.elapsed());
            Ok::<(), Infallible>(())
        });
        is_new
    }
}

impl Found {
    fn change(&mut self, follower: &Follower, change: Change<'_>, selection: &Selection, when: When, now: Duration) {
        let path = follower.path();
        match change {
            Change::Came => {
                self.forget(follower);
                self.model.came(path, follower.agent(), now);
            }
            Change::Events(batch) => self.events(follower, batch, selection, when, now),
            Change::Gone => {
                self.forget(follower);
                self.model.gone(path, now);
            }
            Change::Unreadable(error) => {
                self.forget(follower);
                self.problems.insert(path.to_owned(), error.to_string());
                self.model.gone(path, now);
            }
            Change::Readable => self.forget(follower),
            Change::Foreign(_) => {
                self.forget(follower);
                self.foreign.insert(path.to_owned());
                self.model.gone(path, now);
            }
        }
    }

    fn events(&mut self, follower: &Follower, batch: &Batch, selection: &Selection, when: When, now: Duration) {
        let path = follower.path();
        if batch.restarted() {
            self.model.restarted(path);
        }
        self.model.lost(path, batch.lost());
        if selection.wants_every_event() {
            self.model.events(path, batch.events(), when, now);
        } else {
            self.model.events(path, batch.events().filter(|event| selection.wants(event)), when, now);
        }
    }

    /// What was wrong with it is wrong no more.
    fn forget(&mut self, follower: &Follower) {
        self.problems.remove(follower.path());
        self.foreign.remove(follower.path());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nixl_telemetry_event::{Event, Kind};
    use nixl_telemetry_ring::{Options, Writer};

    use super::*;
    use crate::top::model::{Row, State};

    const INTERVAL: Duration = Duration::from_secs(1);

    fn writer(directory: &Path, agent: &str) -> Writer {
        Writer::create(directory, agent, Options { capacity: 64, ..Options::default() }).unwrap()
    }

    fn row<'a>(snapshot: &'a Snapshot, agent: &str) -> &'a Row {
        snapshot.rows.iter().find(|row| row.agent == agent).unwrap()
    }

    /// Looks until it is so.
    fn until(watch: &mut Watch, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            watch.poll();
            let snapshot = watch.refresh(INTERVAL);
            if is_so(&snapshot) {
                return snapshot;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{snapshot:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn files_come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let mut first = writer(root.path(), "a/b");
        let errors = [Event::new(Kind::ERR_BACKEND, 1); 3];
        assert_eq!(first.push(&errors).written, 3);
        fs::write(root.path().join("other"), "no ring").unwrap();
        let named = root.path().join("later/ring");
        let mut watch = Watch::begin(vec![root.path().to_owned(), named.clone()], Selection::default());
        let snapshot = watch.refresh(INTERVAL);
        assert_eq!(snapshot.watched, format!("{}, {}", root.path().display(), named.display()));
        assert_eq!((snapshot.rows.len(), snapshot.foreign, snapshot.problems.len()), (1, 1, 0));
        let seen = row(&snapshot, "a/b");
        assert_eq!((seen.counts.errors.total(), seen.new_errors.total(), seen.state), (3, 0, State::Live));
        assert_eq!(seen.ring.map(|ring| (ring.unread, ring.room(), ring.shape.version)), Some((3, 63, 4)));

        // More of it, and another one.
        assert_eq!(first.push(&errors[..2]).written, 2);
        let mut second = writer(root.path(), "c");
        assert_eq!(second.push(&[Event::new(Kind::RX_BYTES, 7)]).written, 1);
        let snapshot = until(&mut watch, |snapshot| snapshot.totals().counts.received.bytes == 7);
        let seen = row(&snapshot, "a/b");
        assert_eq!((seen.counts.errors.total(), seen.new_errors.total()), (5, 2));
        // Nothing was taken out.
        assert_eq!((first.unread(), second.unread()), (5, 1));

        fs::remove_file(second.path()).unwrap();
        let snapshot = until(&mut watch, |snapshot| snapshot.totals().agents == 1);
        assert!(matches!(row(&snapshot, "c").state, State::Gone(_)));
        assert_eq!((row(&snapshot, "c").counts.received.bytes, row(&snapshot, "c").ring), (7, None));

        // A ring that loses its header.
        fs::write(first.path(), "").unwrap();
        let snapshot = until(&mut watch, |snapshot| snapshot.totals().agents == 0);
        assert_eq!(snapshot.foreign, 2);
        // And one that is named has to be one.
        fs::create_dir(root.path().join("later")).unwrap();
        fs::write(&named, "").unwrap();
        let snapshot = until(&mut watch, |snapshot| !snapshot.problems.is_empty());
        let expected = format!("{}: has 0 bytes: expected a ring of at least 40", named.display());
        assert_eq!(snapshot.problems, [expected]);
        fs::remove_file(&named).unwrap();
        until(&mut watch, |snapshot| snapshot.problems.is_empty());
    }

    #[test]
    fn only_what_is_wanted() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            selection: Selection,
        }
        let selection =
            |arguments: &[&str]| <Line as clap::Parser>::parse_from(["top"].iter().chain(arguments)).selection;
        let root = tempfile::tempdir().unwrap();
        let (mut some, mut other) = (writer(root.path(), "prefill-0"), writer(root.path(), "decode-0"));
        for writer in [&mut some, &mut other] {
            let events = [Event::new(Kind::RX_BYTES, 5), Event::new(Kind::TX_BYTES, 6)];
            assert_eq!(writer.push(&events).written, 2);
        }
        let selection = selection(&["--agent", "pre*", "--event", "agent_rx_*"]);
        let snapshot = Watch::begin(vec![root.path().to_owned()], selection).refresh(INTERVAL);
        assert_eq!(snapshot.rows.len(), 1);
        let counts = &row(&snapshot, "prefill-0").counts;
        assert_eq!((counts.received.bytes, counts.sent.bytes), (5, 0));
    }
}
