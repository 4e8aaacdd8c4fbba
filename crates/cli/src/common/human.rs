// SPDX-License-Identifier: Apache-2.0

//! Numbers as people write and read them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes to three digits: `1.46 GiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let number = if unit == 0 { format!("{value:.0}") } else { three_digits(value) };
    format!("{number} {}", UNITS[unit])
}

/// A number to three digits, or as many as it has before the point: `1.46`, `20.2`, `3072`.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Bytes per second.
pub(crate) fn rate(total: u64, during: Duration) -> String {
    format!("{}/s", bytes(total as f64 / during.as_secs_f64().max(f64::MIN_POSITIVE)))
}

/// A moment, to the second: `2026-11-26 05:34:28 UTC`.
pub(crate) fn moment(time: SystemTime) -> String {
    match Timestamp::try_from(time.max(SystemTime::UNIX_EPOCH)) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "after the year 9999".to_owned(),
    }
}

/// A text of somebody else's as one line, which cannot command a terminal.
pub(crate) fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Reads a number of bytes: digits, and K, M or G for 1024 of them, 1024 K or 1024 M (`KiB` and so on work, too).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected bytes such as 4096, 64K, 1M or 2GiB";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("{text:?}: {EXPECTED}")),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("{text:?}: {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let table = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, expected) in table {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn moments_are_dates() {
        let table = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_764_000_000, "2025-11-24 16:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
        ];
        for (seconds, expected) in table {
            assert_eq!(moment(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_line_commands_nothing() {
        assert_eq!(line("a\nb\x1b[2J"), "a b [2J");
    }

    #[test]
    fn bytes_have_three_digits() {
        let table = [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1.5 * 1024.0 * 1024.0, "1.50 MiB"),
            (20.25 * 1024.0, "20.2 KiB"),
            (1024.0 * 1024.0 * 300.0, "300 MiB"),
            (1024.0_f64.powi(5) * 3.0, "3072 TiB"),
        ];
        for (value, expected) in table {
            assert_eq!(bytes(value), expected);
        }
        assert_eq!(rate(4096, Duration::from_secs(2)), "2.00 KiB/s");
    }

    #[test]
    fn bytes_are_read() {
        let table = [
            ("1", 1),
            ("4096", 4096),
            ("64K", 65_536),
            ("64kib", 65_536),
            ("1m", 1 << 20),
            ("2GiB", 2 << 30),
            ("5b", 5),
        ];
        for (text, expected) in table {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1KB", "1T", "18446744073709551616", "99999999999G", "4 K"] {
            let message = parse_bytes(text).unwrap_err();
            assert_eq!(message, format!("{text:?}: expected bytes such as 4096, 64K, 1M or 2GiB"));
        }
    }
}
