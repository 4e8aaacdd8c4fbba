// SPDX-License-Identifier: Apache-2.0

use std::{
    slice,
    time::{SystemTime, UNIX_EPOCH},
};

use nixl_telemetry_event::{BatchId, Category, Event, Kind, Memo, Name};

use crate::Agent;

/// Events that leave together: those of one flush, or as many of them as fit.
///
/// Every event of a batch has a timestamp: the host's own where it has one (NIXL up to 1.0.1, and this project's
/// host), otherwise the wall clock when the batch began.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    agent: &'a Agent,
    buffer: &'a Buffer,
    id: Option<BatchId<'a>>,
}

impl<'a> Batch<'a> {
    pub(crate) const fn new(agent: &'a Agent, buffer: &'a Buffer, id: Option<BatchId<'a>>) -> Self {
        Self { agent, buffer, id }
    }

    /// The agent whose events these are.
    pub const fn agent(&self) -> &'a Agent {
        self.agent
    }

    /// Number of events, at least 1.
    pub const fn len(&self) -> usize {
        self.buffer.records.len()
    }

    /// Whether there are no events; never true in a call to [`Exporter::export`](crate::Exporter::export).
    pub const fn is_empty(&self) -> bool {
        self.buffer.records.is_empty()
    }

    /// The wall clock when the batch began, in microseconds since the Unix epoch.
    pub const fn timestamp_us(&self) -> u64 {
        self.buffer.began_us
    }

    /// Which batch this is, where the host says: this project's host, if it was told to keep what a killed process leaves
    /// behind.
    pub const fn id(&self) -> Option<BatchId<'a>> {
        self.id
    }

    /// Whether this batch may have been exported already, wholly or in part, by a process that died in the middle of it.
    pub const fn is_repeated(&self) -> bool {
        match &self.id {
            Some(id) => id.is_repeated(),
            None => false,
        }
    }

    /// A few numbers about this batch that outlive the process; `None` where nothing does.
    pub const fn memo(&self) -> Option<Memo<'a>> {
        match &self.id {
            Some(id) => id.memo(),
            None => None,
        }
    }

    /// The events, in the order they were recorded, each with its timestamp.
    pub fn iter(&self) -> Iter<'a> {
        self.buffer.iter()
    }

    /// A copy of the events that outlives the call.
    pub fn keep(&self) -> KeptBatch {
        let id = self.id.map(|id| {
            let kept = BatchId::new(id.origin(), id.number());
            if id.is_repeated() { kept.repeated() } else { kept }
        });
        KeptBatch { buffer: self.buffer.clone(), id }
    }

    pub(crate) const fn buffer(&self) -> &'a Buffer {
        self.buffer
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Event<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of a [`Batch`] on their own, [kept](Batch::keep) for later or for another thread. 24 bytes an event, and the
/// names of those that have one.
#[derive(Debug)]
pub struct KeptBatch {
    buffer: Buffer,
    id: Option<BatchId<'static>>,
}

impl KeptBatch {
    /// Number of events, at least 1.
    pub const fn len(&self) -> usize {
        self.buffer.records.len()
    }

    /// Whether there are no events, which is never so.
    pub const fn is_empty(&self) -> bool {
        self.buffer.records.is_empty()
    }

    /// Memory it takes, in bytes, without what the allocator needs for itself.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + bytes(&self.buffer.records, &self.buffer.names)
    }

    /// Which batch it was, where the host said so. Its memo is not kept: it is the exporter's that got the batch.
    pub const fn id(&self) -> Option<BatchId<'static>> {
        self.id
    }

    /// The events, in the order they were recorded, each with its timestamp.
    pub fn iter(&self) -> Iter<'_> {
        self.buffer.iter()
    }
}

impl<'a> IntoIterator for &'a KeptBatch {
    type Item = Event<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    buffer: &'a Buffer,
    records: slice::Iter<'a, Record>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Event<'a>;

    #[inline]
    fn next(&mut self) -> Option<Event<'a>> {
        self.records.next().map(|record| self.buffer.event(record))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Collects a batch: compact records, and the names of those that have one.
///
/// A clone takes no more memory than it needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) records: Vec<Record>,
    pub(crate) names: Vec<(Category, String)>,
    began_us: u64,
}

/// An event without borrowed parts. 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Record {
    /// Number of the kind, or an index into the names.
    pub(crate) code: u32,
    pub(crate) named: bool,
    pub(crate) value: u64,
    pub(crate) timestamp_us: u64,
}

