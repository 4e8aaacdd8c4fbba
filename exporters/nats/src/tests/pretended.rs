// SPDX-License-Identifier: Apache-2.0

//! Servers that say what real ones seldom do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::agent::Process;
use super::*;

/// The answer to a message, from its subject and the one for its reply.
trait Answer: FnMut(&str, &str) -> String + Send + 'static {}
impl<T: FnMut(&str, &str) -> String + Send + 'static> Answer for T {}

/// Pretends to be a server, until the test's process ends; returns its URL.
fn pretend(mut answer: impl Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap(), &mut answer)));
    url
}

fn serve(mut stream: TcpStream, answer: &mut impl Answer) {
    let (mut reader, mut line) = (BufReader::new(stream.try_clone().unwrap()), String::new());
    let mut said = "INFO {\"headers\":true}\r\n".to_owned();
    // Who is served may leave at any time.
    while stream.write_all(said.as_bytes()).is_ok() && reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        said = match words[..] {
            ["PING"] => "PONG\r\n".to_owned(),
            ["HPUB", subject, reply, _, size] => {
                let mut message = vec![0; size.parse::<usize>().unwrap() + END.len()];
                if reader.read_exact(&mut message).is_err() {
                    return;
                }
                answer(subject, reply)
            }
            _ => String::new(),
        };
        line.clear();
    }
}

fn message(subject: &str, payload: &str) -> String {
    format!("MSG {subject} 1 {}\r\n{payload}\r\n", payload.len())
}

/// What JetStream says of a stream that has nothing of what is asked for.
fn of_the_stream(subject: &str) -> Option<&'static str> {
    subject.strip_prefix("$JS.API.").map(|what| match what {
        "STREAM.INFO.NIXL" => r#"{"config":{"subjects":["nixl.>"]},"state":{"last_seq":0}}"#,
        _ => r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#,
    })
}

#[test]
fn what_is_no_reply_is_passed_over() {
    let url = pretend(|subject, reply| {
        let (inbox, _) = reply.rsplit_once('.').unwrap();
        let strange = ["", "é1", ".", ".é", ".99999999999999999999", "1", ".x.1"];
        let strange = strange.map(|rest| message(&format!("{inbox}{rest}"), "{}"));
        strange.concat() + &message(reply, of_the_stream(subject).unwrap_or(r#"{"seq":1}"#))
    });
    let mut host = open(&url, &STORED);
    export(&mut host, 0..10);
    until_delivered(&host, 10);
    close(host);
}

/// As a stream does that hands its messages on to another one.
#[test]
fn a_message_that_is_acknowledged_twice_makes_up_for_none_that_is_not() {
    let mut published = 0;
    let url = pretend(move |subject, reply| {
        if let Some(said) = of_the_stream(subject) {
            return message(reply, said);
        }
        published += 1;
        message(reply, r#"{"seq":1}"#).repeat(if published % 2 == 0 { 2 } else { 0 })
    });
    let mut agent = Process::start(&url, &[&STORED[..], &[("MESSAGE_SIZE", "500"), ("ACK_TIMEOUT", "200")]].concat());
    agent.export(0..1000);
    agent.until_logged("no answer within 200 ms");
    assert_eq!(agent.seen().delivered, 0);
}
