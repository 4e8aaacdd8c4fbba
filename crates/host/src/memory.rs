// SPDX-License-Identifier: Apache-2.0

//! Where the memory of lanes comes from: this process alone, or a journal; within the budget either way.

use std::sync::Arc;

use crate::budget::Grant;
use crate::journal::Journal;
use crate::sync::Words;

/// The source of a collector's memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// Bytes all collectors of the process may have.
    pub(crate) budget: u64,
    pub(crate) journal: Option<Arc<Journal>>,
}

/// Some memory, which counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) words: Words,
    /// Where it lies in the journal, if there is one.
    pub(crate) offset: u64,
    grant: Grant,
}

impl Memory {
    /// So many words, zero, if the budget has them; `None` if it has not, or there are none.
    pub(crate) fn take(&self, words: usize) -> Option<Piece> {
        self.make(words, Grant::take(8 * words as u64, self.budget)?)
    }

    /// Two pieces, or none: what a journal has grown by for one of them it keeps. Whatever the budget, if `anyway`: for what
    /// no collector can do without.
    pub(crate) fn take_two(&self, [first, second]: [usize; 2], anyway: bool) -> Option<[Piece; 2]> {
        let [first_bytes, second_bytes] = [first, second].map(|words| 8 * words as u64);
        let grant = Grant::take(first_bytes + second_bytes, if anyway { u64::MAX } else { self.budget })?;
        let other = grant.split(second_bytes);
        Some([self.make(first, grant)?, self.make(second, other)?])
    }

    fn make(&self, words: usize, grant: Grant) -> Option<Piece> {
        let (words, offset) = match &self.journal {
            None => (Words::anonymous(words).ok()?, 0),
            Some(journal) => journal.extend(words)?,
        };
        Some(Piece { words, offset, grant })
    }
}

impl Piece {
    /// Memory of a journal that was found, which counts for nothing.
    pub(crate) fn found(words: Words, offset: u64) -> Self {
        Self { words, offset, grant: Grant::none() }
    }

    /// Lets others have what this counts for.
    pub(crate) fn give_back(&self) {
        self.grant.give_back();
    }
}

/// For tests: as much as there is.
#[cfg(test)]
pub(crate) const PLENTY: Memory = Memory { budget: u64::MAX, journal: None };
