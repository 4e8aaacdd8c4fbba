// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use nixl_telemetry_host::{Direction, InFlight, XferTelemetry};

use super::node::{Life, Node};
use super::plan::Plan;
use super::worker::{Flight, Job, Move};
use super::{Error, INLINE, MemoryType, Metadata, Operation, State};

/// A transfer between two descriptor lists, to be posted once or many times.
///
/// One thread at a time uses a request; different requests of one agent may be used by different threads. Dropping a
/// request that is still running gives it up silently: no status is returned, so no event is recorded.
pub struct Request {
    node: Arc<Node>,
    plan: Plan,
    remote: Metadata,
    phase: Phase,
    buffer: Vec<u8>,
}

enum Phase {
    Created,
    Active {
        flight: Arc<Flight>,
        timer: Option<InFlight>,
    },
    Complete(Option<XferTelemetry>),
    /// The error was reported when it was first returned.
    Failed(Error),
}

impl Request {
    pub(super) fn new(node: Arc<Node>, plan: Plan, remote: Metadata) -> Self {
        Self { node, plan, remote, phase: Phase::Created, buffer: Vec::new() }
    }

    /// The bytes of one run.
    pub fn bytes(&self) -> u64 {
        self.plan.bytes
    }

    /// The descriptors of one run, after neighbours that continue each other on both sides were merged, as NIXL does.
    pub fn descriptors(&self) -> u64 {
        self.plan.pieces.len() as u64
    }

    /// Starts the transfer.
    ///
    /// Between memory and memory, up to 64 KiB are moved before this returns: then the run is complete at once, and its
    /// post time is its transfer time. More bytes, and all of files, are moved by the agent's worker, in the order of
    /// the posts.
    ///
    /// A request may be posted again once its run has ended. If nobody asked for that run's [status](Self::status), it
    /// is recorded now; stock NIXL never reports such a run.
    ///
    /// # Errors
    /// [`Error::StillActive`] while the previous run is not over; [`Error::UnknownAgent`] if the remote agent's
    /// metadata was invalidated or replaced by a namesake's; [`Error::Disconnected`] if that agent is gone;
    /// [`Error::UnknownRegion`] if a region was deregistered; [`Error::WorkerGone`] if the own agent or its worker is
    /// gone; for a run that is over at once, what [`Self::status`] names.
    pub fn post(&mut self) -> Result<State, Error> {
        if self.observe() {
            return self.node.report(Err(Error::StillActive));
        }
        let direction = match self.plan.operation {
            Operation::Write => Direction::Write,
            Operation::Read => Direction::Read,
        };
        let start = |recorder: &nixl_telemetry_host::Recorder| {
            recorder.start(direction, self.plan.bytes, self.plan.pieces.len() as u64)
        };
        let mut timer = self.node.recorder.as_ref().map(start);
        let flight = Arc::new(Flight::default());
        let job = match self.prepare(Arc::clone(&flight)) {
            Ok(job) => job,
            Err(error) => return self.fail(timer, error),
        };
        let memory = [self.plan.local_type, self.plan.remote_type] == [MemoryType::Dram; 2];
        if memory && self.plan.bytes <= INLINE {
            job.run(&mut self.buffer);
        } else if let Err(error) = self.node.submit(job) {
            return self.fail(timer, error);
        } else if let Some(timer) = &mut timer {
            timer.posted();
        }
        self.phase = Phase::Active { flight, timer };
        // A run that the worker has finished in the meantime is seen by the next call, so that what a post returns
        // depends on the request alone.
        if memory && self.plan.bytes <= INLINE { self.status() } else { Ok(State::InProgress) }
    }

    /// How the current run is doing; the call that sees it end records its events.
    ///
    /// # Errors
    /// [`Error::NotPosted`] before the first post. Otherwise how the run failed, once as an event and again with every
    /// call: [`Error::Io`] and [`Error::ShortFile`] from a file, [`Error::Disconnected`] if the remote agent went,
    /// [`Error::Canceled`] if the own one did, [`Error::WorkerGone`] if the worker did.
    pub fn status(&mut self) -> Result<State, Error> {
        self.observe();
        match &self.phase {
            Phase::Created => self.node.report(Err(Error::NotPosted)),
            Phase::Active { .. } => Ok(State::InProgress),
            Phase::Complete(_) => Ok(State::Complete),
            Phase::Failed(error) => Err(error.clone()),
        }
    }

