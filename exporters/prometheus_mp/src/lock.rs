// SPDX-License-Identifier: Apache-2.0

//! Locks of files that say who lives.

use std::fs::File;
use std::ops::Deref;

use rustix::fs::{FlockOperation, flock};

/// A file this process has locked with `flock`, until it lets go or dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    pid: u32,
}

impl Lock {
    /// Holds a file that is locked.
    pub(crate) fn of(file: File) -> Self {
        Self { file, pid: std::process::id() }
    }
}

impl Deref for Lock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child this process has forked holds the file as well: closing it would not be enough. The child, for its
        // part, must not take away the lock that is its parent's.
        if self.pid == std::process::id() {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letting_go_is_for_all_who_hold_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let locked = file.reopen().unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        // As a child has it.
        let _inherited = locked.try_clone().unwrap();
        let lock = Lock::of(locked);
        let is_held = || flock(file.as_file(), FlockOperation::NonBlockingLockShared).is_err();
        drop(Lock { file: lock.try_clone().unwrap(), pid: 0 });
        assert!(is_held());
        drop(lock);
        assert!(!is_held());
    }
}
