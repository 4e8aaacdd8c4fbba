// SPDX-License-Identifier: Apache-2.0

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nixl_telemetry_event::{BatchId, Event, Status, Total};
use nixl_telemetry_log as log;
use nixl_telemetry_metrics::Tally;

use crate::{Agent, Batch, Error, Exporter, batch::Buffer};

/// An exporter, the batch it is about to get, and what became of all earlier ones.
///
/// Nothing the exporter does unwinds out of here, not even from an error it returned. It is `None` if it could not be
/// opened or has panicked: then events are counted and discarded.
pub(crate) struct Pump<E> {
    name: &'static str,
    agent: Agent,
    exporter: Option<E>,
    buffer: Buffer,
    /// In place of the buffer, if the exporter folds; lent out while a host announces a batch.
    tally: Option<Box<Tally>>,
    /// The batch has more events than the buffer holds: those before these have left.
    split: bool,
    totals: Vec<Total>,
    counts: Counts,
    lost: Lost,
}

/// What was taken and has failed since, and the host was not told.
#[derive(Default)]
struct Lost {
    events: u64,
    /// Events behind totals.
    aggregated: u64,
}

/// What became of the events of one exporter: `taken = exported + failed + discarded + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events the host handed over.
    pub taken: u64,
    /// Events in batches that [`Exporter::export`] accepted, whatever [`Exporter::flush`] said later.
    pub exported: u64,
    /// Events in batches it answered with an error, or a panic.
    pub failed: u64,
    /// Events that came when there was no exporter: it could not be opened, or had panicked.
    pub discarded: u64,
    /// Besides these: events behind totals that [`Exporter::totals`] accepted.
    pub aggregated: u64,
    /// Events behind totals it answered with an error, or a panic, or for which there was no exporter.
    pub aggregates_failed: u64,
}

impl<E: Exporter> Pump<E> {
    pub(crate) fn new(name: &'static str, agent: Agent, exporter: Option<E>) -> Self {
        let buffer = if exporter.is_some() && !E::FOLDS { Buffer::new() } else { Buffer::default() };
        let tally = exporter.as_ref().and_then(E::tally);
        let (counts, lost) = (Counts::default(), Lost::default());
        Self { name, agent, exporter, buffer, tally, split: false, totals: Vec::new(), counts, lost }
    }

    /// Whether there is no exporter, and events are only counted.
    pub(crate) const fn is_off(&self) -> bool {
        self.exporter.is_none()
    }

    pub(crate) const fn exporter(&self) -> Option<&E> {
        self.exporter.as_ref()
    }

    /// Takes one event; if there is no room for it, those before it leave as a batch.
    ///
    /// Not earlier: a batch that is as big as the buffer leaves when it is closed, which is when its identity is known.
    #[inline(always)]
    pub(crate) fn push(&mut self, event: &Event<'_>) -> Status {
        if let Some(tally) = &mut self.tally
            && E::FOLDS
        {
            // Counted when the batch ends.
            tally.fold(event);
            return Status::Success;
        }
        if self.exporter.is_none() {
            self.counts.taken += 1;
            self.counts.discarded += 1;
            return Status::Unknown;
        }
        self.counts.taken += 1;
        if self.buffer.is_full() {
            self.split_batch();
        }
        self.buffer.push(event);
        Status::Success
    }

    /// Lends the tally for a batch, so that who has it need not ask for each event.
    pub(crate) fn lend_tally(&mut self) -> Option<Box<Tally>> {
        if E::FOLDS { self.tally.take() } else { None }
    }

    /// Takes the tally back.
    pub(crate) fn return_tally(&mut self, tally: Option<Box<Tally>>) {
        if E::FOLDS && tally.is_some() {
            self.tally = tally;
        }
    }

    /// Takes one total of the batch, after its events.
    pub(crate) fn push_total(&mut self, total: Total) -> Status {
        if !E::TOTALS {
            return Status::NotSupported;
        }
        if self.exporter.is_none() {
            self.counts.aggregates_failed = self.counts.aggregates_failed.saturating_add(total.count);
            return Status::Unknown;
        }
        self.totals.push(total);
        Status::Success
    }

