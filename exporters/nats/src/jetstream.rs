// SPDX-License-Identifier: Apache-2.0

//! What there is to ask of JetStream: a stream for a subject, what of an origin is in it, and whether a message was stored.

use std::ops::Range;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::connection::{Connection, Reply};
use crate::error::Error;
use crate::protocol::Headers;
use crate::settings::JetStream;
use crate::subject::matches;

/// Message ids are remembered for so long, by a stream that is made here: what JetStream does by default.
const DUPLICATE_WINDOW_NS: u64 = 120_000_000_000;

pub(crate) const ORIGIN: &str = "Nixl-Origin";
pub(crate) const SEQUENCE: &str = "Nixl-Sequence";
pub(crate) const COUNT: &str = "Nixl-Count";
/// All events of the origin with lower numbers are in the stream.
pub(crate) const SETTLED: &str = "Nixl-Settled";
/// The number of a message in the stream, before all messages of the origin that hold other events.
pub(crate) const AFTER: &str = "Nixl-After";

const STREAM_NOT_FOUND: u64 = 10059;
const NO_MESSAGE: u64 = 10037;

/// The stream that takes a subject.
pub(crate) struct Stream {
    pub(crate) name: String,
    /// The number of a message that is in it; what is published from now on comes later.
    pub(crate) last: u64,
    /// Bytes of a message, with its headers, if there is a limit.
    pub(crate) max_message: Option<usize>,
}

/// What of an origin is in a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stored {
    /// All events with lower numbers are.
    settled: u64,
    /// Of the others these are, each with the number of its message.
    messages: Vec<(u64, Range<u64>)>,
}

/// A message of the stream.
struct Kept {
    sequence: u64,
    headers: String,
}

impl Stream {
    /// The stream that takes `subject`, made for subjects of this pattern if it is named and missing.
    pub(crate) fn find(
        connection: &mut Connection,
        wanted: &JetStream,
        subject: &str,
        pattern: &str,
    ) -> Result<Self, Error> {
        let name = match &wanted.stream {
            Some(name) => name.clone(),
            None => {
                let found = call(connection, "-", "STREAM.NAMES", &json!({ "subject": subject }))?;
                let name = found["streams"][0].as_str().map(str::to_owned);
                name.ok_or_else(|| Error::NoStream { subject: subject.into() })?
            }
        };
        let info = match call(connection, &name, &format!("STREAM.INFO.{name}"), &json!({})) {
            Err(Error::Stream { code: STREAM_NOT_FOUND, .. }) if wanted.stream.is_some() => {
                let max_bytes = if wanted.max_bytes == 0 { json!(-1) } else { json!(wanted.max_bytes) };
                let config = json!({
                    "name": name, "subjects": [pattern], "retention": "limits", "storage": "file", "discard": "old",
                    "num_replicas": 1, "max_bytes": max_bytes, "duplicate_window": DUPLICATE_WINDOW_NS,
                });
                call(connection, &name, &format!("STREAM.CREATE.{name}"), &config)?
            }
            info => info?,
        };
        let config = &info["config"];
        let subjects: Vec<&str> =
            config["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !subjects.iter().any(|pattern| matches(pattern, subject)) {
            return Err(Error::OtherSubjects { stream: name, subjects: subjects.join(", "), subject: subject.into() });
        }
        let max_message = config["max_msg_size"].as_i64().filter(|max| *max > 0).and_then(|max| max.try_into().ok());
        Ok(Self { name, last: info["state"]["last_seq"].as_u64().unwrap_or_default(), max_message })
    }

    /// What of an origin is in the stream; nothing, if the last message of its subject is from elsewhere.
    pub(crate) fn stored(&self, connection: &mut Connection, subject: &str, origin: &str) -> Result<Stored, Error> {
        let last = self.get(connection, &json!({ "last_by_subj": subject }))?;
        let Some(last) = last.filter(|last| last.find(ORIGIN) == Some(origin)) else { return Ok(Stored::default()) };
        let mut stored = Stored { settled: last.number(SETTLED).unwrap_or_default(), messages: Vec::new() };
        // Unless this is another stream of that name.
        let after = last.number(AFTER).filter(|after| *after < last.sequence);
        let mut at = after.unwrap_or_default() + 1;
        while let Some(kept) = self.get(connection, &json!({ "seq": at, "next_by_subj": subject }))? {
            if let Some(range) = kept.range().filter(|_| kept.find(ORIGIN) == Some(origin)) {
                stored.messages.push((kept.sequence, range));
            }
            if kept.sequence >= last.sequence {
                break;
            }
            at = kept.sequence + 1;
        }
        Ok(stored)
    }

