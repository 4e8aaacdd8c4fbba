// SPDX-License-Identifier: Apache-2.0

//! An embedded agent: real transfers without NIXL, recorded as NIXL records them.
//!
//! Agents of one [`Fabric`] register [`Memory`] and files, tell each other about them by [`Metadata`], and move bytes
//! with [requests](Request). Bytes really move: up to 64 KiB between memory and memory inside the post, everything else
//! on a worker thread per agent.
//!
//! ```
//! use nixl_telemetry_traffic::local::{Access, Agent, Fabric, Memory, Operation};
//!
//! let fabric = Fabric::new();
//! let (prefill, decode) = (Agent::new(&fabric, "prefill", None)?, Agent::new(&fabric, "decode", None)?);
//! let (from, to) = (Memory::from(vec![7; 4096]), Memory::zeroed(4096));
//! let source = prefill.register_memory(&from, Access::ReadOnly)?;
//! let destination = decode.register_memory(&to, Access::ReadWrite)?;
//! prefill.load_remote_metadata(&decode.local_metadata())?;
//!
//! let mut write = prefill.create_request(Operation::Write, &source.whole(), "decode", &destination.whole())?;
//! write.post()?;
//! write.wait()?;
//! assert_eq!(to.to_vec(), from.to_vec());
//! # Ok::<(), nixl_telemetry_traffic::local::Error>(())
//! ```
//!
//! # What is recorded
//! The events of NIXL 1.4 and later, on the thread that calls: a successful registration or deregistration with its
//! bytes; for a transfer, when the agent that started it sees it complete, post time, transfer time, bytes and one
//! request; for an error, its status with the value 1. The target of a transfer records nothing.
//!
//! Errors are where this agent is deliberately more thorough. **Every error status an operation returns is one event**,
//! when it is first returned for a run; only [`Error::NoTelemetry`] is none. NIXL counts neither a failed registration
//! or deregistration, nor a disconnected remote found by posting or polling, nor a post of a request that is still
//! running, nor descriptors that do not fit, nor the release of a running request, nor a question about the telemetry
//! of a request that was not posted. NIXL also checks less: overlapping descriptors are not refused.
//!
//! A request dropped instead of [released](Request::release), or an agent dropped with requests nobody asks about,
//! returns no status, and so records none.

mod agent;
mod engine;
mod error;
mod fabric;
mod memory;
mod mistakes;
mod node;
mod plan;
mod request;
mod worker;

pub use agent::{Agent, Metadata};
pub(crate) use engine::ScratchFile;
pub use engine::{LocalEngine, LocalLane, LocalOptions};
pub use error::{Error, Side};
pub use fabric::Fabric;
pub use memory::{Access, Descriptor, DescriptorList, Memory, MemoryType, Region, RegionId};
pub use nixl_telemetry_host::XferTelemetry;
pub use request::Request;

/// Which way a transfer goes, with NIXL's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Operation {
    /// From the remote side to the local one.
    Read = 0,
    /// From the local side to the remote one.
    Write = 1,
}

/// How far a transfer without an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It was posted and is not over yet.
    InProgress,
    /// All bytes have arrived.
    Complete,
}

/// The most bytes that move inside a post.
const INLINE: u64 = 64 * 1024;

/// Bytes moved between two looks at whether to go on.
const CHUNK: usize = 256 * 1024;
