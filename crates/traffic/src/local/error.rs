// SPDX-License-Identifier: Apache-2.0

use std::path::PathBuf;
use std::sync::Arc;

use nixl_telemetry_event::Status;

use super::{Access, MemoryType, RegionId};

/// Why an operation of the embedded agent failed.
///
/// Each variant belongs to one of NIXL's twelve error statuses, see [`Error::status`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Asked about a request that was never posted.
    #[error("the request was never posted")]
    NotPosted,
    /// An agent needs a name.
    #[error("an agent name must not be empty")]
    EmptyName,
    /// Another agent of the fabric has this name.
    #[error("the fabric already has an agent {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Memory or a file of no bytes cannot be registered.
    #[error("a region must have at least one byte")]
    EmptyRegion,
    /// An agent's own metadata cannot be its remote.
    #[error("agent {name:?} cannot load its own metadata")]
    OwnMetadata {
        /// The agent.
        name: String,
    },
    /// A request without descriptors.
    #[error("the {side} descriptor list is empty")]
    EmptyList {
        /// `local` or `remote`.
        side: Side,
    },
    /// A descriptor of no bytes, or one that ends beyond 2^64.
    #[error("{side} descriptor {index} has offset {offset} and length {length}, expected 1 byte or more below 2^64")]
    BadDescriptor {
        /// The list it is in.
        side: Side,
        /// Its place in the list.
        index: usize,
        /// Where it begins in its region.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// Bytes that the request writes are named a second time by the same request.
    #[error("descriptors {first} and {second} overlap in the destination")]
    Overlap {
        /// Place of the one in its list.
        first: usize,
        /// Place of the other in its list.
        second: usize,
    },
    /// The operating system refused to read, write or open a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `open`, `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
    /// A file ended before the bytes it was registered with.
    #[error("{} ends at offset {end}, expected bytes up to {expected}", path.display())]
    ShortFile {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        end: u64,
        /// Where it should have stopped.
        expected: u64,
    },
    /// No metadata of this agent is loaded.
    #[error("metadata of remote agent {name:?} is not loaded")]
    UnknownAgent {
        /// The agent.
        name: String,
    },
    /// The file to register does not exist.
    #[error("{} does not exist", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// No region of this number and type is registered.
    #[error("agent {agent:?} has no {memory_type} region {region}")]
    UnknownRegion {
        /// The agent asked.
        agent: String,
        /// The number.
        region: RegionId,
        /// The type of the descriptor list.
        memory_type: MemoryType,
    },
    /// A descriptor reaches beyond its region.
    #[error("{side} descriptor {index} ends at {end}, but its region has {length} bytes")]
    OutOfBounds {
        /// The list it is in.
        side: Side,
        /// Its place in the list.
        index: usize,
        /// The offset behind its last byte.
        end: u64,
        /// Bytes of the region.
        length: u64,
    },
    /// The lists have different numbers of descriptors.
    #[error("{local} local descriptors, but {remote} remote ones")]
    Counts {
        /// Local descriptors.
        local: usize,
        /// Remote descriptors.
        remote: usize,
    },
    /// A pair of descriptors has different lengths.
    #[error("descriptor {index} has {local} bytes on the local side, but {remote} on the remote one")]
    Lengths {
        /// Place in both lists.
        index: usize,
        /// Bytes of the local descriptor.
        local: u64,
        /// Bytes of the remote descriptor.
        remote: u64,
    },
    /// The destination of a request must not be written.
    #[error("{side} region {region} is {access}, expected {}", Access::ReadWrite)]
    ReadOnly {
        /// The side written.
        side: Side,
        /// The region.
        region: RegionId,
        /// Its access.
        access: Access,
    },
    /// The process may not open the file this way.
    #[error("no permission to open {} {access}", path.display())]
    Permission {
        /// The file.
        path: PathBuf,
        /// The access asked for.
        access: Access,
    },
    /// The request is still running.
    #[error("the request is still running and cannot be posted again")]
    StillActive,
    /// The agent's worker thread has gone or could not be started.
    #[error("the worker of agent {name:?} is gone")]
    WorkerGone {
        /// The agent.
        name: String,
    },
    /// The agent has no backend for this type of memory.
    #[error("no backend for {memory_type} memory, expected {} or {}", MemoryType::Dram, MemoryType::File)]
    Unsupported {
        /// The type of the descriptor list.
        memory_type: MemoryType,
    },
    /// The remote agent was dropped, or replaced by another of its name.
    #[error("remote agent {name:?} is gone")]
    Disconnected {
        /// The agent.
        name: String,
    },
    /// The request was released, or its agent dropped, before it was complete.
    #[error("the request was given up while it was running")]
    Canceled,
    /// The agent has no recorder.
    #[error("telemetry of agent {name:?} is off")]
    NoTelemetry {
        /// The agent.
        name: String,
    },
}

/// One of the two sides of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side of the agent that made the request.
    Local,
    /// The side of the agent the request names.
    Remote,
}

impl Error {
    /// NIXL's status for this failure, always an error.
    pub const fn status(&self) -> Status {
        match self {
            Self::NotPosted => Status::NotPosted,
            Self::EmptyName
            | Self::NameTaken { .. }
            | Self::EmptyRegion
            | Self::OwnMetadata { .. }
            | Self::EmptyList { .. }
            | Self::BadDescriptor { .. }
            | Self::Overlap { .. } => Status::InvalidParam,
            Self::Io { .. } | Self::ShortFile { .. } => Status::Backend,
            Self::UnknownAgent { .. } | Self::NoFile { .. } | Self::UnknownRegion { .. } | Self::OutOfBounds { .. } => {
                Status::NotFound
            }
            Self::Counts { .. } | Self::Lengths { .. } => Status::Mismatch,
            Self::ReadOnly { .. } | Self::Permission { .. } => Status::NotAllowed,
            Self::StillActive => Status::RepostActive,
            Self::WorkerGone { .. } => Status::Unknown,
            Self::Unsupported { .. } => Status::NotSupported,
            Self::Disconnected { .. } => Status::RemoteDisconnect,
            Self::Canceled => Status::Canceled,
            Self::NoTelemetry { .. } => Status::NoTelemetry,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Remote => "remote",
        })
    }
}
