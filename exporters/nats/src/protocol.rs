// SPDX-License-Identifier: Apache-2.0

//! The text protocol of NATS, as far as a publisher needs it: bytes in, operations out, and the other way round.
//!
//! ```text
//! HPUB nixl.telemetry.decode-1 _INBOX.x.7 42 12042␍␊NATS/1.0␍␊Nixl-Sequence:0␍␊…␍␊␍␊…␍␊
//! ```

use std::fmt::{Display, Write as _};

/// What a server says.
#[derive(Debug, PartialEq)]
pub(crate) enum Op<'a> {
    /// About itself, in JSON: at first, and when that changes.
    Info(&'a [u8]),
    Message(Message<'a>),
    Ping,
    Pong,
    Ok,
    /// What is wrong, without the quotes around it.
    Error(&'a str),
}

/// What was published on a subject that is subscribed to.
#[derive(Debug, PartialEq)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a str,
    /// From `NATS/1.0` to the empty line; empty if there are none.
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// What no server says.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0:?} is no NATS")]
pub(crate) struct Malformed(String);

/// A line is no longer: an `INFO` names all servers of a cluster.
const MAX_LINE: usize = 1 << 20;
/// A message is no longer: the largest `max_payload` a server can be given.
const MAX_MESSAGE: usize = 64 << 20;

/// What the bytes begin with, and how many of them it takes; `None` if it is not all there.
///
/// # Errors
/// If no server says such a thing.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Op<'_>, usize)>, Malformed> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(malformed(bytes)) };
    };
    let (line, next) = (&bytes[..end], end + 1);
    let line = str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| malformed(line))?;
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    let op = match word.to_ascii_uppercase().as_str() {
        "INFO" => Op::Info(rest.as_bytes()),
        "PING" => Op::Ping,
        "PONG" => Op::Pong,
        "+OK" => Op::Ok,
        "-ERR" => Op::Error(rest.trim_matches('\'')),
        "MSG" | "HMSG" => {
            let has_headers = word.len() == 4;
            return match message(rest, has_headers, &bytes[next..]) {
                Ok(None) => Ok(None),
                Ok(Some((message, size))) => Ok(Some((Op::Message(message), next + size))),
                Err(()) => Err(malformed(line.as_bytes())),
            };
        }
        _ => return Err(malformed(line.as_bytes())),
    };
    Ok(Some((op, next)))
}

/// The message after its line, of which `arguments` are left: the subject, the subscription, perhaps a subject for replies, the
/// size of the headers if there are any, and the whole size.
fn message<'a>(arguments: &'a str, has_headers: bool, bytes: &'a [u8]) -> Result<Option<(Message<'a>, usize)>, ()> {
    let arguments: Vec<&str> = arguments.split_ascii_whitespace().collect();
    let sizes = if has_headers { 2 } else { 1 };
    if !(2 + sizes..=3 + sizes).contains(&arguments.len()) {
        return Err(());
    }
    let number = |at: usize| arguments[at].parse::<usize>().map_err(|_| ());
    let size = number(arguments.len() - 1)?;
    let headers = if has_headers { number(arguments.len() - 2)? } else { 0 };
    if size > MAX_MESSAGE || headers > size {
        return Err(());
    }
    let Some((body, after)) = bytes.split_at_checked(size) else { return Ok(None) };
    match after {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        _ => return Err(()),
    }
    let (headers, payload) = body.split_at(headers);
    Ok(Some((Message { subject: arguments[0], headers, payload }, size + 2)))
}

/// What is to be seen of bytes that are not understood.
fn malformed(bytes: &[u8]) -> Malformed {
    Malformed(String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned())
}

impl Message<'_> {
    /// The number a server puts into the first line of the headers of what it says itself: 503, nobody listens.
    pub(crate) fn status(&self) -> Option<u16> {
        let line = self.headers.strip_prefix(b"NATS/1.0 ")?;
        str::from_utf8(line.get(..3)?).ok()?.parse().ok()
    }
}

/// The headers of a message, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers(String);

impl Headers {
    pub(crate) fn new() -> Self {
        Self("NATS/1.0\r\n".into())
    }

    /// With one more; its value has no line breaks.
    pub(crate) fn with(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.0, "{name}: {value}\r\n");
        self
    }

    /// Bytes they take in a message.
    pub(crate) fn size(&self) -> usize {
        self.0.len() + 2
    }

    /// The value of a header among those of a message.
    pub(crate) fn find<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
        headers.split("\r\n").find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }
}

/// What ends a message, behind its payload.
pub(crate) const END: &[u8] = b"\r\n";

