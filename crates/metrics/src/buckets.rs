// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use crate::exponential;

/// The upper bounds of a classic histogram, in microseconds; a value equal to a bound lies below it.
///
/// The default is NIXL's: 18 bounds from 10 us to 10 s.
///
/// A value is counted once and shown twice, in classic and in [`exponential`] buckets. So it is counted in a *cell*: between
/// two bounds that are next to each other among those of both.
#[derive(Clone)]
pub struct Buckets {
    bounds: Box<[f64]>,
    /// The greatest value in each cell, in rising order, from 0 to the greatest there is. Bounds that are no integers are
    /// rounded down, since values are integers.
    limits: Box<[u64]>,
    /// Of each cell.
    buckets: Box<[InBuckets]>,
    pub(crate) places: Arc<Places>,
}

/// The way from a value to its cell: what is known of each place of the number line, sixteen of which make a doubling.
pub(crate) struct Places([Place; PLACES]);

/// What is known of a place. Half a cache line, so that one look suffices.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Place {
    /// The limits of the first cell in which a value of this place can lie, and of the one after it.
    limits: [u64; 2],
    /// Up to here the two say which cell it is.
    greatest: u64,
    cell: u16,
}

/// Sixteen for each of the doublings whose integers stand behind the point of a floating-point number, and some to spare.
const PLACES: usize = 1024;
const DOUBLINGS: usize = 52;
const _: () = assert!(16 * DOUBLINGS <= PLACES);

impl Places {
    /// The cell of a value; `None` sends the caller to a search, which few values need.
    #[inline(always)]
    pub(crate) fn cell(&self, value: u64) -> Option<usize> {
        let place = &self.0[Self::place(value)];
        if value > place.greatest {
            return None;
        }
        // Not by branches: nobody could foretell them.
        Some(usize::from(place.cell) + usize::from(value > place.limits[0]) + usize::from(value > place.limits[1]))
    }

    /// The place of a value: exponent and the four highest digits of the floating-point number, which costs less than to
    /// find the highest bit of an integer. An even value is where the odd one after it is, so that 0 has a place. A value of
    /// more than 52 bits comes to some place, for which it is too great.
    #[inline(always)]
    fn place(value: u64) -> usize {
        // The bits of 2^52 + value, which leaves the value: a conversion would wait for the one before it.
        const BASE: f64 = (1_u64 << 52) as f64;
        let float = f64::from_bits(value | 1 | BASE.to_bits()) - BASE;
        usize::from((float.to_bits() >> 48) as u16) % PLACES
    }

    fn of(limits: &[u64]) -> Self {
        let mut places = [Place { limits: [0; 2], greatest: 0, cell: 0 }; PLACES];
        for at in 0..16 * DOUBLINGS {
            // Sixteen parts, the first of which is 16/16; a part of a small number may hold no integer, and then none comes.
            let (exponent, part) = (at / 16, at as u64 % 16);
            let least = |part: u64| (part << exponent).div_ceil(16);
            let (first, beyond) = (least(16 + part), least(16 + part + 1));
            let Some(last) = (first..beyond).rev().find(|value| value % 2 == 1) else { continue };
            let cell = limits.partition_point(|limit| *limit < first & !1);
            let limit = |ahead: usize| limits.get(cell + ahead).copied().unwrap_or(u64::MAX);
            places[Self::place(last)] =
                Place { limits: [limit(0), limit(1)], greatest: last.min(limit(2)), cell: number(cell) };
        }
        Self(places)
    }
}

fn number(cell: usize) -> u16 {
    u16::try_from(cell).expect("at most 4096 bounds and 513")
}

/// The buckets that a cell is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InBuckets {
    pub(crate) classic: u16,
    /// `None` for the cell of 0.
    pub(crate) exponential: Option<u16>,
}

/// Why a list of bounds is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("bound {number} is {text:?}: expected {expected}")]
pub struct BucketsError {
    /// Which one, from 1.
    pub number: usize,
    /// What stands there.
    pub text: String,
    /// What could have stood there.
    pub expected: &'static str,
}

const DEFAULT: [f64; 18] =
    [10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 5e6, 1e7];

impl Buckets {
    /// The most bounds there can be.
    pub const MOST: usize = 4096;

    /// Buckets with these upper bounds: finite, above zero, each above the one before in its first 15 digits,
    /// [`MOST`](Self::MOST) at most. What is above all of them has one bucket more.
    ///
    /// # Errors
    /// Names the first bound that is out of order.
    pub fn new(bounds: impl Into<Box<[f64]>>) -> Result<Self, BucketsError> {
        let bounds = bounds.into();
        for (i, &bound) in bounds.iter().enumerate() {
            let expected = if !(bound.is_finite() && bound > 0.0) {
                "a finite number above 0"
            } else if i > 0 && bound <= bounds[i - 1] {
                "a number above the one before it"
            } else if i > 0 && bound <= bounds[i - 1] * (1.0 + 2e-15) {
                // Prometheus' text shows 16 digits, and no two series of a histogram may look the same there.
                "a number above the one before it in its first 15 digits"
            } else if i >= Self::MOST {
                "at most 4096 bounds"
            } else {
                continue;
            };
            return Err(BucketsError { number: i + 1, text: bound.to_string(), expected });
        }
        Ok(Self::of(bounds))
    }

