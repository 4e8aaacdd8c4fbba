// SPDX-License-Identifier: Apache-2.0

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nixl_telemetry_event::{Event, Status};
use nixl_telemetry_log as log;

use crate::{Agent, Batch, Error, Exporter, batch::Buffer};

/// An exporter, the batch it is about to get, and what became of all earlier ones.
///
/// Nothing unwinds out of here. The exporter is `None` if it could not be opened or has panicked: then events are
/// counted and discarded.
pub(crate) struct Pump<E> {
    name: &'static str,
    agent: Agent,
    exporter: Option<E>,
    buffer: Buffer,
    counts: Counts,
}

/// What became of the events of one exporter: `taken = exported + failed + discarded + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events the host handed over.
    pub taken: u64,
    /// Events in batches that [`Exporter::export`] accepted.
    pub exported: u64,
    /// Events in batches it answered with an error, or a panic.
    pub failed: u64,
    /// Events that came when there was no exporter: it could not be opened, or had panicked.
    pub discarded: u64,
}

impl<E: Exporter> Pump<E> {
    pub(crate) fn new(name: &'static str, agent: Agent, exporter: Option<E>) -> Self {
        Self { name, agent, exporter, buffer: Buffer::new(), counts: Counts::default() }
    }

    /// Takes one event; a full batch leaves at once.
    #[inline]
    pub(crate) fn push(&mut self, event: &Event<'_>) -> Status {
        self.counts.taken += 1;
        if self.exporter.is_none() {
            self.counts.discarded += 1;
            return Status::Unknown;
        }
        self.buffer.push(event);
        if self.buffer.is_full() {
            self.close_batch();
        }
        Status::Success
    }

    /// Whether no event waits for its batch to be closed.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() == 0
    }

    /// Exports what has been collected, if anything.
    pub(crate) fn close_batch(&mut self) {
        let events = self.buffer.len() as u64;
        if events == 0 {
            return;
        }
        let Self { agent, buffer, .. } = self;
        let Some(exporter) = &mut self.exporter else { return };
        match contained(|| exporter.export(&Batch::new(agent, buffer))) {
            Ok(()) => self.counts.exported += events,
            Err(failure) => {
                self.counts.failed += events;
                log::error!("{self}: {failure}; {events} events are lost");
                self.give_up_after(&failure);
            }
        }
        self.buffer.clear();
    }

    /// Exports what is left, flushes and drops the exporter.
    pub(crate) fn finish(&mut self) -> Counts {
        self.close_batch();
        if let Some(exporter) = &mut self.exporter
            && let Err(failure) = contained(|| exporter.flush())
        {
            log::error!("{self}: flushing at the end: {failure}");
        }
        self.drop_exporter();
        let Counts { taken, failed, discarded, .. } = self.counts;
        if failed + discarded > 0 {
            log::warn!("{self}: of {taken} events {failed} failed and {discarded} were discarded");
        }
        self.counts
    }

    /// Lets go without a trace: in a forked child the batch is the parent's, and so are the sockets and files.
    pub(crate) fn abandon(&mut self) {
        self.buffer.clear();
        std::mem::forget(self.exporter.take());
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
pub(crate) enum Failure {
    Error(Error),
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
            Self::Panic(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// Calls into an exporter; an error and a panic both come back as a failure.
pub(crate) fn contained<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    // An exporter that panicked is dropped and never called again, so that nobody sees its broken invariants.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Failure::Error),
        Err(payload) => Err(Failure::Panic(message_of(payload))),
    }
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    };
    // A payload may panic when dropped; nothing is worth that.
    std::mem::forget(payload);
    message
}
