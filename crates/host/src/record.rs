// SPDX-License-Identifier: Apache-2.0

//! What a recording thread writes: slots of two words, which the flush thread expands into events.
//!
//! The low three bits of a slot's second word are its sort. The rest depends on that:
//!
//! | sort | first word | second word, above the sort |
//! |---|---|---|
//! | [`WRITE`], [`READ`]: a transfer | transfer time above 32 bits of post time | bytes |
//! | [`WRITE_TAIL`], [`READ_TAIL`]: one whose post time was recorded before | transfer time | bytes |
//! | [`LONG`]: a transfer of larger numbers, with the slot behind it | transfer time | [`LONG_READ`], [`LONG_TAIL`] |
//! | (the slot behind it) | post time | (all 64 bits) bytes |
//! | [`KIND`]: an event | value | number of the kind |
//! | [`BACKEND`]: an event of a backend | value | number of the name |
//! | [`TIME`]: when what follows was recorded | microseconds since the Unix epoch | 0 |
//!
//! So the transfer of every day is one slot, no value is ever cut, and time costs a slot only where it moves on.

use std::sync::Arc;

use nixl_telemetry_event::{Allowlist, Event, Kind};

use crate::Direction;
use crate::totals::Totals;

/// One slot of a ring.
pub(crate) type Slot = [u64; 2];

pub(crate) const WRITE: u64 = 0;
pub(crate) const READ: u64 = 1;
pub(crate) const WRITE_TAIL: u64 = 2;
pub(crate) const READ_TAIL: u64 = 3;
pub(crate) const LONG: u64 = 4;
pub(crate) const KIND: u64 = 5;
pub(crate) const BACKEND: u64 = 6;
pub(crate) const TIME: u64 = 7;

const SORT_BITS: u32 = 3;
const SORT_MASK: u64 = (1 << SORT_BITS) - 1;
/// Flags of a [`LONG`] record.
const LONG_READ: u64 = 1 << SORT_BITS;
const LONG_TAIL: u64 = 2 << SORT_BITS;

/// The most events a record stands for.
pub(crate) const MOST_EVENTS: u64 = 4;
/// The most slots a record has, the time before it included.
pub(crate) const MOST_SLOTS: u64 = 3;

/// A record: one slot, and a second one if it is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) first: Slot,
    pub(crate) second: Option<Slot>,
}

impl Record {
    /// The record of a transfer, where it fits one slot: as nearly all do.
    #[inline]
    pub(crate) fn compact(direction: Direction, bytes: u64, transfer_us: u64, post_us: u64) -> Option<Slot> {
        let fits = (transfer_us | post_us) >> 32 | bytes >> (64 - SORT_BITS) == 0;
        fits.then_some([transfer_us << 32 | post_us, bytes << SORT_BITS | direction as u64])
    }

    /// The record of a transfer, whatever its numbers.
    pub(crate) fn long(direction: Direction, bytes: u64, transfer_us: u64, post_us: u64) -> Self {
        let flags = if direction == Direction::Read { LONG_READ } else { 0 };
        Self { first: [transfer_us, flags | LONG], second: Some([post_us, bytes]) }
    }

    /// The record of a transfer without its post time.
    pub(crate) fn tail(direction: Direction, bytes: u64, transfer_us: u64) -> Self {
        if bytes >> (64 - SORT_BITS) == 0 {
            let sort = WRITE_TAIL + direction as u64;
            return Self { first: [transfer_us, bytes << SORT_BITS | sort], second: None };
        }
        let long = Self::long(direction, bytes, transfer_us, 0);
        Self { first: [long.first[0], long.first[1] | LONG_TAIL], ..long }
    }

    /// The record of one event.
    pub(crate) fn event(kind: Kind, value: u64) -> Self {
        Self { first: [value, u64::from(kind.code()) << SORT_BITS | KIND], second: None }
    }

