// SPDX-License-Identifier: Apache-2.0

//! NIXL's ring file, in which an agent's events wait for whoever reads them from outside its process.
//!
//! NIXL's exporter `BUFFER` writes `<NIXL_TELEMETRY_DIR>/<agent>`: 40 bytes of header, then as many slots as the ring has
//! room for (facts 5). One process writes, one consumes; what finds the ring full is refused.
//!
//! * [`Shape`]: which layout a file's events have, and how many there are, from its header and its length.
//! * [`Writer`]: writes the file of a release, which that release's own readers read.
//! * [`Reader`]: reads one file. [`Mode::Peek`] changes nothing, so that any number of them see the same events;
//!   [`Mode::Consume`] takes them out, as NIXL's readers do.
//! * [`Follower`]: the file of a path, whoever replaces it; [`Watcher`]: all of a directory, as they come and go.
//! * [`dump()`]: what a ring holds, as a file of its own that stays as it is; [`DumpName`]: what such files are called.
//!
//! # Promises
//! A reader never maps a file, it reads it: a file that shrinks under it, or a disk that fails, is an error and no
//! `SIGBUS`. It does not panic, and allocates in proportion to the file, whatever its bytes are. It never removes a file.
//! Events that were overwritten while they were read are counted and not shown.
//!
//! # Stamps
//! Positions in the header wrap around, so that a reader who consumes nothing cannot tell from them whether it was
//! overtaken by a whole ring. Our writer numbers its events in the padding of a slot, which NIXL leaves uninitialised and
//! its readers pass over; from files of ours a [`Reader`] knows exactly how many it missed, from others at least how many.

#![forbid(unsafe_code)]

mod batch;
mod create;
mod dump;
mod dump_name;
mod error;
mod follower;
mod header;
mod reader;
mod shape;
mod stamp;
mod watcher;
mod writer;

pub use batch::{Batch, Lost};
pub use create::Options;
pub use dump::{DumpError, Dumped, Left, Place, dump};
pub use dump_name::{DumpName, Reason};
pub use error::{CreateError, Malformed, ReadError};
pub use follower::{Follower, Polled};
pub use header::{HEADER_SIZE, Header};
pub use reader::{Mode, Reader};
pub use shape::Shape;
pub use watcher::{Change, Taken, Watcher};
pub use writer::{Keep, Pushed, Writer};
