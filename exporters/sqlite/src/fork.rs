// SPDX-License-Identifier: Apache-2.0

//! What a forked child must not open.
//!
//! SQLite knows the locks that its process has on a file from a table, which a child inherits, and the system gives it none of
//! the locks: it would take a database of its parent for locked, and write into a log that the parent removes meanwhile. And
//! who was at work when the process forked has left SQLite's mutexes locked.

use std::{mem, process, sync::Mutex};

use nixl_telemetry_sdk::lock_shared;

use crate::{error::Error, place::Identity};

/// What this process does with SQLite.
static RECORD: Mutex<Record> = Mutex::new(Record::new());

#[derive(Debug)]
struct Record {
    /// The process it is of; another's, until a forked child comes here.
    process: u32,
    /// Threads that are at work.
    busy: usize,
    open: Vec<Identity>,
    /// Whether somebody was at work in a parent when it forked.
    is_spoilt: bool,
    /// What parents had open when they forked.
    inherited: Vec<Identity>,
}

/// A thread is at work with SQLite until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit(());

/// A database is open until this is dropped, which must be after its connection.
#[derive(Debug)]
pub(crate) struct Open(Identity);

impl Visit {
    /// To be had before anything is asked of SQLite.
    ///
    /// # Errors
    /// If SQLite may hang in this process.
    pub(crate) fn begin() -> Result<Self, Error> {
        let mut record = lock_shared(&RECORD).map_err(|_| Error::ForkedAtWork)?;
        record.begin(process::id())?;
        Ok(Self(()))
    }

    /// To be had before a file is opened.
    ///
    /// # Errors
    /// If a parent has it open.
    pub(crate) fn open(&self, identity: Identity) -> Result<Open, Error> {
        let mut record = lock_shared(&RECORD).map_err(|_| Error::ForkedAtWork)?;
        record.open(identity)?;
        Ok(Open(identity))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Ok(mut record) = lock_shared(&RECORD) {
            record.busy -= 1;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Ok(mut record) = lock_shared(&RECORD) {
            record.close(self.0);
        }
    }
}

impl Record {
    const fn new() -> Self {
        Self { process: 0, busy: 0, open: Vec::new(), is_spoilt: false, inherited: Vec::new() }
    }

    fn begin(&mut self, process: u32) -> Result<(), Error> {
        if self.process != process {
            self.process = process;
            self.is_spoilt |= mem::take(&mut self.busy) > 0;
            self.inherited.append(&mut self.open);
        }
        if self.is_spoilt {
            return Err(Error::ForkedAtWork);
        }
        self.busy += 1;
        Ok(())
    }

    fn open(&mut self, identity: Identity) -> Result<(), Error> {
        if self.inherited.contains(&identity) {
            return Err(Error::ForkedWhileOpen);
        }
        self.open.push(identity);
        Ok(())
    }

    /// Agents may share a file: one of them lets go.
    fn close(&mut self, identity: Identity) {
        if let Some(at) = self.open.iter().position(|open| *open == identity) {
            self.open.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = Identity { device: 1, inode: 1 };
    const B: Identity = Identity { device: 1, inode: 2 };

    #[test]
    fn a_child_may_open_what_its_parents_have_not_open() {
        let mut record = Record::new();
        record.begin(1).unwrap();
        [A, A, B].into_iter().for_each(|file| record.open(file).unwrap());
        [A, B].into_iter().for_each(|file| record.close(file));
        record.busy -= 1;
        // In the child.
        record.begin(2).unwrap();
        assert!(matches!(record.open(A), Err(Error::ForkedWhileOpen)));
        record.open(B).unwrap();
        record.open(B).unwrap();
        record.busy -= 1;
        // In its own child.
        record.begin(3).unwrap();
        for file in [A, B] {
            assert!(matches!(record.open(file), Err(Error::ForkedWhileOpen)));
        }
        record.open(Identity { device: 2, inode: 1 }).unwrap();
        assert_eq!((record.busy, record.open.len()), (1, 1));
    }

    #[test]
    fn a_child_of_a_process_at_work_opens_nothing() {
        let mut record = Record::new();
        record.begin(1).unwrap();
        record.begin(1).unwrap();
        record.busy -= 1;
        for child in [2, 2, 3] {
            assert!(matches!(record.begin(child), Err(Error::ForkedAtWork)));
        }
        assert_eq!(record.busy, 0);
    }
}
