// SPDX-License-Identifier: Apache-2.0

//! How NIXL reads the text of a variable, as pure functions.

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// NIXL 1.0.0 and later: exact text, and a malformed value is an error.
    #[default]
    Current,
    /// NIXL 0.9 and 0.10: numbers as C++ `std::stoul` reads them, any unknown word is "off", and no TOML file.
    Legacy,
}

/// Reads a switch.
///
/// `Current` takes `y yes on 1 true enable` and `n no off 0 false disable`, `Legacy` `y yes 1 on` and `n no 0 off`;
/// both in any case, with nothing before or after.
pub fn parse_bool(text: &str, dialect: Dialect) -> Option<bool> {
    let (on, off): (&[&str], &[&str]) = match dialect {
        Dialect::Current => (&["y", "yes", "on", "1", "true", "enable"], &["n", "no", "off", "0", "false", "disable"]),
        Dialect::Legacy => (&["y", "yes", "1", "on"], &["n", "no", "0", "off"]),
    };
    let is = |word: &&str| text.eq_ignore_ascii_case(word);
    if on.iter().any(is) {
        Some(true)
    } else if off.iter().any(is) {
        Some(false)
    } else {
        None
    }
}

/// Reads an unsigned number.
///
/// `Current` takes decimal digits, or `0x` or `0X` and hexadecimal digits, with nothing before or after. `Legacy`
/// takes what `std::stoul` does: blanks, a sign, decimal digits, then anything; a negative number wraps around.
pub fn parse_unsigned(text: &str, dialect: Dialect) -> Option<u64> {
    match dialect {
        Dialect::Current => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => from_digits(digits, 16),
            None => from_digits(text, 10),
        },
        Dialect::Legacy => {
            let (negative, digits) = stoul_parts(text);
            let number = from_digits(digits, 10)?;
            Some(if negative { number.wrapping_neg() } else { number })
        }
    }
}

/// Reads a signed number.
///
/// `Current` takes decimal digits with at most a `-` before them. `Legacy` takes what `std::stol` does: blanks, a
/// sign, decimal digits, then anything.
pub fn parse_signed(text: &str, dialect: Dialect) -> Option<i64> {
    let (negative, digits) = match dialect {
        Dialect::Current => match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        },
        Dialect::Legacy => stoul_parts(text),
    };
    let number = i128::from(from_digits(digits, 10)?);
    i64::try_from(if negative { -number } else { number }).ok()
}

/// The number that is spelled by all of `digits`, of which there must be one at least. Unlike the standard library's
/// parser it takes no `+`.
fn from_digits(digits: &str, radix: u32) -> Option<u64> {
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// The sign and the leading digits of `text`, behind the blanks of C's `isspace`.
fn stoul_parts(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, text) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (negative, &text[..end])
}

#[cfg(test)]
mod tests {
    use super::Dialect::{Current, Legacy};
    use super::*;
    use proptest::prelude::*;

    // Of each row marked "observed", at least one column was seen on a wheel: today's rules on 1.5.1, the old ones on
    // 0.10.1. Numbers were given as the buffer size, whose value shows in the size of the ring file.

    #[test]
    fn switches() {
        fn check(text: &str, current: Option<bool>, legacy: Option<bool>) {
            assert_eq!(parse_bool(text, Current), current, "{text:?} by today's rules");
            assert_eq!(parse_bool(text, Legacy), legacy, "{text:?} by the old rules");
        }
        for on in ["y", "yes", "1", "on"] {
            check(on, Some(true), Some(true));
        }
        for off in ["n", "no", "0", "off"] {
            check(off, Some(false), Some(false));
        }
        check("true", Some(true), None);
        check("enable", Some(true), None);
        check("false", Some(false), None);
        check("disable", Some(false), None);
        // Observed.
        check("YES", Some(true), Some(true));
        check("On", Some(true), Some(true));
        check("No", Some(false), Some(false));
        check("tRuE", Some(true), None);
        check("ENABLE", Some(true), None);
        check("maybe", None, None);
        check("", None, None);
        check(" y", None, None);
        check("y\n", None, None);
        // Neighbours.
        check("2", None, None);
        check("00", None, None);
        check("enabled", None, None);
        check("t", None, None);
        check("f", None, None);
        check("ｙ", None, None);
    }

