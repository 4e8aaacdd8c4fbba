// SPDX-License-Identifier: Apache-2.0

//! How large messages may be, for a server, an account and a stream, and what becomes of events that are larger.

use serde_json::json;

use super::*;

/// The most events there are in a message, of those with these numbers.
fn most(messages: &[Message], numbers: Range<u64>) -> usize {
    let those = messages.iter().filter(|message| numbers.contains(&message.numbers().start));
    those.map(|message| message.events.len()).max().unwrap()
}

#[test]
fn an_account_that_may_send_less_than_the_server_takes() {
    let limits = "limits: { max_payload: 100000 }";
    let config = format!("accounts {{ A: {{ users: [{{ user: me, password: x }}], {limits} }} }}");
    let Some(server) = server("a limit of the account", &config) else { return };
    let url = format!("nats://me:x@127.0.0.1:{}", server.port());
    let listener = Listener::start(&url, ">");
    let mut host = open(&url, &[]);
    export(&mut host, 0..5000);
    let messages = listener.hear(5000);
    assert_eq!(values(&messages), (0..5000).collect::<Vec<_>>());
    until_delivered(&host, 5000);
    close(host);
    assert_eq!(most(&messages, 0..5000), 512);
}

#[test]
fn a_stream_of_small_messages() {
    let Some(server) = server("a stream of small messages", JETSTREAM) else { return };
    let config = json!({ "name": "NIXL", "subjects": ["nixl.>"], "max_msg_size": 20_000 });
    api(&server.url(), "STREAM.CREATE.NIXL", &config);
    let mut host = open(&server.url(), &STORED);
    export(&mut host, 0..4096);
    until_delivered(&host, 4096);
    close(host);
    let messages = stored(&server.url(), "NIXL");
    assert_eq!(values(&messages), (0..4096).collect::<Vec<_>>());
    assert_eq!(most(&messages, 0..4096), 128);
}

#[test]
fn messages_are_large_again_once_they_may() {
    let Some(mut server) = server("a limit that is mended", &format!("{JETSTREAM}\nmax_payload: 20000")) else {
        return;
    };
    let mut host = open(&server.url(), &STORED);
    export(&mut host, 0..4096);
    until_delivered(&host, 4096);
    server.restart_with(JETSTREAM);
    export(&mut host, 4096..8192);
    until_delivered(&host, 8192);
    close(host);
    let messages = stored(&server.url(), "NIXL");
    assert_eq!(values(&messages), (0..8192).collect::<Vec<_>>());
    assert_eq!((most(&messages, 0..4096), most(&messages, 4096..8192)), (128, 2048));
}

/// All others are there, and in messages no smaller than before.
#[test]
fn an_event_no_message_has_room_for_is_refused() {
    let Some(server) = server("an event that is too large", &format!("{JETSTREAM}\nmax_payload: 350000")) else {
        return;
    };
    for format in ["jsonl", "msgpack"] {
        let stream = format.to_uppercase();
        let subject = format!("{format}.{{origin}}");
        let pairs = [("JETSTREAM", "true"), ("STREAM", &stream), ("SUBJECT", &subject), ("FORMAT", format)];
        // All in one delivery.
        let pairs = [&pairs[..], &[("BATCH_SIZE", "4097"), ("BATCH_TIMEOUT", "3600000")]].concat();
        let mut host = open(&server.url(), &pairs);
        export(&mut host, 0..1000);
        host.export(&[Event::backend(&"x".repeat(400_000), 0)]);
        export(&mut host, 1000..4096);
        until("all of it", || counts(&host).waiting == 0);
        let QueueCounts { delivered, dropped, .. } = counts(&host);
        assert_eq!((delivered, dropped.refused, dropped.total()), (4096, 1, 1), "{format}");
        host.close();
        let messages = stored(&server.url(), &stream);
        assert_eq!(values(&messages), (0..4096).collect::<Vec<_>>(), "{format}");
        assert_eq!((most(&messages, 0..1000), most(&messages, 2048..4097)), (512, 2048), "{format}");
    }
}
