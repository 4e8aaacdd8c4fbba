// SPDX-License-Identifier: Apache-2.0

use crate::{Memo, MemoWords};

/// Which batch this is, among all batches of all collectors.
///
/// Origin and number name it: a batch that is exported again, because a process died in the middle of it, bears the
/// same two and holds the same events in the same order. With the index of an event they name the event.
#[derive(Clone, Copy, Debug)]
pub struct BatchId<'a> {
    origin: u64,
    number: u64,
    repeated: bool,
    memo: Option<&'a MemoWords>,
}

impl<'a> BatchId<'a> {
    /// The most events a batch with an identity may hold, so that no exporter has to take it in parts.
    pub const MOST_EVENTS: usize = 4096;

    /// The batch of this number, 1, 2, 3, …, out of the collector that `origin` tells from others.
    pub const fn new(origin: u64, number: u64) -> Self {
        Self { origin, number, repeated: false, memo: None }
    }

    /// The same batch, exported once more after its process died: an exporter of the same name may have exported it
    /// already, wholly or in part.
    pub const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// The same batch with these words as the exporter's [`Memo`].
    ///
    /// They belong to one exporter of one collector, are zero at first and then whatever it left in them.
    pub const fn with_memo(mut self, words: &'a MemoWords) -> Self {
        self.memo = Some(words);
        self
    }

    /// A number that tells the collector from others.
    pub const fn origin(&self) -> u64 {
        self.origin
    }

    /// The batch's number within its collector: 1, 2, 3, ….
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether this batch may have been exported already, wholly or in part, by a process that died in the middle of it.
    pub const fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// What the exporter wrote down about this batch, or may write down; `None` where nothing outlives the process.
    pub const fn memo(&self) -> Option<Memo<'a>> {
        match self.memo {
            Some(words) => Some(Memo::new(words, self.number)),
            None => None,
        }
    }

    /// The memory behind [`memo`](Self::memo), for those who pass it on.
    pub const fn memo_words(&self) -> Option<&'a MemoWords> {
        self.memo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_says_what_it_was_made_of() {
        let words = MemoWords::default();
        let id = BatchId::new(7, 3);
        assert_eq!((id.origin(), id.number(), id.is_repeated(), id.memo().is_some()), (7, 3, false, false));
        let id = id.repeated().with_memo(&words);
        assert_eq!((id.origin(), id.number(), id.is_repeated()), (7, 3, true));
        assert!(id.memo_words().is_some_and(|memo| std::ptr::eq(memo, &words)));
        // The memo is that of this batch.
        id.memo().unwrap().set([5]);
        assert_eq!(BatchId::new(7, 3).with_memo(&words).memo().unwrap().recall(), Some([5]));
        assert_eq!(BatchId::new(7, 4).with_memo(&words).memo().unwrap().recall::<1>(), None);
    }
}
