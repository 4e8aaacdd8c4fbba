// SPDX-License-Identifier: Apache-2.0

//! TLS: who believes whom.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nixl_telemetry_scrape::{Limits, Options, Server};
use nixl_telemetry_testkit::{Authority, command, require};
use rustls::{
    CipherSuite, ClientConfig, DEFAULT_VERSIONS, NamedGroup, ProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{
    pki::{Folder, client, configured, connect, issue},
    support::{Client, serve, wait_until},
};

/// Whether a client is let in, by what it gets.
fn is_welcome(address: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut client) = connect(address, config) else { return false };
    // With TLS 1.3 a client thinks that it is in before the server has looked at its certificate.
    client.try_send("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let rest = client.rest();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 200 OK\r\n"));
    !rest.is_empty()
}

/// An authority, and a folder with a server's certificate made by it.
fn setting() -> (Authority, Folder) {
    let (authority, folder) = (Authority::new("ours"), Folder::new());
    folder.write_identity(&issue(&authority));
    folder.write("ca.crt", &authority.pem());
    (authority, folder)
}

#[test]
fn everything_is_as_without_tls() {
    let (authority, folder) = setting();
    let (server, address) = folder.serve_tls(&[]);
    for version in [&TLS12, &TLS13] {
        let config = client(&authority, None, &[version]);
        let mut client = connect(address, &config).unwrap();
        assert_eq!(client.get("/metrics").text(), "text\n");
        client.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer_head().header("content-length"), Some("5"));
        // More than TLS keeps, and more than the socket does.
        assert_eq!(client.get("/metrics?size=10000000").body.len(), 10_000_000);
        // More than a head may have: what TLS has read already makes no socket ready.
        let requests: String =
            (0..400).map(|size| format!("GET /metrics?size={size} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        client.send(requests);
        for size in 0..400 {
            assert_eq!(client.answer().body.len(), size);
        }
        // Just as much: the next one waits within TLS, while nothing waits here.
        let padding = "x".repeat(8192 - "GET /metrics HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len());
        client.send(format!(
            "GET /metrics HTTP/1.1\r\nHost: a\r\nX: {padding}\r\n\r\n\
             GET /-/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!((client.answer().text(), client.answer().text()), ("text\n", "Ready.\n"));
        assert!(client.rest().is_empty());
    }
    assert_eq!((server.stats().scrapes(), server.stats().bad_requests()), (806, 0));
}

#[test]
fn curl_understands_it() {
    let Some(curl) = require("curl_understands_it", command("curl", "curl")) else { return };
    let (_authority, folder) = setting();
    let (_server, address) = folder.serve_tls(&[]);
    let run = |arguments: &[&str]| {
        let mut curl = Command::new(&curl);
        curl.args(["--silent", "--max-time", "20"]).args(arguments).arg(format!("https://{address}/metrics"));
        curl.output().unwrap()
    };
    let ca = folder.path("ca.crt");
    assert_eq!(run(&["--cacert", ca.to_str().unwrap()]).stdout, b"text\n");
    let head = String::from_utf8(run(&["--head", "--cacert", ca.to_str().unwrap()]).stdout).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    // curl's own code for a server it does not believe.
    assert_eq!(run(&[]).status.code(), Some(60));
}

#[test]
fn a_client_that_does_not_believe_the_server_leaves() {
    let (authority, folder) = setting();
    let (server, address) = folder.serve_tls(&[]);
    let stranger = client(&Authority::new("another"), None, DEFAULT_VERSIONS);
    let error = connect(address, &stranger).err().unwrap();
    assert!(error.contains("UnknownIssuer"), "{error}");
    wait_until("the server has been told", || server.stats().bad_requests() == 1);
    assert!(is_welcome(address, &client(&authority, None, DEFAULT_VERSIONS)));
}

#[test]
fn clients_have_to_show_what_is_asked_for() {
    let (ours, folder) = setting();
    let theirs = Authority::new("another");
    let (of_ours, of_theirs) = (issue(&ours), issue(&theirs));
    let ca = "client_ca_file: ca.crt";
    for (lines, without, with_theirs, with_ours) in [
        (&["client_auth_type: NoClientCert"][..], true, true, true),
        (&["client_auth_type: RequestClientCert"], true, true, true),
        (&["client_auth_type: RequireAnyClientCert"], false, true, true),
        (&["client_auth_type: RequireClientCert"], false, true, true),
        (&["client_auth_type: VerifyClientCertIfGiven", ca], true, false, true),
        (&["client_auth_type: RequireAndVerifyClientCert", ca], false, false, true),
    ] {
        let (_server, address) = folder.serve_tls(lines);
        for version in [&TLS12, &TLS13] {
            let got = [None, Some(&of_theirs), Some(&of_ours)]
                .map(|identity| is_welcome(address, &client(&ours, identity, &[version])));
            assert_eq!(got, [without, with_theirs, with_ours], "{lines:?} {version:?}");
        }
    }
}

#[test]
fn versions_suites_and_curves_are_those_allowed() {
    let (authority, folder) = setting();
    let both = client(&authority, None, DEFAULT_VERSIONS);
    let spoken = |lines: &[&str]| {
        let (_server, address) = folder.serve_tls(lines);
        let client = connect(address, &both).unwrap();
        let session = client.session();
        (session.protocol_version().unwrap(), session.negotiated_cipher_suite().unwrap().suite())
    };
    assert_eq!(spoken(&[]).0, ProtocolVersion::TLSv1_3);
    assert_eq!(spoken(&["max_version: TLS12"]).0, ProtocolVersion::TLSv1_2);
    let suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]";
    let chacha = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    assert_eq!(spoken(&["max_version: TLS12", suites]), (ProtocolVersion::TLSv1_2, chacha));
    assert_eq!(spoken(&[suites]).0, ProtocolVersion::TLSv1_3);

    let (_server, address) = folder.serve_tls(&["min_version: TLS13", "curve_preferences: [CurveP384]"]);
    assert!(!is_welcome(address, &client(&authority, None, &[&TLS12])));
    let client = connect(address, &both).unwrap();
    assert_eq!(client.session().negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp384r1);
}

#[test]
fn one_who_does_not_shake_hands_is_let_go() {
    let (authority, folder) = setting();
    let config = folder.write("web.yml", "tls_server_config: {cert_file: server.crt, key_file: server.key}");
    let limits = Limits { head: Duration::from_secs(3), ..Limits::default() };
    let (server, address) = serve(Options { limits, ..configured(&config) });

    let mut plain = Client::connect(address);
    plain.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!plain.rest().starts_with(b"HTTP"));
    assert_eq!(server.stats().bad_requests(), 1);

    // The begin of a record that never comes.
    let mut half = Client::connect(address);
    half.send([22, 3, 1, 2, 0, 1]);
    assert!(half.rest().is_empty());
    assert!(Client::connect(address).rest().is_empty());
    assert!(is_welcome(address, &client(&authority, None, DEFAULT_VERSIONS)));
}

#[test]
fn a_certificate_that_is_replaced_is_shown_to_those_who_come_later() {
    let (authority, folder) = setting();
    let (_server, address) = folder.serve_tls(&[]);
    let config = client(&authority, None, DEFAULT_VERSIONS);
    let mut early = connect(address, &config).unwrap();
    early.get("/metrics");

    let new = issue(&authority);
    folder.write_identity(&new);
    let expected = CertificateDer::from_pem_slice(new.certificate.as_bytes()).unwrap();
    wait_until("the new one is shown", || {
        let client = connect(address, &config).unwrap();
        client.session().peer_certificates().unwrap()[0] == expected
    });
    assert_eq!(early.get("/metrics").text(), "text\n");
}

#[test]
fn sockets_of_tls_are_limited_as_well() {
    let (authority, folder) = setting();
    let (server, address): (Server, _) = folder.serve_tls(&[]);
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(is_welcome(address, &client(&authority, None, DEFAULT_VERSIONS)));
    assert!(server.stats().rejected_connections() > 0);
    for mut socket in silent {
        // Closed, or waiting for its handshake.
        let _ = socket.write(b"x");
    }
}
