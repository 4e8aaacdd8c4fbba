// SPDX-License-Identifier: Apache-2.0

//! Servers that are away, slow, full, or do not want this side, and what the log says of them.

use nixl_telemetry_testkit::Nats as Server;
use serde_json::json;

use super::agent::Process;
use super::*;

/// It went wrong once, for this reason, and well once.
fn assert_once(log: &str, because: &str) {
    let wrong: Vec<_> = log.lines().filter(|line| line.contains("it is tried again")).collect();
    assert_eq!((wrong.len(), log.matches("delivers again").count()), (1, 1), "{log}");
    assert!(wrong[0].contains(because), "expected {because:?}: {}", wrong[0]);
    assert!(!log.contains("hunter2"), "{log}");
}

/// An agent that exports while something is wrong, which `mend` puts right: everything is in the stream, once.
fn heals(mut server: Server, pairs: &[(&str, &str)], because: &str, mend: impl FnOnce(&mut Server)) {
    let mut agent = Process::start(&server.url(), &[&[("JETSTREAM", "true")], pairs].concat());
    agent.export(0..5000);
    agent.until_logged("it is tried again");
    agent.export(5000..9000);
    assert_eq!(agent.seen().dropped, 0);
    mend(&mut server);
    agent.until("everything", |seen| seen.delivered == 9000);
    assert_once(&agent.close(), because);
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..9000).collect::<Vec<_>>());
}

const STREAM: (&str, &str) = ("STREAM", "NIXL");

fn stream(config: Json) -> Json {
    let mut all = json!({ "name": "NIXL", "subjects": ["nixl.>"] });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    all
}

#[test]
fn a_server_that_is_down_at_first() {
    let Some(mut server) = server("down at first", JETSTREAM) else { return };
    server.stop();
    heals(server, &[STREAM], "Connection refused", Server::restart);
}

#[test]
fn a_server_without_jetstream() {
    let Some(server) = server("without JetStream", "") else { return };
    heals(server, &[STREAM], "JetStream does not answer: expected it to be enabled", |server| {
        server.restart_with(JETSTREAM);
    });
}

#[test]
fn a_stream_that_is_missing() {
    let Some(server) = server("a missing stream", JETSTREAM) else { return };
    heals(server, &[], "no stream takes the subject nixl.telemetry.a%2Eb.", |server| {
        api(&server.url(), "STREAM.CREATE.NIXL", &stream(json!({})));
    });
}

#[test]
fn a_stream_of_other_subjects() {
    let Some(server) = server("other subjects", JETSTREAM) else { return };
    api(&server.url(), "STREAM.CREATE.NIXL", &stream(json!({ "subjects": ["a", "b.>"] })));
    heals(server, &[STREAM], "stream NIXL takes the subjects a, b.>: expected nixl.telemetry.a%2Eb.", |server| {
        api(&server.url(), "STREAM.UPDATE.NIXL", &stream(json!({})));
    });
}

#[test]
fn a_stream_that_is_full() {
    let Some(server) = server("a full stream", JETSTREAM) else { return };
    // Some messages find room, and behind one that does not, a smaller one may.
    let config = stream(json!({ "max_bytes": 500_000, "discard": "new" }));
    api(&server.url(), "STREAM.CREATE.NIXL", &config);
    heals(server, &[("MESSAGE_SIZE", "700")], "stream NIXL: maximum bytes exceeded (10077)", |server| {
        api(&server.url(), "STREAM.UPDATE.NIXL", &stream(json!({ "discard": "new" })));
    });
}

#[test]
fn a_server_that_hangs() {
    let Some(server) = server("hangs", JETSTREAM) else { return };
    api(&server.url(), "STREAM.CREATE.NIXL", &stream(json!({})));
    server.signal("STOP");
    let short = [STREAM, ("CONNECT_TIMEOUT", "5000")];
    heals(server, &short, "no answer within 5000 ms", |server| server.signal("CONT"));
}

/// What was under way on the connection that was given up reaches the stream, besides what is sent again.
#[test]
fn a_server_that_hangs_while_it_is_sent_something() {
    let Some(server) = server("hangs under way", JETSTREAM) else { return };
    let short =
        [("JETSTREAM", "true"), STREAM, ("CONNECT_TIMEOUT", "5000"), ("ACK_TIMEOUT", "5000"), ("MESSAGE_SIZE", "100")];
    let mut agent = Process::start(&server.url(), &short);
    agent.export(0..1000);
    agent.until("the first", |seen| seen.delivered == 1000);
    server.signal("STOP");
    agent.export(1000..9000);
    agent.until_logged("it is tried again");
    server.signal("CONT");
    agent.until("everything", |seen| seen.delivered == 9000);
    assert_once(&agent.close(), "no answer within 5000 ms");
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..9000).collect::<Vec<_>>());
}

