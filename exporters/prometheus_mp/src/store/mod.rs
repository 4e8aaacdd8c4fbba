// SPDX-License-Identifier: Apache-2.0

//! A store: the numbers of one agent in a file that its process maps and others read.

mod image;
mod layout;
mod reader;
mod writer;

pub(crate) use layout::{MOST_BOUNDS, MOST_LABEL_BYTES};
pub(crate) use reader::{Detail, Reader, Store, Unreadable};
pub(crate) use writer::{Identity, Moment, Writer, label_bytes};

#[cfg(test)]
pub(crate) mod tests;

/// Whether a name is that of a store.
pub(crate) fn is_store_name(name: &[u8]) -> bool {
    name.len() >= b"nixl..mmap".len() && name.starts_with(b"nixl.") && name.ends_with(b".mmap")
}