    /// The record of an event of a backend, whose name has this number.
    pub(crate) fn backend(name: u64, value: u64) -> Self {
        Self { first: [value, name << SORT_BITS | BACKEND], second: None }
    }

    /// What tells when the records behind it were made.
    pub(crate) fn time(time_us: u64) -> Slot {
        [time_us, TIME]
    }

    /// The record that begins with this slot; `next` gives the one behind it.
    #[inline]
    pub(crate) fn read(first: Slot, next: impl FnOnce() -> Slot) -> Self {
        Self { first, second: (sort(&first) == LONG).then(next) }
    }

    /// How many slots it has.
    #[inline]
    pub(crate) fn slots(&self) -> u64 {
        1 + u64::from(self.second.is_some())
    }

    /// The time it tells, if that is what it does.
    #[inline]
    pub(crate) fn told_time(&self) -> Option<u64> {
        (sort(&self.first) == TIME).then_some(self.first[0])
    }

    /// Appends its slots.
    pub(crate) fn append(&self, slots: &mut Vec<Slot>) {
        slots.push(self.first);
        slots.extend(self.second);
    }

    /// What it stands for.
    #[inline]
    fn meaning(&self) -> Meaning {
        let [first, second] = self.first;
        let rest = second >> SORT_BITS;
        match sort(&self.first) {
            WRITE | READ => {
                Meaning::Transfer { post: Some(first & u64::from(u32::MAX)), transfer: first >> 32, bytes: rest }
            }
            WRITE_TAIL | READ_TAIL => Meaning::Transfer { post: None, transfer: first, bytes: rest },
            LONG => {
                let [post, bytes] = self.second.unwrap_or_default();
                Meaning::Transfer { post: (second & LONG_TAIL == 0).then_some(post), transfer: first, bytes }
            }
            // It was made of a kind's number, which has 32 bits.
            KIND => Meaning::Event { kind: Kind::from_code(u32::try_from(rest).unwrap_or(u32::MAX)), value: first },
            BACKEND => Meaning::Backend { name: rest, value: first },
            _ => Meaning::Time(first),
        }
    }

    fn direction(&self) -> Direction {
        let second = self.first[1];
        let is_read = if second & SORT_MASK == LONG { second & LONG_READ != 0 } else { second & 1 != 0 };
        if is_read { Direction::Read } else { Direction::Write }
    }
}

/// A record taken apart.
enum Meaning {
    Transfer { post: Option<u64>, transfer: u64, bytes: u64 },
    Event { kind: Kind, value: u64 },
    Backend { name: u64, value: u64 },
    Time(u64),
}

#[inline]
fn sort(slot: &Slot) -> u64 {
    slot[1] & SORT_MASK
}

/// The same, as an index.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "three bits")]
fn sort_index(slot: &Slot) -> usize {
    sort(slot) as usize
}

/// What records mean: which events of a transfer are enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expansion {
    /// Of a write and of a read: whether its four events are enabled, in NIXL's order.
    enabled: [[bool; 4]; 2],
    /// How many events a record of each sort stands for, but for long ones.
    events: [u8; 8],
}

impl Expansion {
    pub(crate) fn new(allowlist: &Allowlist) -> Self {
        let enabled = [Direction::Write, Direction::Read].map(|way| kinds(way).map(|kind| allowlist.allows(kind)));
        Self::of(enabled)
    }

    fn of(enabled: [[bool; 4]; 2]) -> Self {
        let count = |of: &[bool]| of.iter().map(|enabled| u8::from(*enabled)).sum();
        let [write, read] = &enabled;
        let events = [count(write), count(read), count(&write[1..]), count(&read[1..]), 0, 1, 1, 0];
        Self { enabled, events }
    }

    /// As a number, for a file.
    pub(crate) fn bits(&self) -> u64 {
        self.enabled.as_flattened().iter().rev().fold(0, |bits, enabled| bits << 1 | u64::from(*enabled))
    }

