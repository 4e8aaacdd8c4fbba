// SPDX-License-Identifier: Apache-2.0

//! What is where: from a request to its answer.

use std::{sync::Arc, time::Instant};

use crate::{
    Format, Service, Stats,
    auth::{Auth, Verdict},
    guarded::Guarded,
    request::{Bad, Head, Method},
    response::{self, Framing, Response},
};

/// Bodies of at least this size are compressed for those who want it; a smaller one hardly gets smaller.
const WORTH_PACKING: usize = 1024;

const PLAIN: &str = "text/plain; charset=utf-8";

const PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>NIXL telemetry</title></head>\n\
                    <body><h1>NIXL telemetry</h1><p><a href=\"/metrics\">Metrics</a></p></body></html>\n";

/// Everything that is answered, and by whom.
#[derive(Debug)]
pub(crate) struct Site<S> {
    pub(crate) service: Guarded<S>,
    formats: &'static [Format],
    stats: Arc<Stats>,
    auth: Option<Auth>,
    /// Headers on every answer, each with its end of line.
    headers: String,
    /// Whether the service serves rather than stands by.
    pub(crate) is_ready: bool,
    // Their memory is used again by the next scrape.
    body: Vec<u8>,
    packed: Vec<u8>,
}

impl<S: Service> Site<S> {
    pub(crate) fn new(service: S, stats: Arc<Stats>, auth: Option<Auth>, headers: String) -> Self {
        let mut service = Guarded::new(service);
        let formats = service.call(|service| service.formats()).unwrap_or(&Format::ALL);
        Self { service, formats, stats, auth, headers, is_ready: false, body: Vec::new(), packed: Vec::new() }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn formats(&self) -> &'static [Format] {
        self.formats
    }

    /// Appends the answer to `out`. Returns the bytes of metrics in it.
    pub(crate) fn answer(&mut self, head: &Head<'_>, keep_alive: bool, out: &mut Vec<u8>) -> usize {
        let framing = Framing { head_only: head.method == Method::Head, keep_alive, is_old: head.is_old };
        if let Some(auth) = &mut self.auth {
            match auth.judge(head.authorization) {
                Verdict::Welcome => {}
                Verdict::Unknown => {
                    self.stats.authentication_failed();
                    let headers = [("WWW-Authenticate", "Basic realm=\"NIXL telemetry\", charset=\"UTF-8\"")];
                    self.say(401, "A user's name and password are needed.", &headers, framing, out);
                    return 0;
                }
                Verdict::Busy { retry_after } => {
                    self.stats.authentication_failed();
                    let seconds = retry_after.to_string();
                    self.say(429, "Too many passwords to verify.", &[("Retry-After", &seconds)], framing, out);
                    return 0;
                }
            }
        }
        if head.method == Method::Other {
            self.say(405, "Only GET and HEAD are understood.", &[("Allow", "GET, HEAD")], framing, out);
            return 0;
        }
        match head.request.path() {
            "/metrics" | "/metrics/" => return self.metrics(head, framing, out),
            "/" => {
                let page = Response {
                    status: 200,
                    content_type: "text/html; charset=utf-8",
                    headers: &[],
                    body: PAGE.as_bytes(),
                };
                page.write(framing, &self.headers, out);
            }
            "/-/healthy" => self.say(200, "Healthy.", &[], framing, out),
            "/-/ready" if self.is_ready => self.say(200, "Ready.", &[], framing, out),
            "/-/ready" => self.say(503, "Standing by.", &[], framing, out),
            _ => self.say(404, "There is /metrics.", &[], framing, out),
        }
        0
    }

    /// Appends the answer to what is no request.
    pub(crate) fn refuse(&self, bad: Bad, out: &mut Vec<u8>) {
        self.stats.bad_request();
        self.say(bad.status(), bad.message(), &[], Framing::LAST, out);
    }

    /// The answer to a client there is no room for.
    pub(crate) fn full(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.say(503, "Too many connections.", &[], Framing::LAST, &mut out);
        out
    }

    fn metrics(&mut self, head: &Head<'_>, framing: Framing, out: &mut Vec<u8>) -> usize {
        let start = Instant::now();
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let stats = &self.stats;
        let written = self.service.call(|service| service.metrics(&head.request, stats, &mut body));
        let length = match written {
            Some(Ok(())) => {
                let is_packed = head.gzip && body.len() >= WORTH_PACKING;
                if is_packed {
                    response::gzip(&body, &mut self.packed);
                }
                let headers = [("Vary", "Accept, Accept-Encoding"), ("Content-Encoding", "gzip")];
                let response = Response {
                    status: 200,
                    content_type: head.request.format().content_type(),
                    headers: if is_packed { &headers } else { &headers[..1] },
                    body: if is_packed { &self.packed } else { &body },
                };
                let length = response.write(framing, &self.headers, out);
                if head.method == Method::Get {
                    self.stats.scraped(start.elapsed());
                }
                length
            }
            Some(Err(refused)) => {
                self.say(refused.status(), refused.message(), &[], framing, out);
                0
            }
            None => {
                self.say(500, "The metrics could not be written.", &[], framing, out);
                0
            }
        };
        self.body = body;
        length
    }

    /// Appends an answer of one line.
    fn say(&self, status: u16, text: &str, headers: &[(&str, &str)], framing: Framing, out: &mut Vec<u8>) {
        let body = format!("{text}\n");
        let response = Response { status, content_type: PLAIN, headers, body: body.as_bytes() };
        response.write(framing, &self.headers, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Refused, Request, request};

    /// Shows the room it was given, and then needs more.
    struct Room;

    impl Service for Room {
        fn metrics(&mut self, request: &Request<'_>, _: &Stats, body: &mut Vec<u8>) -> Result<(), Refused> {
            let text =
                format!("{:?} with {}", request.format(), if body.capacity() < 5000 { "little" } else { "plenty" });
            body.extend_from_slice(text.as_bytes());
            body.reserve(5000);
            Ok(())
        }

        fn formats(&self) -> &'static [Format] {
            &[Format::Text]
        }
    }

    fn ask(site: &mut Site<Room>, target: &str) -> String {
        let input = format!("GET {target} HTTP/1.0\r\nAccept: application/openmetrics-text, text/plain;q=0.1\r\n\r\n");
        let head = request::parse(input.as_bytes(), &Limits::default(), site.formats()).unwrap().unwrap();
        let mut out = Vec::new();
        site.answer(&head, false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_room_of_a_scrape_is_that_of_the_next_and_the_format_one_the_service_has() {
        let mut site = Site::new(Room, Arc::new(Stats::new()), None, String::new());
        assert!(ask(&mut site, "/metrics").ends_with("\r\n\r\nText with little"));
        assert!(ask(&mut site, "/metrics").ends_with("\r\n\r\nText with plenty"));
    }

    #[test]
    fn one_who_stands_by_is_healthy_and_not_ready() {
        let mut site = Site::new(Room, Arc::new(Stats::new()), None, String::new());
        assert!(ask(&mut site, "/-/ready").starts_with("HTTP/1.1 503 "));
        assert!(ask(&mut site, "/-/healthy").starts_with("HTTP/1.1 200 "));
        site.is_ready = true;
        assert!(ask(&mut site, "/-/ready").starts_with("HTTP/1.1 200 "));
    }
}
