// SPDX-License-Identifier: Apache-2.0

//! What is published over one connection: deliveries, cut into messages.

use std::collections::HashSet;
use std::iter;

use nixl_telemetry_sdk::queue::{Delivery, OriginId};

use crate::Source;
use crate::connection::{Connection, Heard};
use crate::error::Error;
use crate::jetstream::{AFTER, COUNT, SEQUENCE, SETTLED, Stored, Stream};
use crate::message::Payload;
use crate::settings::{Config, JetStream};
use crate::subject::Template;

/// Messages that wait for their acknowledgement at most: those have to fit into the buffers of a connection.
const WINDOW: usize = 256;
/// Who takes smaller messages only is to be mended; otherwise it is the event that is at fault if it does not fit.
const LEAST_LIMIT: usize = 16384;

/// A connection, and what is known over it.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    target: Option<Target>,
}

/// Where the events of an origin go.
struct Target {
    origin: OriginId,
    stream: Stream,
    /// What was there before, if somebody had to know. Whatever came since came over this connection.
    stored: Option<Stored>,
}

/// Events no message has room for.
pub(crate) struct Refused {
    pub(crate) events: u64,
    /// What is wrong with the first.
    pub(crate) because: Error,
}

impl Session {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, target: None }
    }

    /// Publishes a delivery, and waits until the server has all of it, but for what is returned. Of a repeated one, what the
    /// stream has is left out.
    ///
    /// A message ends where a number is divisible by `MESSAGE_SIZE`; if that is too large, by half of it, and so on. Nothing is
    /// remembered of earlier ones, so that what is repeated has the ids it had.
    pub(crate) fn publish(
        &mut self,
        config: &Config,
        source: &mut Source,
        batch: &Delivery<'_>,
        is_repeated: bool,
    ) -> Result<Option<Refused>, Error> {
        if let Some(jetstream) = &config.jetstream {
            self.aim(jetstream, &config.subject, source, is_repeated)?;
        }
        let Self { connection, target } = self;
        let nothing = Stored::default();
        let (mut limit, mut common) = (connection.info().max_payload, source.headers.clone());
        let (mut stream, mut stored) = (None, &nothing);
        if let Some(Target { stream: found, stored: asked, .. }) = target {
            stored = asked.as_ref().unwrap_or(&nothing);
            limit = found.max_message.map_or(limit, |max| max.min(limit));
            let (settled, after) = stored.so_far(batch.sequence(), found.last);
            common = common.with(SETTLED, settled).with(AFTER, after).with("Nats-Expected-Stream", &found.name);
            stream = Some(found);
        }
        let (mut acknowledgements, mut refused) = (Acknowledgements::default(), None::<Refused>);
        let mut message_size = config.message_size;
        let mut events = iter::zip(batch.sequence().., batch).filter(|(number, _)| !stored.has(*number)).peekable();
        while let Some(&(first, event)) = events.peek() {
            let before = events.clone();
            let payload = &mut source.payload;
            payload.clear();
            let belongs = |number: u64, payload: &Payload| {
                let is_next =
                    number == first + payload.len() && (payload.len() == 0 || !number.is_multiple_of(message_size));
                is_next && payload.size() <= limit
            };
            while let Some((_, event)) = events.next_if(|(number, _)| belongs(*number, payload)) {
                payload.push(&event);
            }
            let len = payload.len();
            let id = format!("{}-{first}-{len}", source.origin);
            let headers = common.clone().with(SEQUENCE, first).with(COUNT, len).with("Nats-Msg-Id", id);
            let parts = payload.finish(first);
            let size = headers.size() + parts[0].len() + parts[1].len();
            if size > limit && len > 1 {
                while message_size >= len {
                    message_size /= 2;
                }
                events = before;
                continue;
            }
            message_size = config.message_size;
            if size > limit {
                let event = event.name().to_string().chars().take(100).collect();
                let because = Error::TooLarge { event, size, limit };
                if limit < LEAST_LIMIT {
                    return Err(because);
                }
                refused.get_or_insert(Refused { events: 0, because }).events += 1;
                continue;
            }
            match &mut stream {
                None => connection.publish(&source.subject, &headers, &parts)?,
                Some(stream) => {
                    acknowledgements.expect(connection.ask(&source.subject, &headers, &parts)?);
                    while acknowledgements.missing.len() >= WINDOW {
                        acknowledgements.wait(connection, stream, &source.subject)?;
                    }
                }
            }
        }
        match stream {
            None => connection.flush()?,
            Some(stream) => {
                while !acknowledgements.missing.is_empty() {
                    acknowledgements.wait(connection, stream, &source.subject)?;
                }
            }
        }
        Ok(refused)
    }

    /// Finds the stream for an origin, and what of it is there, if that may be something.
    fn aim(&mut self, wanted: &JetStream, subject: &Template, source: &Source, is_repeated: bool) -> Result<(), Error> {
        let connection = &mut self.connection;
        let target = match self.target.take() {
            Some(target) if target.origin == source.origin => target,
            _ => {
                let stream = Stream::find(connection, wanted, &source.subject, &subject.pattern())?;
                Target { origin: source.origin, stream, stored: None }
            }
        };
        let target = self.target.insert(target);
        if is_repeated && target.stored.is_none() {
            target.stored = Some(target.stream.stored(connection, &source.subject, &source.origin.to_string())?);
        }
        Ok(())
    }

    /// Takes leave of the server.
    pub(crate) fn close(self) {
        self.connection.close();
    }
}

/// Acknowledgements of one delivery's messages that have not come yet, in whatever order they will.
#[derive(Default)]
struct Acknowledgements {
    /// The numbers of their replies.
    missing: HashSet<u64>,
}

impl Acknowledgements {
    fn expect(&mut self, number: u64) {
        self.missing.insert(number);
    }

    /// Waits for one of them, or for something else that comes: a second reply to the same message, from another stream.
    fn wait(&mut self, connection: &mut Connection, stream: &mut Stream, subject: &str) -> Result<(), Error> {
        if let Heard::Reply(reply) = connection.next()?
            && self.missing.remove(&reply.number)
        {
            stream.acknowledged(&reply, subject)?;
        }
        Ok(())
    }
}