    /// From that number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let bit = |at: usize| bits >> at & 1 != 0;
        Self::of([[bit(0), bit(1), bit(2), bit(3)], [bit(4), bit(5), bit(6), bit(7)]])
    }

    /// How many events the compact record of a transfer that way stands for.
    #[inline]
    pub(crate) fn of_transfer(&self, direction: Direction) -> u64 {
        u64::from(self.events[direction as usize])
    }

    /// How many events this record stands for.
    #[inline]
    pub(crate) fn events(&self, record: &Record) -> u64 {
        if sort(&record.first) != LONG {
            return u64::from(self.events[sort_index(&record.first)]);
        }
        let tail = if record.first[1] & LONG_TAIL == 0 { 0 } else { 2 };
        u64::from(self.events[tail + record.direction() as usize])
    }

    /// How many events these slots stand for.
    pub(crate) fn count(&self, slots: &[Slot]) -> u64 {
        let mut slots = slots.iter().copied();
        let mut events = 0;
        while let Some(first) = slots.next() {
            events += self.events(&Record::read(first, || slots.next().unwrap_or_default()));
        }
        events
    }

    /// Appends the events of these slots. Those before any time that is told get `time_us`.
    pub(crate) fn expand<'a>(&self, slots: &[Slot], names: &'a [Arc<str>], time_us: u64, into: &mut Vec<Event<'a>>) {
        let mut now_us = time_us;
        let mut slots = slots.iter().copied();
        while let Some(first) = slots.next() {
            let record = Record::read(first, || slots.next().unwrap_or_default());
            match record.meaning() {
                Meaning::Time(0) => now_us = time_us,
                Meaning::Time(told) => now_us = told,
                Meaning::Event { kind, value } => into.push(Event::new(kind, value).at(now_us)),
                Meaning::Backend { name, value } => {
                    // A name is there before its number is.
                    let name = usize::try_from(name).ok().and_then(|name| names.get(name));
                    into.push(Event::backend(name.map_or("", |name| name), value).at(now_us));
                }
                Meaning::Transfer { post, transfer, bytes } => {
                    let events = self.readings(record.direction(), post, [transfer, bytes]);
                    into.extend(events.map(|(kind, value)| Event::new(kind, value).at(now_us)));
                }
            }
        }
    }

    /// The events of a transfer that are enabled, in NIXL's order.
    #[inline]
    fn readings(
        &self,
        direction: Direction,
        post: Option<u64>,
        [transfer, bytes]: [u64; 2],
    ) -> impl Iterator<Item = (Kind, u64)> {
        let values = [post.unwrap_or_default(), transfer, bytes, 1];
        let all = kinds(direction).into_iter().zip(values).zip(self.enabled[direction as usize]);
        all.skip(usize::from(post.is_none())).filter(|(_, is_enabled)| *is_enabled).map(|(event, _)| event)
    }

    /// Adds the events of a record that is not kept.
    pub(crate) fn add_up(&self, record: &Record, into: &mut Totals) {
        match record.meaning() {
            Meaning::Time(_) => {}
            Meaning::Event { kind, value } => into.add(Some(kind), value),
            Meaning::Backend { value, .. } => into.add(None, value),
            Meaning::Transfer { post, transfer, bytes } => {
                self.readings(record.direction(), post, [transfer, bytes])
                    .for_each(|(kind, value)| into.add(Some(kind), value));
            }
        }
    }
}