    /// Waits until the current run is over, then tells its status.
    ///
    /// # Errors
    /// Those of [`Self::status`].
    pub fn wait(&mut self) -> Result<(), Error> {
        if let Phase::Active { flight, .. } = &self.phase {
            flight.wait();
        }
        self.status().map(|_| ())
    }

    /// NIXL's record of the last run: when it began, how long its post and all of it took; `None` while it is running.
    ///
    /// Does not look whether the run has ended; [`Self::status`] does.
    ///
    /// # Errors
    /// [`Error::NoTelemetry`] if the agent has no recorder, which is no event; [`Error::NotPosted`] before the first
    /// post; how the run failed, which was an event already.
    pub fn telemetry(&self) -> Result<Option<XferTelemetry>, Error> {
        if self.node.recorder.is_none() {
            return Err(Error::NoTelemetry { name: self.node.name().to_owned() });
        }
        match &self.phase {
            Phase::Created => self.node.report(Err(Error::NotPosted)),
            Phase::Active { .. } => Ok(None),
            Phase::Complete(telemetry) => Ok(*telemetry),
            Phase::Failed(error) => Err(error.clone()),
        }
    }

    /// Ends the request.
    ///
    /// # Errors
    /// [`Error::Canceled`] if it was still running. Its bytes have then arrived in part, and at most 256 KiB of them
    /// may still arrive.
    pub fn release(mut self) -> Result<(), Error> {
        if self.observe() { self.node.report(Err(Error::Canceled)) } else { Ok(()) }
    }

    /// Records the end of a run that has ended since the last look; returns whether one is still running.
    fn observe(&mut self) -> bool {
        let Phase::Active { flight, timer } = &mut self.phase else { return false };
        let Some(outcome) = flight.outcome() else { return true };
        let timer = timer.take();
        match outcome {
            Ok(()) => self.phase = Phase::Complete(timer.map(InFlight::complete)),
            Err(error) => drop(self.fail::<()>(timer, error)),
        }
        false
    }

    /// Ends the run as failed, with one event.
    fn fail<T>(&mut self, timer: Option<InFlight>, error: Error) -> Result<T, Error> {
        if let Some(timer) = timer {
            timer.fail(error.status());
        }
        self.phase = Phase::Failed(error.clone());
        Err(error)
    }

    /// Finds both agents' storage, as it is now.
    fn prepare(&self, flight: Arc<Flight>) -> Result<Job, Error> {
        let (node, name, instance) = (&self.node, &self.remote.agent, self.remote.instance);
        if node.life.ended() || node.life.worker_stopped() {
            return Err(Error::WorkerGone { name: node.name().to_owned() });
        }
        let remote = if instance == node.instance() {
            Arc::clone(node)
        } else if node.remote(name)?.instance != instance {
            return Err(Error::UnknownAgent { name: name.to_string() });
        } else {
            node.fabric.find(name, instance).ok_or_else(|| Error::Disconnected { name: name.to_string() })?
        };
        let mut moves = Vec::with_capacity(self.plan.pieces.len());
        for (local, far) in &self.plan.pieces {
            let local_end = (node.storage(local.region, self.plan.local_type)?, local.offset);
            let remote_end = (remote.storage(far.region, self.plan.remote_type)?, far.offset);
            let (source, destination) = match self.plan.operation {
                Operation::Write => (local_end, remote_end),
                Operation::Read => (remote_end, local_end),
            };
            moves.push(Move { source, destination, length: local.length });
        }
        let life = |node: &Node| -> (String, Arc<Life>) { (node.name().to_owned(), Arc::clone(&node.life)) };
        Ok(Job { flight, moves, own: life(node), remote: life(&remote) })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Phase::Active { flight, .. } = &self.phase {
            flight.cancel();
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Created => "created",
            Phase::Active { .. } => "active",
            Phase::Complete(_) => "complete",
            Phase::Failed(_) => "failed",
        };
        f.debug_struct("Request")
            .field("agent", &self.node.name())
            .field("operation", &self.plan.operation)
            .field("remote", &self.remote.agent)
            .field("bytes", &self.plan.bytes)
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}
