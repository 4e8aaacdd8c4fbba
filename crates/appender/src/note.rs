// SPDX-License-Identifier: Apache-2.0

use crate::Place;

/// What is written down about a batch before its lines leave: where they begin, and as whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where they begin, apart from those before.
    pub place: Place,
    /// Bytes of lines that are elsewhere already.
    pub before: u64,
    /// The process whose lines they are; its number may be in them and in the name of the file.
    pub pid: u32,
}

impl Note {
    /// The numbers for a memo.
    pub fn to_numbers(self) -> [u64; 5] {
        let Self { place: Place { device, inode, at }, before, pid } = self;
        [device, inode, at, before, pid.into()]
    }

    /// Out of a memo; `None` if the numbers are no note.
    pub fn from_numbers([device, inode, at, before, pid]: [u64; 5]) -> Option<Self> {
        Some(Self { place: Place { device, inode, at }, before, pid: pid.try_into().ok()? })
    }
}
