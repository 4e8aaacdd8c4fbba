// SPDX-License-Identifier: Apache-2.0

//! What is left of events that are not kept one by one: how many of each kind, and the exact sum of their values.

use nixl_telemetry_event::{Kind, Total};

/// Kinds that are added up apart, and the rest together.
#[cfg(not(loom))]
pub(crate) const KINDS: usize = Kind::ALL.len() + 1;
#[cfg(loom)]
pub(crate) const KINDS: usize = 2;
/// Events of backends, and of kinds without a name: only counted, since nobody could tell what their sum is a sum of.
const REST: usize = KINDS - 1;

/// Words a set of totals takes in shared memory.
pub(crate) const WORDS: usize = 3 * KINDS;

/// Events by kind: how many, and the sum of their values. They only grow. A damaged journal may tell anything, so nothing
/// here overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals([(u64, u128); KINDS]);

impl Default for Totals {
    fn default() -> Self {
        Self([(0, 0); KINDS])
    }
}

impl Totals {
    /// Adds an event; one of a backend has no kind.
    pub(crate) fn add(&mut self, kind: Option<Kind>, value: u64) {
        let own = kind.and_then(|kind| usize::try_from(kind.code()).ok()).filter(|code| *code < REST);
        let (count, sum) = &mut self.0[own.unwrap_or(REST)];
        *count = count.saturating_add(1);
        *sum = sum.saturating_add(value.into());
    }

    /// Adds all of another.
    pub(crate) fn join(&mut self, other: &Self) {
        for ((count, sum), (more, value)) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
            *sum = sum.saturating_add(*value);
        }
    }

    /// What has come since `before`, which was a state of this.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut new = *self;
        for ((count, sum), (known, value)) in new.0.iter_mut().zip(&before.0) {
            *count = count.saturating_sub(*known);
            *sum = sum.saturating_sub(*value);
        }
        new
    }

    /// All events.
    pub(crate) fn events(&self) -> u64 {
        self.0.iter().fold(0, |events, (count, _)| events.saturating_add(*count))
    }

    /// Whether they may be true: of more events than any process lives to see, a sum over many of these might overflow.
    pub(crate) fn are_likely(&self) -> bool {
        self.events() < 1 << 48
    }

    /// Events that no total tells of.
    pub(crate) fn untold(&self) -> u64 {
        self.0[REST].0
    }

    /// What there is, by kind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Total> {
        let kinds = (0..).map(Kind::from_code).zip(&self.0[..REST]);
        kinds.filter(|(_, (count, _))| *count > 0).map(|(kind, &(count, sum))| Total { kind, count, sum })
    }

    /// As words.
    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (words, (count, sum)) in words.chunks_exact_mut(3).zip(self.0) {
            // The two halves of the sum.
            #[expect(clippy::cast_possible_truncation, reason = "the other half is the next word")]
            words.copy_from_slice(&[count, sum as u64, (sum >> 64) as u64]);
        }
        words
    }

    /// From words.
    pub(crate) fn from_words(words: [u64; WORDS]) -> Self {
        let mut totals = Self::default();
        for (total, words) in totals.0.iter_mut().zip(words.chunks_exact(3)) {
            *total = (words[0], u128::from(words[1]) | u128::from(words[2]) << 64);
        }
        totals
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_the_rest_is_counted() {
        let mut totals = Totals::default();
        for _ in 0..3 {
            totals.add(Some(Kind::XFER_TIME), u64::MAX);
        }
        let before = totals;
        totals.add(Some(Kind::TX_BYTES), 5);
        totals.add(None, 6);
        totals.add(Some(Kind::from_code(21)), 7);
        totals.add(Some(Kind::from_code(u32::MAX)), 8);
        assert_eq!((totals.events(), totals.untold()), (7, 3));
        let all: Vec<_> = totals.iter().collect();
        let time = Total { kind: Kind::XFER_TIME, count: 3, sum: 3 * u128::from(u64::MAX) };
        let bytes = Total { kind: Kind::TX_BYTES, count: 1, sum: 5 };
        assert_eq!(all, [bytes, time]);
        assert_eq!(totals.since(&before).iter().collect::<Vec<_>>(), [bytes]);
        assert_eq!(Totals::from_words(totals.to_words()), totals);
        let mut joined = totals.since(&before);
        joined.join(&before);
        assert_eq!(joined, totals);
    }
}
