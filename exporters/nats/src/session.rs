// SPDX-License-Identifier: Apache-2.0

//! What is published over one connection: deliveries, cut into messages.

use std::iter;

use nixl_telemetry_sdk::queue::{Delivery, OriginId};

use crate::Source;
use crate::connection::{Connection, Heard};
use crate::error::Error;
use crate::jetstream::{AFTER, COUNT, SEQUENCE, SETTLED, Stored, Stream};
use crate::settings::Config;

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
        let connection = &mut self.connection;
        let mut limit = connection.info().max_payload;
        let (nothing, mut headers) = (Stored::default(), source.headers.clone());
        let (mut stream, mut stored) = (None, &nothing);
        if let Some(jetstream) = &config.jetstream {
            let target = match self.target.take() {
                Some(target) if target.origin == source.origin => target,
                _ => {
                    let stream = Stream::find(connection, jetstream, &source.subject, &config.subject.pattern())?;
                    Target { origin: source.origin, stream, stored: None }
                }
            };
            let target = self.target.insert(target);
            if is_repeated && target.stored.is_none() {
                target.stored = Some(target.stream.stored(connection, &source.subject, &source.origin.to_string())?);
            }
            stored = target.stored.as_ref().unwrap_or(&nothing);
            let (settled, after) = stored.so_far(batch.sequence(), target.stream.last);
            limit = target.stream.max_message.map_or(limit, |max| max.min(limit));
            headers =
                headers.with("Nats-Expected-Stream", &target.stream.name).with(SETTLED, settled).with(AFTER, after);
            stream = Some(&mut target.stream);
        }
        let mut acknowledgements = Acknowledgements { first: None, missing: 0 };
        let mut events = iter::zip(batch.sequence().., batch).filter(|(number, _)| !stored.has(*number)).peekable();
        while let Some((first, _)) = events.peek().copied() {
            let mut rest = events.clone();
            source.payload.clear();
            while let Some((number, event)) = rest.next_if(|(number, _)| {
                let len = source.payload.len();
                *number == first + len && (len == 0 || *number % *message_size != 0) && source.payload.size() <= limit
            }) {
                let _ = number;
                source.payload.push(&event);
            }
            let len = source.payload.len();
            let id = format!("{}-{first}-{len}", source.origin);
            let headers = headers.clone().with(SEQUENCE, first).with(COUNT, len).with("Nats-Msg-Id", id);
            let payload = source.payload.finish(first);
            let size = headers.size() + payload[0].len() + payload[1].len();
            if size > limit {
                if len == 1 {
                    return Err(Error::TooLarge { size, limit });
                }
                while *message_size >= len {
                    *message_size /= 2;
                }
                continue;
            }
            match &mut stream {
                None => connection.publish(&source.subject, &headers, &payload)?,
                Some(stream) => {
                    let number = connection.ask(&source.subject, &headers, &payload)?;
                    acknowledgements.expect(number);
                    while acknowledgements.missing >= WINDOW {
                        acknowledgements.wait(connection, stream, &source.subject)?;
                    }
                }
            }
            events = rest;
        }
        match stream {
            None => connection.flush(),
            Some(stream) => {
                while acknowledgements.missing > 0 {
                    acknowledgements.wait(connection, stream, &source.subject)?;
                }
                Ok(())
            }
        }
    }

    /// Takes leave of the server.
    pub(crate) fn close(self) {
        self.connection.close();
    }
}

/// Acknowledgements of one delivery's messages that have not come yet, in whatever order they will.
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
