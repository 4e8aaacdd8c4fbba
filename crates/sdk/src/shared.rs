// SPDX-License-Identifier: Apache-2.0

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// Locks what the exporters of a process have in common: a server, a connection, a list.
///
/// A child that is forked while another thread of its parent has the lock will never get it. So it is not waited for
/// without end; a lock whose holder panicked is a lock like any other.
///
/// ```
/// use std::sync::Mutex;
/// use nixl_telemetry_sdk::lock_shared;
///
/// static OPEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
///
/// lock_shared(&OPEN)?.push("agentA".into());
/// # Ok::<(), nixl_telemetry_sdk::Error>(())
/// ```
///
/// # Errors
/// If it cannot be had within five seconds, for which nobody should hold it.
pub fn lock_shared<T>(shared: &Mutex<T>) -> Result<MutexGuard<'_, T>, Error> {
    lock_within(shared, Duration::from_secs(5))
}

fn lock_within<T>(shared: &Mutex<T>, limit: Duration) -> Result<MutexGuard<'_, T>, Error> {
    let until = Instant::now() + limit;
    loop {
        match shared.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::WouldBlock) => return Err("forked while an exporter was being opened or closed".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_let_go_is_not_waited_for() {
        let shared = Mutex::new(7);
        let held = shared.lock().unwrap();
        let error = lock_within(&shared, Duration::from_millis(2)).unwrap_err().to_string();
        assert_eq!(error, "forked while an exporter was being opened or closed");
        drop(held);
        assert_eq!(*lock_within(&shared, Duration::ZERO).unwrap(), 7);
    }

    #[test]
    fn who_lets_go_in_time_is_waited_for_and_a_panic_does_no_harm() {
        let shared = Mutex::new(0);
        thread::scope(|scope| {
            let held = shared.lock().unwrap();
            let waiting = scope.spawn(|| *lock_shared(&shared).unwrap() += 1);
            drop(held);
            waiting.join().unwrap();
            let panics = scope.spawn(|| {
                let _held = shared.lock().unwrap();
                panic!("on purpose");
            });
            assert!(panics.join().is_err());
        });
        assert_eq!(*lock_shared(&shared).unwrap(), 1);
    }
}
