// SPDX-License-Identifier: Apache-2.0

//! Collectors that are still there when the process exits.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use std::{process, thread};

use nixl_telemetry_log::warn;

use crate::fork::lock_or_give_up;
use crate::shared::Shared;

/// All collectors of the process, some of which are gone.
static LIVE: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// The process that has them. A process made by `vfork` sees them too, and is not the one.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Has `shared` drained when the process exits.
///
/// Called once its exporters are loaded: what is registered later runs earlier, so that the libraries of exporters are
/// still whole then.
pub(crate) fn watch(shared: &Arc<Shared>) {
    /// The most collectors there ever were at once; only then may there be a library that was loaded since.
    static MOST: AtomicUsize = AtomicUsize::new(0);
    // In a forked child somebody may hold it who does not exist there; then the exit is not noticed, and nobody hangs.
    let Some(mut live) = lock_or_give_up(&LIVE) else { return };
    live.retain(|collector| collector.strong_count() > 0);
    live.push(Arc::downgrade(shared));
    let count = live.len();
    drop(live);
    OWNER.store(process::id(), Ordering::Relaxed);
    if MOST.fetch_max(count, Ordering::Relaxed) < count
        && let Err(error) = nixl_telemetry_thread::on_exit(exit)
    {
        warn!("agent {}: the exit of the process cannot be noticed: {error}", shared.agent);
    }
}

extern "C" fn exit() {
    // There is nobody to tell of a panic any more.
    let _ = catch_unwind(close_all);
}

/// Closes the collectors of this process that are still there, as at the end of a process that does not destroy its
/// agents.
fn close_all() {
    let Some(live) = lock_or_give_up(&LIVE).map(|live| live.clone()) else { return };
    let live: Vec<_> = live.iter().filter_map(Weak::upgrade).filter(|collector| !collector.is_elsewhere()).collect();
    // All at once, so that their times for the end run together.
    live.iter().for_each(|collector| collector.staging.close());
    live.iter().for_each(|collector| collector.shut_down());
}

/// Drains all collectors of this process, for hooks of `_exit`: takes no lock and no memory, so that it may be called
/// where a signal handler may. It waits no longer than the longest
/// [`SHUTDOWN_TIMEOUT`](crate::settings::SHUTDOWN_TIMEOUT) of a collector; what is not exported by then is lost without
/// being counted.
pub fn drain_before_exit() {
    const LOOK: Duration = Duration::from_micros(200);
    const PATIENCE: Duration = Duration::from_secs(2);
    if OWNER.load(Ordering::Relaxed) != process::id() {
        return;
    }
    let start = Instant::now();
    // Held for moments, or by another thread that leaves and does the same.
    let live = loop {
        match LIVE.try_lock() {
            Ok(live) => break live,
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(LOOK),
            Err(_) => return,
        }
    };
    loop {
        let mut is_done = true;
        for collector in live.iter().filter_map(Weak::upgrade) {
            if !collector.is_elsewhere() && !collector.staging.is_over() && start.elapsed() < collector.shutdown_timeout
            {
                collector.staging.close_quietly();
                is_done = false;
            }
            // Giving memory back may take a lock.
            std::mem::forget(collector);
        }
        if is_done {
            return;
        }
        thread::sleep(LOOK);
    }
}
