// SPDX-License-Identifier: Apache-2.0

//! What an answer means for what was sent.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::fields::{Field, fields};

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The receiver has it, but for what it says.
    Accepted(Partial),
    /// It did not arrive, or could not be dealt with: worth another try.
    Later {
        /// Why, for people.
        problem: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It was understood, and is not wanted.
    Refused {
        /// Why, for people.
        problem: String,
    },
}

/// The part of an accepted request that was not.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Partial {
    /// Data points.
    pub(crate) rejected: u64,
    /// Why; a mere warning if nothing was rejected.
    pub(crate) message: String,
}

/// An answer, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'a str>,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// What the answer means, at this time.
    pub(crate) fn verdict(&self, now: SystemTime) -> Verdict {
        match self.status {
            200..300 => Verdict::Accepted(self.partial().unwrap_or_default()),
            429 | 502 | 503 | 504 => Verdict::Later {
                problem: self.problem(),
                retry_after: self.retry_after.and_then(|text| retry_after(text, now)),
            },
            _ => Verdict::Refused { problem: self.problem() },
        }
    }

    /// `None` if the body is none that OpenTelemetry knows, which an accepted request need not have.
    fn partial(&self) -> Option<Partial> {
        if self.is_json() {
            let partial = &serde_json::from_slice::<Value>(self.body).ok()?["partialSuccess"];
            // An integer of 64 bits is text, but not to every receiver.
            let rejected = &partial["rejectedDataPoints"];
            let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
            return Some(Partial {
                rejected,
                message: printable(partial["errorMessage"].as_str().unwrap_or_default()),
            });
        }
        let message = fields(self.body).find_map(|field| match field {
            (1, Field::Bytes(message)) => Some(message),
            _ => None,
        })?;
        let mut partial = Partial::default();
        for field in fields(message) {
            match field {
                (1, Field::Varint(rejected)) => partial.rejected = rejected,
                (2, Field::Bytes(text)) => partial.message = printable(&String::from_utf8_lossy(text)),
                _ => {}
            }
        }
        Some(partial)
    }

    /// Status, and what the receiver says about it: a `google.rpc.Status`, or plain text.
    fn problem(&self) -> String {
        let said = if self.is_json() {
            let status: Option<Value> = serde_json::from_slice(self.body).ok();
            status.and_then(|status| status["message"].as_str().map(printable)).unwrap_or_default()
        } else if self.content_type.starts_with("text/plain") {
            printable(&String::from_utf8_lossy(self.body))
        } else if self.content_type.starts_with("application/x-protobuf") {
            let message = fields(self.body).find_map(|field| match field {
                (2, Field::Bytes(text)) => Some(printable(&String::from_utf8_lossy(text))),
                _ => None,
            });
            message.unwrap_or_default()
        } else {
            String::new()
        };
        let separator = if said.is_empty() { "" } else { ": " };
        format!("status {}{separator}{said}", self.status)
    }

    fn is_json(&self) -> bool {
        self.content_type.starts_with("application/json")
    }
}

/// Text from elsewhere, fit for one line of a log.
fn printable(text: &str) -> String {
    const MOST: usize = 200;
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}

/// The longest anybody is left alone for: who says more has a clock, or a proxy, that is wrong.
const LONGEST: Duration = Duration::from_secs(3600);

/// Seconds, or the date until when.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json; charset=utf-8";
    const PROTOBUF: &str = "application/x-protobuf";

    fn verdict(status: u16, content_type: &str, body: &[u8], retry_after: Option<&str>) -> Verdict {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        Answer { status, retry_after, content_type, body }.verdict(now)
    }

    #[test]
    fn accepted_is_accepted_whatever_the_body_says() {
        let partial = |rejected, message: &str| Verdict::Accepted(Partial { rejected, message: message.into() });
        for (content_type, body, expected) in [
            (PROTOBUF, &b""[..], partial(0, "")),
            (PROTOBUF, b"\x0a\x08\x08\x83\x02\x12\x03old", partial(259, "old")),
            (PROTOBUF, b"\x0a\x05\x12\x03a\nb", partial(0, "a b")),
            (PROTOBUF, b"\xff\xff nonsense", partial(0, "")),
            (JSON, br#"{"partialSuccess":{"rejectedDataPoints":"7","errorMessage":"old"}}"#, partial(7, "old")),
            (JSON, br#"{"partialSuccess":{"rejectedDataPoints":7}}"#, partial(7, "")),
            (JSON, b"{}", partial(0, "")),
            (JSON, b"nonsense", partial(0, "")),
            ("text/html", b"<html>", partial(0, "")),
        ] {
            assert_eq!(verdict(200, content_type, body, None), expected, "{body:?}");
        }
        assert_eq!(verdict(202, "", b"", None), partial(0, ""));
    }

    #[test]
    fn some_problems_pass() {
        for (header, seconds) in [
            (None, None),
            (Some("120"), Some(120)),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60)),
            (Some("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0)),
            (Some("soon"), None),
            (Some("99999999999"), Some(3600)),
        ] {
            let expected = Verdict::Later {
                problem: "status 503: too busy".into(),
                retry_after: seconds.map(Duration::from_secs),
            };
            assert_eq!(verdict(503, "text/plain", b"too busy\n", header), expected);
        }
        for status in [429, 502, 504] {
            assert!(matches!(verdict(status, "", b"", None), Verdict::Later { .. }), "{status}");
        }
    }

    #[test]
    fn others_do_not() {
        for (status, content_type, body, problem) in [
            (400, PROTOBUF, &b"\x08\x03\x12\x07invalid"[..], "status 400: invalid"),
            (401, JSON, br#"{"code":16,"message":"who are you?"}"#, "status 401: who are you?"),
            (404, "text/html", b"<html>", "status 404"),
            (301, "", b"", "status 301"),
            (500, "text/plain", b"\x1b[31mred", "status 500:  [31mred"),
        ] {
            assert_eq!(verdict(status, content_type, body, Some("1")), Verdict::Refused { problem: problem.into() });
        }
    }
}
