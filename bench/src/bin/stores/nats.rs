// SPDX-License-Identifier: Apache-2.0

//! nats: messages, beside a client that does nothing but write the same ones, ready as bytes, and wait for the server's pong;
//! with JetStream, for its acknowledgements.

use std::any::Any;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nixl_telemetry_testkit::{Missing, NATS_PACKAGES, Nats as Server, python};

use crate::store::{Store, run};

const CONFIG: &str = "max_pending: 1073741824\nwrite_deadline: \"60s\"\njetstream {}";
const STREAM: &str = r#"{"name":"BENCH","subjects":["nixl.telemetry.*.*"],"storage":"file"}"#;
const INBOX: &str = "_INBOX.bench";
const FENCE: &str = "bench.fence";
const COUNT: &str = "
import asyncio, sys, nats
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError

async def main():
    client = await nats.connect(sys.argv[1])
    stream, events = client.jetstream(), 0
    try:
        left = (await stream.stream_info('BENCH')).state.messages
    except NotFoundError:
        left = 0
    if left:
        config = ConsumerConfig(headers_only=True)
        messages = await stream.subscribe('nixl.telemetry.>', stream='BENCH', ordered_consumer=True, config=config)
        for _ in range(left):
            events += int((await messages.next_msg(timeout=60)).headers['Nixl-Count'])
    await client.close()
    print(events)

asyncio.run(main())
";

struct Nats {
    server: Rc<Server>,
    python: PathBuf,
    is_jetstream: bool,
    listener: Arc<Listener>,
    client: Client,
    ready: Vec<Message>,
}

/// Who hears everything.
#[derive(Default)]
struct Listener {
    heard: Mutex<Heard>,
    fenced: Condvar,
}

#[derive(Default)]
struct Heard {
    events: u64,
    messages: Vec<Message>,
    fences: u64,
}

struct Message {
    subject: String,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

/// A connection, and no more of the protocol than it takes.
struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

/// A server that does nothing for the time being.
struct Stopped(Rc<Server>);

pub(crate) fn start() -> Result<Box<dyn Store>, Missing> {
    start_as(false)
}

pub(crate) fn start_jetstream() -> Result<Box<dyn Store>, Missing> {
    start_as(true)
}

fn start_as(is_jetstream: bool) -> Result<Box<dyn Store>, Missing> {
    let (server, python, listener) = (Rc::new(Server::start(CONFIG)?), python(&NATS_PACKAGES)?, Arc::default());
    let connect = || Client::connect(server.port()).expect("the server takes connections");
    let (mut ears, heard) = (connect(), Arc::clone(&listener));
    ears.send("SUB nixl.telemetry.> 1\r\nSUB bench.fence 2\r\nPING\r\n").expect("the server listens");
    ears.until_pong().expect("the server answers");
    // It ends with the server.
    thread::spawn(move || while ears.hear(&heard).is_ok() {});
    let mut client = connect();
    client.send(&format!("SUB {INBOX} 1\r\n")).expect("the server listens");
    Ok(Box::new(Nats { server, python, is_jetstream, listener, client, ready: Vec::new() }))
}

impl Store for Nats {
    fn exporter(&self) -> &'static str {
        "nats"
    }