    /// Takes note of a reply to a message.
    ///
    /// # Errors
    /// If it was not stored.
    pub(crate) fn acknowledged(&mut self, reply: &Reply, subject: &str) -> Result<(), Error> {
        if reply.status.is_some() {
            return Err(Error::NoStream { subject: subject.into() });
        }
        let said = answer(&self.name, &reply.payload)?;
        let sequence = said["seq"].as_u64();
        let sequence = sequence.ok_or_else(|| Error::Strange(beginning(&reply.payload)))?;
        self.last = self.last.max(sequence);
        Ok(())
    }

    /// A message by what is asked for; `None` if there is none.
    fn get(&self, connection: &mut Connection, which: &Value) -> Result<Option<Kept>, Error> {
        let subject = format!("STREAM.MSG.GET.{}", self.name);
        let answer = match call(connection, &self.name, &subject, which) {
            Err(Error::Stream { code: NO_MESSAGE, .. }) => return Ok(None),
            answer => answer?,
        };
        let message = &answer["message"];
        let headers = message["hdrs"].as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok()).unwrap_or_default();
        let sequence = message["seq"].as_u64().ok_or_else(|| Error::Strange("a message without its number".into()))?;
        Ok(Some(Kept { sequence, headers: String::from_utf8_lossy(&headers).into_owned() }))
    }
}

impl Kept {
    fn find(&self, header: &str) -> Option<&str> {
        Headers::find(&self.headers, header)
    }

    fn number(&self, header: &str) -> Option<u64> {
        self.find(header)?.parse().ok()
    }

    /// The numbers of its events.
    fn range(&self) -> Option<Range<u64>> {
        let first = self.number(SEQUENCE)?;
        Some(first..first.checked_add(self.number(COUNT)?)?)
    }
}

impl Stored {
    /// Whether the event of this number is in the stream.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.settled || self.messages.iter().any(|(_, range)| range.contains(&number))
    }

    /// What a message says of those before it, once everything below `first` is in the stream, whose last message that is known
    /// has the number `last`: the values of [`SETTLED`] and [`AFTER`].
    pub(crate) fn so_far(&self, first: u64, last: u64) -> (u64, u64) {
        let settled = self.settled.max(first);
        let others = self.messages.iter().filter(|(_, range)| range.end > settled);
        (settled, others.map(|(sequence, _)| sequence - 1).min().unwrap_or(last))
    }
}

/// Asks the API of JetStream.
fn call(connection: &mut Connection, stream: &str, what: &str, payload: &Value) -> Result<Value, Error> {
    let reply = connection.request(&format!("$JS.API.{what}"), payload)?;
    if reply.status.is_some() { Err(Error::NoJetStream) } else { answer(stream, &reply.payload) }
}

fn answer(stream: &str, payload: &[u8]) -> Result<Value, Error> {
    let answer: Value =
        serde_json::from_slice(payload).map_err(|error| Error::Strange(format!("{error}: {}", beginning(payload))))?;
    let Some(error) = answer.get("error") else { return Ok(answer) };
    Err(Error::Stream {
        stream: stream.into(),
        description: error["description"].as_str().unwrap_or("an error without a description").into(),
        code: error["err_code"].as_u64().or(error["code"].as_u64()).unwrap_or_default(),
    })
}

/// What is to be seen of a payload that is not understood.
fn beginning(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(100)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_not_understood_the_beginning_is_told() {
        let mut stream = Stream { name: "NIXL".into(), last: 0, max_message: None };
        let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20)).into_bytes();
        let error = stream.acknowledged(&Reply { number: 1, status: None, payload }, "a").unwrap_err().to_string();
        assert_eq!(error.len(), "JetStream says what is not understood: ".len() + 100);
    }

    #[test]
    fn what_is_missing_and_where_it_will_be() {
        let stored = Stored { settled: 100, messages: vec![(7, 90..110), (9, 120..130), (12, 110..115)] };
        let missing: Vec<_> = (0..140).filter(|number| !stored.has(*number)).collect();
        assert_eq!(missing, (115..120).chain(130..140).collect::<Vec<_>>());
        // Who asks next has to see each message that holds something from the first of these numbers on.
        for (first, expected) in [(0, (100, 6)), (100, (100, 6)), (110, (110, 8)), (120, (120, 8)), (130, (130, 20))] {
            assert_eq!(stored.so_far(first, 20), expected);
        }
        assert_eq!(Stored::default().so_far(5, 20), (5, 20));
        assert!(!Stored::default().has(0));
    }
}
