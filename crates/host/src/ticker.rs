// SPDX-License-Identifier: Apache-2.0

//! A wall clock that costs one load, kept by a thread that ticks only while many events are recorded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use nixl_telemetry_thread::{Thread, spawn};

use crate::clock::{NEVER, wall_us};
use crate::fork::lock_or_give_up;
use crate::sync::Padded;

/// The time of the last tick in microseconds since the Unix epoch; 0 while nobody ticks. A number that stands for
/// itself, so every access is relaxed.
static NOW_US: Padded<AtomicU64> = Padded(AtomicU64::new(0));
/// When the time was last asked for while nobody ticked.
static ASKED_US: Padded<AtomicU64> = Padded(AtomicU64::new(0));
/// Whether somebody has already woken the ticker.
static IS_CALLED: AtomicBool = AtomicBool::new(false);
/// The ticker of the process, while a collector wants one.
static TICKER: Mutex<Weak<Ticker>> = Mutex::new(Weak::new());

/// Half of what a coarse time may be old, for a system that wakes threads late.
const TICK: Duration = Duration::from_micros(500);
/// After so many ticks it stops, and goes on only if somebody calls again.
const TICKS: u32 = 200;
/// So old it may be for whoever looks at the clock anyway.
const LATE_US: u64 = 250;
/// Two questions within this time make a call.
const BUSY_US: u64 = 1000;

/// The thread that ticks. It ends when the last collector lets go of it.
#[derive(Debug)]
pub(crate) struct Ticker {
    calls: Arc<Calls>,
    thread: Mutex<Option<Thread<()>>>,
}

#[derive(Debug, Default)]
struct Calls {
    is_called: Mutex<bool>,
    is_over: AtomicBool,
    wake: Condvar,
}

impl Ticker {
    /// The ticker of the process; `None` if it cannot be had, in which case every time is a precise one.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = lock_or_give_up(&TICKER)?;
        if let Some(ticker) = shared.upgrade().filter(|ticker| ticker.is_here()) {
            return Some(ticker);
        }
        let calls = Arc::new(Calls::default());
        let on_thread = Arc::clone(&calls);
        let thread = spawn("nixl-tlm-tick", move || on_thread.serve()).ok()?;
        let ticker = Arc::new(Self { calls, thread: Mutex::new(Some(thread)) });
        NOW_US.0.store(0, Ordering::Relaxed);
        IS_CALLED.store(false, Ordering::Relaxed);
        *shared = Arc::downgrade(&ticker);
        Some(ticker)
    }

    /// The time of the last tick; 0 while nobody ticks.
    pub(crate) fn word() -> &'static AtomicU64 {
        &NOW_US.0
    }

    /// The time, and what the word is for as long as that is true.
    ///
    /// Whoever asks sees to it that the tick is not late: it may be, where all processors have other things to do.
    pub(crate) fn read(&self) -> (u64, u64) {
        let now = wall_us();
        let tick = NOW_US.0.load(Ordering::Relaxed);
        if tick == 0 {
            return (now, if self.ask(now) { now } else { NEVER });
        }
        if now.abs_diff(tick) < LATE_US {
            return (tick, tick);
        }
        // Not over the end of the ticking: the time must not stand still.
        match NOW_US.0.compare_exchange(tick, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => (now, now),
            Err(_) => (now, NEVER),
        }
    }

    /// Has it tick, if somebody asked a moment ago. True if it does from now on, beginning with this time: until it is
    /// awake, those who record that often see to it that the time goes on.
    #[cold]
    fn ask(&self, now: u64) -> bool {
        let before = ASKED_US.0.swap(now, Ordering::Relaxed);
        if now.wrapping_sub(before) >= BUSY_US || IS_CALLED.swap(true, Ordering::Relaxed) {
            return false;
        }
        NOW_US.0.store(now, Ordering::Relaxed);
        *self.calls.is_called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.calls.wake.notify_one();
        true
    }

    /// Whether the thread is this process's, and not that of the parent it was forked from.
    fn is_here(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(Thread::is_here)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // In a forked child there is no such thread, and a lock it held at the fork stays locked.
        if thread.is_here() {
            self.calls.is_over.store(true, Ordering::Relaxed);
            // Under the lock, so that it is not just between looking and waiting.
            drop(self.calls.is_called.lock().unwrap_or_else(PoisonError::into_inner));
            self.calls.wake.notify_one();
        }
        thread.join();
    }
}

impl Calls {
    fn serve(&self) {
        while self.wait() {
            for _ in 0..TICKS {
                NOW_US.0.store(wall_us(), Ordering::Relaxed);
                thread::sleep(TICK);
                if self.is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            NOW_US.0.store(0, Ordering::Relaxed);
            IS_CALLED.store(false, Ordering::Relaxed);
        }
    }

    /// Waits for a call; false if it is over.
    fn wait(&self) -> bool {
        let mut is_called = self.is_called.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_called && !self.is_over.load(Ordering::Relaxed) {
            is_called = self.wake.wait(is_called).unwrap_or_else(PoisonError::into_inner);
        }
        *is_called = false;
        !self.is_over.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_ticks_while_it_is_asked_often_and_then_stops() {
        let ticker = Ticker::shared().unwrap();
        let start = Instant::now();
        while NOW_US.0.load(Ordering::Relaxed) == 0 {
            assert!(ticker.read().0.abs_diff(wall_us()) < 60_000_000);
            assert!(start.elapsed().as_secs() < 60);
        }
        let first = NOW_US.0.load(Ordering::Relaxed);
        while NOW_US.0.load(Ordering::Relaxed) == first {
            assert!(start.elapsed().as_secs() < 60);
        }
        while NOW_US.0.load(Ordering::Relaxed) != 0 {
            assert!(start.elapsed().as_secs() < 60);
            thread::sleep(TICK);
        }
    }

    #[test]
    fn whoever_asks_gets_the_time_however_late_the_tick_is() {
        let ticker = Ticker::shared().unwrap();
        for _ in 0..1000 {
            let before = wall_us();
            let (now, word) = ticker.read();
            let after = wall_us();
            // A clock that was set meanwhile would spoil this; none is in a test.
            assert!(now + LATE_US >= before && now <= after, "{now} between {before} and {after}");
            assert!(word == NEVER || word == now);
        }
    }
}
