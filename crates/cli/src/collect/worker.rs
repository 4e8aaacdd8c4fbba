// SPDX-License-Identifier: Apache-2.0

//! The thread that reads rings and feeds exporters, round after round.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_ring::{Change, Follower, Mode, Watcher};
use nixl_telemetry_traffic::workload::Stop;

use crate::collect::feeds::Feeds;
use crate::collect::status::State;
use crate::rings::selection::Selection;

/// Rings, and where their events go.
#[derive(Debug)]
pub(crate) struct Worker {
    watcher: Watcher,
    selection: Selection,
    feeds: Feeds,
    looked: Instant,
}

/// How long it waits when there is nothing new: an agent writes every 100 ms by default, a whole ring at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(40)];

/// How often it looks for what does not come up by itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Events of a ring that are surely read in one round.
const AT_ONCE: u64 = 1 << 16;

impl Worker {
    pub(crate) fn new(from: &[PathBuf], feeds: Feeds) -> Self {
        let watcher = Watcher::new(from.iter().map(PathBuf::as_path), feeds.mode);
        for path in from.iter().filter(|path| !path.exists()) {
            feeds.note(&format!("waiting for {}, which does not exist", path.display()));
        }
        Self { watcher, selection: feeds.selection.clone(), feeds, looked: Instant::now() }
    }

    /// Moves events until it is asked to stop, then [everything that is there](Self::finish).
    pub(crate) fn run(mut self, stop: &Stop) {
        let [first, longest] = PAUSES;
        let mut pause = first;
        while !stop.is_stopped() {
            if self.round(false) {
                pause = first;
            } else {
                thread::sleep(pause);
                pause = (pause * 2).min(longest);
            }
            self.feeds.make_missing(false);
            if self.feeds.mode == Mode::Peek && self.looked.elapsed() >= LOOK_EVERY {
                self.looked = Instant::now();
                self.feeds.look_for_full_rings(self.watcher.rings());
            }
        }
        self.finish();
    }

    /// Moves everything that is in the rings by now, and ends all exporters, which write what they hold.
    pub(crate) fn finish(mut self) {
        let ledger = Arc::clone(&self.feeds.ledger);
        ledger.set_state(State::Stopping);
        self.feeds.make_missing(true);
        // Whoever writes on all the while does not keep it from ending.
        let mut rounds = 0;
        while self.round(true) && rounds < self.largest() / AT_ONCE {
            rounds += 1;
        }
        self.feeds.close();
        ledger.set_state(State::Ended);
    }

    fn round(&mut self, at_once: bool) -> bool {
        let (feeds, selection) = (&mut self.feeds, &self.selection);
        let wants = |agent: &str| selection.wants_agent(agent);
        let visit = |follower: &Follower, change: Change<'_>| Ok::<_, Infallible>(feeds.visit(follower, change));
        let Ok(is_new) = self.watcher.poll_agents(at_once, wants, visit);
        is_new
    }

    /// Slots of the largest ring.
    fn largest(&self) -> u64 {
        let capacity = |follower: &Follower| follower.reader().map(|reader| reader.shape().capacity);
        self.watcher.rings().filter_map(capacity).max().unwrap_or(0)
    }
}
