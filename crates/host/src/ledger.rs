// SPDX-License-Identifier: Apache-2.0

//! The accounts of a collector: what left the buffer, and what each exporter did with it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::Slot;
use crate::staging::{Drained, Staging};
use crate::{Counts, ExporterCounts};

/// The accounts, kept by the flush thread and read by all.
///
/// Where both are held, its lock is taken before that of the [`Staging`].
#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Events that left the buffer.
    drained: u64,
    /// The last pass of drains that every exporter has seen all of.
    completed: u64,
    /// The index of the exporter that is at work.
    busy: usize,
    exporters: Vec<ExporterCounts>,
    end: End,
}

impl State {
    fn enter(&mut self, drained: &Drained, takes_totals: &[bool], reports: bool) {
        self.drained += drained.events;
        self.busy = 0;
        for (exporter, takes_totals) in self.exporters.iter_mut().zip(takes_totals) {
            exporter.totals += drained.told(*takes_totals);
            exporter.reports += u64::from(reports && drained.dropped(*takes_totals) > 0);
        }
    }
}

impl ExporterCounts {
    /// Events that left the buffer for it.
    fn handed_on(&self, drained: u64) -> u64 {
        drained + self.reports + self.totals
    }
}

/// How the flush thread ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    NotYet,
    /// It has exported all it could and destroyed the exporters.
    Finished,
    /// It did not come back in time. What it still does counts for nothing.
    Abandoned,
}

/// What an exporter did with one batch; the events add up to its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) exported: u64,
    pub(crate) aggregated: u64,
    pub(crate) failed: u64,
    pub(crate) unsupported: u64,
    pub(crate) unavailable: u64,
    /// Why it is unavailable, where this batch made it so.
    pub(crate) problem: Option<String>,
}

/// Of a flush thread that did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned {
    /// The exporter that is at work.
    pub(crate) exporter: String,
    /// Events that are lost to it.
    pub(crate) events: u64,
}

impl Ledger {
    /// Accounts of these exporters, each with its problem if it is unavailable.
    pub(crate) fn new(exporters: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let exporters =
            exporters.into_iter().map(|(name, problem)| ExporterCounts { name, problem, ..Default::default() });
        let state = State { exporters: exporters.collect(), ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Drains the buffer for a batch of this time. `None` once the flush thread has been abandoned.
    ///
    /// Which exporters take totals says `takes_totals`, and whether drops are reported to those that do not `reports`.
    pub(crate) fn drain(
        &self,
        staging: &Staging,
        (time_us, slots, names): (u64, Option<&mut Vec<Slot>>, &mut Vec<Arc<str>>),
        (takes_totals, reports): (&[bool], bool),
    ) -> Option<Drained> {
        let mut state = self.lock();
        if state.end == End::Abandoned {
            return None;
        }
        let drained = staging.drain(time_us, slots, names);
        state.enter(&drained, takes_totals, reports);
        Some(drained)
    }

    /// Enters a batch that left the buffer of a dead process, which the exporters before the one at `first` took from that.
    pub(crate) fn enter_found(&self, drained: &Drained, first: usize, (takes_totals, reports): (&[bool], bool)) {
        let mut state = self.lock();
        state.enter(drained, takes_totals, reports);
        let drained = state.drained;
        for exporter in state.exporters.iter_mut().take(first) {
            exporter.exported_before = exporter.handed_on(drained);
        }
    }

    /// Enters what the exporter at `index` did. False once the flush thread has been abandoned.
    pub(crate) fn settle(&self, index: usize, outcome: Outcome) -> bool {
        let mut state = self.lock();
        if state.end == End::Abandoned {
            return false;
        }
        state.busy = index + 1;
        let exporter = &mut state.exporters[index];
        exporter.exported += outcome.exported;
        exporter.aggregated += outcome.aggregated;
        exporter.failed += outcome.failed;
        exporter.unsupported += outcome.unsupported;
        exporter.unavailable += outcome.unavailable;
        if outcome.problem.is_some() {
            exporter.problem = outcome.problem;
        }
        true
    }

    /// Every exporter has seen what this drain gave.
    pub(crate) fn complete(&self, drained: Drained) {
        if drained.is_last {
            self.lock().completed = drained.pass;
        }
        self.changed.notify_all();
    }

    /// The exporter at `index` is being destroyed.
    pub(crate) fn destroying(&self, index: usize) {
        self.lock().busy = index;
    }

    /// The flush thread is about to end. False if it was abandoned.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.lock();
        if state.end == End::NotYet {
            state.end = End::Finished;
        }
        self.changed.notify_all();
        state.end == End::Finished
    }

    /// Waits until this pass is completed; false if that takes too long or will not happen.
    pub(crate) fn wait_completed(&self, pass: u64, timeout: Duration) -> bool {
        let is_done = |state: &State| state.completed >= pass || state.end != End::NotYet;
        self.wait(timeout, is_done).completed >= pass
    }

    /// Waits until the flush thread ends, or somebody has given it up.
    pub(crate) fn wait_ended(&self, timeout: Duration) {
        drop(self.wait(timeout, |state| state.end != End::NotYet));
    }

    /// Waits until the flush thread ends. If that takes too long, what it has not settled is dropped.
    pub(crate) fn wait_finished(&self, staging: &Staging, timeout: Duration) -> Result<(), Abandoned> {
        let mut state = self.wait(timeout, |state| state.end != End::NotYet);
        if state.end == End::Finished {
            return Ok(());
        }
        state.end = End::Abandoned;
        let left = staging.abandon();
        let (drained, mut most) = (state.drained, 0);
        for exporter in &mut state.exporters {
            let unsettled = exporter.handed_on(drained) - exporter.settled();
            exporter.shutdown_timeout += unsettled;
            most = most.max(unsettled);
        }
        let exporter = state.exporters.get(state.busy).map_or_else(String::new, |exporter| exporter.name.clone());
        Err(Abandoned { exporter, events: left + most })
    }

    pub(crate) fn counts(&self, staging: &Staging) -> Counts {
        let state = self.lock();
        let buffer = staging.counts();
        let exporters = state.exporters.iter().cloned().map(|exporter| {
            let pending = buffer.waiting + exporter.handed_on(state.drained) - exporter.settled();
            ExporterCounts { pending, ..exporter }
        });
        Counts {
            produced: buffer.produced,
            waiting: buffer.waiting,
            queue_full: buffer.queue_full,
            closed: buffer.closed,
            shutdown_timeout: buffer.shutdown_timeout,
            exporters: exporters.collect(),
        }
    }

    fn wait(&self, timeout: Duration, is_done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        // A time too far away to be told is never reached.
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        while !is_done(&state) {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Nothing in here can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
