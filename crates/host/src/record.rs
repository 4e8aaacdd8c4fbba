// SPDX-License-Identifier: Apache-2.0

//! What a recording thread writes: four words, which the flush thread expands into events.

use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind};

use crate::allowlist::Allowlist;
use crate::{Direction, Transfer};

/// A record: three words that depend on its sort, and a tag, which is the time shifted left by two bits and the sort.
///
/// | sort | 0 | 1 | 2 |
/// |---|---|---|---|
/// | a transfer | transfer time | post time | bytes |
/// | an event of a kind | value | number of the kind | 0 |
/// | an event of a backend | value | number of the name | 0 |
pub(crate) type Record = [u64; 4];

const WRITE: u64 = 0;
const READ: u64 = 1;
const KIND: u64 = 2;
const BACKEND: u64 = 3;

/// The most events a record stands for.
pub(crate) const MOST_EVENTS: u64 = 4;

/// The record of a transfer.
pub(crate) fn transfer(transfer: &Transfer, time_us: u64) -> Record {
    let sort = match transfer.direction {
        Direction::Write => WRITE,
        Direction::Read => READ,
    };
    [transfer.transfer_time_us, transfer.post_time_us, transfer.bytes, time_us << 2 | sort]
}

/// The record of one event.
pub(crate) fn event(kind: Kind, value: u64, time_us: u64) -> Record {
    [value, u64::from(kind.code()), 0, time_us << 2 | KIND]
}

/// The record of an event of a backend, whose name has this number.
pub(crate) fn backend(name: u64, value: u64, time_us: u64) -> Record {
    [value, name, 0, time_us << 2 | BACKEND]
}

/// What records mean: which events of a transfer are enabled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expansion {
    /// Of a write and of a read: whether its four events are enabled, in NIXL's order.
    enabled: [[bool; 4]; 2],
    /// How many events a record of each sort stands for.
    events: [u64; 4],
}

impl Expansion {
    pub(crate) fn new(allowlist: &Allowlist) -> Self {
        let enabled = [Direction::Write, Direction::Read].map(|way| kinds(way).map(|kind| allowlist.allows(kind)));
        let count = |of: [bool; 4]| of.into_iter().map(u64::from).sum();
        Self { enabled, events: [count(enabled[0]), count(enabled[1]), 1, 1] }
    }

    /// How many events this record stands for.
    pub(crate) fn events(&self, record: &Record) -> u64 {
        self.events[(record[3] & 3) as usize]
    }

    /// Appends the events of `record`. One that carries no time gets `time_us`.
    pub(crate) fn expand<'a>(&self, record: &Record, names: &'a [Arc<str>], time_us: u64, into: &mut Vec<Event<'a>>) {
        let &[value, number, bytes, tag] = record;
        let time_us = if tag >> 2 == 0 { time_us } else { tag >> 2 };
        let way = match tag & 3 {
            WRITE => Direction::Write,
            READ => Direction::Read,
            KIND => {
                // It was made of a kind's number, which has 32 bits.
                let code = u32::try_from(number).unwrap_or(u32::MAX);
                return into.push(Event::new(Kind::from_code(code), value).at(time_us));
            }
            _ => {
                // A name is there before its number is.
                let name = usize::try_from(number).ok().and_then(|number| names.get(number));
                return into.push(Event::backend(name.map_or("", |name| name), value).at(time_us));
            }
        };
        let values = [number, value, bytes, 1];
        let enabled = self.enabled[(tag & 3) as usize];
        for ((kind, value), enabled) in kinds(way).into_iter().zip(values).zip(enabled) {
            if enabled {
                into.push(Event::new(kind, value).at(time_us));
            }
        }
    }
}

/// The kinds of a transfer's events, in NIXL's order.
fn kinds(direction: Direction) -> [Kind; 4] {
    let (bytes, requests) = match direction {
        Direction::Write => (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
        Direction::Read => (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
    };
    [Kind::XFER_POST_TIME, Kind::XFER_TIME, bytes, requests]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts kind, value and time of the events of a record.
    fn check(enabled: &str, record: Record, expected: &[(u32, u64, u64)]) {
        let expansion = Expansion::new(&Allowlist::new(enabled).0);
        let mut events = Vec::new();
        expansion.expand(&record, &[], 77, &mut events);
        let got = events.iter().map(|e| (e.kind().unwrap().code(), e.value(), e.timestamp_us().unwrap()));
        assert_eq!(got.collect::<Vec<_>>(), expected);
        assert_eq!(expansion.events(&record), expected.len() as u64);
    }

    #[test]
    fn records_expand_with_every_value() {
        let max = u64::MAX;
        let of = |direction, value| Transfer { direction, bytes: value, post_time_us: value, transfer_time_us: value };
        let write = transfer(&of(Direction::Write, max), 5);
        check("", write, &[(7, max, 5), (6, max, 5), (0, max, 5), (2, 1, 5)]);
        check("agent_xfer_time", write, &[(6, max, 5)]);
        check("agent_rx_*", write, &[]);
        let read = transfer(&of(Direction::Read, 0), 0);
        check("", read, &[(7, 0, 77), (6, 0, 77), (1, 0, 77), (3, 1, 77)]);
        check("", event(Kind::from_code(u32::MAX), max, 9), &[(u32::MAX, max, 9)]);
    }

    #[test]
    fn backend_events_find_their_name() {
        let names = ["a".into(), "b".into()];
        let mut events = Vec::new();
        let expansion = Expansion::new(&Allowlist::All);
        expansion.expand(&backend(1, 3, 4), &names, 0, &mut events);
        assert_eq!(events, [Event::backend("b", 3).at(4)]);
    }
}