/// Appends everything of a message that comes before its payload, which has this size.
pub(crate) fn begin(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, headers: &Headers, payload_size: usize) {
    let (space, reply) = if let Some(reply) = reply { (" ", reply) } else { ("", "") };
    let size = headers.size() + payload_size;
    out.extend_from_slice(format!("HPUB {subject}{space}{reply} {} {size}\r\n", headers.size()).as_bytes());
    out.extend_from_slice(headers.0.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Op<'_> {
        let (op, size) = parse(bytes).unwrap().expect("all is there");
        assert_eq!(size, bytes.len());
        op
    }

    #[test]
    fn what_servers_say() {
        let message = |subject, headers, payload| Op::Message(Message { subject, headers, payload });
        let table: [(&[u8], Op<'_>); 10] = [
            (b"INFO {\"a\":1} \r\n", Op::Info(b"{\"a\":1}")),
            (b"PING\r\n", Op::Ping),
            (b"pong\n", Op::Pong),
            (b"+OK\r\n", Op::Ok),
            (b"-ERR 'Stale Connection'\r\n", Op::Error("Stale Connection")),
            (
                b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
                Op::Error("Permissions Violation for Publish to \"a\""),
            ),
            (b"MSG a.b 1 2\r\nhi\r\n", message("a.b", b"", b"hi")),
            (b"MSG a.b 1 reply 4\r\n\r\nhi\r\n", message("a.b", b"", b"\r\nhi")),
            (b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", message("a", b"NATS/1.0\r\n\r\n", b"hi")),
            (b"HMSG a 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", message("a", b"NATS/1.0 503\r\n\r\n", b"")),
        ];
        for (bytes, op) in table {
            assert_eq!(whole(bytes), op);
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut} bytes of {op:?}");
            }
        }
        for (bytes, status) in
            [(&b"HMSG a 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"[..], Some(503)), (b"MSG a 1 0\r\n\r\n", None)]
        {
            let Op::Message(message) = whole(bytes) else { panic!("a message") };
            assert_eq!(message.status(), status);
        }
    }

    #[test]
    fn what_no_server_says() {
        for bytes in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "MSG a 1\r\n",
            "MSG a 1 r s 1\r\nx\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 1\r\nxyz",
            "MSG a 1 999999999999\r\n",
            "HMSG a 1 3\r\n",
            "HMSG a 1 4 3\r\nabc\r\n",
            "SSH-2.0-OpenSSH\n",
        ] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert_eq!(parse(b"\xff\n"), Err(Malformed("\u{fffd}".into())));
        assert!(parse(&vec![b'a'; MAX_LINE]).is_err());
    }

    #[test]
    fn headers_are_found() {
        let headers = Headers::new().with("A", 1).with("Ab", "x: y");
        assert_eq!(headers.size(), "NATS/1.0\r\nA: 1\r\nAb: x: y\r\n\r\n".len());
        assert_eq!((Headers::find(&headers.0, "A"), Headers::find(&headers.0, "Ab")), (Some("1"), Some("x: y")));
        assert_eq!(Headers::find(&headers.0, "C"), None);
    }

    proptest! {
        /// A server hands on what was published, but for the word and the number of the subscription.
        #[test]
        fn what_is_published_is_read(
            subject in "[a-z%.]{1,20}", reply in proptest::option::of("[a-z.]{1,9}"), value in "[ -~]{0,20}",
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let headers = Headers::new().with("Name", value);
            let mut bytes = Vec::new();
            begin(&mut bytes, &subject, reply.as_deref(), &headers, payload.len());
            bytes.extend_from_slice(&payload);
            bytes.extend_from_slice(END);
            let start = format!("HPUB {subject}");
            prop_assert!(bytes.starts_with(start.as_bytes()));
            let heard = [format!("HMSG {subject} 1").as_bytes(), &bytes[start.len()..]].concat();
            let Op::Message(message) = whole(&heard) else { panic!("a message") };
            prop_assert_eq!((message.subject, message.payload), (subject.as_str(), payload.as_slice()));
            prop_assert_eq!(message.headers.len(), headers.size());
            for cut in 0..heard.len() {
                prop_assert_eq!(parse(&heard[..cut]).unwrap(), None);
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), word in "(MSG|HMSG) [a-z0-9 ]{0,12}\r\n") {
            for bytes in [bytes.clone(), [word.into_bytes(), bytes].concat()] {
                if let Ok(Some((_, size))) = parse(&bytes) {
                    prop_assert!(size <= bytes.len() && size > 0);
                }
            }
        }
    }
}
