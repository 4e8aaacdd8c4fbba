// SPDX-License-Identifier: Apache-2.0

//! What a sink is given: events with numbers of their own.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::SystemTime;

use nixl_telemetry_event::{Category, Event};

use crate::batch::{self, Buffer, Record};
use crate::{Agent, queue::buffer::Parcel};

/// Events on their way to a [`Sink`](crate::queue::Sink): consecutive ones of one agent.
///
/// Each event has a number, unique together with the [origin](Self::origin). Those of one origin come in rising order, and
/// what comes again comes with its old numbers. So a sink that keeps the highest number of each origin beside the rows, in
/// the same transaction, or has a unique index over both, has every event once. Do not use the first number alone as the
/// key of a whole delivery: after a crash, where one delivery ends and the next begins may have changed.
#[derive(Debug)]
pub struct Delivery<'a> {
    parcel: &'a Parcel,
    len: usize,
    is_repeated: bool,
}

/// What tells an agent's events from those of all other agents, in every process and run: 128 bits by chance.
///
/// Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub(super) u128);

/// The events of a [`Delivery`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    events: Option<batch::Iter<'a>>,
    left: usize,
}

/// Whose events they are.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) origin: OriginId,
    pub(super) agent: Agent,
}

/// Consecutive events of one batch, where the host has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// The sequence number of the first.
    pub(super) first: u64,
    /// When the queue got them, in microseconds since the Unix epoch.
    pub(super) at_us: u64,
    /// The host has exported them before, in a process that died.
    pub(super) is_repeated: bool,
    pub(super) records: &'a [Record],
    pub(super) names: &'a [(Category, String)],
}

/// The same on their own.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) at_us: u64,
    pub(super) is_repeated: bool,
    pub(super) events: Buffer,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(parcel: &'a Parcel, is_repeated: bool) -> Self {
        let len = parcel.chunks.iter().map(|chunk| chunk.events.len()).sum();
        Self { parcel, len, is_repeated }
    }

    /// The agent whose events these are: that of another process, if they are what it left in the spool.
    pub fn agent(&self) -> &'a Agent {
        &self.parcel.source.agent
    }

    /// What tells this agent's events from those of every other.
    pub fn origin(&self) -> OriginId {
        self.parcel.source.origin
    }

    /// The number of the first event. The others follow, without a gap.
    pub fn sequence(&self) -> u64 {
        self.parcel.chunks.first().map_or(0, |chunk| chunk.first)
    }

    /// Number of events, at least 1 and at most what `BATCH_SIZE` says, or said to the process that left them in the spool.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events; never true in a call to [`Sink::deliver`](crate::queue::Sink::deliver).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether these events may have been delivered already, wholly or in part: by an attempt that failed, or by a process
    /// that died. (If it is the host that exports a [batch again](crate::Batch::is_repeated), origin and numbers are new.)
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// The events, in the order they were recorded, each with its timestamp.
    pub fn iter(&self) -> Iter<'a> {
        Iter { chunks: self.parcel.chunks.iter(), events: None, left: self.len }
    }
}

impl<'a> IntoIterator for &Delivery<'a> {
    type Item = Event<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Event<'a>;

    #[inline]
    fn next(&mut self) -> Option<Event<'a>> {
        loop {
            if let Some(event) = self.events.as_mut().and_then(Iterator::next) {
                self.left -= 1;
                return Some(event);
            }
            self.events = Some(self.chunks.next()?.events.iter());
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl OriginId {
    /// One that nobody else has.
    pub(super) fn new() -> Self {
        // The standard library seeds each from the system; time and process differ in a child that was forked with the seeds.
        let half = || u128::from(RandomState::new().hash_one((std::process::id(), SystemTime::now())));
        Self(half() << 64 | half())
    }

    /// The same as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginId({self})")
    }
}

impl Chunk {
    pub(super) fn len(&self) -> u64 {
        self.events.len() as u64
    }

    /// The number of the event after the last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.len()
    }

    pub(super) fn as_part(&self) -> Part<'_> {
        let Self { first, at_us, is_repeated, events: Buffer { records, names, .. } } = self;
        Part { first: *first, at_us: *at_us, is_repeated: *is_repeated, records, names }
    }
}

impl Part<'_> {
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// The number of the event after the last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.len()
    }

    /// Memory its chunk takes.
    pub(super) fn bytes(&self) -> u64 {
        // Its place in a queue, which may be twice as long as it has to be.
        let place = 2 * size_of::<Chunk>();
        (place + batch::bytes(self.records, self.names)) as u64
    }

    pub(super) fn keep(&self) -> Chunk {
        let Self { first, at_us, is_repeated, records, names } = *self;
        Chunk { first, at_us, is_repeated, events: Buffer::of(records.to_vec(), names.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_origin_is_nobody_elses() {
        let many: HashSet<OriginId> = (0..1000).map(|_| OriginId::new()).collect();
        assert_eq!(many.len(), 1000);
        assert_eq!(OriginId(0xab).to_string(), format!("{}ab", "0".repeat(30)));
    }
}
