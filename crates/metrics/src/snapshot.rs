// SPDX-License-Identifier: Apache-2.0

use std::sync::Arc;

use nixl_telemetry_event::Kind;

use crate::buckets::InBuckets;
use crate::{Buckets, KINDS, Named, TIMES, exponential};

/// The metrics of an agent at one moment.
///
/// Made once and filled again and again, so that looking allocates nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When counting began, in microseconds since the Unix epoch; 0 if it is not known.
    pub created_us: u64,
    /// Sums of values, by [`Kind::code`].
    pub counters: [u64; KINDS],
    /// Last values, by [`Kind::code`]; 0 where there was none.
    pub gauges: [u64; KINDS],
    /// Distributions, in the order of [`TIMES`].
    pub histograms: [Histogram; TIMES.len()],
    /// Events that have only a name, by name, in the order in which they appeared.
    pub named: Vec<Named>,
    /// What the exporter did.
    pub account: Account,
}

/// A distribution at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The bounds of the classic buckets.
    pub buckets: Arc<Buckets>,
    /// Values in each classic bucket, not cumulative; one more than there are bounds.
    pub classic: Box<[u64]>,
    /// Sum of all values.
    pub sum: u64,
    /// The same in exponential buckets, where they are counted.
    pub exponential: Option<Exponential>,
}

/// A distribution in [`exponential`] buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    /// Values that were 0.
    pub zeros: u64,
    /// Values in each bucket.
    pub counts: Box<[u64; exponential::BUCKETS]>,
}

/// What an exporter did, for its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Events taken one by one.
    pub events: u64,
    /// Events taken as totals.
    pub aggregated: u64,
    /// Of these, events that are in no metric: their name is one too many.
    pub dropped: u64,
    /// Events that could not be delivered and never will be.
    pub failed: u64,
    /// Events that have not been delivered yet.
    pub queued: u64,
    /// Batches taken.
    pub batches: u64,
    /// When something was last delivered, in microseconds since the Unix epoch; 0 for never.
    pub last_success_us: u64,
}

impl Snapshot {
    /// A snapshot of nothing, with exponential histograms.
    pub fn new(buckets: Arc<Buckets>) -> Self {
        let histogram = || Histogram {
            classic: vec![0; buckets.count()].into(),
            buckets: Arc::clone(&buckets),
            sum: 0,
            exponential: Some(Exponential { zeros: 0, counts: Box::new([0; exponential::BUCKETS]) }),
        };
        Self {
            created_us: 0,
            counters: [0; KINDS],
            gauges: [0; KINDS],
            histograms: TIMES.map(|_| histogram()),
            named: Vec::new(),
            account: Account::default(),
        }
    }

    /// The sum of the values of a kind; 0 for a kind NIXL 1.5 does not know.
    pub fn counter(&self, kind: Kind) -> u64 {
        self.counters.get(kind.code() as usize).copied().unwrap_or(0)
    }

    /// The last value of a kind; 0 if there was none.
    pub fn gauge(&self, kind: Kind) -> u64 {
        self.gauges.get(kind.code() as usize).copied().unwrap_or(0)
    }

    /// The distribution of the values of a kind; `None` for a kind that has none.
    pub fn histogram(&self, kind: Kind) -> Option<&Histogram> {
        TIMES.iter().position(|time| *time == kind).map(|at| &self.histograms[at])
    }
}

impl Histogram {
    pub(crate) fn clear(&mut self) {
        self.sum = 0;
        self.classic.fill(0);
        if let Some(exponential) = &mut self.exponential {
            exponential.zeros = 0;
            exponential.counts.fill(0);
        }
    }

    pub(crate) fn add(&mut self, cell: InBuckets, count: u64) {
        let classic = &mut self.classic[usize::from(cell.classic)];
        *classic = classic.wrapping_add(count);
        if let Some(found) = &mut self.exponential {
            let place = match cell.exponential {
                Some(bucket) => &mut found.counts[usize::from(bucket)],
                None => &mut found.zeros,
            };
            *place = place.wrapping_add(count);
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.classic.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
    /// The buckets as Prometheus has them: each upper bound, the last infinite, and how many values are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.buckets.bounds().iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.classic.iter().scan(0_u64, |sum, count| {
            *sum = sum.wrapping_add(*count);
            Some(*sum)
        }))
    }
}
