// SPDX-License-Identifier: Apache-2.0

//! From when on events are wanted.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A moment, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(u64);

impl Since {
    /// Whether an event of this time is wanted.
    pub(crate) fn includes(self, timestamp_us: u64) -> bool {
        timestamp_us >= self.0
    }
}

/// Reads a moment, or a time before now.
pub(crate) fn parse(text: &str) -> Result<Since, String> {
    parse_at(text, Timestamp::now())
}

fn parse_at(text: &str, now: Timestamp) -> Result<Since, String> {
    let moment = ago(text).map(|ago| now - ago).or_else(|| text.parse().ok()).or_else(|| {
        let utc: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(utc).ok()
    });
    let moment = moment.ok_or_else(|| {
        format!(
            "{text:?}: expected 90s, 10m, 2h or 1d ago, or a moment such as 2026-11-26T05:34:28Z or 2026-11-26 05:34"
        )
    })?;
    Ok(Since(u64::try_from(moment.as_microsecond()).unwrap_or(0)))
}

/// `90s`, `10m`, `2h`, `1d`; not more than the thousand years that surely fit before now.
fn ago(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    let seconds = i64::from(number) * seconds;
    (seconds < 1000 * 365 * 86_400).then(|| SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let now = Timestamp::from_second(1_764_000_000).unwrap();
        let table = [
            ("0s", 1_764_000_000_000_000),
            ("90s", 1_763_999_910_000_000),
            ("10m", 1_763_999_400_000_000),
            ("2h", 1_763_992_800_000_000),
            ("1d", 1_763_913_600_000_000),
            ("30000d", 0),
            ("1970-01-01", 0),
            ("1969-12-31", 0),
            ("2025-11-24", 1_763_942_400_000_000),
            ("2025-11-24 16:00", 1_764_000_000_000_000),
            ("2025-11-24 16:00:01", 1_764_000_001_000_000),
            ("2025-11-24T16:00:01.5", 1_764_000_001_500_000),
            ("2025-11-24T16:00:00Z", 1_764_000_000_000_000),
            ("2025-11-24T17:30:00.000001+01:30", 1_764_000_000_000_001),
        ];
        for (text, expected) in table {
            assert_eq!(parse_at(text, now), Ok(Since(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_said_with_what_was_expected() {
        for text in ["", "10", "m", "-1m", "1.5h", "10w", "5000000000s", "40000000d", "é", "2025-13-01", "16:00", "now"]
        {
            let message = parse_at(text, Timestamp::now()).unwrap_err();
            assert!(message.starts_with(&format!("{text:?}: expected 90s, 10m, 2h or 1d ago")), "{message}");
        }
    }

    #[test]
    fn the_moment_itself_is_wanted() {
        let table = [(6, false), (7, true), (8, true)];
        for (timestamp_us, expected) in table {
            assert_eq!(Since(7).includes(timestamp_us), expected, "{timestamp_us}");
        }
    }
}
