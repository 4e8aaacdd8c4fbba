// SPDX-License-Identifier: Apache-2.0

//! How rows are made.
//!
//! Of a row only the timestamp and the value vary; everything else is known once the kind is. So each kind has its row
//! prepared as the texts between the two, and encoding one is copying those and printing a number. Texts are copied in
//! chunks of a fixed size, of which the next text overwrites what is too much: a copy whose size the compiler knows is
//! a few instructions, and one it does not know is a call (of which one a row remains, for the value).

use nixl_telemetry_appender::{self as appender, Form, Format};
use nixl_telemetry_sdk::{Agent, Batch, Category, Event, Kind, Name, csv_field};

use crate::columns::{Column, Columns};

impl Format for Columns {
    type Lines = Rows;

    fn lines(&self, agent: &Agent) -> Rows {
        Rows::new(self, agent)
    }

    fn form(&self) -> Form {
        Form::rows(header(self), "NIXL_TELEMETRY_CSV_COLUMNS chooses the columns")
    }
}

/// Turns the batches of one agent into rows.
pub(crate) struct Rows {
    columns: Columns,
    agent_name: String,
    hostname: String,
    pid: u32,
    /// Prepared rows by the number of the kind.
    prepared: Vec<Row>,
    /// Prepared rows of events that have only a name.
    named: Vec<(Category, String, Row)>,
    /// The longest prepared row there can be.
    longest: usize,
    lines: Lines,
}

/// A row with holes in it.
struct Row(Vec<Piece>);

/// A piece of text and what follows it.
struct Piece {
    text: [u8; CHUNK],
    len: usize,
    then: Hole,
}

#[derive(Clone, Copy)]
enum Hole {
    Timestamp,
    Value,
    Nothing,
}

/// Bytes of a text that are copied at once. The longest in the default columns has 33.
const CHUNK: usize = 48;
/// The most digits of a number.
const DIGITS: usize = 20;

impl Rows {
    pub(crate) fn new(columns: &Columns, agent: &Agent) -> Self {
        let mut rows = Self {
            columns: columns.clone(),
            agent_name: csv_field(agent.name()),
            hostname: csv_field(agent.hostname()),
            pid: agent.pid(),
            prepared: Vec::new(),
            named: Vec::new(),
            longest: 0,
            lines: Lines::default(),
        };
        rows.prepared = Kind::ALL.into_iter().map(|kind| rows.prepare(&Event::new(kind, 0))).collect();
        rows.longest = rows.prepared.iter().map(Row::room).max().unwrap_or_default();
        rows
    }

    /// The row of an event that is in no table: a backend's, of which there are a handful, or one of an unknown kind.
    #[cold]
    fn prepare_other(&mut self, event: &Event<'_>) -> &Row {
        const REMEMBERED: usize = 64;
        let category = event.category().unwrap_or(Category::BACKEND);
        let name = match event.name() {
            Name::Text(name) => name.to_owned(),
            unknown => unknown.to_string(),
        };
        let known = self.named.iter().position(|(c, n, _)| *c == category && *n == name);
        let index = known.unwrap_or_else(|| {
            if self.named.len() == REMEMBERED {
                self.named.clear();
            }
            self.named.push((category, name, self.prepare(event)));
            self.named.len() - 1
        });
        &self.named[index].2
    }

    fn prepare(&self, event: &Event<'_>) -> Row {
        let mut row = Row(Vec::new());
        let mut text = String::new();
        for (index, column) in self.columns.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match column {
                Column::TimestampUs => row.push(&std::mem::take(&mut text), Hole::Timestamp),
                Column::Value => row.push(&std::mem::take(&mut text), Hole::Value),
                Column::Category => text.extend(event.category().map(|category| category.code().to_string())),
                Column::CategoryName => text.extend(event.category().map(|category| category.short_name())),
                Column::EventName => match event.name() {
                    Name::Text(name) => text.push_str(&csv_field(name)),
                    unknown => text.push_str(&unknown.to_string()),
                },
                Column::Unit => text.extend(event.unit().map(|unit| unit.as_str())),
                Column::AgentName => text.push_str(&self.agent_name),
                Column::Hostname => text.push_str(&self.hostname),
                Column::Pid => text.push_str(&self.pid.to_string()),
            }
        }
        text.push('\n');
        row.push(&text, Hole::Nothing);
        row
    }
}

