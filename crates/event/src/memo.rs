// SPDX-License-Identifier: Apache-2.0

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The memory of a [`Memo`]: the number of the batch it is about, then what was written down.
pub type MemoWords = [AtomicU64; 8];

/// A few numbers that outlive the process: what an exporter was about to do with a batch.
///
/// An exporter [sets](Self::set) it before it touches its sink. If the process dies then, the batch is exported again,
/// maybe by another process, whose exporter [recalls](Self::recall) what was set and looks how far it came.
///
/// A memo survives its process, not its machine.
#[derive(Clone, Copy, Debug)]
pub struct Memo<'a> {
    words: &'a MemoWords,
    batch: u64,
}

impl<'a> Memo<'a> {
    /// How many numbers it holds.
    pub const CAPACITY: usize = 7;

    pub(crate) const fn new(words: &'a MemoWords, batch: u64) -> Self {
        Self { words, batch }
    }

    /// Writes down these numbers about this batch, and zeros behind them, in place of whatever stood there. More than
    /// [`CAPACITY`](Self::CAPACITY) do not compile.
    ///
    /// A process that dies in the middle of it leaves a memo of no batch.
    pub fn set<const N: usize>(&self, numbers: [u64; N]) {
        const { assert!(N <= Self::CAPACITY, "a memo holds seven numbers") };
        let [batch, memo @ ..] = self.words;
        // Whose numbers they are is unsaid until all of them stand there. Each store keeps its place behind the one
        // before it, so that wherever the process dies, the number of the batch vouches for what follows it.
        batch.store(0, Relaxed);
        for (index, word) in memo.iter().enumerate() {
            word.store(numbers.get(index).copied().unwrap_or(0), Release);
        }
        batch.store(self.batch, Release);
    }

    /// The first `N` numbers that were set about this very batch, by this process or one before it; `None` if none were,
    /// or not all of them.
    pub fn recall<const N: usize>(&self) -> Option<[u64; N]> {
        const { assert!(N <= Self::CAPACITY, "a memo holds seven numbers") };
        let [batch, memo @ ..] = self.words;
        // Batches count from 1; 0 is what memory begins with.
        let is_this = self.batch != 0 && batch.load(Acquire) == self.batch;
        is_this.then(|| core::array::from_fn(|index| memo[index].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_recalled_for_its_batch_alone() {
        let words = MemoWords::default();
        let memo = |batch| Memo::new(&words, batch);
        assert_eq!([0, 1].map(|batch| memo(batch).recall::<0>()), [None; 2]);
        memo(1).set([1, 2, 3, 4, 5, 6, u64::MAX]);
        assert_eq!(memo(1).recall(), Some([1, 2, 3, 4, 5, 6, u64::MAX]));
        assert_eq!(memo(1).recall(), Some([1, 2]));
        memo(1).set([8, 9]);
        assert_eq!(memo(1).recall(), Some([8, 9, 0, 0, 0, 0, 0]));
        assert_eq!([0, 2].map(|batch| memo(batch).recall::<7>()), [None; 2]);
        memo(2).set([9]);
        assert_eq!((memo(1).recall::<1>(), memo(2).recall()), (None, Some([9])));
        // About batch 0, which is none, nothing is ever known.
        memo(0).set([9]);
        assert_eq!((memo(0).recall::<1>(), memo(2).recall::<1>()), (None, None));
    }

    /// A process dies behind any of the stores: what is in memory then is a memo's first words over those of the last.
    #[test]
    fn a_memo_that_is_not_complete_is_none() {
        let (before, after) = ([1, 10, 11, 12, 13, 14, 15, 16], [2, 20, 21, 22, 23, 24, 25, 26]);
        for done in 0..=8 {
            let words: MemoWords = core::array::from_fn(|index| {
                let number = match index {
                    0 if done == 8 => after[0],
                    0 => 0,
                    _ if index <= done => after[index],
                    _ => before[index],
                };
                AtomicU64::new(number)
            });
            let expected = (done == 8).then_some([20, 21, 22, 23, 24, 25, 26]);
            assert_eq!((Memo::new(&words, 1).recall::<7>(), Memo::new(&words, 2).recall()), (None, expected));
        }
    }
}
