// SPDX-License-Identifier: Apache-2.0

//! How rows are made.
//!
//! Of a row only the timestamp and the value vary; everything else is known once the kind is. So each kind has its row
//! prepared as the texts between the two, and encoding one is copying those and printing a number.

use nixl_telemetry_sdk::{Agent, Batch, Event, Kind, Name};

use crate::columns::{Column, Columns};

/// Turns batches into lines.
pub(crate) struct Rows {
    columns: Columns,
    agent_name: String,
    hostname: String,
    pid: u32,
    /// Prepared rows by the number of the kind.
    prepared: Vec<Row>,
    text: Vec<u8>,
}

/// A row with two holes, or fewer: texts, and what stands behind each.
struct Row(Vec<(Vec<u8>, Hole)>);

#[derive(Clone, Copy)]
enum Hole {
    Timestamp,
    Value,
    LineEnd,
}

impl Rows {
    pub(crate) fn new(columns: &Columns, agent: &Agent) -> Self {
        let mut rows = Self {
            columns: columns.clone(),
            agent_name: quoted(agent.name()),
            hostname: quoted(agent.hostname()),
            pid: agent.pid(),
            prepared: Vec::new(),
            text: Vec::new(),
        };
        rows.prepared = Kind::ALL.into_iter().map(|kind| rows.prepare(&Event::new(kind, 0))).collect();
        rows
    }

    /// The first line of a file, its end included.
    pub(crate) fn header(&self) -> String {
        let names: Vec<_> = self.columns.0.iter().map(|column| column.name()).collect();
        names.join(",") + "\n"
    }

    /// The lines of a batch.
    pub(crate) fn encode(&mut self, batch: &Batch<'_>) -> &[u8] {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // On most hosts all events of a batch share its timestamp: it is printed once.
        let mut timestamp = Decimal::new(batch.timestamp_us());
        for event in batch.iter() {
            let row = event.kind().and_then(|kind| self.prepared.get(kind.code() as usize));
            match row {
                Some(row) => row.encode(&event, &mut timestamp, &mut text),
                None => self.prepare(&event).encode(&event, &mut timestamp, &mut text),
            }
        }
        self.text = text;
        &self.text
    }

    fn prepare(&self, event: &Event<'_>) -> Row {
        let mut pieces = Vec::new();
        let mut text = String::new();
        for (index, column) in self.columns.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match column {
                Column::TimestampUs => pieces.push((std::mem::take(&mut text).into_bytes(), Hole::Timestamp)),
                Column::Value => pieces.push((std::mem::take(&mut text).into_bytes(), Hole::Value)),
                Column::Category => text.extend(event.category().map(|category| category.code().to_string())),
                Column::CategoryName => text.extend(event.category().map(|category| category.short_name())),
                Column::EventName => match event.name() {
                    Name::Text(name) => text.push_str(&quoted(name)),
                    unknown => text.push_str(&unknown.to_string()),
                },
                Column::Unit => text.extend(event.unit().map(|unit| unit.as_str())),
                Column::AgentName => text.push_str(&self.agent_name),
                Column::Hostname => text.push_str(&self.hostname),
                Column::Pid => text.push_str(&self.pid.to_string()),
            }
        }
        text.push('\n');
        pieces.push((text.into_bytes(), Hole::LineEnd));
        Row(pieces)
    }
}

impl Row {
    #[inline]
    fn encode(&self, event: &Event<'_>, timestamp: &mut Decimal, out: &mut Vec<u8>) {
        for (text, hole) in &self.0 {
            out.extend_from_slice(text);
            match hole {
                Hole::Timestamp => out.extend_from_slice(timestamp.print(event.timestamp_us().unwrap_or_default())),
                Hole::Value => out.extend_from_slice(itoa::Buffer::new().format(event.value()).as_bytes()),
                Hole::LineEnd => {}
            }
        }
    }
}

/// A printed number that is often the same as the last time.
struct Decimal {
    value: u64,
    digits: [u8; 20],
    len: usize,
}

impl Decimal {
    fn new(value: u64) -> Self {
        let mut digits = [0; 20];
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value).as_bytes();
        digits[..text.len()].copy_from_slice(text);
        Self { value, digits, len: text.len() }
    }

    #[inline]
    fn print(&mut self, value: u64) -> &[u8] {
        if value != self.value {
            *self = Self::new(value);
        }
        &self.digits[..self.len]
    }
}

/// A field as RFC 4180 wants it: in quotes if it holds a comma, a quote or a line break, quotes inside doubled.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, sync::Mutex};

    use nixl_telemetry_sdk::{Category, Dialect, Error, Exporter, Settings, Value as _, testing::TestHost};

    use super::*;

    /// Encodes what it gets, for the tests of encoding alone.
    struct Encoder;

    static COLUMNS: Mutex<&str> = Mutex::new("");
    static TEXT: Mutex<String> = Mutex::new(String::new());

    impl Exporter for Encoder {
        fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
            Ok(Self)
        }

        fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
            let columns = Columns::from_env(OsStr::new(*COLUMNS.lock().unwrap()), Dialect::Current);
            let mut rows = Rows::new(&columns.expect("the test names columns"), batch.agent());
            let mut text = rows.header();
            text.push_str(str::from_utf8(rows.encode(batch))?);
            *TEXT.lock().unwrap() = text;
            Ok(())
        }
    }

    fn encode(columns: &'static str, agent: &str, events: &[Event<'_>]) -> String {
        *COLUMNS.lock().unwrap() = columns;
        let mut host = TestHost::<Encoder>::open(agent, &Settings::empty()).unwrap();
        host.export(events);
        assert_eq!(host.close().exported, events.len() as u64);
        std::mem::take(&mut TEXT.lock().unwrap())
    }

    #[test]
    fn rows_of_every_sort_of_event() {
        let events = [
            Event::new(Kind::TX_BYTES, 65536).at(1_764_000_000_000_042),
            Event::new(Kind::XFER_TIME, 0).at(1_764_000_000_000_042),
            Event::new(Kind::ERR_NOT_FOUND, 1).at(1_764_000_000_000_043),
            Event::new(Kind::TELEMETRY_EVENTS_DROPPED, u64::MAX).at(7),
            Event::new(Kind::from_code(99), 5).at(7),
            Event::backend("ucx,\"a\"\nb", 6).at(7),
            Event::named(Category::CUSTOM, "mine", 8).at(9),
        ];
        let text = encode("timestamp_us,category,event_name,value", "a", &events);
        let expected = "\
timestamp_us,category,event_name,value
1764000000000042,1,agent_tx_bytes,65536
1764000000000042,5,agent_xfer_time,0
1764000000000043,4,agent_err_not_found,1
7,,agent_telemetry_events_dropped,18446744073709551615
7,,unknown_event_99,5
7,3,\"ucx,\"\"a\"\"\nb\",6
9,7,mine,8
";
        assert_eq!(text, expected);

        let agent = Agent::new("it");
        let (hostname, pid) = (agent.hostname(), agent.pid());
        let text = encode("value,unit,category_name,agent_name,hostname,pid,event_name", "my \"agent\"", &events[..1]);
        let expected = format!(
            "value,unit,category_name,agent_name,hostname,pid,event_name\n\
             65536,bytes,TRANSFER,\"my \"\"agent\"\"\",{hostname},{pid},agent_tx_bytes\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("a b;c", "a b;c"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\r", "\"a\r\""),
            ("a\nb", "\"a\nb\""),
        ];
        for (field, expected) in table {
            assert_eq!(quoted(field), expected);
        }
    }
}
