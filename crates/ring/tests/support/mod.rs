// SPDX-License-Identifier: Apache-2.0

//! A writer as NIXL's is: positions and slots in a mapped file, one event at a time, padding that is never written.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nixl_telemetry_event::{Event, Generation, Layout};
use nixl_telemetry_shm::Words;

pub(crate) struct TheirWriter {
    _file: File,
    words: Words,
    mask: u64,
    layout: Layout,
}

impl TheirWriter {
    /// Opens the file as theirs does: resized in place, the header written anew, the slots left as they are.
    pub(crate) fn open(path: &Path, generation: Generation, capacity: u64) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        let layout = generation.layout();
        let size = 40 + capacity * layout.size() as u64;
        file.set_len(size).unwrap();
        let words = Words::of_file(&file, 0, usize::try_from(size / 8).unwrap()).unwrap();
        words[2].store(0, Release);
        words[0].store(0, Relaxed);
        words[1].store(0, Relaxed);
        words[3].store(capacity, Relaxed);
        words[4].store(capacity - 1, Relaxed);
        let version = u64::from(generation.ring_version().cast_unsigned());
        words[2].store(version | version << 32, Release);
        Self { _file: file, words, mask: capacity - 1, layout }
    }

    pub(crate) fn push(&self, event: &Event<'_>) -> bool {
        let at = self.words[0].load(Relaxed);
        let next = (at + 1) & self.mask;
        if next == self.words[1].load(Acquire) {
            return false;
        }
        let mut bytes = Vec::new();
        assert!(self.layout.encode(event, &mut bytes));
        let slot = &self.words[5 + usize::try_from(at).unwrap() * bytes.len() / 8..];
        for (word, bytes) in slot.iter().zip(bytes.chunks_exact(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().unwrap()), Relaxed);
        }
        self.words[0].store(next, Release);
        true
    }

    /// Takes out as many as there are, up to a number, as their reader does.
    #[allow(dead_code, reason = "not every test takes out through it")]
    pub(crate) fn pop(&self, most: u64) -> u64 {
        let mut popped = 0;
        while popped < most {
            let at = self.words[1].load(Relaxed);
            if at == self.words[0].load(Acquire) {
                break;
            }
            self.words[1].store((at + 1) & self.mask, Release);
            popped += 1;
        }
        popped
    }
}