impl Buffer {
    /// Events a buffer takes before it must be emptied: what stock NIXL flushes at most by default.
    pub(crate) const CAPACITY: usize = 4096;

    pub(crate) fn new() -> Self {
        // What has an identity must fit: it is exported by one call or not at all.
        const { assert!(Self::CAPACITY >= BatchId::MOST_EVENTS) };
        Self { records: Vec::with_capacity(Self::CAPACITY), names: Vec::new(), began_us: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= Self::CAPACITY
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, event: &Event<'_>) {
        if self.records.is_empty() {
            self.began_us = now_us();
        }
        let (code, named) = match event.kind() {
            Some(kind) => (kind.code(), false),
            None => (self.intern(event), true),
        };
        let timestamp_us = event.timestamp_us().unwrap_or(self.began_us);
        self.records.push(Record { code, named, value: event.value(), timestamp_us });
    }

    /// One with these records and names.
    pub(crate) const fn of(records: Vec<Record>, names: Vec<(Category, String)>) -> Self {
        Self { records, names, began_us: 0 }
    }

    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter { buffer: self, records: self.records.iter() }
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.names.clear();
    }

    fn event(&self, record: &Record) -> Event<'_> {
        let event = if record.named {
            let (category, name) = &self.names[record.code as usize];
            Event::named(*category, name, record.value)
        } else {
            Event::new(Kind::from_code(record.code), record.value)
        };
        event.at(record.timestamp_us)
    }

    /// The index of a named event's category and name. A backend has a handful of names, so that looking through the
    /// last few finds almost all of them, and missing one costs only memory until the batch has left.
    #[cold]
    fn intern(&mut self, event: &Event<'_>) -> u32 {
        const LOOK_BACK: usize = 64;
        let category = event.category().unwrap_or(Category::BACKEND);
        let name = match event.name() {
            Name::Text(name) => name,
            Name::Unknown(_) => "",
        };
        let known = self.names.len();
        let start = known.saturating_sub(LOOK_BACK);
        let found = self.names[start..].iter().position(|(c, n)| *c == category && n == name).map(|at| start + at);
        let index = found.unwrap_or_else(|| {
            self.names.push((category, name.to_owned()));
            known
        });
        u32::try_from(index).expect("a batch holds at most 4096 events")
    }
}

/// Memory a copy of these takes, in bytes.
pub(crate) fn bytes(records: &[Record], names: &[(Category, String)]) -> usize {
    let texts: usize = names.iter().map(|(_, name)| name.len()).sum();
    size_of_val(records) + size_of_val(names) + texts
}

/// The wall clock, in microseconds since the Unix epoch.
#[cold]
pub fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::MemoWords;

    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut buffer = Buffer::new();
        let events = [
            Event::new(Kind::TX_BYTES, 1).at(100),
            Event::backend("ucx_a", 2),
            Event::new(Kind::from_code(88), u64::MAX),
            Event::backend("ucx_b", 3).at(200),
            Event::backend("ucx_a", 4),
        ];
        let before = now_us();
        for event in &events {
            buffer.push(event);
        }
        let after = now_us();

        let agent = Agent::new("a");
        let batch = Batch::new(&agent, &buffer, None);
        assert_eq!((batch.len(), batch.is_empty(), batch.agent().name()), (5, false, "a"));
        assert!((before..=after).contains(&batch.timestamp_us()));
        let expected = events.map(|event| event.at(event.timestamp_us().unwrap_or(batch.timestamp_us())));
        assert_eq!(batch.iter().collect::<Vec<_>>(), expected);
        assert_eq!((&batch).into_iter().len(), 5);
        assert_eq!(buffer.names.len(), 2);
        let words = MemoWords::default();
        let id = BatchId::new(7, 3).with_memo(&words).repeated();
        let kept = [batch.keep(), Batch::new(&agent, &buffer, Some(id)).keep()];

        buffer.clear();
        assert_eq!((buffer.len(), buffer.names.len()), (0, 0));
        for kept in &kept {
            assert_eq!((kept.len(), kept.is_empty()), (5, false));
            let names = 2 * (size_of::<(Category, String)>() + "ucx_a".len());
            assert_eq!(kept.bytes(), size_of::<KeptBatch>() + 5 * 24 + names);
            assert_eq!(kept.into_iter().collect::<Vec<_>>(), expected);
        }
        assert!(kept[0].id().is_none());
        let id = kept[1].id().unwrap();
        assert_eq!((id.origin(), id.number(), id.is_repeated(), id.memo().is_some()), (7, 3, true, false));
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Record>(), 24);
    }
}
