// SPDX-License-Identifier: Apache-2.0

//! Collectors that are still there when the process exits.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use std::{process, thread};

use nixl_telemetry_log::warn;

use crate::fork::lock_or_give_up;
use crate::shared::Shared;

static LIVE: Mutex<Live> = Mutex::new(Live { collectors: Vec::new(), exporters: BTreeSet::new() });

struct Live {
    /// All collectors of the process, some of which are gone.
    collectors: Vec<Weak<Shared>>,
    /// The exporters they ever had, by name: those whose libraries may have been loaded.
    exporters: BTreeSet<String>,
}

/// The process that has them. A process made by `vfork` sees them too, and is not the one.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Has `shared`, which feeds these exporters, drained when the process exits.
///
/// Called once they are loaded, and registered again for each that is new: what is registered later runs earlier, so that
/// their libraries are still whole then.
pub(crate) fn watch(shared: &Arc<Shared>, exporters: Vec<String>) {
    // In a forked child somebody may hold it who does not exist there; then the exit is not noticed, and nobody hangs.
    let Some(mut live) = lock_or_give_up(&LIVE) else { return };
    live.collectors.retain(|collector| collector.strong_count() > 0);
    live.collectors.push(Arc::downgrade(shared));
    let known = live.exporters.len();
    live.exporters.extend(exporters);
    let is_new = live.exporters.len() > known;
    drop(live);
    OWNER.store(process::id(), Ordering::Relaxed);
    if is_new && let Err(error) = nixl_telemetry_thread::on_exit(exit) {
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
    let Some(live) = lock_or_give_up(&LIVE).map(|live| live.collectors.clone()) else { return };
    let live: Vec<_> = live.iter().filter_map(Weak::upgrade).filter(|collector| !collector.is_elsewhere()).collect();
    // All at once, so that their times for the end run together.
    live.iter().for_each(|collector| collector.staging.close());
    live.iter().for_each(|collector| collector.shut_down());
}

/// Drains all collectors of this process, for hooks of `_exit`: waits for no lock for long and takes no memory, so that
/// it may be called where a signal handler may. It waits no longer than the longest
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
        for collector in live.collectors.iter().filter_map(Weak::upgrade) {
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