impl appender::Lines for Rows {
    fn encode(&mut self, batch: &Batch<'_>) -> &[u8] {
        let mut lines = std::mem::take(&mut self.lines);
        lines.start(batch.len() * self.longest + CHUNK);
        // On most hosts all events of a batch share its timestamp: it is printed once.
        let mut timestamp = Decimal::new(batch.timestamp_us());
        for event in batch.iter() {
            match event.kind().and_then(|kind| self.prepared.get(kind.code() as usize)) {
                Some(row) => row.encode(&event, &mut timestamp, &mut lines),
                None => {
                    let rest = batch.len() * self.longest + CHUNK;
                    let row = self.prepare_other(&event);
                    lines.make_room(row.room() + rest);
                    row.encode(&event, &mut timestamp, &mut lines);
                }
            }
        }
        self.lines = lines;
        self.lines.as_bytes()
    }
}

/// The first line of a file, its end included.
fn header(columns: &Columns) -> String {
    let names: Vec<_> = columns.0.iter().map(|column| column.name()).collect();
    names.join(",") + "\n"
}

impl Row {
    fn push(&mut self, text: &str, then: Hole) {
        let mut chunks = text.as_bytes().chunks(CHUNK).peekable();
        if chunks.peek().is_none() {
            self.0.push(Piece { text: [0; CHUNK], len: 0, then });
        }
        while let Some(chunk) = chunks.next() {
            let mut text = [0; CHUNK];
            text[..chunk.len()].copy_from_slice(chunk);
            let then = if chunks.peek().is_none() { then } else { Hole::Nothing };
            self.0.push(Piece { text, len: chunk.len(), then });
        }
    }

    /// Bytes it takes at most; what is copied too much exceeds them by less than a chunk.
    fn room(&self) -> usize {
        let room = |piece: &Piece| piece.len + if matches!(piece.then, Hole::Nothing) { 0 } else { DIGITS };
        self.0.iter().map(room).sum()
    }

    #[inline]
    fn encode(&self, event: &Event<'_>, timestamp: &mut Decimal, lines: &mut Lines) {
        for Piece { text, len, then } in &self.0 {
            lines.put(text, *len);
            match then {
                Hole::Timestamp => {
                    let (digits, len) = timestamp.print(event.timestamp_us().unwrap_or_default());
                    lines.put(digits, len);
                }
                Hole::Value => lines.put_number(event.value()),
                Hole::Nothing => {}
            }
        }
    }
}

/// Text under way, in room that was made before.
#[derive(Default)]
struct Lines {
    room: Vec<u8>,
    len: usize,
}

impl Lines {
    fn start(&mut self, room: usize) {
        self.len = 0;
        self.make_room(room);
    }

    fn make_room(&mut self, more: usize) {
        if self.room.len() < self.len + more {
            self.room.resize(self.len + more, 0);
        }
    }

    /// Appends the first `len` bytes of a chunk.
    #[inline]
    fn put<const N: usize>(&mut self, chunk: &[u8; N], len: usize) {
        self.room[self.len..self.len + N].copy_from_slice(chunk);
        self.len += len;
    }

    #[inline]
    fn put_number(&mut self, value: u64) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        self.room[self.len..self.len + digits.len()].copy_from_slice(digits);
        self.len += digits.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

/// A printed number that is often the same as the last time.
struct Decimal {
    value: u64,
    digits: [u8; DIGITS],
    len: usize,
}

impl Decimal {
    fn new(value: u64) -> Self {
        let mut digits = [0; DIGITS];
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value).as_bytes();
        digits[..text.len()].copy_from_slice(text);
        Self { value, digits, len: text.len() }
    }

    #[inline]
    fn print(&mut self, value: u64) -> (&[u8; DIGITS], usize) {
        if value != self.value {
            *self = Self::new(value);
        }
        (&self.digits, self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, sync::Mutex};

    use nixl_telemetry_appender::Lines as _;
    use nixl_telemetry_sdk::{Dialect, Error, Exporter, Settings, Value as _, testing::TestHost};

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
            let columns = columns.expect("the test names columns");
            let mut rows = columns.lines(batch.agent());
            let mut text = header(&columns);
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
}
