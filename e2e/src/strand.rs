// SPDX-License-Identifier: Apache-2.0

//! What a process does that is going to be killed, and the truth about how far it came.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use nixl_telemetry_event::Kind;
use nixl_telemetry_shm::{Words, reserve};

/// Something a process does step after step, with one thread, so that its events come in the order of the steps.
///
/// Every step has a number, 1, 2, 3, …, on which depends how many bytes it is about: a step that is missing, or is there
/// twice, shifts all after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strand {
    /// The initiator writes so many bytes.
    Write,
    /// The initiator reads so many bytes.
    Read,
    /// The initiator names memory it does not know, and is refused.
    Mistake,
    /// The target registers so many bytes, and in the next step deregisters them.
    Register,
    /// The memory for transfers: the initiator registers its own, in the end deregisters it.
    InitiatorMemory,
    /// The target does, and has some that it tells nobody of.
    TargetMemory,
}

/// The most bytes of a step. A prime, so that no batch is as long as some rounds of steps.
pub const MOST_BYTES: u64 = 1021;
/// Bytes of the memory for transfers, which no step has.
pub const MEMORY: u64 = 4096;
/// Bytes of memory that the initiator does not know.
pub const STRAY: u64 = 8192;

/// An event as it ought to be; the value of one that is a measurement is not known.
pub type Expected = (Kind, Option<u64>);

impl Strand {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Write, Self::Read, Self::Mistake, Self::Register, Self::InitiatorMemory, Self::TargetMemory];

    /// The agent whose events they are.
    pub fn agent(self) -> &'static str {
        match self {
            Self::Write | Self::Read | Self::Mistake | Self::InitiatorMemory => "initiator",
            Self::Register | Self::TargetMemory => "target",
        }
    }

    /// The bytes a step is about.
    pub fn bytes(self, step: u64) -> u64 {
        match self {
            Self::Write | Self::Read => 1 + step % MOST_BYTES,
            Self::Register => 1 + step.div_ceil(2) % MOST_BYTES,
            Self::Mistake => 1,
            Self::InitiatorMemory => MEMORY,
            // They are deregistered in the order they were registered.
            Self::TargetMemory => {
                if step % 2 == 1 {
                    MEMORY
                } else {
                    STRAY
                }
            }
        }
    }

    /// The events of a step, in their order.
    pub fn events(self, step: u64) -> Vec<Expected> {
        let transfer = |bytes, requests| {
            let times = [(Kind::XFER_POST_TIME, None), (Kind::XFER_TIME, None)];
            times.into_iter().chain([(bytes, Some(self.bytes(step))), (requests, Some(1))]).collect()
        };
        let memory = |is_registered| {
            let kind = if is_registered { Kind::MEMORY_REGISTERED } else { Kind::MEMORY_DEREGISTERED };
            vec![(kind, Some(self.bytes(step)))]
        };
        match self {
            Self::Write => transfer(Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
            Self::Read => transfer(Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
            Self::Mistake => vec![(Kind::ERR_NOT_FOUND, Some(1))],
            Self::Register => memory(step % 2 == 1),
            Self::InitiatorMemory => memory(step == 1),
            Self::TargetMemory => memory(step <= 2),
        }
    }
}

/// How far each strand has come, and when to stop: in a file that all processes map, so that it outlives them.
#[derive(Debug)]
pub struct Truth(Words);

const STOP: usize = 2 * Strand::ALL.len();

impl Truth {
    /// A file for this, where nothing has happened.
    ///
    /// # Errors
    /// If it cannot be made or mapped.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        reserve(&file, 0, 4096)?;
        Self::of(&file)
    }

    /// The file that somebody made.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::options().read(true).write(true).open(path)?)
    }

    fn of(file: &File) -> io::Result<Self> {
        Words::of_file(file, 0, 512).map(Self)
    }

    /// Does the next step of a strand, which is told its number.
    ///
    /// # Errors
    /// Those of the step.
    pub fn step<T, E>(&self, strand: Strand, does: impl FnOnce(u64) -> Result<T, E>) -> Result<T, E> {
        let (begun, done) = self.words(strand);
        let step = done.load(SeqCst) + 1;
        begun.store(step, SeqCst);
        let result = does(step)?;
        done.store(step, SeqCst);
        Ok(result)
    }

    /// Steps that are done, and steps that have begun, one more at most.
    pub fn steps(&self, strand: Strand) -> (u64, u64) {
        let (begun, done) = self.words(strand);
        let done = done.load(SeqCst);
        (done, begun.load(SeqCst))
    }

    /// Asks the strands to come to their end.
    pub fn stop(&self) {
        self.0[STOP].store(1, SeqCst);
    }

    /// Whether they are asked to.
    pub fn is_stopped(&self) -> bool {
        self.0[STOP].load(SeqCst) == 1
    }

    /// The last step that has begun, and the last that is done.
    fn words(&self, strand: Strand) -> (&AtomicU64, &AtomicU64) {
        (&self.0[2 * strand as usize], &self.0[2 * strand as usize + 1])
    }
}
