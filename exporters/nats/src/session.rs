// SPDX-License-Identifier: Apache-2.0

//! What is published over one connection: deliveries, cut into messages.

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
const WINDOW: u64 = 256;

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

impl Session {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, target: None }
    }

    /// Publishes a delivery, and waits until the server has all of it. Of a repeated one, what the stream has is left out.
    ///
    /// Messages end where a number is divisible by `message_size`, which is lowered if they are too large.
    pub(crate) fn publish(
        &mut self,
        config: &Config,
        source: &mut Source,
        message_size: &mut u64,
        batch: &Delivery<'_>,
        is_repeated: bool,
    ) -> Result<(), Error> {
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
        let mut acknowledgements = Acknowledgements::default();
        let mut events = iter::zip(batch.sequence().., batch).filter(|(number, _)| !stored.has(*number)).peekable();
        while let Some(&(first, _)) = events.peek() {
            let before = events.clone();
            let payload = &mut source.payload;
            payload.clear();
            let belongs = |number: u64, payload: &Payload| {
                let is_next =
                    number == first + payload.len() && (payload.len() == 0 || !number.is_multiple_of(*message_size));
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
            if size > limit {
                if len == 1 {
                    return Err(Error::TooLarge { size, limit });
                }
                while *message_size >= len {
                    *message_size /= 2;
                }
                events = before;
                continue;
            }
            match &mut stream {
                None => connection.publish(&source.subject, &headers, &parts)?,
                Some(stream) => {
                    acknowledgements.expect(connection.ask(&source.subject, &headers, &parts)?);
                    while acknowledgements.missing >= WINDOW {
                        acknowledgements.wait(connection, stream, &source.subject)?;
                    }
                }
            }
        }
        let Some(stream) = stream else { return connection.flush() };
        while acknowledgements.missing > 0 {
            acknowledgements.wait(connection, stream, &source.subject)?;
        }
        Ok(())
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
    /// The lowest number of their replies.
    first: Option<u64>,
    missing: u64,
}

impl Acknowledgements {
    fn expect(&mut self, number: u64) {
        self.first.get_or_insert(number);
        self.missing += 1;
    }

    fn wait(&mut self, connection: &mut Connection, stream: &mut Stream, subject: &str) -> Result<(), Error> {
        if let Heard::Reply(reply) = connection.next()?
            && self.first.is_some_and(|first| reply.number >= first)
        {
            stream.acknowledged(&reply, subject)?;
            self.missing -= 1;
        }
        Ok(())
    }
}
