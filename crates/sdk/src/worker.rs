// SPDX-License-Identifier: Apache-2.0

//! A thread that works beside the host: now and then, when it is asked, and a last time at the end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixl_telemetry_abi::host::stay_loaded;
use nixl_telemetry_log as log;
use nixl_telemetry_thread::{Thread, spawn};

/// A thread with one job, for what must not be done on the host's: to reach a network, or to wait.
///
/// The thread has a name, hears no signals, and does not exist in a forked child. If the job panics the thread ends, which
/// is logged, and whoever waits for it goes on.
///
/// ```
/// use std::{sync::mpsc, time::{Duration, Instant}};
/// use nixl_telemetry_sdk::worker::{Call, Worker};
///
/// let (report, reports) = mpsc::channel();
/// let worker = Worker::start("nixl-tlm-demo", Duration::from_secs(60), move |call| {
///     report.send(matches!(call, Call::Last { .. })).expect("somebody listens");
///     Duration::from_secs(60)
/// })?;
/// let soon = Instant::now() + Duration::from_secs(10);
/// let turn = worker.ask();
/// assert!(worker.wait(turn, soon));
/// assert!(worker.end(soon));
/// assert_eq!(reports.into_iter().collect::<Vec<_>>(), [false, true]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// There until the worker is dropped.
    thread: Option<Thread<()>>,
}

/// Why a job is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The time has come that it named itself.
    Due,
    /// Somebody [asked](Worker::ask) for it.
    Asked,
    /// The worker [ends](Worker::end), and nobody waits longer than this.
    Last {
        /// When who ended it goes on.
        until: Instant,
    },
}

/// A run of the job that was asked for, and that [`Worker::wait`] can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u64);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How often it was asked for a run, and up to which of these it has begun, and completed, one.
    asked: u64,
    begun: u64,
    done: u64,
    last: Option<Instant>,
    ended: bool,
}

impl Worker {
    /// Starts the thread. The job is called when `first` has passed, and each time says in how long it is due again.
    ///
    /// # Errors
    /// If the system has no room for another thread.
    ///
    /// # Panics
    /// If the name contains a NUL.
    pub fn start(name: &str, first: Duration, job: impl FnMut(Call) -> Duration + Send + 'static) -> io::Result<Self> {
        // A host that unmaps the library would pull the code of a thread away that outlives the end.
        stay_loaded();
        let shared = Arc::<Shared>::default();
        let for_thread = Arc::clone(&shared);
        let owned = name.to_owned();
        let thread = spawn(name, move || {
            // An unwinding job is dropped with the closure, and never called again.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| for_thread.serve(first, job))) {
                log::error!("thread {owned} panicked, and has ended: {}", log::panic_text(payload));
            }
            for_thread.lock().ended = true;
            for_thread.changed.notify_all();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether the thread lives in this process; after a fork it lives in the parent only. There, the worker can do nothing
    /// but be dropped.
    pub fn is_here(&self) -> bool {
        self.thread.as_ref().is_some_and(Thread::is_here)
    }

    /// Has the job called soon, and does not wait.
    pub fn ask(&self) -> Turn {
        let mut state = self.shared.lock();
        state.asked += 1;
        let turn = Turn(state.asked);
        drop(state);
        self.shared.changed.notify_all();
        turn
    }

    /// Waits until a run of the job that began after it was asked for is over; `false` if that takes too long, or there will
    /// be none.
    pub fn wait(&self, turn: Turn, until: Instant) -> bool {
        self.shared.wait(left(until), |state| state.done >= turn.0 || state.ended).done >= turn.0
    }

    /// Has the job called a last time, and waits until the thread has ended; `false` if that takes too long: then it ends
    /// when the job returns. May be called again, to wait longer.
    pub fn end(&self, until: Instant) -> bool {
        self.shared.lock().last.get_or_insert(until);
        self.shared.changed.notify_all();
        self.shared.wait(left(until), |state| state.ended).ended
    }
}

impl Drop for Worker {
    /// Joins the thread if it has ended, and leaves it to itself otherwise.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // In a forked child the lock may be held for ever, and joining returns at once.
        if !thread.is_here() || self.end(Instant::now()) {
            thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, at_most: Duration, over: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, |state| !over(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Calls the job whenever there is a reason, until the end.
    fn serve(&self, first: Duration, mut job: impl FnMut(Call) -> Duration) {
        let mut wait = first;
        loop {
            let mut state = self.wait(wait, |state| state.last.is_some() || state.asked > state.begun);
            let asked = state.asked > state.begun;
            state.begun = state.asked;
            let (turn, last) = (state.asked, state.last);
            drop(state);
            wait = job(match last {
                Some(until) => Call::Last { until },
                None if asked => Call::Asked,
                None => Call::Due,
            });
            self.lock().done = turn;
            self.changed.notify_all();
            if last.is_some() {
                return;
            }
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn it_is_called_when_due_when_asked_and_at_the_end() {
        let (report, reports) = mpsc::channel();
        let mut calls = 0;
        let worker = Worker::start("nixl-tlm-test", Duration::ZERO, move |call| {
            report.send(call).unwrap();
            calls += 1;
            if calls < 3 { Duration::ZERO } else { Duration::MAX }
        })
        .unwrap();
        assert_eq!([(); 3].map(|()| reports.recv().unwrap()), [Call::Due; 3]);
        let turn = worker.ask();
        assert!(worker.wait(turn, soon()));
        assert_eq!(reports.try_recv(), Ok(Call::Asked));
        let until = soon();
        assert!(worker.end(until));
        assert_eq!(reports.iter().collect::<Vec<_>>(), [Call::Last { until }]);
        let late = worker.ask();
        assert!(!worker.wait(late, soon()), "nobody is there any more, and nobody waits for it");
    }

    #[test]
    fn a_run_that_had_begun_before_is_not_the_one_asked_for() {
        let (enter, entered) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let worker = Worker::start("nixl-tlm-test", HOUR, move |_| {
            enter.send(()).unwrap();
            gone.recv().unwrap();
            HOUR
        })
        .unwrap();
        let first = worker.ask();
        entered.recv().unwrap();
        let second = worker.ask();
        go.send(()).unwrap();
        assert!(worker.wait(first, soon()));
        entered.recv().unwrap();
        assert!(!worker.wait(second, Instant::now()));
        go.send(()).unwrap();
        assert!(worker.wait(second, soon()));
        // The end does not wait for ever for a job that hangs.
        worker.ask();
        entered.recv().unwrap();
        assert!(!worker.end(Instant::now()));
        go.send(()).unwrap();
        entered.recv().unwrap();
        go.send(()).unwrap();
        assert!(worker.end(soon()));
    }

    #[test]
    fn a_panic_ends_it_and_nobody_waits_in_vain() {
        let worker = Worker::start("nixl-tlm-test", HOUR, |_| panic!("on purpose")).unwrap();
        let turn = worker.ask();
        assert!(!worker.wait(turn, Instant::now() + HOUR));
        assert!(worker.end(Instant::now() + HOUR));
    }
}
