// SPDX-License-Identifier: Apache-2.0

//! Real NIXL, driven from Rust through `libnixl_capi.so`, which is opened at run time.
//!
//! Nothing of NIXL is needed to build this crate. At run time [`find()`] looks for an installed NIXL and
//! [`Library::open`] loads it; every release from 0.10.1 to 1.5.1 is known to work (0.10.0 and older have no C API).
//!
//! ```no_run
//! use nixl_telemetry_nixl::{AgentConfig, Library, Operation, UCX_MEMORY, find};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nixl = Library::open(&find(None)?.capi()?)?;
//! let config = AgentConfig { capture_telemetry: true, ..AgentConfig::default() };
//! let initiator = nixl.agent("initiator", &config)?;
//! let target = nixl.agent("target", &config)?;
//! let source = initiator.backend("UCX", UCX_MEMORY)?.register(4096)?;
//! let sink = target.backend("UCX", UCX_MEMORY)?.register(4096)?;
//! source.fill(7);
//!
//! initiator.load(&target.metadata()?)?;
//! let mut transfer = initiator.transfer(Operation::Write, &[source.whole()], &[sink.whole()])?;
//! transfer.post()?;
//! transfer.wait(Duration::from_secs(10))?;
//! assert_eq!(transfer.telemetry()?.bytes, 4096);
//! assert_eq!(sink.read(0..4096)?, [7; 4096]);
//! # Ok(())
//! # }
//! ```
//!
//! # What keeps it safe
//!
//! NIXL and the hardware below it access memory behind the compiler's back, so ownership is arranged such that safe
//! code cannot take anything away too early:
//!
//! - A [`Transfer`] holds the memory of both of its sides, memory holds its [`Backend`], and a backend its [`Agent`].
//!   Whatever order they are dropped in, NIXL sees: release the request, deregister, destroy the agent.
//! - Memory is only ever handed to NIXL as part of a [`Region`], which allocates it, and is read and written from Rust
//!   with atomic accesses, never through a reference to bytes.
//! - Memory of a transfer that failed or will not end is never freed; see [`Transfer`].
//! - A transfer is not posted after its peer's metadata was loaded anew, and a peer is not forgotten while a transfer to
//!   it runs: NIXL would follow pointers into metadata that is gone.
//! - Metadata is opaque and made by NIXL, so no foreign bytes reach its parser. This also means that both agents of a
//!   transfer live in this process.
//! - An agent always locks; NIXL's mode without locks is not offered.
//! - A library is never unloaded, because NIXL and UCX leave threads behind, and no second one is loaded, because two
//!   `libnixl_capi.so` would share the first one's `libnixl.so`.
//!
//! What NIXL itself guarantees is taken on trust. In particular, opening a library runs its code: as with
//! [`std::process::Command`], the caller decides whose.

mod agent;
mod backend;
mod config;
mod error;
mod find;
mod library;
mod metadata;
mod owned;
mod peers;
mod region;
mod sys;
mod transfer;

pub use agent::Agent;
pub use backend::{Backend, UCX_LOOPBACK, UCX_MEMORY};
pub use config::{AgentConfig, ThreadSync};
pub use error::{CapiStatus, Error, LibraryError};
pub use find::{FindError, Found, NoCapi, Origin, Place, find, places};
pub use library::Library;
pub use metadata::Metadata;
pub use region::{FileRegion, Region, Slice};
pub use transfer::{Operation, Progress, Transfer, XferTelemetry};