    #[test]
    fn unsigned_numbers() {
        const MAX: &str = "18446744073709551615";
        fn check(text: &str, current: Option<u64>, legacy: Option<u64>) {
            assert_eq!(parse_unsigned(text, Current), current, "{text:?} by today's rules");
            assert_eq!(parse_unsigned(text, Legacy), legacy, "{text:?} by the old rules");
        }
        check("0", Some(0), Some(0));
        check("4096", Some(4096), Some(4096));
        check(MAX, Some(u64::MAX), Some(u64::MAX));
        check("0xffffFFFFffffFFFF", Some(u64::MAX), Some(0));
        // Observed.
        check("16", Some(16), Some(16));
        check("010", Some(10), Some(10));
        check("0x10", Some(16), Some(0));
        check("0X1f", Some(31), Some(0));
        check("0x", None, Some(0));
        check("0x+8", None, Some(0));
        check("0x10000000000000000", None, Some(0));
        check("+16", None, Some(16));
        check(" \t16", None, Some(16));
        check("16 ", None, Some(16));
        check("16abc", None, Some(16));
        check("-5", None, Some(u64::MAX - 4));
        check("-0", None, Some(0));
        check("-18446744073709551600", None, Some(16));
        check("18446744073709551616", None, None);
        check("", None, None);
        check("abc", None, None);
        // Neighbours.
        check("-18446744073709551616", None, None);
        check("\n\u{b}\u{c}\r+7", None, Some(7));
        check("\u{a0}7", None, None);
        check("--5", None, None);
        check("+-5", None, None);
        check("- 5", None, None);
        check("-", None, None);
        check(" ", None, None);
        check("1e3", None, Some(1));
        check("1_000", None, Some(1));
        check("٣", None, None);
        check("0x0x1", None, Some(0));
        check("ff", None, None);
    }

    #[test]
    fn signed_numbers() {
        fn check(text: &str, current: Option<i64>, legacy: Option<i64>) {
            assert_eq!(parse_signed(text, Current), current, "{text:?} by today's rules");
            assert_eq!(parse_signed(text, Legacy), legacy, "{text:?} by the old rules");
        }
        check("0", Some(0), Some(0));
        check("-0", Some(0), Some(0));
        check("-5", Some(-5), Some(-5));
        check("9223372036854775807", Some(i64::MAX), Some(i64::MAX));
        check("9223372036854775808", None, None);
        check("-9223372036854775808", Some(i64::MIN), Some(i64::MIN));
        check("-9223372036854775809", None, None);
        check("+5", None, Some(5));
        check(" -5x", None, Some(-5));
        check("0x10", None, Some(0));
        check("-0x10", None, Some(0));
        check("--5", None, None);
        check("-+5", None, None);
        check("-", None, None);
        check("", None, None);
    }

    proptest! {
        #[test]
        fn every_unsigned_number_reads_back(number: u64) {
            prop_assert_eq!(parse_unsigned(&number.to_string(), Current), Some(number));
            prop_assert_eq!(parse_unsigned(&format!("{number:#x}"), Current), Some(number));
            prop_assert_eq!(parse_unsigned(&format!("0X{number:020X}"), Current), Some(number));
            prop_assert_eq!(parse_unsigned(&number.to_string(), Legacy), Some(number));
            prop_assert_eq!(parse_unsigned(&format!("-{number}"), Legacy), Some(number.wrapping_neg()));
        }

        #[test]
        fn every_signed_number_reads_back(number: i64) {
            prop_assert_eq!(parse_signed(&number.to_string(), Current), Some(number));
            prop_assert_eq!(parse_signed(&number.to_string(), Legacy), Some(number));
        }

        #[test]
        fn what_is_accepted_today_has_nothing_around_it(text in "[ \t]?[-+]?(0[xX])?[0-9a-fA-F]{0,20}[ a-z]?") {
            let digits = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
                Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()).then_some(digits),
                None => text.chars().all(|c| c.is_ascii_digit()).then_some(text.as_str()),
            };
            match parse_unsigned(&text, Current) {
                Some(_) => prop_assert!(digits.is_some_and(|digits| !digits.is_empty())),
                // Sixteen digits always fit, in either base.
                None => prop_assert!(digits.is_none_or(|digits| digits.is_empty() || digits.len() > 16)),
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            for dialect in [Current, Legacy] {
                parse_bool(&text, dialect);
                parse_unsigned(&text, dialect);
                parse_signed(&text, dialect);
            }
        }
    }
}
