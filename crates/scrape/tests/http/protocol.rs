// SPDX-License-Identifier: Apache-2.0

//! What is answered to whom.

use std::{
    io::Read as _,
    net::Shutdown,
    process::{Command, Output},
};

use nixl_telemetry_testkit::{command, require};
use proptest::prelude::*;

use crate::support::{Answer, Client, options, serve, wait_until};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[test]
fn every_path_has_its_answer() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    for (target, status, content_type, body) in [
        ("/metrics", 200, TEXT, "text\n"),
        ("/metrics/", 200, TEXT, "text\n"),
        ("/metrics?size=3", 200, TEXT, "012"),
        ("http://proxy/metrics", 200, TEXT, "text\n"),
        ("/-/healthy", 200, "text/plain; charset=utf-8", "Healthy.\n"),
        ("/-/ready", 200, "text/plain; charset=utf-8", "Ready.\n"),
        ("/metrics/foo", 404, "text/plain; charset=utf-8", "There is /metrics.\n"),
        ("/metricsx", 404, "text/plain; charset=utf-8", "There is /metrics.\n"),
        ("/metrics?what", 400, "text/plain; charset=utf-8", "unknown parameter what\n"),
        ("/metrics?status=503", 503, "text/plain; charset=utf-8", "as asked for\n"),
        ("/metrics?status=200", 500, "text/plain; charset=utf-8", "as asked for\n"),
        ("/metrics?panic", 500, "text/plain; charset=utf-8", "The metrics could not be written.\n"),
        ("/metrics?size=2&panic", 500, "text/plain; charset=utf-8", "The metrics could not be written.\n"),
        ("/metrics", 200, TEXT, "text\n"),
    ] {
        let answer = client.get(target);
        let got = (answer.status, answer.header("content-type").unwrap(), answer.text());
        assert_eq!(got, (status, content_type, body), "{target}");
        assert_eq!(answer.header("connection"), None, "{target}");
    }
    let page = client.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<a href=\"/metrics\">"), "{}", page.text());

    assert_eq!(server.stats().scrapes(), 5);
    assert_eq!(server.stats().latencies().count, 5);
    wait_until("counted", || server.stats().body_bytes() == 4 * 5 + 3);
    assert_eq!((server.stats().bad_requests(), server.stats().authentication_failures()), (0, 0));
}

#[test]
fn what_is_no_request_is_told_why_and_the_connection_closed() {
    let (server, address) = serve(options());
    let requests = [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 413),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(65)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000)), 431),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
    ];
    let count = requests.len() as u64;
    for (request, status) in requests {
        let mut client = Client::connect(address);
        client.send(&request);
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request}");
        assert!(client.rest().is_empty(), "{request}");
    }
    assert_eq!((server.stats().bad_requests(), server.stats().scrapes()), (count, 0));
}

