// SPDX-License-Identifier: Apache-2.0

//! The producers of a thread: one for each collector it has recorded for, the last used first.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::producer::Producer;
use crate::shared::Shared;

thread_local! {
    /// Out of its place while it is used, so that whoever records from within finds none and makes do.
    static LAST: Cell<Option<Box<Entry>>> = const { Cell::new(None) };
    #[expect(clippy::vec_box, reason = "an entry goes back and forth as the one pointer it is")]
    static OTHERS: RefCell<Vec<Box<Entry>>> = const { RefCell::new(Vec::new()) };
    /// The collector that had no room last, and for how many records it is not asked again.
    static REFUSED: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// A collector that has no room for a producer is asked again after so many records.
const PATIENCE: u32 = 1024;

/// Dropped with the thread, and with it the producer, so that its ring can be used again.
struct Entry {
    /// The number of the collector's buffer, which is never given twice.
    id: u64,
    producer: Producer,
}

/// Calls `record` with the calling thread's producer for this collector; false if it has none and gets none, because
/// there is no memory, or the thread is at its end.
#[inline]
pub(crate) fn with(shared: &Arc<Shared>, record: impl FnOnce(&mut Producer)) -> bool {
    let done = LAST.try_with(|last| {
        let mut entry = match last.take() {
            Some(entry) if entry.id == shared.staging.id() => entry,
            other => find(shared, other)?,
        };
        record(&mut entry.producer);
        // What was put there meanwhile, from within, goes.
        last.replace(Some(entry));
        Some(())
    });
    matches!(done, Ok(Some(())))
}

/// The entry of this collector, in place of `other`.
#[cold]
#[inline(never)]
fn find(shared: &Arc<Shared>, other: Option<Box<Entry>>) -> Option<Box<Entry>> {
    OTHERS
        .try_with(|others| {
            let mut others = others.try_borrow_mut().ok()?;
            others.extend(other);
            if let Some(index) = others.iter().position(|entry| entry.id == shared.staging.id()) {
                return Some(others.swap_remove(index));
            }
            let (refused, left) = REFUSED.get();
            if left > 0 && refused == shared.staging.id() {
                REFUSED.set((refused, left - 1));
                return None;
            }
            others.retain(|entry| !entry.producer.is_closed());
            // In a forked child it is that of another collector, which has taken the place of this one.
            let Some(producer) = Producer::new(shared.here()?) else {
                REFUSED.set((shared.staging.id(), PATIENCE));
                return None;
            };
            Some(Box::new(Entry { id: shared.staging.id(), producer }))
        })
        .ok()?
}
