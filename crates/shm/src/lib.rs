// SPDX-License-Identifier: Apache-2.0

//! Memory that threads and processes share, and the files it comes from.
//!
//! * [`Words`]: a range of memory as atomic words, anonymous or of a file.
//! * [`NewFile`]: a file that nobody sees before it is complete.
//! * [`check_private`]: whether a directory is one's own.
//! * [`lock`] and [`holder`]: who lives holds a lock; a process that has died holds none.

#![deny(unsafe_code)]

mod file;
#[expect(unsafe_code, reason = "maps memory")]
mod words;

pub use file::{NewFile, NotPrivate, check_private, holder, lock, reserve};
pub use words::Words;