    /// The bounds of a list such as `10, 25,2.5e3`, as `NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US` holds it: separated by commas,
    /// with or without blanks. An empty list stands for the default.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if an element is no number.
    pub fn parse(list: &str) -> Result<Self, BucketsError> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        let number = |(i, text): (usize, &str)| {
            let text = text.trim();
            let error = || BucketsError { number: i + 1, text: text.into(), expected: "a finite number above 0" };
            text.parse().map_err(|_| error())
        };
        Self::new(list.split(',').enumerate().map(number).collect::<Result<Box<[f64]>, _>>()?)
    }

    /// The upper bounds, in rising order, without infinity.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Number of buckets: one more than bounds.
    pub fn count(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The bucket a value lies in: the first whose bound is not below it, or the last.
    pub fn find(&self, value: u64) -> usize {
        usize::from(self.buckets[self.cell(value)].classic)
    }

    /// Number of cells.
    pub(crate) fn cells(&self) -> usize {
        self.limits.len()
    }

    /// The cell a value lies in.
    pub(crate) fn cell(&self, value: u64) -> usize {
        self.places.cell(value).unwrap_or_else(|| self.limits.partition_point(|limit| *limit < value))
    }

    /// The buckets of each cell, by the number of the cell.
    pub(crate) fn in_buckets(&self) -> &[InBuckets] {
        &self.buckets
    }

    fn of(bounds: Box<[f64]>) -> Self {
        let classic: Vec<u64> = bounds.iter().copied().map(whole).collect();
        let exponential = (0..exponential::BUCKETS).map(exponential::upper_bound);
        let mut limits: Vec<u64> = classic.iter().copied().chain(exponential).chain([0]).collect();
        limits.sort_unstable();
        limits.dedup();
        let in_buckets = |limit: &u64| InBuckets {
            classic: number(classic.partition_point(|bound| bound < limit)),
            exponential: (*limit > 0).then(|| number(exponential::bucket(*limit))),
        };
        let buckets = limits.iter().map(in_buckets).collect();
        let places = Arc::new(Places::of(&limits));
        Self { bounds, limits: limits.into(), buckets, places }
    }
}

/// The greatest integer that is not above a bound; for one beyond `u64` its last value, which is below it too.
#[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and what is behind the point is to go")]
pub(crate) fn whole(bound: f64) -> u64 {
    bound as u64
}

/// The rest follows from the bounds.
impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        self.bounds == other.bounds
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::of(DEFAULT.into())
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buckets").field(&self.bounds).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        let buckets = Buckets::default();
        assert_eq!(buckets.count(), 19);
        for (value, bucket) in
            [(0, 0), (10, 0), (11, 1), (25, 1), (26, 2), (10_000_000, 17), (10_000_001, 18), (u64::MAX, 18)]
        {
            assert_eq!(buckets.find(value), bucket, "{value}");
        }
        let fractions = Buckets::parse(" 0.5, 1.5 ,2,1e30").unwrap();
        assert_eq!([0, 1, 2, 3, u64::MAX].map(|value| fractions.find(value)), [0, 1, 2, 3, 3]);
        assert_eq!(fractions.bounds(), [0.5, 1.5, 2.0, 1e30]);
        assert_eq!(Buckets::new([]).unwrap().find(7), 0);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (list, message) in [
            ("10,x", "bound 2 is \"x\": expected a finite number above 0"),
            ("10,,20", "bound 2 is \"\": expected a finite number above 0"),
            ("0,1", "bound 1 is \"0\": expected a finite number above 0"),
            ("-1", "bound 1 is \"-1\": expected a finite number above 0"),
            ("1,nan", "bound 2 is \"NaN\": expected a finite number above 0"),
            ("1,inf", "bound 2 is \"inf\": expected a finite number above 0"),
            ("5,5", "bound 2 is \"5\": expected a number above the one before it"),
            ("5,4", "bound 2 is \"4\": expected a number above the one before it"),
            (
                "0.1,0.10000000000000002",
                "bound 2 is \"0.10000000000000002\": expected a number above the one before it in its first 15 digits",
            ),
        ] {
            assert_eq!(Buckets::parse(list).unwrap_err().to_string(), message);
        }
        assert_eq!(Buckets::parse("").unwrap(), Buckets::default());
        let many: Vec<f64> = (1..=4097_u32).map(f64::from).collect();
        assert_eq!(Buckets::new(many).unwrap_err().expected, "at most 4096 bounds");
    }

    proptest! {
        #[test]
        fn a_value_is_found_as_a_search_would(
            mut bounds in proptest::collection::vec(prop_oneof![0.1_f64..100.0, 1.0..2e19, (0_u32..64).prop_map(|e| (1_u64 << e) as f64)], 0..40),
            shift in 0_u32..64,
            raw: u64,
        ) {
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            let buckets = Buckets::new(bounds.clone()).unwrap();
            let near = bounds.iter().copied().map(whole);
            for value in near.flat_map(|v| [v.saturating_sub(1), v, v.saturating_add(1)]).chain([raw >> shift, 0, 1]) {
                // Exact: an integer is at most a bound if it is at most what is whole of it.
                let expected = bounds.iter().position(|bound| value <= whole(*bound)).unwrap_or(bounds.len());
                prop_assert_eq!(buckets.find(value), expected, "{} in {:?}", value, bounds);
                let found = buckets.in_buckets()[buckets.cell(value)].exponential;
                prop_assert_eq!(found.map(usize::from), (value > 0).then(|| exponential::bucket(value)));
            }
        }
    }
}