    fn rival(&self) -> &'static str {
        if self.is_jetstream { "ready HPUB frames, acknowledged" } else { "ready HPUB frames" }
    }

    fn settings(&self) -> Vec<(&'static str, OsString)> {
        let mut settings = vec![("URL", self.server.url().into())];
        if self.is_jetstream {
            settings.extend([("JETSTREAM", "y".into()), ("STREAM", "BENCH".into())]);
        }
        settings
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        self.client.request("$JS.API.STREAM.DELETE.BENCH", "")?;
        *self.listener.heard.lock().unwrap_or_else(PoisonError::into_inner) = Heard::default();
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<u64> {
        if self.is_jetstream {
            let mut command = Command::new(&self.python);
            return Ok(run(command.args(["-c", COUNT, &self.server.url()]))?.0.parse()?);
        }
        // What was published before this is heard before it.
        let mut heard = self.listener.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.fences;
        self.client.send(&format!("PUB {FENCE} 0\r\n\r\n"))?;
        while heard.fences == before {
            heard = self.listener.fenced.wait(heard).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(heard.events)
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        self.ready = std::mem::take(&mut self.listener.heard.lock().unwrap_or_else(PoisonError::into_inner).messages);
        Ok(())
    }

    fn bulk(&mut self) -> anyhow::Result<Duration> {
        let reply = if self.is_jetstream { format!(" {INBOX}") } else { String::new() };
        if self.is_jetstream {
            let made = self.client.request("$JS.API.STREAM.CREATE.BENCH", STREAM)?;
            ensure!(!made.contains("\"error\""), "no stream: {made}");
        }
        let mut frames = Vec::new();
        for Message { subject, headers, payload } in &self.ready {
            let all = headers.len() + payload.len();
            write!(frames, "HPUB {subject}{reply} {} {all}\r\n", headers.len())?;
            frames.extend([&headers[..], payload, b"\r\n"].concat());
        }
        let begun = Instant::now();
        self.client.writer.write_all(&frames)?;
        if self.is_jetstream {
            for _ in &self.ready {
                let answer = String::from_utf8(self.client.message()?.payload)?;
                ensure!(answer.contains("\"seq\""), "not stored: {answer}");
            }
        } else {
            self.client.send("PING\r\n")?;
            self.client.until_pong()?;
        }
        Ok(begun.elapsed())
    }

    fn hang(&mut self) -> anyhow::Result<Box<dyn Any>> {
        self.server.signal("STOP");
        Ok(Box::new(Stopped(Rc::clone(&self.server))))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

impl Client {
    fn connect(port: u16) -> anyhow::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        let mut this = Self { reader: BufReader::with_capacity(1 << 20, writer.try_clone()?), writer };
        this.send("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\nPING\r\n")?;
        this.until_pong()?;
        Ok(this)
    }

    fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.writer.write_all(text.as_bytes())?)
    }

    fn request(&mut self, subject: &str, body: &str) -> anyhow::Result<String> {
        self.send(&format!("PUB {subject} {INBOX} {}\r\n{body}\r\n", body.len()))?;
        Ok(String::from_utf8(self.message()?.payload)?)
    }

    fn until_pong(&mut self) -> anyhow::Result<()> {
        while self.line()? != "PONG" {}
        Ok(())
    }

    /// The next line that is not about the connection.
    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let mut line = String::new();
            ensure!(self.reader.read_line(&mut line)? > 0, "the server has closed the connection");
            match line.trim_end() {
                "PING" => self.send("PONG\r\n")?,
                line if line.starts_with("INFO ") => {}
                line => return Ok(line.to_owned()),
            }
        }
    }

    fn message(&mut self) -> anyhow::Result<Message> {
        let line = self.line()?;
        let words: Vec<_> = line.split(' ').collect();
        let (headers, all): (usize, usize) = match words[..] {
            ["HMSG", .., headers, all] => (headers.parse()?, all.parse()?),
            ["MSG", .., all] => (0, all.parse()?),
            _ => anyhow::bail!("the server says {line}"),
        };
        let mut bytes = vec![0; all + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(all);
        let payload = bytes.split_off(headers);
        Ok(Message { subject: words[1].to_owned(), headers: bytes, payload })
    }

    fn hear(&mut self, listener: &Listener) -> anyhow::Result<()> {
        let message = self.message()?;
        let mut heard = listener.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if message.subject == FENCE {
            heard.fences += 1;
            listener.fenced.notify_all();
            return Ok(());
        }
        let headers = String::from_utf8_lossy(&message.headers);
        let count = headers.lines().find_map(|line| line.strip_prefix("Nixl-Count:")).context("no count")?;
        heard.events += count.trim().parse::<u64>()?;
        heard.messages.push(message);
        Ok(())
    }
}
