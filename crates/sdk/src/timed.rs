// SPDX-License-Identifier: Apache-2.0

//! Batches on hosts that announce none: closed by a thread, a moment after their first event.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nixl_telemetry_abi::host::stay_loaded;
use nixl_telemetry_event::{Event, Status, Total};
use nixl_telemetry_thread::{Thread, spawn};

use crate::{Exporter, pump::Pump};

/// How long a batch stays open after its first event. What a flush of the host brings arrives within microseconds, so
/// this is long enough for all of it, and short enough for who looks at the result.
pub(crate) const CLOSE_AFTER: Duration = Duration::from_millis(50);

/// A pump shared by the host's thread, which fills it, and a thread of ours, which empties it.
///
/// The thread sleeps until the first event of a batch, so that an idle exporter costs nothing.
pub(crate) struct Timed<E: Exporter> {
    shared: Arc<Shared<E>>,
    thread: Thread<()>,
}

struct Shared<E> {
    state: Mutex<State<E>>,
    /// A batch has begun, or the end has come.
    changed: Condvar,
}

struct State<E> {
    pump: Box<Pump<E>>,
    /// The thread sleeps until somebody tells it that a batch has begun.
    idle: bool,
    ended: bool,
}

impl<E> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        // The pump contains panics, so a poisoned lock means a bug in the SDK; the events in it are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Exporter> Timed<E> {
    /// Takes over the pump and starts the thread.
    ///
    /// # Errors
    /// Gives the pump back if the system has no room for another thread.
    pub(crate) fn start(pump: Box<Pump<E>>) -> Result<Self, (Box<Pump<E>>, io::Error)> {
        // A host that unmaps the library while an exporter is leaked would pull the thread's code away.
        stay_loaded();
        let name = format!("nixl-tlm-{}", pump.agent().instance());
        let shared =
            Arc::new(Shared { state: Mutex::new(State { pump, idle: false, ended: false }), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        match spawn(&name, move || close_batches(&for_thread)) {
            Ok(thread) => Ok(Self { shared, thread }),
            Err(error) => {
                // The closure, and with it the other reference, went when the thread could not be started.
                let shared = Arc::into_inner(shared).expect("no thread holds the other reference");
                Err((shared.state.into_inner().unwrap_or_else(PoisonError::into_inner).pump, error))
            }
        }
    }

    pub(crate) fn push(&self, event: &Event<'_>) -> Status {
        let mut state = self.shared.lock();
        let status = state.pump.push(event);
        // What fills a batch of which nobody knows the end need not wait for it.
        if state.pump.is_full() {
            state.pump.close_batch(None);
        }
        // A thread that is not idle wakes by itself, early enough for this event.
        if mem::take(&mut state.idle) {
            drop(state);
            self.shared.changed.notify_one();
        }
        status
    }

    pub(crate) fn push_total(&self, total: Total) -> Status {
        self.shared.lock().pump.push_total(total)
    }

    /// Without an identity: what has been collected need not be what a host says it handed over.
    pub(crate) fn close_batch(&self) {
        self.shared.lock().pump.close_batch(None);
    }

    pub(crate) fn take_lost(&self) -> u64 {
        self.shared.lock().pump.take_lost()
    }

    pub(crate) fn take_lost_totals(&self) -> u64 {
        self.shared.lock().pump.take_lost_totals()
    }

    /// Ends the thread, then the exporter, in the caller's thread.
    pub(crate) fn finish(self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        self.thread.join();
        self.shared.lock().pump.finish();
    }

    /// Lets go in a forked child, where the thread does not exist and may have held the lock for ever.
    pub(crate) fn abandon(self) {
        if let Ok(mut state) = self.shared.state.try_lock() {
            state.pump.abandon();
        }
        // The thread's own reference to the pump is not dropped in this process, and with it neither is the pump.
        self.thread.join();
    }
}

fn close_batches<E: Exporter>(shared: &Shared<E>) {
    let mut state = shared.lock();
    while !state.ended {
        if state.pump.is_empty() {
            state.idle = true;
            let waited = shared.changed.wait_while(state, |state| state.idle && !state.ended);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let waited = shared.changed.wait_timeout_while(state, CLOSE_AFTER, |state| !state.ended);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.pump.close_batch(None);
    }
}