    /// Events lost after `push` took them, since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        mem::take(&mut self.lost.events)
    }

    /// Events behind totals lost after `push_total` took them, since the last call.
    pub(crate) fn take_lost_totals(&mut self) -> u64 {
        mem::take(&mut self.lost.aggregated)
    }

    /// Whether no event waits for its batch to be closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() == 0 && self.tally.as_ref().is_none_or(|tally| tally.events() == 0)
    }

    /// Whether the next event will close the batch.
    pub(crate) fn is_full(&self) -> bool {
        !E::FOLDS && self.buffer.is_full()
    }

    /// Exports what has been collected, if anything: the batch of this identity, if it has one.
    // Out of line: what happens once a batch must not weigh on what happens with every event.
    #[inline(never)]
    pub(crate) fn close_batch(&mut self, id: Option<BatchId<'_>>) {
        // Neither part of a batch is the batch.
        let id = if mem::take(&mut self.split) { None } else { id };
        if E::FOLDS {
            return self.end_folded();
        }
        self.export_events(id);
        if !self.totals.is_empty() {
            self.export_totals();
        }
    }

    fn end_folded(&mut self) {
        let Some(tally) = &mut self.tally else { return };
        let events = tally.events();
        let totals = mem::take(&mut self.totals);
        if events == 0 && totals.is_empty() {
            return;
        }
        totals.iter().for_each(|total| tally.fold_total(total));
        let aggregated = totals.iter().map(|total| total.count).fold(0, u64::saturating_add);
        self.counts.taken += events;
        let Some(exporter) = &mut self.exporter else { return };
        let result = contained(|| exporter.publish(tally));
        if aggregated > 0 {
            self.settle_totals(aggregated, &result);
        }
        self.settle(events, result);
    }

    #[cold]
    #[inline(never)]
    fn split_batch(&mut self) {
        self.export_events(None);
        self.split = true;
    }

    fn export_events(&mut self, id: Option<BatchId<'_>>) {
        let events = self.buffer.len() as u64;
        if events == 0 {
            return;
        }
        let Self { agent, buffer, .. } = self;
        let Some(exporter) = &mut self.exporter else { return };
        let result = contained(|| exporter.export(&Batch::new(agent, buffer, id)));
        self.buffer.clear();
        self.settle(events, result);
    }

    /// Counts what became of events.
    fn settle(&mut self, events: u64, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.counts.exported += events,
            Err(failure) => {
                self.counts.failed += events;
                self.lost.events += events;
                if events > 0 {
                    log::error!("{self}: {failure}; {events} events are lost");
                }
                self.give_up_after(&failure);
            }
        }
    }

    /// Counts what became of the events behind totals.
    fn settle_totals(&mut self, events: u64, result: &Result<(), Failure>) {
        match result {
            Ok(()) => self.counts.aggregated = self.counts.aggregated.saturating_add(events),
            Err(failure) => {
                self.counts.aggregates_failed = self.counts.aggregates_failed.saturating_add(events);
                self.lost.aggregated = self.lost.aggregated.saturating_add(events);
                log::error!("{self}: {failure}; the totals of {events} events are lost");
            }
        }
    }

    #[inline(never)]
    fn export_totals(&mut self) {
        let totals = mem::take(&mut self.totals);
        let events = totals.iter().map(|total| total.count).fold(0, u64::saturating_add);
        let result = match &mut self.exporter {
            Some(exporter) => contained(|| exporter.totals(&totals)),
            None => Err(Failure::Error("it ended with the events of the same batch".into())),
        };
        self.settle_totals(events, &result);
        if let Err(failure) = &result {
            self.give_up_after(failure);
        }
    }

    /// Exports what is left, flushes and drops the exporter.
    pub(crate) fn finish(&mut self) -> Counts {
        self.close_batch(None);
        if let Some(exporter) = &mut self.exporter
            && let Err(failure) = contained(|| exporter.flush())
        {
            log::error!("{self}: flushing at the end: {failure}");
        }
        self.drop_exporter();
        let Counts { taken, failed, discarded, aggregates_failed, .. } = self.counts;
        if failed + discarded > 0 {
            log::warn!("{self}: of {taken} events {failed} failed and {discarded} were discarded");
        }
        if aggregates_failed > 0 {
            log::warn!("{self}: the totals of {aggregates_failed} events failed");
        }
        self.counts
    }

    /// Lets go without a trace: in a forked child the batch is the parent's, and so are the sockets and files.
    pub(crate) fn abandon(&mut self) {
        self.buffer.clear();
        self.totals.clear();
        mem::forget(self.exporter.take());
    }

    pub(crate) const fn agent(&self) -> &Agent {
        &self.agent
    }

    fn give_up_after(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Panic(_)) {
            log::error!("{self}: after the panic its events are discarded");
            self.drop_exporter();
        }
    }

    fn drop_exporter(&mut self) {
        self.buffer = Buffer::default();
        self.tally = None;
        if let Some(exporter) = self.exporter.take()
            && let Err(failure) = contained(|| {
                drop(exporter);
                Ok(())
            })
        {
            log::error!("{self}: at its end: {failure}");
        }
    }
}

impl<E> fmt::Display for Pump<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exporter {} of agent {}", self.name, self.agent.name())
    }
}

/// How a call to an exporter went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It returned an error; its text and those of its causes.
    Error(String),
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(text) => f.write_str(text),
            Self::Panic(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// Calls into an exporter; an error and a panic both come back as a failure.
pub(crate) fn contained<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    // An error is the author's code too: it is printed and dropped in here. An exporter that panicked is dropped and
    // never called again, so that nobody sees its broken invariants.
    match catch_unwind(AssertUnwindSafe(|| call().map_err(|error| describe(&*error)))) {
        Ok(result) => result.map_err(Failure::Error),
        Err(payload) => Err(Failure::Panic(log::panic_text(payload))),
    }
}

/// An error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
