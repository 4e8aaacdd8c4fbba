// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::{Kind, Status};

use super::{Operation, Times};

/// What one agent's telemetry has to show: how many events of each kind, with which sum of values.
///
/// It is counted by the work itself, from what it asked for and what it was answered, not from any telemetry event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    counts: [u64; Kind::ALL.len()],
    sums: [u64; Kind::ALL.len()],
    /// Whether the durations of all transfers were told.
    times_known: bool,
}

/// How often something happened, and the sum of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub count: u64,
    /// The sum of their values in the kind's unit. `None` for durations nobody knows, because the telemetry that
    /// measures them is off.
    pub sum: Option<u64>,
}

impl Default for Truth {
    fn default() -> Self {
        Self { counts: [0; Kind::ALL.len()], sums: [0; Kind::ALL.len()], times_known: true }
    }
}

impl Truth {
    /// What there is of one kind; nothing for a kind that is not in [`Kind::ALL`].
    pub fn tally(&self, kind: Kind) -> Tally {
        let Some(index) = index(kind) else { return Tally { count: 0, sum: Some(0) } };
        let unknown = !self.times_known && [Kind::XFER_TIME, Kind::XFER_POST_TIME].contains(&kind);
        Tally { count: self.counts[index], sum: (!unknown).then_some(self.sums[index]) }
    }

    /// Every kind of [`Kind::ALL`] with what there is of it, zeros included, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, Tally)> {
        Kind::ALL.into_iter().map(|kind| (kind, self.tally(kind)))
    }

    /// The number of all events together.
    pub fn events(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of all error events together.
    pub fn errors(&self) -> u64 {
        self.iter().filter(|(kind, _)| kind.status().is_some()).map(|(_, tally)| tally.count).sum()
    }

    /// Counts one event.
    pub fn add(&mut self, kind: Kind, value: u64) {
        if let Some(index) = index(kind) {
            self.counts[index] += 1;
            self.sums[index] = self.sums[index].saturating_add(value);
        }
    }

    /// Counts one error; a status that is none counts nothing.
    pub fn add_error(&mut self, status: Status) {
        if let Some(kind) = status.kind() {
            self.add(kind, 1);
        }
    }

    /// Counts the four events of one complete transfer.
    pub fn add_transfer(&mut self, operation: Operation, bytes: u64, times: Option<Times>) {
        self.times_known &= times.is_some();
        let times = times.unwrap_or_default();
        let (total, requests) = match operation {
            Operation::Write => (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
            Operation::Read => (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
        };
        self.add(Kind::XFER_POST_TIME, times.post_us);
        self.add(Kind::XFER_TIME, times.xfer_us);
        self.add(total, bytes);
        self.add(requests, 1);
    }

    /// Adds what another thread counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.times_known &= other.times_known;
        for index in 0..Kind::ALL.len() {
            self.counts[index] += other.counts[index];
            self.sums[index] = self.sums[index].saturating_add(other.sums[index]);
        }
    }
}

fn index(kind: Kind) -> Option<usize> {
    usize::try_from(kind.code()).ok().filter(|index| *index < Kind::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(truth: &Truth) -> Vec<(Kind, u64, Option<u64>)> {
        let some = truth.iter().filter(|(_, tally)| tally.count > 0);
        some.map(|(kind, tally)| (kind, tally.count, tally.sum)).collect()
    }

    #[test]
    fn transfers_and_errors_add_up() {
        let mut truth = Truth::default();
        truth.add_transfer(Operation::Write, 100, Some(Times { post_us: 1, xfer_us: 7 }));
        truth.add_transfer(Operation::Read, 30, Some(Times { post_us: 2, xfer_us: 8 }));
        truth.add_error(Status::NotFound);
        truth.add_error(Status::Success);
        truth.add(Kind::from_code(21), 5);
        let expected = [
            (Kind::TX_BYTES, 1, Some(100)),
            (Kind::RX_BYTES, 1, Some(30)),
            (Kind::TX_REQUESTS_NUM, 1, Some(1)),
            (Kind::RX_REQUESTS_NUM, 1, Some(1)),
            (Kind::XFER_TIME, 2, Some(15)),
            (Kind::XFER_POST_TIME, 2, Some(3)),
            (Kind::ERR_NOT_FOUND, 1, Some(1)),
        ];
        assert_eq!(shown(&truth), expected);
        assert_eq!((truth.events(), truth.errors()), (9, 1));

        let mut twice = truth.clone();
        twice.merge(&truth);
        assert_eq!(shown(&twice), expected.map(|(kind, count, sum)| (kind, 2 * count, sum.map(|sum| 2 * sum))));
    }

    #[test]
    fn durations_are_unknown_as_soon_as_one_is() {
        let mut truth = Truth::default();
        truth.add_transfer(Operation::Write, 100, None);
        let mut other = Truth::default();
        other.add_transfer(Operation::Write, 10, Some(Times { post_us: 1, xfer_us: 7 }));
        other.merge(&truth);
        let expected = [
            (Kind::TX_BYTES, 2, Some(110)),
            (Kind::TX_REQUESTS_NUM, 2, Some(2)),
            (Kind::XFER_TIME, 2, None),
            (Kind::XFER_POST_TIME, 2, None),
        ];
        assert_eq!(shown(&other), expected);
    }
}
