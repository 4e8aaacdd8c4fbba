// SPDX-License-Identifier: Apache-2.0

use std::io;

/// What makes a file no ring, or a ring that cannot be read. Names no file; whoever reports it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is too short for a header.
    #[error("has {size} bytes: expected a ring of at least {min}", min = crate::HEADER_SIZE)]
    Short {
        /// Its size.
        size: u64,
    },
    /// Version 0: a writer is at it, or refused the number of slots it was asked for, which NIXL's does too late.
    #[error("has version 0: its writer did not finish making it")]
    Unfinished,
    /// A version that no release up to 1.5 writes.
    #[error("has version {version}: expected a ring of version 1 to 4")]
    Version {
        /// The version.
        version: i32,
    },
    /// The two fields for the version differ.
    #[error("has version {version} in one place and {expected_version} in another: expected the same")]
    Versions {
        /// The first.
        version: i32,
        /// The second.
        expected_version: i32,
    },
    /// A number of slots that none has.
    #[error("has {capacity} slots: expected a power of two")]
    Capacity {
        /// The number.
        capacity: u64,
    },
    /// A mask of another capacity.
    #[error("has the mask {mask} for {capacity} slots: expected {}", capacity.wrapping_sub(1))]
    Mask {
        /// The mask.
        mask: u64,
        /// Number of slots.
        capacity: u64,
    },
    /// It has not the size its header says.
    #[error("has {size} bytes: expected {} for {capacity} slots of version {version}", number(*expected))]
    Size {
        /// Its size.
        size: u64,
        /// Number of slots.
        capacity: u64,
        /// Its version.
        version: i32,
        /// The size it should have, if there is such a number.
        expected: Option<u64>,
    },
    /// A position outside.
    #[error("has the {name} position {position}: expected less than {capacity}")]
    Position {
        /// Which one.
        name: &'static str,
        /// The position.
        position: u64,
        /// Number of slots.
        capacity: u64,
    },
    /// Its slots are no events.
    #[error("has something else than events of {size} bytes in its slots")]
    Events {
        /// The size of an event its version and size speak of.
        size: usize,
    },
}

fn number(size: Option<u64>) -> String {
    size.map_or_else(|| "more than there can be".to_owned(), |size| size.to_string())
}

impl Malformed {
    /// Whether it is something else altogether, rather than a ring with a fault: for who looks through a directory in
    /// which other files are as well.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Short { .. } | Self::Version { .. } | Self::Versions { .. })
    }
}

/// Why a ring file cannot be read. Names no file; whoever reports it does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refuses.
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    /// It is something else than a file.
    #[error("is {what}: expected a ring file")]
    NoFile {
        /// What it is.
        what: &'static str,
    },
    /// It is no ring, or a broken one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl ReadError {
    /// Whether it is nothing that was meant to be a ring.
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Io(_) => false,
            Self::NoFile { .. } => true,
            Self::Malformed(malformed) => malformed.is_foreign(),
        }
    }

    /// Whether there is no such file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Why a ring file cannot be made. Names no file; whoever reports it does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The operating system refuses.
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    /// A number of slots that is none.
    #[error("{capacity} slots: expected a power of two from 2 to 1073741824")]
    Capacity {
        /// The number.
        capacity: u64,
    },
    /// There is something else of that name.
    #[error("is {what}: expected a ring file, or none")]
    NoFile {
        /// What it is.
        what: &'static str,
    },
    /// It belongs to somebody else.
    #[error("belongs to user {owner}: expected a file of user {user}")]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// There is a file of that name which no writer of rings has made; it is left alone.
    #[error("is there already and {0}; it is left as it is")]
    Other(Malformed),
    /// A writer that lives has it.
    #[error("is being written by another agent of this name")]
    Taken,
}

/// An error without Rust's ` (os error 28)`.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((what, _)) => what.to_lowercase(),
        None => text,
    }
}
