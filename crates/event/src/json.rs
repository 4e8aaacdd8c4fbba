// SPDX-License-Identifier: Apache-2.0

//! The JSON form of an event: one object, `docs/event.md` describes it.
//!
//! ```
//! use nixl_telemetry_event::{Event, Kind, json::Writer};
//!
//! let mut lines = Vec::new();
//! Writer::new("decode-1").write(&Event::new(Kind::TX_BYTES, 4096).at(1_764_000_000_000_000), &mut lines);
//! assert_eq!(
//!     String::from_utf8(lines).unwrap(),
//!     r#"{"timestamp_us":1764000000000000,"agent":"decode-1","event":"agent_tx_bytes","category":"TRANSFER","value":4096,"unit":"bytes"}"#
//! );
//! ```

use crate::{Category, Event, Kind};

/// Writes the events of one agent, in this order: `timestamp_us`, `agent`, `event`, `category`, `value`, `unit`. What is not
/// known is left out.
///
/// All values are integers to the last digit; a reader that takes numbers for doubles rounds those above 2^53.
#[derive(Clone, Debug)]
pub struct Writer {
    /// `"agent":"…","event":` and what follows up to the value, for each kind.
    kinds: Vec<Tail>,
    /// `"agent":"…",`
    agent: Vec<u8>,
}

/// What stands around the value of an event of one kind.
#[derive(Clone, Debug)]
struct Tail {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Writer {
    /// A writer for the events of `agent`.
    pub fn new(agent: &str) -> Self {
        let mut start = b"\"agent\":\"".to_vec();
        escape(agent, &mut start);
        start.extend_from_slice(b"\",");
        let kinds = Kind::ALL.map(|kind| Tail::new(&start, &Event::new(kind, 0))).into();
        Self { kinds, agent: start }
    }

    /// Appends the object to `out`, without a line's end.
    pub fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(timestamp_us) = event.timestamp_us() {
            out.extend_from_slice(b"\"timestamp_us\":");
            decimal(timestamp_us, out);
            out.push(b',');
        }
        let known = event.kind().and_then(|kind| self.kinds.get(usize::try_from(kind.code()).ok()?));
        let other;
        let tail = match known {
            Some(tail) => tail,
            None => {
                other = Tail::new(&self.agent, event);
                &other
            }
        };
        out.extend_from_slice(&tail.before);
        decimal(event.value(), out);
        out.extend_from_slice(&tail.after);
    }
}

impl Tail {
    fn new(agent: &[u8], event: &Event<'_>) -> Self {
        let mut before = agent.to_vec();
        before.extend_from_slice(b"\"event\":\"");
        escape(&event.name().to_string(), &mut before);
        before.push(b'"');
        if let Some(category) = event.category().map(Category::short_name) {
            before.extend_from_slice(format!(",\"category\":\"{category}\"").as_bytes());
        }
        before.extend_from_slice(b",\"value\":");
        let after = match event.unit() {
            Some(unit) => format!(",\"unit\":\"{unit}\"}}").into_bytes(),
            None => b"}".to_vec(),
        };
        Self { before, after }
    }
}

/// Appends `text` as the inside of a JSON string.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
}

/// Appends a number in decimal digits.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(agent: &str, event: &Event<'_>) -> String {
        let mut out = Vec::new();
        Writer::new(agent).write(event, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let table = [
            (
                Event::new(Kind::XFER_TIME, u64::MAX).at(0),
                r#"{"timestamp_us":0,"agent":"a","event":"agent_xfer_time","category":"PERFORMANCE","value":18446744073709551615,"unit":"microseconds"}"#,
            ),
            (
                Event::new(Kind::ERR_NOT_FOUND, 1),
                r#"{"agent":"a","event":"agent_err_not_found","category":"ERROR","value":1,"unit":"errors"}"#,
            ),
            (
                Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 10),
                r#"{"agent":"a","event":"agent_telemetry_events_dropped","value":10,"unit":"events"}"#,
            ),
            (Event::new(Kind::from_code(77), 5), r#"{"agent":"a","event":"unknown_event_77","value":5}"#),
            (Event::backend("ucx_rndv", 5), r#"{"agent":"a","event":"ucx_rndv","category":"BACKEND","value":5}"#),
        ];
        for (event, expected) in table {
            assert_eq!(json("a", &event), expected);
        }
    }

    #[test]
    fn strings_are_escaped() {
        let event = Event::backend("a\"b\\c\n\u{1}é", 0);
        assert_eq!(
            json("\t\u{7f}", &event),
            r#"{"agent":"\t\u007f","event":"a\"b\\c\n\u0001é","category":"BACKEND","value":0}"#
        );
    }
}
