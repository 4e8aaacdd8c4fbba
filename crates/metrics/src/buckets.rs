// SPDX-License-Identifier: Apache-2.0

use std::fmt;

use crate::exponential::{PLACES, place};

/// The upper bounds of a classic histogram, in microseconds; a value equal to a bound lies below it.
///
/// The default is NIXL's: 18 bounds from 10 us to 10 s.
#[derive(Clone, PartialEq)]
pub struct Buckets {
    bounds: Box<[f64]>,
    /// The greatest integer that is not above each bound; values are integers.
    limits: Box<[u64]>,
    /// For each place of the number line, the first bucket in which a value of that place can lie.
    first: Box<[u16; PLACES]>,
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
    #[inline(always)]
    pub fn find(&self, value: u64) -> usize {
        let mut bucket = usize::from(self.first[place(value | u64::from(value == 0))]);
        while self.limits.get(bucket).is_some_and(|limit| value > *limit) {
            bucket += 1;
        }
        bucket
    }

    fn of(bounds: Box<[f64]>) -> Self {
        let limits: Box<[u64]> = bounds.iter().copied().map(whole).collect();
        let mut first = Box::new([0; PLACES]);
        for (at, first) in first.iter_mut().enumerate() {
            let (exponent, part) = (at / 8, at as u64 % 8);
            // The least value of this place: eight parts, the first of which is 8/8.
            let least = u64::try_from((u128::from(8 + part) << exponent) / 8).unwrap_or(u64::MAX);
            let found = limits.partition_point(|limit| *limit < least);
            *first = u16::try_from(found).expect("at most 4096 bounds");
        }
        // A zero takes the place of 1, and may lie below the bucket of 1 if a bound is between them.
        first[place(1)] = 0;
        Self { bounds, limits, first }
    }
}

/// The greatest integer that is not above a bound; for one beyond `u64` its last value, which is below it too.
#[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and what is behind the point is to go")]
pub(crate) fn whole(bound: f64) -> u64 {
    bound as u64
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
            }
        }
    }
}
