// SPDX-License-Identifier: Apache-2.0

//! Sums of events, by what they are.

use std::collections::BTreeMap;

use nixl_telemetry_event::{Category, Event, Kind, Unit};

use crate::stats::histogram::Histogram;

/// What the events of one sort come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u128,
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) last: u64,
}

/// What all events come to. Those of known kinds are found by their number.
#[derive(Debug)]
pub(crate) struct Tallies {
    kinds: [Tally; Kind::ALL.len()],
    xfer_time: Histogram,
    xfer_post_time: Histogram,
    others: BTreeMap<(String, Option<Category>), Tally>,
}

/// The tally of one sort, and what sort it is.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
    pub(crate) category: Option<Category>,
    pub(crate) unit: Option<Unit>,
    pub(crate) tally: Tally,
    pub(crate) times: Option<&'a Histogram>,
}

impl Tally {
    const NONE: Self = Self { count: 0, sum: 0, min: u64::MAX, max: 0, last: 0 };

    #[inline]
    fn add(&mut self, value: u64) {
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.count as f64
    }
}

impl Tallies {
    pub(crate) fn new() -> Self {
        Self {
            kinds: [Tally::NONE; Kind::ALL.len()],
            xfer_time: Histogram::new(),
            xfer_post_time: Histogram::new(),
            others: BTreeMap::new(),
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, event: &Event<'_>) {
        let kind = event.kind();
        let known = kind.and_then(|kind| self.kinds.get_mut(usize::try_from(kind.code()).ok()?));
        match known {
            Some(tally) => tally.add(event.value()),
            None => {
                let sort = (event.name().to_string(), event.category());
                self.others.entry(sort).or_insert(Tally::NONE).add(event.value());
            }
        }
        match kind {
            Some(Kind::XFER_TIME) => self.xfer_time.add(event.value()),
            Some(Kind::XFER_POST_TIME) => self.xfer_post_time.add(event.value()),
            _ => {}
        }
    }

    /// One row for each sort of which there are events: kinds in the order of their numbers, then names.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let kinds = Kind::ALL.into_iter().zip(self.kinds).filter(|(_, tally)| tally.count > 0);
        let kinds = kinds.map(|(kind, tally)| Row {
            name: kind.to_string(),
            kind: Some(kind),
            category: kind.category(),
            unit: kind.unit(),
            tally,
            times: match kind {
                Kind::XFER_TIME => Some(&self.xfer_time),
                Kind::XFER_POST_TIME => Some(&self.xfer_post_time),
                _ => None,
            },
        });
        let others = self.others.iter().map(|((name, category), tally)| Row {
            name: name.clone(),
            kind: None,
            category: *category,
            unit: None,
            tally: *tally,
            times: None,
        });
        kinds.chain(others)
    }

    /// Errors by the labels of their status.
    pub(crate) fn errors(&self) -> BTreeMap<&'static str, u64> {
        let rows = self.rows().filter_map(|row| Some((row.kind?.status()?.label()?, row.tally.sum)));
        rows.map(|(label, sum)| (label, u64::try_from(sum).unwrap_or(u64::MAX))).collect()
    }

    /// Events that NIXL's collector says it dropped.
    pub(crate) fn dropped(&self) -> u128 {
        self.rows().filter(|row| row.kind == Some(Kind::TELEMETRY_EVENTS_DROPPED)).map(|row| row.tally.sum).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_summed_by_what_they_are() {
        let mut tallies = Tallies::new();
        let events = [
            Event::new(Kind::TX_BYTES, u64::MAX),
            Event::new(Kind::TX_BYTES, 3),
            Event::new(Kind::ERR_NOT_FOUND, 1),
            Event::new(Kind::ERR_BACKEND, 1),
            Event::new(Kind::ERR_NOT_FOUND, 1),
            Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 40),
            Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 2),
            Event::new(Kind::XFER_TIME, 9),
            Event::new(Kind::from_code(77), 5),
            Event::backend("ucx", 6),
        ];
        events.iter().for_each(|event| tallies.add(event));
        let rows: Vec<_> = tallies.rows().map(|row| (row.name, row.tally.count, row.tally.sum)).collect();
        let expected = [
            ("agent_tx_bytes", 2, u128::from(u64::MAX) + 3),
            ("agent_xfer_time", 1, 9),
            ("agent_err_backend", 1, 1),
            ("agent_err_not_found", 2, 2),
            ("agent_telemetry_events_dropped", 2, 42),
            ("ucx", 1, 6),
            ("unknown_event_77", 1, 5),
        ];
        assert_eq!(rows, expected.map(|(name, count, sum)| (name.to_owned(), count, sum)));
        assert_eq!(tallies.errors(), BTreeMap::from([("backend", 1), ("not_found", 2)]));
        assert_eq!(tallies.dropped(), 42);

        let first = tallies.rows().next().unwrap();
        assert_eq!((first.tally.min, first.tally.max, first.tally.last), (3, u64::MAX, 3));
        assert_eq!(first.tally.mean(), 9_223_372_036_854_775_809.0);
        let times: Vec<_> = tallies.rows().filter_map(|row| Some((row.name, row.times?.percentile(50)))).collect();
        assert_eq!(times, [("agent_xfer_time".to_owned(), 9)]);
    }
}
