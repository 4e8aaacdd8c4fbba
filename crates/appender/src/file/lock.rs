// SPDX-License-Identifier: Apache-2.0

use std::{
    fs::File,
    io::{self, Write as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// The lock of an open file: it excludes other agents of this process as well as other processes.
pub(super) struct Lock {
    pub(super) file: Arc<File>,
    pub(super) held: bool,
}

impl Lock {
    /// How long to wait for somebody who holds the lock, usually for microseconds.
    pub(super) const PATIENCE: Duration = Duration::from_secs(1);

    /// Takes the lock, waiting that long at most, or goes without it: a process that was stopped in the wrong moment must
    /// not stop everybody else.
    pub(super) fn take(file: &Arc<File>, patience: Duration) -> io::Result<Self> {
        let started = Instant::now();
        let held = loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break true,
                Err(Errno::WOULDBLOCK) if started.elapsed() < patience => {
                    thread::sleep(Duration::from_micros(200));
                }
                // Nobody lets go, or the file system knows no locks.
                Err(Errno::WOULDBLOCK | Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Self { file: Arc::clone(file), held })
    }

    /// Appends in one write if the system lets it, and takes back what a full disk cut off, so that the file has its
    /// former size again.
    pub(super) fn write(&self, size: u64, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes).inspect_err(|_| {
            if self.held {
                // If even that fails the cut line stays; the error is reported all the same.
                let _ = self.file.set_len(size);
            }
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.held {
            // Fails only for a descriptor that is not open.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}
