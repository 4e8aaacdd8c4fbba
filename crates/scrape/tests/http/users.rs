// SPDX-License-Identifier: Apache-2.0

//! Names and passwords.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use nixl_telemetry_scrape::{Options, Server, WebConfig};

use crate::{
    pki::Folder,
    support::{Answer, Client, options, serve},
};

/// A server with the users `alice` and `bob`, whose passwords are `wonderland` and `builder`.
fn guarded() -> (Server, SocketAddr) {
    // The lowest cost there is: tests need not be safe.
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let text = format!("basic_auth_users:\n  alice: {}\n  bob: {}\n", hash("wonderland"), hash("builder"));
    let web = WebConfig::load(Folder::new().write("web.yml", &text)).unwrap();
    assert!(web.has_users() && !web.has_tls());
    assert!(!format!("{web:?}").contains("$2"), "{web:?}");
    serve(Options { web, ..options() })
}

fn ask(client: &mut Client<std::net::TcpStream>, method: &str, target: &str, credentials: &str) -> Answer {
    let token = BASE64_STANDARD.encode(credentials);
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\n\r\n"));
    if method == "HEAD" { client.answer_head() } else { client.answer() }
}

#[test]
fn users_are_answered_and_others_asked_who_they_are() {
    let (server, address) = guarded();
    let mut client = Client::connect(address);
    for target in ["/metrics", "/", "/-/healthy", "/-/ready", "/none"] {
        let answer = client.get(target);
        assert_eq!(answer.status, 401, "{target}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
    assert_eq!(server.stats().authentication_failures(), 5);
    for (method, target, credentials, status) in [
        ("GET", "/metrics", "alice:wonderland", 200),
        ("HEAD", "/metrics", "alice:wonderland", 200),
        ("GET", "/none", "bob:builder", 404),
        ("POST", "/metrics", "bob:builder", 405),
        ("GET", "/metrics", "bob:wonderland", 401),
        ("HEAD", "/metrics", "bob:wonderland", 401),
        ("POST", "/metrics", "nobody:builder", 401),
    ] {
        assert_eq!(ask(&mut client, method, target, credentials).status, status, "{method} {target} {credentials}");
    }
    assert_eq!((server.stats().authentication_failures(), server.stats().scrapes()), (8, 1));
}

#[test]
fn guessing_is_slowed_down_and_known_users_do_not_notice() {
    let (server, address) = guarded();
    let (mut guest, mut alice) = (Client::connect(address), Client::connect(address));
    assert_eq!(ask(&mut alice, "GET", "/metrics", "alice:wonderland").status, 200);

    let mut guesses = 0_u64;
    let busy = loop {
        let answer = ask(&mut guest, "GET", "/metrics", &format!("bob:{guesses}"));
        guesses += 1;
        if answer.status != 401 {
            break answer;
        }
        assert!(guesses < 1_000_000, "nobody minds");
    };
    assert_eq!(busy.status, 429);
    assert!(busy.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(server.stats().authentication_failures(), guesses);
    for _ in 0..100 {
        assert_eq!(ask(&mut alice, "GET", "/metrics", "alice:wonderland").status, 200);
    }
}
