// SPDX-License-Identifier: Apache-2.0

//! Values for people.

use nixl_telemetry_event::Unit;

use crate::common::human;

/// A value in its unit: `4.00 KiB`, `1.97 ms`, `1,234`.
pub(crate) fn text(value: u64, unit: Option<Unit>) -> String {
    match unit {
        Some(Unit::Bytes | Unit::Microseconds) => rounded(value as f64, unit),
        Some(Unit::Requests | Unit::Errors | Unit::Events) | None => human::count(value),
    }
}

/// The same of a mean or a large sum.
pub(crate) fn rounded(value: f64, unit: Option<Unit>) -> String {
    match unit {
        Some(Unit::Bytes) => human::bytes(value),
        Some(Unit::Microseconds) => duration(value),
        Some(Unit::Requests | Unit::Errors | Unit::Events) | None if value < 100.0 => format!("{value:.1}"),
        Some(Unit::Requests | Unit::Errors | Unit::Events) | None => format!("{value:.0}"),
    }
}

/// A time to three digits, in the largest unit of which there is one.
fn duration(us: f64) -> String {
    const UNITS: [(f64, &str); 6] =
        [(86_400e6, "d"), (3600e6, "h"), (60e6, "min"), (1e6, "s"), (1e3, "ms"), (1.0, "us")];
    let (factor, unit) = UNITS.into_iter().find(|(factor, _)| us >= *factor).unwrap_or((1.0, "us"));
    let value = us / factor;
    let is_whole = unit == "us" && value.fract() == 0.0;
    format!("{} {unit}", if is_whole { format!("{value:.0}") } else { human::three_digits(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_for_people() {
        let table = [
            (4096, Some(Unit::Bytes), "4.00 KiB"),
            (0, Some(Unit::Microseconds), "0 us"),
            (999, Some(Unit::Microseconds), "999 us"),
            (1970, Some(Unit::Microseconds), "1.97 ms"),
            (12_345_678, Some(Unit::Microseconds), "12.3 s"),
            (90_000_000, Some(Unit::Microseconds), "1.50 min"),
            (7_200_000_000, Some(Unit::Microseconds), "2.00 h"),
            (864_000_000_000, Some(Unit::Microseconds), "10.0 d"),
            (1, Some(Unit::Requests), "1"),
            (1_234_567, None, "1,234,567"),
            (u64::MAX, Some(Unit::Events), "18,446,744,073,709,551,615"),
        ];
        for (value, unit, expected) in table {
            assert_eq!(text(value, unit), expected);
        }
    }

    #[test]
    fn means_are_rounded() {
        let table = [
            (1.0, Some(Unit::Requests), "1.0"),
            (1234.4, None, "1234"),
            (1.25, Some(Unit::Microseconds), "1.25 us"),
            (33.333, Some(Unit::Microseconds), "33.3 us"),
            (1536.0, Some(Unit::Bytes), "1.50 KiB"),
        ];
        for (value, unit, expected) in table {
            assert_eq!(rounded(value, unit), expected);
        }
    }
}
