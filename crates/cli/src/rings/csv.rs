// SPDX-License-Identifier: Apache-2.0

//! An event as a row of CSV, quoted as RFC 4180 has it; `docs/event.md` describes it.

use std::io::Write as _;

use nixl_telemetry_event::{Category, Event, Kind, csv_field};

/// The names of the columns.
pub(crate) const HEADER: &str = "timestamp_us,agent,event,category,value,unit";

/// Writes the events of one agent. What is not known stays empty.
#[derive(Debug)]
pub(crate) struct Writer {
    agent: String,
    /// What stands between time and value, for each kind.
    kinds: Vec<String>,
}

impl Writer {
    pub(crate) fn new(agent: &str) -> Self {
        let agent = csv_field(agent);
        let kinds = Kind::ALL.iter().map(|kind| middle(&agent, &Event::new(*kind, 0))).collect();
        Self { agent, kinds }
    }

    /// Appends the row to `out`, without a line's end.
    pub(crate) fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        if let Some(timestamp_us) = event.timestamp_us() {
            let _ = write!(out, "{timestamp_us}");
        }
        let known = event.kind().and_then(|kind| self.kinds.get(usize::try_from(kind.code()).ok()?));
        match known {
            Some(known) => out.extend_from_slice(known.as_bytes()),
            None => out.extend_from_slice(middle(&self.agent, event).as_bytes()),
        }
        let _ = write!(out, "{},", event.value());
        out.extend_from_slice(event.unit().map_or("", |unit| unit.as_str()).as_bytes());
    }
}

fn middle(agent: &str, event: &Event<'_>) -> String {
    let category = event.category().map_or("", Category::short_name);
    format!(",{agent},{},{category},", csv_field(&event.name().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_a_field_for_each_column() {
        let table = [
            (
                "a",
                Event::new(Kind::XFER_TIME, u64::MAX).at(7),
                "7,a,agent_xfer_time,PERFORMANCE,18446744073709551615,microseconds",
            ),
            ("a", Event::new(Kind::TX_BYTES, 0), ",a,agent_tx_bytes,TRANSFER,0,bytes"),
            ("a", Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 3), ",a,agent_telemetry_events_dropped,,3,events"),
            ("a", Event::new(Kind::from_code(77), 3), ",a,unknown_event_77,,3,"),
            ("a,b", Event::backend("say \"x\"\n", 3), ",\"a,b\",\"say \"\"x\"\"\n\",BACKEND,3,"),
        ];
        for (agent, event, expected) in table {
            let mut out = Vec::new();
            Writer::new(agent).write(&event, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
