// SPDX-License-Identifier: Apache-2.0

//! Numbers as text, without allocating.

use std::{fmt, io::Write as _};

use crate::buckets::whole;

/// Writes an integer, all of its digits.
pub(super) fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes microseconds as seconds, to the last digit: 1795337767.159819, and 0 for 0.
pub(super) fn seconds(out: &mut Vec<u8>, us: u64) {
    integer(out, us / 1_000_000);
    if us > 0 {
        // A one in front keeps the zeros behind the point.
        let mut buffer = itoa::Buffer::new();
        let fraction = buffer.format(1_000_000 + us % 1_000_000);
        out.push(b'.');
        out.extend_from_slice(&fraction.as_bytes()[1..]);
    }
}

/// Writes a number as C's `%.16g` does, which is how NIXL's exporters write bounds: 10, 0.5, 2500, 1e+16.
pub(super) fn plain(out: &mut Vec<u8>, value: f64) {
    if !special(out, value) && !place_whole(out, value, 16) {
        place_printed(out, format_args!("{value:.15e}"), 16);
    }
}

/// Writes a number as OpenMetrics wants bounds: 10.0, 0.5, 2500.0, 1e+06. As Go does, it takes the least digits that are
/// exact, an exponent from a million on, and a point if there is neither.
pub(super) fn canonical(out: &mut Vec<u8>, value: f64) {
    if special(out, value) {
        return;
    }
    let start = out.len();
    if !place_whole(out, value, 6) {
        place_printed(out, format_args!("{value:e}"), 6);
    }
    if !out[start..].iter().any(|byte| matches!(byte, b'.' | b'e')) {
        out.extend_from_slice(b".0");
    }
}

/// Writes what is no finite number, if it is none.
fn special(out: &mut Vec<u8>, value: f64) -> bool {
    let text: &[u8] = match value {
        f64::INFINITY => b"+Inf",
        f64::NEG_INFINITY => b"-Inf",
        _ if value.is_nan() => b"NaN",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// Writes a whole number that is exact in 15 digits, if it is one: as most bounds are, and much faster.
fn place_whole(out: &mut Vec<u8>, value: f64, limit: usize) -> bool {
    let is_whole = value.is_sign_positive() && value < 1e15 && value.fract() == 0.0;
    if is_whole {
        let mut buffer = itoa::Buffer::new();
        let (first, others) = buffer.format(whole(value)).split_at(1);
        let exponent = i32::try_from(others.len()).expect("15 digits at most");
        place(out, first, others, exponent, limit);
    }
    is_whole
}

/// Writes a number which Rust prints in scientific form.
fn place_printed(out: &mut Vec<u8>, number: fmt::Arguments<'_>, limit: usize) {
    // Every `f64` fits in.
    let mut buffer = [0; 32];
    let mut rest = buffer.as_mut_slice();
    rest.write_fmt(number).expect("an f64 has at most 24 characters");
    let unused = rest.len();
    let text = std::str::from_utf8(&buffer[..buffer.len() - unused]).expect("Rust prints ASCII");

    let (mantissa, exponent) = text.split_once('e').expect("scientific form has an exponent");
    let exponent = exponent.parse().expect("an exponent is a number");
    let unsigned = mantissa.trim_start_matches('-');
    if unsigned.len() < mantissa.len() {
        out.push(b'-');
    }
    let (first, others) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    place(out, first, others, exponent, limit);
}

/// Writes the number of these digits, the first before the point, times ten to the exponent: without zeros at its end, and
/// with an exponent only if that is below -4, or not below the limit.
fn place(out: &mut Vec<u8>, first: &str, others: &str, exponent: i32, limit: usize) {
    let others = others.trim_end_matches('0');
    let distance = exponent.unsigned_abs() as usize;
    if exponent < -4 || (exponent > 0 && distance >= limit) {
        out.extend_from_slice(first.as_bytes());
        fraction(out, others);
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if distance < 10 {
            out.push(b'0');
        }
        integer(out, distance as u64);
    } else if exponent < 0 {
        out.extend_from_slice(&b"0.000"[..=distance]);
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(others.as_bytes());
    } else {
        let (before, after) = others.split_at(distance.min(others.len()));
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(before.as_bytes());
        out.resize(out.len() + distance - before.len(), b'0');
        fraction(out, after);
    }
}

fn fraction(out: &mut Vec<u8>, digits: &str) {
    if !digits.is_empty() {
        out.push(b'.');
        out.extend_from_slice(digits.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_is_what_c_prints() {
        // Printed by glibc.
        for (value, expected) in [
            (0.0, "0"),
            (10.0, "10"),
            (0.5, "0.5"),
            (2500.0, "2500"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.3333333333333333"),
            (0.1 + 0.2, "0.3"),
            (0.0001, "0.0001"),
            (1.234e-5, "1.234e-05"),
            (-0.025, "-0.025"),
            (1e15, "1000000000000000"),
            (1_000_000_000_000_000.5, "1000000000000000"),
            (1_000_000_000_000_001.5, "1000000000000002"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e16, "1e+16"),
            (123_456_789_012_345_678.0, "1.234567890123457e+17"),
            (18_446_744_073_709_551_616.0, "1.844674407370955e+19"),
            (99_999_999_999_999_995.0, "1e+17"),
            (f64::MAX, "1.797693134862316e+308"),
            (5e-324, "4.940656458412465e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| plain(out, value)), expected);
        }
    }

    #[test]
    fn canonical_is_what_open_metrics_shows() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.001, "0.001"),
            (10.0, "10.0"),
            (1e-10, "1e-10"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (2500.0, "2500.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (5e6, "5e+06"),
            (1e10, "1e+10"),
            (1_234_567.5, "1.2345675e+06"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(text(|out| canonical(out, value)), expected);
        }
        assert_eq!(text(|out| canonical(out, f64::NAN)), "NaN");
    }

    #[test]
    fn seconds_keep_every_microsecond() {
        for (us, expected) in [
            (0, "0"),
            (1, "0.000001"),
            (1_000_000, "1.000000"),
            (1_795_337_767_159_819, "1795337767.159819"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(text(|out| seconds(out, us)), expected);
        }
    }

    proptest! {
        #[test]
        fn numbers_can_be_read_again(value: f64) {
            prop_assume!(value.is_finite());
            let read: f64 = text(|out| canonical(out, value)).parse().unwrap();
            prop_assert_eq!(read.to_bits(), value.to_bits());
            let read: f64 = text(|out| plain(out, value)).parse().unwrap();
            prop_assert!((read - value).abs() <= value.abs() * 1e-15 || read.is_infinite() || value.abs() < 1e-300);
        }
    }
}
