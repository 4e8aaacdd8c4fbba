// SPDX-License-Identifier: Apache-2.0

//! What an agent's events add up to.

use nixl_telemetry_event::{Event, Kind, Status};
use nixl_telemetry_ring::Lost;

/// Sums of events. What a broken file may hold does not overflow them: they stay at their largest then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: Flow,
    pub(crate) sent: Flow,
    /// Bytes.
    pub(crate) registered: u64,
    /// Bytes.
    pub(crate) deregistered: u64,
    pub(crate) errors: Errors,
    /// Events the agent itself had no room for.
    pub(crate) dropped: u64,
    /// Events of backends, and of kinds that are not known.
    pub(crate) other: u64,
    /// Events that were overwritten before they were read here.
    pub(crate) lost: Lost,
}

/// Transfers in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

/// Numbers of errors by status, in the order of [`Status::ERRORS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Errors([u64; Status::ERRORS.len()]);

impl Counts {
    pub(crate) fn add(&mut self, event: &Event<'_>) {
        let Some(kind) = event.kind() else {
            self.other = self.other.saturating_add(1);
            return;
        };
        let (sum, value) = match kind {
            Kind::RX_BYTES => (&mut self.received.bytes, event.value()),
            Kind::RX_REQUESTS_NUM => (&mut self.received.requests, event.value()),
            Kind::TX_BYTES => (&mut self.sent.bytes, event.value()),
            Kind::TX_REQUESTS_NUM => (&mut self.sent.requests, event.value()),
            Kind::MEMORY_REGISTERED => (&mut self.registered, event.value()),
            Kind::MEMORY_DEREGISTERED => (&mut self.deregistered, event.value()),
            Kind::TELEMETRY_EVENTS_DROPPED => (&mut self.dropped, event.value()),
            // Times are not added up.
            Kind::XFER_TIME | Kind::XFER_POST_TIME => return,
            kind => match Status::ERRORS.iter().position(|status| kind.status() == Some(*status)) {
                Some(index) => (&mut self.errors.0[index], event.value()),
                None => (&mut self.other, 1),
            },
        };
        *sum = sum.saturating_add(value);
    }

    /// Those of another agent.
    pub(crate) fn add_all(&mut self, other: &Self) {
        let add = |sum: &mut u64, value: u64| *sum = sum.saturating_add(value);
        add(&mut self.received.requests, other.received.requests);
        add(&mut self.received.bytes, other.received.bytes);
        add(&mut self.sent.requests, other.sent.requests);
        add(&mut self.sent.bytes, other.sent.bytes);
        add(&mut self.registered, other.registered);
        add(&mut self.deregistered, other.deregistered);
        add(&mut self.dropped, other.dropped);
        add(&mut self.other, other.other);
        self.errors.0.iter_mut().zip(other.errors.0).for_each(|(sum, value)| add(sum, value));
        self.lost.add(other.lost);
    }

    /// Completed transfers, in both directions.
    pub(crate) fn transfers(&self) -> u64 {
        self.received.requests.saturating_add(self.sent.requests)
    }
}

impl Errors {
    /// Errors of any status.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, errors| sum.saturating_add(*errors))
    }

    /// Those that came since there were these.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(before.0[i])))
    }

    /// Each status there were errors of, the most frequent first.
    pub(crate) fn by_status(&self) -> Vec<(Status, u64)> {
        let mut all: Vec<_> = Status::ERRORS.into_iter().zip(self.0).filter(|(_, errors)| *errors > 0).collect();
        all.sort_by_key(|(_, errors)| std::cmp::Reverse(*errors));
        all
    }

    /// How many of this status there were.
    pub(crate) fn of(&self, status: Status) -> u64 {
        Status::ERRORS.into_iter().zip(self.0).find(|(other, _)| *other == status).map_or(0, |(_, errors)| errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_sum() {
        let mut counts = Counts::default();
        // Each kind twice, with a value of its own.
        for _ in 0..2 {
            for kind in Kind::ALL {
                counts.add(&Event::new(kind, 100 + u64::from(kind.code())));
            }
            counts.add(&Event::backend("agent_tx_bytes", 5));
            counts.add(&Event::new(Kind::from_code(77), 5));
        }
        let errors = Errors(std::array::from_fn(|i| 2 * (108 + i as u64)));
        let expected = Counts {
            sent: Flow { bytes: 200, requests: 204 },
            received: Flow { bytes: 202, requests: 206 },
            registered: 208,
            deregistered: 210,
            errors,
            dropped: 240,
            other: 4,
            lost: Lost::default(),
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.transfers(), 410);
        assert_eq!(counts.errors.of(Status::NotFound), 222);
        assert_eq!(counts.errors.total(), 2 * (108..120).sum::<u64>());

        let mut twice = Counts { lost: Lost { events: 3, or_more: true }, ..counts.clone() };
        twice.add_all(&counts);
        assert_eq!((twice.transfers(), twice.errors.total()), (820, 4 * (108..120).sum::<u64>()));
        assert_eq!((twice.registered, twice.deregistered, twice.dropped, twice.other), (416, 420, 480, 8));
        assert_eq!((twice.received.bytes, twice.sent.bytes), (404, 400));
        assert_eq!(twice.lost, Lost { events: 3, or_more: true });
    }

    #[test]
    fn nothing_overflows() {
        let mut counts = Counts::default();
        for _ in 0..3 {
            Kind::ALL.iter().for_each(|kind| counts.add(&Event::new(*kind, u64::MAX)));
        }
        counts.add_all(&counts.clone());
        assert_eq!((counts.transfers(), counts.errors.total(), counts.sent.bytes), (u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn errors_since_then_the_most_frequent_first() {
        let mut counts = Counts::default();
        let add = |counts: &mut Counts, kind, times| (0..times).for_each(|_| counts.add(&Event::new(kind, 1)));
        add(&mut counts, Kind::ERR_BACKEND, 2);
        let before = counts.errors;
        add(&mut counts, Kind::ERR_NOT_FOUND, 3);
        add(&mut counts, Kind::ERR_BACKEND, 7);
        assert_eq!(counts.errors.by_status(), [(Status::Backend, 9), (Status::NotFound, 3)]);
        assert_eq!(counts.errors.since(&before).by_status(), [(Status::Backend, 7), (Status::NotFound, 3)]);
    }
}
