// SPDX-License-Identifier: Apache-2.0

//! An event as a line for people.

use std::io::Write as _;

use jiff::Timestamp;
use nixl_telemetry_event::{Category, Event, Kind};

use crate::common::human;
use crate::common::terminal::{Stream, Style, paint};
use crate::rings::value;

/// When an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Its writer has recorded it.
    Recorded(u64),
    /// Not later than this, when it was found.
    Found(u64),
    /// Nobody knows.
    Unknown,
}

/// Writes lines whose columns are as wide as what they have held so far.
#[derive(Debug)]
pub(crate) struct Writer {
    time: usize,
    agent: usize,
}

/// As wide as all names of kinds but the longest.
const EVENT: usize = 27;
const VALUE: usize = 10;

impl Writer {
    pub(crate) fn new() -> Self {
        Self { time: 0, agent: 0 }
    }

    /// Appends the line to `out`, without its end.
    pub(crate) fn write(&mut self, agent: &str, event: &Event<'_>, time: Time, out: &mut Vec<u8>) {
        let time = text(time);
        self.time = self.time.max(time.len());
        self.agent = self.agent.max(agent.chars().count());
        let (name, value) = (human::line(&event.name().to_string()), value::text(event.value(), event.unit()));
        let [time_width, agent_width] = [self.time, self.agent];
        // Writing to memory does not fail.
        let _ = write!(out, "{time:>time_width$}  {agent:<agent_width$}  ");
        let what = format!("{name:<EVENT$}  {value:>VALUE$}");
        let what = style(event).map_or_else(|| what.clone(), |style| paint(Stream::Out, style, &what));
        out.extend_from_slice(what.as_bytes());
    }
}

fn style(event: &Event<'_>) -> Option<Style> {
    if event.kind() == Some(Kind::TELEMETRY_EVENTS_DROPPED) {
        Some(Style::Odd)
    } else {
        (event.category() == Some(Category::ERROR)).then_some(Style::Bad)
    }
}

fn text(time: Time) -> String {
    match time {
        Time::Recorded(us) => moment(us),
        Time::Found(us) => format!("~{}", moment(us)),
        Time::Unknown => "-".to_owned(),
    }
}

/// A moment to the microsecond; a number that is none, as a number.
fn moment(us: u64) -> String {
    let timestamp = i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    timestamp.map_or_else(|| format!("{us} us"), |timestamp| format!("{timestamp:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_with_what_they_hold() {
        let mut writer = Writer::new();
        let mut line = |agent, event, time| {
            let mut out = Vec::new();
            writer.write(agent, &event, time, &mut out);
            String::from_utf8(out).unwrap()
        };
        let bytes = Event::new(Kind::TX_BYTES, 4096);
        assert_eq!(line("a", bytes, Time::Unknown), "-  a  agent_tx_bytes                 4.00 KiB");
        assert_eq!(
            line("prefill", bytes, Time::Recorded(1_764_000_000_000_001)),
            "2025-11-24T16:00:00.000001Z  prefill  agent_tx_bytes                 4.00 KiB"
        );
        assert_eq!(
            line("a", Event::new(Kind::ERR_NOT_FOUND, 1), Time::Found(1_764_000_000_000_000)),
            "~2025-11-24T16:00:00.000000Z  a        agent_err_not_found                   1"
        );
        assert_eq!(
            line("a", Event::backend("x\x1b[2J", 1234), Time::Unknown),
            "                           -  a        x [2J                             1,234"
        );
    }

    #[test]
    fn a_number_that_is_no_moment_stays_a_number() {
        assert_eq!(text(Time::Recorded(u64::MAX)), "18446744073709551615 us");
        assert_eq!(text(Time::Recorded(0)), "1970-01-01T00:00:00.000000Z");
    }
}
