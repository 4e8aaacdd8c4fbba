// SPDX-License-Identifier: Apache-2.0

//! The memory all rings of the process may take together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes all rings of this process hold.
static HELD: AtomicU64 = AtomicU64::new(0);

/// A part of the budget, given back when dropped, or [before](Self::give_back).
#[derive(Debug)]
pub(crate) struct Grant(AtomicU64);

impl Grant {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes `bytes`, if no more than `budget` are held then.
    pub(crate) fn take(bytes: u64, budget: u64) -> Option<Self> {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= budget);
        // Only the number counts, nothing is published by it.
        HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(AtomicU64::new(bytes)))
    }

    /// Takes `bytes` out of it.
    pub(crate) fn split(&self, bytes: u64) -> Self {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        Self(AtomicU64::new(bytes))
    }

    /// Gives all of it back: what it was taken for is not used any more.
    pub(crate) fn give_back(&self) {
        HELD.fetch_sub(self.0.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        assert!(Grant::take(u64::MAX, u64::MAX - 1).is_none());
        // Other tests hold some, too, but never so much.
        let half = Grant::take(1 << 61, 1 << 62);
        assert!(half.is_some());
        assert!(Grant::take(1 << 62, 1 << 62).is_none());
        drop(half);
        let half = Grant::take(1 << 61, 1 << 62).unwrap();
        let part = half.split(1 << 60);
        drop(half);
        assert!(Grant::take((1 << 62) - (1 << 59), 1 << 62).is_none());
        part.give_back();
        assert!(Grant::take((1 << 62) - (1 << 59), 1 << 62).is_some());
    }
}
