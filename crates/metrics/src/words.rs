// SPDX-License-Identifier: Apache-2.0

//! Words that one thread changes, many at a time, and any number of others read as they are between two changes.
//!
//! A sequence lock: its counter is odd while words change, and a reader that saw it odd, or another one afterwards, looks
//! again. Who changes never waits. The words are atomics, so that a look that comes to nothing is no data race either.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Words under a sequence lock.
#[derive(Debug)]
pub(crate) struct Words {
    sequence: AtomicU64,
    words: Box<[AtomicU64]>,
}

/// The words while they change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changing<'a>(&'a [AtomicU64]);

/// The words while they are read, of which some may be from one change and some from another: then it all comes to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a>(&'a [AtomicU64]);

impl Words {
    /// So many zeros.
    pub(crate) fn new(count: usize) -> Self {
        Self { sequence: AtomicU64::new(0), words: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Changes words, of which readers see all or nothing. Whoever calls this is the only one who does.
    #[inline]
    pub(crate) fn change(&self, change: impl FnOnce(Changing<'_>)) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Who sees one of the words changed sees the sequence odd, too, behind a fence of its own.
        fence(Ordering::Release);
        change(Changing(&self.words));
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Reads words between two changes: again and again, until none has come in between.
    pub(crate) fn read(&self, mut read: impl FnMut(Reading<'_>)) {
        let mut tries = 0;
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                read(Reading(&self.words));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return;
                }
            }
            tries += 1;
            pause(tries);
        }
    }
}

impl Changing<'_> {
    /// Adds to a word. Nobody else changes it, so that this needs no locked instruction.
    #[inline]
    pub(crate) fn add(self, at: usize, count: u64) {
        let word = &self.0[at];
        word.store(word.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Replaces a word.
    #[inline]
    pub(crate) fn set(self, at: usize, value: u64) {
        self.0[at].store(value, Ordering::Relaxed);
    }
}

impl Reading<'_> {
    /// A word.
    #[inline]
    pub(crate) fn get(self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed)
    }
}

/// Lets the one who changes go on, who may have lost its processor in the middle.
#[cfg(not(loom))]
fn pause(tries: u32) {
    if tries.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

#[cfg(loom)]
fn pause(_: u32) {
    loom::thread::yield_now();
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --target-dir target/loom -p nixl-telemetry-metrics --lib models`.
#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn look(words: &Words) -> [u64; 2] {
        let mut seen = [0; 2];
        words.read(|words| seen = [words.get(0), words.get(1)]);
        seen
    }

    /// Both words always say how many changes there have been: in all interleavings with at most two preemptions, which is
    /// where the bugs of such code are found. One reader is enough: readers change nothing.
    #[test]
    fn a_reader_sees_whole_changes() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let words = Arc::new(Words::new(2));
            let reader = thread::spawn({
                let words = Arc::clone(&words);
                move || {
                    let [first, second] = [look(&words), look(&words)];
                    assert!(first[0] == first[1] && second[0] == second[1], "{first:?} {second:?}");
                    assert!(first[0] <= second[0], "it goes back from {first:?} to {second:?}");
                }
            });
            for number in [1, 2] {
                words.change(|words| {
                    words.add(0, 1);
                    words.set(1, number);
                });
            }
            reader.join().unwrap();
            assert_eq!(look(&words), [2; 2]);
        });
    }
}
