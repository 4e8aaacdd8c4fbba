// SPDX-License-Identifier: Apache-2.0

//! Numbers short enough for a column.

use std::time::Duration;

use nixl_telemetry_ring::Lost;

/// A number of anything to three digits, six characters at most: `0`, `12.5`, `1234`, `12.3k`, `1.23M`.
pub(crate) fn short(number: f64) -> String {
    match number {
        // What is there is not nothing.
        _ if number > 0.0 && number < 0.1 => "<0.1".to_owned(),
        _ if number.fract() != 0.0 && number < 99.95 => format!("{number:.1}"),
        _ if number < 9999.5 => format!("{number:.0}"),
        _ => scaled(number, 1e3, &["k", "M", "G", "T", "P", "E"]),
    }
}

/// A time given in microseconds, six characters at most up to 999 hours: `0µs`, `999µs`, `1.23ms`, `45.6s`, `12.3m`.
pub(crate) fn time(us: u64) -> String {
    let us_f = us as f64;
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => with_digits(us_f / 1e3, "ms"),
        1_000_000..600_000_000 => with_digits(us_f / 1e6, "s"),
        600_000_000..36_000_000_000 => with_digits(us_f / 60e6, "m"),
        _ => with_digits(us_f / 3600e6, "h"),
    }
}

/// How many events are lost, with a `+` if it may be more.
pub(crate) fn lost(lost: Lost) -> String {
    format!("{}{}", short(lost.events as f64), if lost.or_more { "+" } else { "" })
}

/// How long ago something was: `0 s`, `59 s`, `12 min`, `3 h`.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Values as bars of one character each, the largest of `scale` as the highest; what is not nothing is seen.
pub(crate) fn sparkline(values: &[u64], scale: u64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: u64| {
        let eighths = (u128::from(value) * 8).div_ceil(u128::from(scale.max(1)));
        let height = usize::try_from(eighths).unwrap_or(BARS.len()).min(BARS.len());
        height.checked_sub(1).map_or(' ', |index| BARS[index])
    };
    values.iter().map(|value| bar(*value)).collect()
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut value = number;
    for (i, unit) in units.iter().enumerate() {
        value /= step;
        if value < 999.5 || i + 1 == units.len() {
            return with_digits(value, unit);
        }
    }
    unreachable!("the last unit takes what is left")
}

/// Three digits, and more in front of the point if there must be.
fn with_digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let table = [
            (0.0, "0"),
            (0.04, "<0.1"),
            (0.25, "0.2"),
            (7.0, "7"),
            (12.54, "12.5"),
            (99.96, "100"),
            (9999.4, "9999"),
            (9999.6, "10.0k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
            (1_234_567.0, "1.23M"),
            (1e12, "1.00T"),
            (u64::MAX as f64, "18.4E"),
        ];
        for (number, expected) in table {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn times_are_short() {
        let table = [
            (0, "0µs"),
            (999, "999µs"),
            (1000, "1.00ms"),
            (12_345, "12.3ms"),
            (999_400, "999ms"),
            (1_234_567, "1.23s"),
            (599_000_000, "599s"),
            (750_000_000, "12.5m"),
            (36_000_000_000, "10.0h"),
            (86_400_000_000, "24.0h"),
        ];
        for (us, expected) in table {
            assert_eq!(time(us), expected);
            assert!(time(us).chars().count() <= 6);
        }
        assert_eq!(lost(Lost { events: 12_345, or_more: false }), "12.3k");
        assert_eq!(lost(Lost { events: 7, or_more: true }), "7+");
        let table = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h")];
        for (seconds, expected) in table {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_highest_bar_is_the_largest_value() {
        assert_eq!(sparkline(&[0, 1, 50, 99, 100], 100), " ▁▄██");
        assert_eq!(sparkline(&[0, 0], 0), "  ");
        assert_eq!(sparkline(&[u64::MAX], u64::MAX), "█");
        assert_eq!(sparkline(&[u64::MAX, 7], 3), "██");
        assert_eq!(sparkline(&[], 3), "");
    }
}
