// SPDX-License-Identifier: Apache-2.0

//! Threads for somebody else's process: named, deaf to its signals, and aware of fork.
//!
//! An inference server handles its signals on threads it knows; one that lands on ours would run its handler on an
//! unexpected stack, or interrupt a system call of ours. And it forks: a child inherits our objects but not our
//! threads, so that joining one there would wait for ever. [`on_fork`] and [`on_exit`] tell of those two moments.
//!
//! ```
//! let worker = nixl_telemetry_thread::spawn("nixl-tlm-demo", || 6 * 7)?;
//! assert_eq!(worker.join(), Some(42));
//! # Ok::<(), std::io::Error>(())
//! ```

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "calls the C library")]
mod moments;

use std::{io, process, thread};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

pub use moments::{on_exit, on_fork};

/// A thread started by [`spawn`].
#[derive(Debug)]
pub struct Thread<T> {
    handle: thread::JoinHandle<T>,
    pid: u32,
}

/// Signals a thread can only bring on itself. Blocked, they would end the process without the handlers of crash
/// reporters.
const OWN_FAULTS: [Signal; 7] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGSYS, Signal::SIGABRT];

/// Starts a thread with a name (at most 15 bytes show in `ps`) and every signal blocked that others may send.
///
/// # Errors
/// If the system has no room for another thread.
///
/// # Panics
/// If the name contains a NUL.
pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<Thread<T>> {
    // A thread inherits its mask, so the caller's is changed for the moment of birth: from its first instruction on
    // the new thread is deaf.
    let mut deaf = SigSet::all();
    OWN_FAULTS.into_iter().for_each(|signal| deaf.remove(signal));
    let before = deaf.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let handle = thread::Builder::new().name(name.to_owned()).spawn(body);
    // Fails only for a mask that is none.
    let _ = before.thread_set_mask();
    Ok(Thread { handle: handle?, pid: process::id() })
}

impl<T> Thread<T> {
    /// Whether the thread lives in this process; after a fork it lives in the parent only.
    pub fn is_here(&self) -> bool {
        self.pid == process::id()
    }

    /// Whether the thread has ended, so that [`Thread::join`] would not wait. Meaningless if it is not here.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for the thread's end and returns its result; `None` if it panicked, or at once if it is not here.
    pub fn join(self) -> Option<T> {
        if self.is_here() {
            self.handle.join().ok()
        } else {
            // Dropping the handle would detach a thread that this process never had.
            std::mem::forget(self.handle);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_named_and_deaf_and_the_caller_is_as_before() {
        let before = SigSet::thread_get_mask().unwrap();
        let (name, mask) = spawn("nixl-tlm-test", || {
            (thread::current().name().map(str::to_owned), SigSet::thread_get_mask().unwrap())
        })
        .unwrap()
        .join()
        .unwrap();
        assert_eq!(name.as_deref(), Some("nixl-tlm-test"));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGCHLD, Signal::SIGPROF] {
            assert!(mask.contains(signal), "{signal}");
        }
        for signal in OWN_FAULTS {
            assert!(!mask.contains(signal), "{signal}");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn a_panic_ends_in_the_thread() {
        let thread = spawn("nixl-tlm-test", || panic!("on purpose")).unwrap();
        assert_eq!(thread.join(), None);
    }
}
