// SPDX-License-Identifier: Apache-2.0

use super::{Error, Operation, Truth, Workload};

/// Two agents, an initiator and its target, that can carry out a workload.
///
/// [`run()`](super::run()) opens a lane per thread, connects the agents, drives the lanes at the same time, and closes them.
pub trait Engine: Sync {
    /// What one thread of a run works with.
    type Lane: Lane;

    /// The names of the initiator and of the target.
    fn agents(&self) -> [&str; 2];

    /// Registers the memory of one thread, counting the registrations.
    ///
    /// # Errors
    /// [`Error`] if an agent refuses, or if the engine cannot do what the plan needs.
    fn open(&self, plan: &LanePlan, ledger: &mut Ledger) -> Result<Self::Lane, Error>;

    /// Tells the initiator about the memory of all lanes, which are open now.
    ///
    /// # Errors
    /// [`Error`] if an agent refuses.
    fn connect(&self) -> Result<(), Error>;
}

/// The part of an engine that one thread of a run works with.
pub trait Lane: Send {
    /// Sets the first bytes at one end.
    ///
    /// # Errors
    /// [`Error`] if the end is a file that cannot be written.
    fn fill(&mut self, side: Side, place: Place, bytes: &[u8]) -> Result<(), Error>;

    /// Fetches the first bytes at one end.
    ///
    /// # Errors
    /// [`Error`] if the end is a file that cannot be read.
    fn fetch(&mut self, side: Side, place: Place, bytes: &mut [u8]) -> Result<(), Error>;

    /// Transfers the first `bytes` bytes between the local end and the remote end at `place`, and waits for it.
    ///
    /// Returns the durations as telemetry has them, or `None` if telemetry is off.
    ///
    /// # Errors
    /// [`Error`] if the transfer fails.
    fn transfer(&mut self, operation: Operation, place: Place, bytes: u64) -> Result<Option<Times>, Error>;

    /// Makes every mistake this engine knows, once, counting the events they cause.
    ///
    /// # Errors
    /// [`Error`] if a mistake is not answered with the error it should be.
    fn provoke(&mut self, ledger: &mut Ledger) -> Result<(), Error>;

    /// Deregisters the memory, counting the deregistrations.
    ///
    /// # Errors
    /// [`Error`] if an agent refuses.
    fn close(self, ledger: &mut Ledger) -> Result<(), Error>;
}

/// What a lane has to be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Its number, from 0 on.
    pub number: usize,
    /// The most bytes of a transfer.
    pub largest: usize,
    /// Whether there are transfers to and from a file.
    pub files: bool,
}

/// What a lane counts: the truth of each of the two agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Of the agent that starts the transfers.
    pub initiator: Truth,
    /// Of the agent whose memory they reach.
    pub target: Truth,
}

/// What is at the far end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Memory of the target agent.
    Memory,
    /// A file, which the initiator has registered itself.
    File,
}

/// One end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Memory of the initiator.
    Local,
    /// What is at the far end.
    Remote,
}

/// How long a transfer took, as its events say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From its start until the post returned, in microseconds.
    pub post_us: u64,
    /// From its start until it was seen complete, in microseconds.
    pub xfer_us: u64,
}

impl LanePlan {
    pub(super) fn new(workload: &Workload, number: usize) -> Result<Self, Error> {
        let largest = workload.largest();
        // Asked for and given back: what no allocator gives would otherwise end the process.
        let possible = |bytes: &usize| Vec::<u8>::new().try_reserve_exact(*bytes).is_ok();
        let largest = usize::try_from(largest).ok().filter(possible).ok_or_else(|| Error::Invalid {
            field: "sizes",
            value: largest.to_string(),
            expected: "bytes that fit into memory",
        })?;
        Ok(Self { number, largest, files: workload.file_percent > 0 })
    }
}
