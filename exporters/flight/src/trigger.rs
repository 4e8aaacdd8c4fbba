// SPDX-License-Identifier: Apache-2.0

//! When errors are worth a dump.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::{Category, Dialect, Event, Malformed, Value};

/// So many errors within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    errors: usize,
    within_us: u64,
}

/// The setting: a rate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errors(pub(crate) Option<Rate>);

impl Value for Errors {
    const TYPE: &'static str = "rate";
    const EXPECTED: &'static str =
        "off, or a number of errors from 1 to 65536, a slash and a time such as 1s, 500ms or 2m";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().unwrap_or_default();
        if text == "off" {
            return Ok(Self(None));
        }
        Rate::parse(text).map(|rate| Self(Some(rate))).ok_or(Malformed::of::<Self>())
    }
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (errors, time) = text.split_once('/')?;
        let (number, unit) = time.split_at(time.bytes().take_while(u8::is_ascii_digit).count());
        let unit_us = match unit {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            _ => return None,
        };
        let is_number = errors.bytes().all(|byte| byte.is_ascii_digit());
        let errors = errors.parse().ok().filter(|errors| is_number && (1..=65_536).contains(errors))?;
        let within_us = number.parse::<u64>().ok()?.checked_mul(unit_us).filter(|time| *time > 0)?;
        Some(Self { errors, within_us })
    }
}

/// Watches events go by.
#[derive(Debug)]
pub(crate) struct Trigger {
    rate: Option<Rate>,
    cooldown: Duration,
    /// Times of the last errors, fewer than the rate has.
    times: VecDeque<u64>,
    fired: Option<Instant>,
}

impl Trigger {
    pub(crate) fn new(rate: Option<Rate>, cooldown: Duration) -> Self {
        Self { rate, cooldown, times: VecDeque::new(), fired: None }
    }

    /// Whether there are as many errors now, with this event, as the rate has, and the last time is long enough ago.
    pub(crate) fn sees(&mut self, event: &Event<'_>, now: Instant) -> bool {
        let Some(rate) = self.rate else { return false };
        if event.category() != Some(Category::ERROR) {
            return false;
        }
        let time = event.timestamp_us().unwrap_or_default();
        self.times.push_back(time);
        if self.times.len() < rate.errors {
            return false;
        }
        let first = self.times.pop_front().unwrap_or(time);
        let is_cool = self.fired.is_none_or(|fired| now.duration_since(fired) >= self.cooldown);
        let fires = is_cool && time.saturating_sub(first) <= rate.within_us;
        if fires {
            self.times.clear();
            self.fired = Some(now);
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Kind, Settings};

    use super::*;
    use crate::ERRORS;

    fn parse(text: &str) -> Result<Option<Rate>, String> {
        let found = Settings::from_pairs([(ERRORS.name(), text)]).get(&ERRORS);
        found.map(|found| found.value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn rates_are_read() {
        let rate = |errors, within_us| Ok(Some(Rate { errors, within_us }));
        assert_eq!(parse("off"), Ok(None));
        assert_eq!(parse("10/1s"), rate(10, 1_000_000));
        assert_eq!(parse("1/500ms"), rate(1, 500_000));
        assert_eq!(parse("65536/2m"), rate(65_536, 120_000_000));
        assert_eq!(Settings::empty().get(&ERRORS).unwrap().value.0, rate(10, 1_000_000).unwrap());
        for text in
            ["", "on", "10", "10/", "/1s", "0/1s", "10/0s", "10/1", "10/1h", "+1/1s", "65537/1s", "1/99999999999999m"]
        {
            let expected = format!("{} is {text:?} (environment): expected {}", ERRORS.name(), Errors::EXPECTED);
            assert_eq!(parse(text), Err(expected));
        }
    }

    fn error(time_us: u64) -> Event<'static> {
        Event::new(Kind::ERR_BACKEND, 1).at(time_us)
    }

    #[test]
    fn it_takes_so_many_errors_within_the_time() {
        let now = Instant::now();
        let mut trigger = Trigger::new(parse("3/1s").unwrap(), Duration::ZERO);
        let mut sees = |time_us| trigger.sees(&error(time_us), now);
        // The third is too late, the fourth is not: three of them are within a second.
        assert_eq!([0, 1, 1_000_001, 1_000_001].map(&mut sees), [false, false, false, true]);
        // It begins anew. Times may go back a little.
        assert_eq!([1_000_002, 1_000_001, 1_000_000].map(&mut sees), [false, false, true]);

        let mut one = Trigger::new(parse("1/1s").unwrap(), Duration::ZERO);
        assert!(one.sees(&error(5), now) && one.sees(&error(6), now));
        let named = Event::named(Category::ERROR, "NIXL_ERR_OF_TOMORROW", 1).at(1);
        assert!(one.sees(&named, now));
        for kind in [Kind::TX_BYTES, Kind::XFER_TIME, Kind::TELEMETRY_EVENTS_DROPPED, Kind::from_code(77)] {
            assert!(!one.sees(&Event::new(kind, 1).at(7), now));
        }
        assert!(!one.sees(&Event::backend("agent_err_backend", 1).at(7), now));
        assert!(!Trigger::new(None, Duration::ZERO).sees(&error(1), now));
    }

    #[test]
    fn it_cools_down() {
        let start = Instant::now();
        let mut trigger = Trigger::new(parse("2/1s").unwrap(), Duration::from_secs(60));
        let mut sees = |second: u64| trigger.sees(&error(second * 1_000_000), start + Duration::from_secs(second));
        assert_eq!([0, 0, 1, 1, 59, 59].map(&mut sees), [false, true, false, false, false, false]);
        // Errors that go on while it is hot count as soon as it is not.
        assert_eq!([60, 60, 119, 120, 120].map(&mut sees), [true, false, false, true, false]);
    }
}
