// SPDX-License-Identifier: Apache-2.0

//! What messages hold: the events of one, as lines of JSON or in MessagePack.

use std::fmt::Display;

use nixl_telemetry_event::{Category, Kind, json::Writer};
use nixl_telemetry_sdk::{Agent, Event};
use rmp::encode;

use crate::settings::Format;

/// The payload of one message after another, of one agent.
pub(crate) struct Payload {
    form: Form,
    head: Vec<u8>,
    body: Vec<u8>,
    len: u64,
}

enum Form {
    Lines(Writer),
    Pack(Pack),
}

/// What a message in MessagePack says once of all its events.
struct Pack {
    /// `agent`, `hostname`, `pid` and `origin` of the map.
    source: Vec<u8>,
    /// Names with what belongs to them, as the message lists them, and how many there are.
    names: Vec<u8>,
    count: u32,
    /// Where in that list a kind is.
    kinds: [Option<u32>; Kind::ALL.len()],
    /// The same of those that have a name only, or a number that is not known.
    others: Vec<(String, Option<Category>, u32)>,
}

impl Payload {
    pub(crate) fn new(format: Format, agent: &Agent, origin: impl Display) -> Self {
        let form = match format {
            Format::JsonLines => Form::Lines(Writer::new(agent.name())),
            Format::MessagePack => Form::Pack(Pack::new(agent, origin)),
        };
        Self { form, head: Vec::new(), body: Vec::new(), len: 0 }
    }

    /// What its messages are, for their header `Content-Type`.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.form {
            Form::Lines(_) => "application/jsonl",
            Form::Pack(_) => "application/vnd.msgpack",
        }
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// About how many bytes it is, not more than there will be.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.body.clear();
        if let Form::Pack(pack) = &mut self.form {
            pack.clear();
        }
    }

    pub(crate) fn push(&mut self, event: &Event<'_>) {
        self.len += 1;
        match &mut self.form {
            Form::Lines(writer) => {
                writer.write(event, &mut self.body);
                self.body.push(b'\n');
            }
            Form::Pack(pack) => pack.push(event, &mut self.body),
        }
    }

    /// All of it, in two parts; the first event has this number.
    pub(crate) fn finish(&mut self, first: u64) -> [&[u8]; 2] {
        self.head.clear();
        if let Form::Pack(pack) = &self.form {
            pack.write_head(first, self.len, &mut self.head);
        }
        [&self.head, &self.body]
    }
}

// What is written to memory fails never.
const MEMORY: &str = "memory takes what is written to it";

impl Pack {
    fn new(agent: &Agent, origin: impl Display) -> Self {
        let mut source = Vec::new();
        let mut text = |text: &str| encode::write_str(&mut source, text).expect(MEMORY);
        text("agent");
        text(agent.name());
        text("hostname");
        text(agent.hostname());
        text("origin");
        text(&origin.to_string());
        text("pid");
        encode::write_uint(&mut source, agent.pid().into()).expect(MEMORY);
        Self { source, names: Vec::new(), count: 0, kinds: [None; _], others: Vec::new() }
    }

    fn clear(&mut self) {
        self.names.clear();
        self.count = 0;
        self.kinds = [None; _];
        self.others.clear();
    }

    fn push(&mut self, event: &Event<'_>, rows: &mut Vec<u8>) {
        let place = self.place(event);
        encode::write_array_len(rows, 3).expect(MEMORY);
        match event.timestamp_us() {
            Some(timestamp_us) => {
                encode::write_uint(rows, timestamp_us).expect(MEMORY);
            }
            None => encode::write_nil(rows).expect(MEMORY),
        }
        encode::write_uint(rows, place.into()).expect(MEMORY);
        encode::write_uint(rows, event.value()).expect(MEMORY);
    }

    /// Where in the list of names this event's is; adds it if it is new.
    fn place(&mut self, event: &Event<'_>) -> u32 {
        let known = event.kind().and_then(|kind| usize::try_from(kind.code()).ok()).filter(|at| *at < self.kinds.len());
        if let Some(place) = known.and_then(|at| self.kinds[at]) {
            return place;
        }
        let (name, category) = (event.name().to_string(), event.category());
        if known.is_none()
            && let Some((.., place)) = self.others.iter().find(|(text, of, _)| (text, *of) == (&name, category))
        {
            return *place;
        }
        encode::write_array_len(&mut self.names, 3).expect(MEMORY);
        encode::write_str(&mut self.names, &name).expect(MEMORY);
        for word in [category.map(Category::short_name), event.unit().map(|unit| unit.as_str())] {
            match word {
                Some(word) => encode::write_str(&mut self.names, word).expect(MEMORY),
                None => encode::write_nil(&mut self.names).expect(MEMORY),
            }
        }
        let place = self.count;
        match known {
            Some(at) => self.kinds[at] = Some(place),
            None => self.others.push((name, category, place)),
        }
        self.count += 1;
        place
    }

    fn write_head(&self, first: u64, len: u64, out: &mut Vec<u8>) {
        encode::write_map_len(out, 7).expect(MEMORY);
        out.extend_from_slice(&self.source);
        encode::write_str(out, "sequence").expect(MEMORY);
        encode::write_uint(out, first).expect(MEMORY);
        encode::write_str(out, "events").expect(MEMORY);
        encode::write_array_len(out, self.count).expect(MEMORY);
        out.extend_from_slice(&self.names);
        encode::write_str(out, "rows").expect(MEMORY);
        encode::write_array_len(out, u32::try_from(len).expect("a message has no more events than MESSAGE_SIZE"))
            .expect(MEMORY);
    }
}
