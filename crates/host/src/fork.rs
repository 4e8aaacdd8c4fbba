// SPDX-License-Identifier: Apache-2.0

//! Whether this process is a forked child, at the cost of a load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, TryLockError};
use std::thread;
use std::time::Duration;

use nixl_telemetry_log::warn;

use crate::clock;

/// How many forks lie between this process and the one that loaded this library.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Counts forks from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = nixl_telemetry_thread::on_fork(forked) {
            warn!("forked children cannot be told from their parent: {error}; what they record is not exported");
        }
    });
}

/// A number that differs between this process and each it was forked from.
#[inline]
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Takes a lock that is held for moments only. `None` if it is held for a second: in a forked child, whoever holds it may not
/// exist there.
pub(crate) fn lock_or_give_up<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..1000 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

/// Runs in a child, on its only thread: two stores and nothing else.
extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // No producer believes its clock any more, and so each comes to look at the number above.
    clock::forget();
}
