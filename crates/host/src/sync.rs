// SPDX-License-Identifier: Apache-2.0

//! The primitives of the lock-free part: real ones, or those loom explores.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub(crate) use nixl_telemetry_shm::Words;
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

/// A value alone on its cache lines; two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Lets others go on, while one of them is in the middle of something short.
pub(crate) fn pause() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}

/// Words that loom watches.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Words(Box<[atomic::AtomicU64]>);

#[cfg(loom)]
impl Words {
    pub(crate) fn anonymous(words: usize) -> std::io::Result<Self> {
        Ok(Self((0..words).map(|_| atomic::AtomicU64::new(0)).collect()))
    }

    pub(crate) fn of_file(_: &std::fs::File, _: u64, _: usize) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(loom)]
impl std::ops::Deref for Words {
    type Target = [atomic::AtomicU64];

    fn deref(&self) -> &[atomic::AtomicU64] {
        &self.0
    }
}
