// SPDX-License-Identifier: Apache-2.0

//! The lanes of a thread: one for each collector it has recorded for, the last used first.

use std::cell::RefCell;

use crate::lane::Writer;
use crate::staging::Staging;

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { last: None, others: Vec::new() }) };
}

/// Dropped with the thread, and with it the writers, so that their lanes can be used again.
struct Local {
    last: Option<Entry>,
    others: Vec<Entry>,
}

struct Entry {
    /// The number of the collector's buffer, which is never given twice.
    id: u64,
    writer: Writer,
}

/// Calls `record` with the calling thread's writer for `staging`; with `None` if there is no memory for one.
#[inline]
pub(crate) fn with(staging: &Staging, record: impl FnOnce(Option<&mut Writer>)) {
    let mut record = Some(record);
    let done = LOCAL.try_with(|local| {
        let Ok(mut local) = local.try_borrow_mut() else { return };
        if local.last.as_ref().is_none_or(|last| last.id != staging.id()) {
            local.find(staging);
        }
        let last = local.last.as_mut().filter(|last| last.id == staging.id());
        if let Some(record) = record.take() {
            record(last.map(|last| &mut last.writer));
        }
    });
    // The locals of the thread are gone, or busy, where an allocator records what it does.
    if let (Err(_) | Ok(()), Some(record)) = (done, record) {
        record(staging.attach().as_mut());
    }
}

impl Local {
    /// Puts the entry of `staging` first, if there is one or can be one.
    #[cold]
    fn find(&mut self, staging: &Staging) {
        let found = match self.others.iter().position(|entry| entry.id == staging.id()) {
            Some(index) => Some(self.others.swap_remove(index)),
            None => {
                self.others.retain(|entry| !entry.writer.is_orphaned());
                staging.attach().map(|writer| Entry { id: staging.id(), writer })
            }
        };
        if let Some(entry) = found {
            self.others.extend(self.last.replace(entry));
        }
    }
}
