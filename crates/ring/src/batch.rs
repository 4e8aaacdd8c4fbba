// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::{Event, Layout};

/// What one [read](crate::Reader::read) found: events in the order in which they were written.
///
/// Use one again and again: it keeps its memory.
#[derive(Debug)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) layout: Layout,
    pub(crate) lost: Lost,
    pub(crate) restarted: bool,
    pub(crate) contended: bool,
}

/// Events that were overwritten before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub events: u64,
    /// Whether there may have been more: a file of NIXL's does not tell how often its positions went round.
    pub or_more: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), layout: Layout::L16, lost: Lost::default(), restarted: false, contended: false }
    }

    /// The events.
    #[inline]
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> + Clone {
        let layout = self.layout;
        self.bytes
            .chunks_exact(layout.size())
            .map(move |slot| layout.decode(slot).expect("a slot is as long as its layout"))
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.layout.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The events as they lay in the file, in this layout.
    pub fn bytes(&self) -> (&[u8], Layout) {
        (&self.bytes, self.layout)
    }

    /// Events before these that are lost to this reader.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Whether a writer has begun the file anew since the last read. What it had held and this reader had not read is
    /// gone; nobody can tell how much that was.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    /// Whether somebody else consumes from the same file.
    pub fn contended(&self) -> bool {
        self.contended
    }

    pub(crate) fn clear(&mut self, layout: Layout) {
        self.bytes.clear();
        self.layout = layout;
        self.lost = Lost::default();
        self.restarted = false;
        self.contended = false;
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Lost {
    /// Adds those of another time.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.or_more |= other.or_more;
    }

    /// Whether there are any.
    pub fn is_some(&self) -> bool {
        self.events > 0 || self.or_more
    }
}