#[test]
fn a_server_with_too_many_connections() {
    let Some(server) = server("too many connections", &format!("{JETSTREAM}\nmax_connections: 1")) else { return };
    let only = connect(&server.url(), &[]).unwrap();
    heals(server, &[STREAM], r#"says "maximum connections exceeded""#, |server| {
        only.close();
        server.restart_with(JETSTREAM);
    });
}

#[test]
fn messages_that_are_too_large_for_one_event() {
    let Some(server) = server("small messages", &format!("{JETSTREAM}\nmax_payload: 300")) else { return };
    heals(server, &[STREAM], "bytes: expected no more than 300 in a message", |server| {
        // Several of those of the usual size.
        server.restart_with(&format!("{JETSTREAM}\nmax_payload: 50000"));
    });
}

#[test]
fn a_user_without_permission() {
    let config = |allowed: &str| {
        format!(
            "{JETSTREAM}\nno_auth_user: operator\nauthorization {{ users: [\n{{ user: operator, password: x }}\n\
             {{ user: me, password: hunter2, permissions: {{ publish: [{allowed}], subscribe: \"_INBOX.>\" }} }}\n] }}"
        )
    };
    let all = r#""nixl.>", "$JS.API.STREAM.INFO.NIXL", "$JS.API.STREAM.MSG.GET.NIXL""#;
    let login = [STREAM, ("USER", "me"), ("PASSWORD", "hunter2")];
    for (allowed, because) in [
        (r#""x""#, r#"says "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.NIXL\"""#),
        (r#""$JS.API.>""#, r#"says "Permissions Violation for Publish to \"nixl.telemetry.a%2Eb."#),
    ] {
        let Some(server) = server("permissions", &config(allowed)) else { return };
        api(&server.url(), "STREAM.CREATE.NIXL", &stream(json!({})));
        heals(server, &login, because, |server| server.reconfigure(&config(all)));
    }
}

#[test]
fn a_wrong_password() {
    let config = |password: &str| {
        format!(
            "{JETSTREAM}\nno_auth_user: operator\nauthorization {{ users: [\n{{ user: operator, password: x }}\n\
             {{ user: me, password: {password} }}\n] }}"
        )
    };
    let Some(server) = server("a wrong password", &config("other")) else { return };
    let login = [STREAM, ("USER", "me"), ("PASSWORD", "hunter2")];
    heals(server, &login, r#"says "Authorization Violation" to user "me""#, |server| {
        server.reconfigure(&config("hunter2"));
    });
}

/// Core NATS says what is not allowed only when it is asked whether all is well.
#[test]
fn a_subject_that_may_not_be_published_on() {
    let config = |allowed: &str| {
        format!("authorization {{ users: [{{ user: me, password: x, permissions: {{ publish: \"{allowed}\" }} }}] }}")
    };
    let Some(mut server) = server("a forbidden subject", &config("x")) else { return };
    let mut agent = Process::start(&server.url(), &[("USER", "me"), ("PASSWORD", "x")]);
    agent.export(0..5000);
    agent.until_logged("it is tried again");
    assert_eq!(agent.seen().delivered, 0);
    server.reconfigure(&config("nixl.>"));
    agent.until("everything", |seen| seen.delivered == 5000);
    assert_once(&agent.close(), "Permissions Violation for Publish to");
}

#[test]
fn a_restart_is_no_trouble_and_another_server_is_taken() {
    let (Some(mut one), Some(other)) = (server("one of two", ""), server("the other", "")) else { return };
    let (first, second) = (Listener::start(&one.url(), ">"), Listener::start(&other.url(), ">"));
    let url = format!("{},{}", one.url(), other.url());
    let mut agent = Process::start(&url, &[]);
    agent.export(0..100);
    assert_eq!(values(&first.hear(100)), (0..100).collect::<Vec<_>>());
    agent.until("the first", |seen| seen.delivered == 100);
    one.kill();
    agent.export(100..200);
    assert_eq!(values(&second.hear(100)), (100..200).collect::<Vec<_>>());
    agent.until("the second", |seen| seen.delivered == 200);
    one.restart();
    let first = Listener::start(&one.url(), ">");
    // In lame duck mode a server asks its clients to leave, and waits until they have.
    other.signal("USR2");
    let mut exported = 200;
    while first.has_heard() == 0 {
        assert!(exported < 200_000, "it stays with a server that asks it to leave");
        agent.export(exported..exported + 100);
        exported += 100;
        agent.until("each", |seen| seen.delivered == exported);
        thread::sleep(Duration::from_millis(20));
    }
    let heard = || u64::try_from(first.has_heard() + second.has_heard()).unwrap();
    until("everything", || heard() == exported - 200);
    let seen: Vec<_> = first.hear(1).into_iter().chain(second.hear(0)).collect();
    assert_eq!(values(&seen), (200..exported).collect::<Vec<_>>());
    let log = agent.close();
    assert!(!log.contains("it is tried again"), "{log}");
}
