// SPDX-License-Identifier: Apache-2.0

//! A sink that keeps what it gets.

use std::sync::{Arc, Mutex, PoisonError};

use nixl_telemetry_event::{Event, Kind};

use crate::{Exported, Sink};

/// A sink that keeps everything in memory, for tests of programs that record.
///
/// Clones share what they keep: give one to the collector and ask another.
#[derive(Clone, Debug, Default)]
pub struct RecordingSink {
    batches: Arc<Mutex<Vec<Vec<RecordedEvent>>>>,
}

/// An event as a [`RecordingSink`] keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The kind; `None` for a backend event.
    pub kind: Option<Kind>,
    /// The name, in any case.
    pub name: String,
    /// The value.
    pub value: u64,
    /// When it was recorded, in microseconds since the Unix epoch.
    pub timestamp_us: Option<u64>,
}

impl RecordingSink {
    /// A sink that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The events of every batch, in the order they came.
    pub fn events(&self) -> Vec<RecordedEvent> {
        self.batches().concat()
    }

    /// The batches, in the order they came.
    pub fn batches(&self) -> Vec<Vec<RecordedEvent>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<RecordedEvent>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for RecordingSink {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        let kept = batch.iter().map(RecordedEvent::from).collect();
        self.lock().push(kept);
        Exported::all(batch)
    }
}

impl From<&Event<'_>> for RecordedEvent {
    fn from(event: &Event<'_>) -> Self {
        Self {
            kind: event.kind(),
            name: event.name().to_string(),
            value: event.value(),
            timestamp_us: event.timestamp_us(),
        }
    }
}
