// SPDX-License-Identifier: Apache-2.0

//! The head of a request: from bytes to what was asked.
//!
//! No bytes make it panic, and it needs no more memory than for the headers that are allowed.

use crate::{Format, Limits, negotiate};

/// A request for metrics, as a [`Service`](crate::Service) sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    path: &'a str,
    query: &'a str,
    format: Format,
}

impl<'a> Request<'a> {
    /// A request for a target such as `/metrics?aggregate=node`, as a server would make it.
    pub fn new(target: &'a str, format: Format) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path, query, format }
    }

    /// The path, from its first slash, as it was sent.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the question mark, as it was sent; empty if there is none.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The parameters of the query, names and values, as they were sent: nothing is decoded. One without `=` has an empty
    /// value.
    pub fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let given = self.query.split('&').filter(|parameter| !parameter.is_empty());
        given.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    }

    /// The value of the first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The format to answer in.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// What is asked to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    /// Anything else; nothing here can be changed.
    Other,
}

/// A complete head.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) method: Method,
    pub(crate) request: Request<'a>,
    /// Whether the client speaks HTTP/1.0.
    pub(crate) is_old: bool,
    /// Whether the connection goes on after the answer.
    pub(crate) keep_alive: bool,
    /// Whether the body may be compressed.
    pub(crate) gzip: bool,
    pub(crate) authorization: Option<&'a str>,
    /// Bytes it takes.
    pub(crate) length: usize,
}

/// Why bytes are no request, each with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Syntax,
    Host,
    Length,
    Authorization,
    Timeout,
    Body,
    TooLarge,
    Version,
}

impl Bad {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Syntax | Self::Host | Self::Length | Self::Authorization => 400,
            Self::Timeout => 408,
            Self::Body => 413,
            Self::TooLarge => 431,
            Self::Version => 505,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Syntax => "This is no request of HTTP/1.",
            Self::Host => "A request of HTTP/1.1 has one header Host.",
            Self::Length => "Content-Length is no number.",
            Self::Authorization => "There is more than one header Authorization.",
            Self::Timeout => "The request took too long.",
            Self::Body => "Requests have no body here.",
            Self::TooLarge => "The head of the request is too large.",
            Self::Version => "HTTP/1.0 and HTTP/1.1 are spoken here.",
        }
    }
}

/// Reads the head that `input` begins with; `None` if more bytes are needed.
pub(crate) fn parse<'a>(input: &'a [u8], limits: &Limits, formats: &[Format]) -> Result<Option<Head<'a>>, Bad> {
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) if length <= limits.head_bytes => length,
        Ok(httparse::Status::Partial) if input.len() < limits.head_bytes => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLarge),
        Err(httparse::Error::Version) => return Err(Bad::Version),
        Err(_) => return Err(Bad::Syntax),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Bad::Syntax);
    };
    let headers = Headers(parsed.headers);
    let is_old = version == 0;
    headers.check_host(is_old)?;
    headers.check_body()?;
    let mut authorization = headers.all("authorization");
    let head = Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        },
        request: Request::new(path_of(target), negotiate::format(headers.all("accept"), formats)),
        is_old,
        keep_alive: headers.keep_alive(is_old),
        gzip: negotiate::gzip(headers.all("accept-encoding")),
        authorization: authorization.next(),
        length,
    };
    if authorization.next().is_some() { Err(Bad::Authorization) } else { Ok(Some(head)) }
}

/// What follows the authority in a target such as proxies are sent, `http://host:9090/metrics`.
fn path_of(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else { return target };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// The headers of a request.
struct Headers<'h, 'a>(&'h [httparse::Header<'a>]);