#[test]
fn only_get_and_head_are_allowed() {
    let (_server, address) = serve(options());
    let mut client = Client::connect(address);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "PROPFIND"] {
        client.send(format!("{method} /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    for target in ["/metrics", "/metrics?size=5000", "/", "/-/healthy", "/none", "/metrics?status=503"] {
        let request = format!("{target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        client.send(format!("GET {request}HEAD {request}GET {request}"));
        let (get, head, again) = (client.answer(), client.answer_head(), client.answer());
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{target}");
        // Had there been a body, this would not have been an answer.
        assert_eq!(again.body, get.body, "{target}");
    }
    assert_eq!(server.stats().scrapes(), 4);
}

#[test]
fn connections_go_on_until_somebody_wants_them_closed() {
    let (_server, address) = serve(options());
    for (request, connection) in [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET /metrics HTTP/1.0\r\n\r\n", Some("close")),
        ("GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
    ] {
        let mut client = Client::connect(address);
        for _ in 0..3 {
            client.send(request);
            let answer = client.answer();
            assert_eq!((answer.status, answer.header("connection")), (200, connection), "{request}");
            if connection == Some("close") {
                break;
            }
        }
        if connection == Some("close") {
            assert!(client.rest().is_empty(), "{request}");
        }
    }
}

#[test]
fn requests_may_be_sent_before_they_are_answered() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    // More than a head may have, so that some wait in the socket.
    let requests: String =
        (0..600).map(|size| format!("GET /metrics?size={size} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    assert!(requests.len() > 3 * 8192);
    client.send(requests);
    for size in 0..600 {
        assert_eq!(client.answer().body.len(), size);
    }
    assert_eq!(server.stats().scrapes(), 600);
}

#[test]
fn who_has_said_everything_is_still_answered() {
    let (_server, address) = serve(options());
    let mut client = Client::connect(address);
    client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /-/ready HTTP/1.1\r\nHost: a\r\n\r\nGET /half");
    client.socket().shutdown(Shutdown::Write).unwrap();
    assert_eq!((client.answer().text(), client.answer().text()), ("text\n", "Ready.\n"));
    assert!(client.rest().is_empty());
}

#[test]
fn bodies_are_packed_for_those_who_want_it() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    let plain = client.get("/metrics?size=100000");
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, 100_000));

    client.send("GET /metrics?size=100000 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let packed = client.answer();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < 10_000, "{}", packed.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let sent = (plain.body.len() + packed.body.len()) as u64;
    wait_until("counted", || server.stats().body_bytes() == sent);

    client.send("GET /metrics?size=1000 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let small = client.answer();
    assert_eq!((small.header("content-encoding"), small.body.len()), (None, 1000));
    for answer in [plain, packed, small] {
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
    }
}

#[test]
fn the_format_is_the_one_asked_for() {
    let (_server, address) = serve(options());
    let mut client = Client::connect(address);
    for (accept, content_type, body) in [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "openmetrics\n",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,*/*;q=0.1",
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            "protobuf",
        ),
        ("*/*", TEXT, "text\n"),
        ("image/png", TEXT, "text\n"),
    ] {
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.header("content-type"), answer.text()), (Some(content_type), body), "{accept}");
    }
}

#[test]
fn curl_understands_it() {
    let Some(curl) = require("curl_understands_it", command("curl", "curl")) else { return };
    let (_server, address) = serve(options());
    let run = |arguments: &[&str], target: &str| -> Output {
        let url = format!("http://{address}{target}");
        Command::new(&curl)
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments)
            .arg(url)
            .output()
            .unwrap()
    };
    assert_eq!(run(&["--compressed"], "/metrics?size=50000").stdout.len(), 50_000);
    assert_eq!(run(&["--http1.0"], "/metrics").stdout, b"text\n");
    let head = String::from_utf8(run(&["--head"], "/metrics").stdout).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 5\r\n"), "{head}");
    // curl's own code for a status of 400 and above.
    let missing = run(&["--fail", "--write-out", "%{http_code}"], "/none");
    assert_eq!((missing.status.code(), missing.stdout.as_slice()), (Some(22), &b"404"[..]));
    let sent = run(&["--data", "x=y", "--write-out", "%{http_code}"], "/metrics");
    assert!(sent.stdout.ends_with(b"413"), "{sent:?}");
}

/// Bytes that look like requests, at least from afar.
fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..200),
        3 => "(GET|HEAD|POST|[A-Z]{1,9}) (/metrics|/|\\*|[!-~]{1,30}) HTTP/1\\.[01]\r\n".prop_map(String::into_bytes),
        3 => "(Host|Accept|Connection|Content-Length|Authorization|X): [ -~]{0,40}\r\n".prop_map(String::into_bytes),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn whatever_is_sent_is_answered_or_the_connection_ends() {
    let (_server, address) = serve(options());
    proptest!(ProptestConfig::with_cases(256), |(bytes in almost_requests())| {
        let mut client = Client::connect(address);
        // The server may have had enough before the end.
        if client.try_send(&bytes) {
            let _ = client.socket().shutdown(Shutdown::Write);
        }
        let rest = client.rest();
        prop_assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&rest));
    });
    let answer: Answer = Client::connect(address).get("/metrics");
    assert_eq!(answer.text(), "text\n");
}