/// The kinds of a transfer's events, in NIXL's order.
#[inline]
fn kinds(direction: Direction) -> [Kind; 4] {
    let (bytes, requests) = match direction {
        Direction::Write => (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
        Direction::Read => (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
    };
    [Kind::XFER_POST_TIME, Kind::XFER_TIME, bytes, requests]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn transfer(direction: Direction, bytes: u64, transfer: u64, post: u64) -> Record {
        match Record::compact(direction, bytes, transfer, post) {
            Some(first) => Record { first, second: None },
            None => Record::long(direction, bytes, transfer, post),
        }
    }

    /// Asserts slots, kind, value and time of the events of a record.
    fn check(enabled: &str, record: Record, slots: u64, expected: &[(u32, u64)]) {
        let expansion = Expansion::new(&Allowlist::new(enabled).0);
        assert_eq!(Expansion::from_bits(expansion.bits()), expansion);
        let mut written = vec![Record::time(5)];
        record.append(&mut written);
        assert_eq!((record.slots(), written.len() as u64), (slots, slots + 1));
        let mut events = Vec::new();
        expansion.expand(&written, &[], 77, &mut events);
        let got: Vec<_> = events.iter().map(|e| (e.kind().unwrap().code(), e.value())).collect();
        assert_eq!(got, expected);
        assert!(events.iter().all(|event| event.timestamp_us() == Some(5)));
        assert_eq!(expansion.events(&record), expected.len() as u64);

        let mut totals = Totals::default();
        expansion.add_up(&record, &mut totals);
        let mut by_kind = expected.to_vec();
        by_kind.sort_unstable();
        let sums: Vec<_> = totals.iter().map(|total| (total.kind.code(), total.count, total.sum)).collect();
        assert_eq!(sums, by_kind.into_iter().map(|(code, value)| (code, 1, value.into())).collect::<Vec<_>>());
    }

    #[test]
    fn records_expand_with_every_value() {
        use Direction::{Read, Write};
        const MAX: u64 = u64::MAX;
        let edge = u64::from(u32::MAX);
        for (value, bytes, slots) in [(0, 0, 1), (edge, MAX >> 3, 1), (edge + 1, 1, 2), (1, MAX >> 2, 2), (MAX, MAX, 2)]
        {
            let write = transfer(Write, bytes, value, value / 2);
            check("", write, slots, &[(7, value / 2), (6, value), (0, bytes), (2, 1)]);
            check("agent_xfer_time", write, slots, &[(6, value)]);
            check("agent_rx_*", write, slots, &[]);
            let read = transfer(Read, bytes, value / 2, value);
            check("", read, slots, &[(7, value), (6, value / 2), (1, bytes), (3, 1)]);
            check("agent_xfer_post_time", read, slots, &[(7, value)]);
        }
        for (bytes, slots) in [(MAX >> 3, 1), (MAX, 2)] {
            check("", Record::tail(Write, bytes, MAX), slots, &[(6, MAX), (0, bytes), (2, 1)]);
            check("", Record::tail(Read, bytes, 7), slots, &[(6, 7), (1, bytes), (3, 1)]);
            check("agent_xfer_post_time", Record::tail(Read, bytes, 7), slots, &[]);
        }
        check("", Record::event(Kind::ERR_BACKEND, MAX), 1, &[(10, MAX)]);
    }

    #[test]
    fn time_is_what_was_told_last() {
        let expansion = Expansion::new(&Allowlist::All);
        let event = Record::event(Kind::from_code(u32::MAX), 1).first;
        let slots = [event, Record::time(9), event, event, Record::time(0), event];
        let mut events = Vec::new();
        expansion.expand(&slots, &[], 77, &mut events);
        let times: Vec<_> = events.iter().map(|event| event.timestamp_us().unwrap()).collect();
        assert_eq!(times, [77, 9, 9, 77]);
        assert_eq!(events[0].kind(), Some(Kind::from_code(u32::MAX)));
    }

    #[test]
    fn backend_events_find_their_name() {
        let names = ["a".into(), "b".into()];
        let mut events = Vec::new();
        let expansion = Expansion::new(&Allowlist::All);
        expansion.expand(&[Record::backend(1, 3).first, Record::backend(2, 4).first], &names, 6, &mut events);
        assert_eq!(events, [Event::backend("b", 3).at(6), Event::backend("", 4).at(6)]);
    }
}