impl<'a> Headers<'_, 'a> {
    /// The values of all headers of that name, in lower case. Those that are no text are as if they were not there.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> + Clone {
        let named = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    }

    fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count()
    }

    fn check_host(&self, is_old: bool) -> Result<(), Bad> {
        match self.count("host") {
            1 => Ok(()),
            0 if is_old => Ok(()),
            _ => Err(Bad::Host),
        }
    }

    fn check_body(&self) -> Result<(), Bad> {
        if self.count("transfer-encoding") > 0 {
            return Err(Bad::Body);
        }
        if self.count("content-length") != self.all("content-length").count() {
            return Err(Bad::Length);
        }
        for length in self.all("content-length") {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Bad::Length);
            }
            if length.bytes().any(|byte| byte != b'0') {
                return Err(Bad::Body);
            }
        }
        Ok(())
    }

    fn keep_alive(&self, is_old: bool) -> bool {
        let says = |word: &str| {
            let mut words = self.all("connection").flat_map(|value| value.split(','));
            words.any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        !says("close") && (!is_old || says("keep-alive"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Result<Option<Head<'_>>, Bad> {
        parse(input, &Limits::default(), &Format::ALL)
    }

    #[test]
    fn a_head_says_what_is_asked() {
        let input = b"GET /metrics?aggregate=node&x&=y HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\
                      Accept-Encoding: gzip\r\nAuthorization: Basic eDp5\r\n\r\nGET /next";
        let head = read(input).unwrap().unwrap();
        assert_eq!((head.method, head.is_old, head.keep_alive, head.gzip), (Method::Get, false, true, true));
        assert_eq!(head.authorization, Some("Basic eDp5"));
        assert_eq!(&input[head.length..], b"GET /next");
        let request = head.request;
        assert_eq!((request.path(), request.query()), ("/metrics", "aggregate=node&x&=y"));
        assert_eq!(request.parameters().collect::<Vec<_>>(), [("aggregate", "node"), ("x", ""), ("", "y")]);
        assert_eq!((request.parameter("aggregate"), request.parameter("y")), (Some("node"), None));
        assert_eq!(request.format(), Format::OpenMetrics);
    }

    #[test]
    fn targets_for_proxies_are_understood() {
        for (target, path) in [
            ("http://host:9090/metrics", "/metrics"),
            ("http://host", "/"),
            ("/metrics", "/metrics"),
            ("/a://b/metrics", "/a://b/metrics"),
            ("*", "*"),
        ] {
            assert_eq!(path_of(target), path, "{target}");
        }
    }

    #[test]
    fn connections_go_on_as_the_version_and_the_header_say() {
        for (version, header, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: TE, Close\r\n", false),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n");
            assert_eq!(read(input.as_bytes()).unwrap().unwrap().keep_alive, expected, "{input}");
        }
    }

    #[test]
    fn what_is_no_request_has_its_status() {
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(8192));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(64));
        for (input, bad) in [
            ("\0\r\n\r\n", Bad::Syntax),
            ("GET /\r\n\r\n", Bad::Syntax),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Bad::Syntax),
            ("GET / HTTP/2.0\r\n\r\n", Bad::Version),
            ("GET / HTTP/1.1\r\n\r\n", Bad::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Bad::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", Bad::Body),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", Bad::Body),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Bad::Body),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Bad::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: \r\n\r\n", Bad::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n", Bad::Authorization),
            (&endless, Bad::TooLarge),
            (&many, Bad::TooLarge),
        ] {
            assert_eq!(read(input.as_bytes()).unwrap_err(), bad, "{input}");
        }
        assert!(read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn a_head_that_is_cut_off_anywhere_waits_for_more() {
        let input = b"HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for length in 0..input.len() {
            assert!(read(&input[..length]).unwrap().is_none(), "{length}");
        }
        assert_eq!(read(input).unwrap().unwrap().method, Method::Head);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(input in proptest::collection::vec(any::<u8>(), 0..9000)) {
            if let Ok(Some(head)) = read(&input) {
                prop_assert!(head.length <= input.len());
            }
        }

        #[test]
        fn what_nearly_is_a_request_neither(
            method in "[A-Z]{1,5}", target in "[!-~]{1,20}", name in "(?i)(accept|accept-encoding|connection|host|x)",
            value in "[ -~\t\u{80}-\u{ff}]{0,60}",
        ) {
            let input = format!("{method} {target} HTTP/1.1\r\n{name}: {value}\r\nHost: a\r\n\r\n");
            if let Ok(Some(head)) = read(input.as_bytes()) {
                prop_assert_eq!(head.length, input.len());
            }
        }
    }
}
