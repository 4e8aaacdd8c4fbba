// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::{BatchId, MemoWords};

use crate::raw;

/// Which batch a host says is under way, kept from its begin to its end.
pub(crate) struct Identity(raw::BatchId);

impl Identity {
    /// What the host says; `None` if it is nothing, or shorter than this version knows it.
    ///
    /// # Safety
    /// `id` must be null or point to an identity whose first field tells its size.
    pub(crate) unsafe fn read(id: *const raw::BatchId) -> Option<Self> {
        if id.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for an identity, of which the size comes first.
        let size = unsafe { (&raw const (*id).size).read() };
        if (size as usize) < size_of::<raw::BatchId>() {
            return None;
        }
        // SAFETY: by its size it is all there.
        Some(Self(unsafe { id.read() }))
    }

    /// The same in safe words.
    ///
    /// # Safety
    /// The memo, if there is one, must stay and be touched by nobody but atomically while the result is used.
    pub(crate) unsafe fn batch_id(&self) -> BatchId<'_> {
        let raw::BatchId { flags, origin, number, memo, memo_words, .. } = self.0;
        let mut id = BatchId::new(origin, number);
        if flags & raw::BatchId::REPEATED != 0 {
            id = id.repeated();
        }
        let words = const { size_of::<MemoWords>() / size_of::<u64>() };
        if !memo.is_null() && memo_words >= words as u64 {
            // SAFETY: the host says that there are as many words; the caller vouches for how long, and that they are
            // shared as atomics are. An atomic lies in memory as its integer does.
            id = id.with_memo(unsafe { &*memo.cast::<MemoWords>() });
        }
        id
    }
}
