// SPDX-License-Identifier: Apache-2.0

//! The buckets of native histograms: eight to each doubling, for all of `u64`, without any setting.
//!
//! Bucket *i* holds the values in (2<sup>(i-1)/8</sup>, 2<sup>i/8</sup>], as Prometheus' native histograms number them at
//! schema 3; OpenTelemetry's exponential histograms call the same bucket *i* - 1 at scale 3. A bound is 9 % above the one
//! before, so that a quantile is off by less than 5 %. Bucket 0 ends with 1; zeros have a place of their own.

/// Prometheus' `schema` and OpenTelemetry's `scale`: 2<sup>3</sup> buckets to each doubling.
pub const SCALE: i32 = 3;

/// Number of buckets: 0 to 512.
pub const BUCKETS: usize = 513;

/// 2<sup>j/8</sup> as a fraction of 2<sup>63</sup>, rounded down, for j = 1 to 7; beyond them nothing is greater.
const ROOTS: [u64; 8] = [
    0x8b95_c1e3_ea8b_d6e6,
    0x9837_f051_8db8_a96f,
    0xa5fe_d6a9_b151_38ea,
    0xb504_f333_f9de_6484,
    0xc567_2a11_5506_dadd,
    0xd744_fcca_d69d_6af4,
    0xeac0_c6e7_dd24_392e,
    u64::MAX,
];

/// The bucket of a value, 0 to 512. For 0, which has none, it is 0.
pub fn bucket(value: u64) -> usize {
    let value = value.max(1);
    let zeros = value.leading_zeros();
    let (exponent, mantissa) = (63 - zeros as usize, value << zeros);
    let part = (mantissa >> 60 & 7) as usize;
    // In each of the eight equal parts lies one root; a power of two is itself the end of its bucket.
    exponent * 8 + part + 1 + usize::from(mantissa > ROOTS[part]) - usize::from(mantissa == 1 << 63)
}

/// The greatest integer in a bucket, or in those below it if it holds none.
pub fn upper_bound(bucket: usize) -> u64 {
    match (bucket / 8, bucket % 8) {
        (64.., _) => u64::MAX,
        (exponent, 0) => 1 << exponent,
        (exponent, root) => ROOTS[root - 1] >> (63 - exponent),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_lies_in_the_bucket_of_its_logarithm() {
        for (value, expected) in
            [(1, 0), (2, 8), (3, 13), (4, 16), (5, 19), (1000, 80), (1 << 63, 504), (u64::MAX, 512)]
        {
            assert_eq!(bucket(value), expected, "{value}");
        }
        assert_eq!((0..=8).map(upper_bound).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 1, 1, 2]);
        assert_eq!((upper_bound(13), upper_bound(80), upper_bound(512)), (3, 1024, u64::MAX));
    }

    proptest! {
        #[test]
        fn bounds_and_buckets_agree(bits in 0_u32..64, raw: u64) {
            let value = (raw >> bits).max(1);
            let found = bucket(value);
            prop_assert!(value <= upper_bound(found));
            prop_assert!(found == 0 || value > upper_bound(found - 1));
            // Against arithmetic that is only nearly right.
            let expected = (value as f64).log2() * 8.0;
            prop_assert!((found as f64 - expected) > -1e-6 && (found as f64 - expected) < 1.0 + 1e-6);
        }

        #[test]
        fn both_ends_of_every_bucket(found in 1_usize..BUCKETS) {
            let (below, last) = (upper_bound(found - 1), upper_bound(found));
            prop_assert!(below <= last);
            if below < last {
                prop_assert_eq!(bucket(last), found);
                prop_assert_eq!(bucket(below + 1), found);
            }
        }
    }
}
