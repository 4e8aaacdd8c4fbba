// SPDX-License-Identifier: Apache-2.0

//! `tail`: events as they come, agents as they come and go, and what is said when something is lost.

mod support;

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Event, Generation, Kind};
use nixl_telemetry_ring::{Options, Writer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{command, text};

/// More than anything takes, on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(60);

/// Lines of a stream, as they come.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            BufReader::new(stream).lines().for_each(|line| shared.lock().unwrap().push(line.unwrap()));
        });
        Self { lines, reader: Some(reader) }
    }

    fn get(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// All lines, when the stream has ended.
    fn finish(mut self) -> Vec<String> {
        self.reader.take().unwrap().join().unwrap();
        self.get()
    }

    /// The lines, as soon as this holds for them.
    #[track_caller]
    fn when(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait_until(what, || holds(&self.lines.lock().unwrap()));
        self.get()
    }

    /// The same for one of them that has this in it.
    #[track_caller]
    fn has(&self, part: &str) {
        self.when(part, |lines| lines.iter().any(|line| line.contains(part)));
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The command, at work.
struct Tail {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Tail {
    fn start(arguments: &[&str]) -> Self {
        let mut command = command(&[&["tail"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// Ends it by a signal; its exit code, and what it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, Vec<String>, Vec<String>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, self.out.finish(), self.err.finish())
    }
}

fn writer(directory: &Path, agent: &str, options: Options) -> Writer {
    Writer::create(directory, agent, options).unwrap()
}

#[track_caller]
fn push(writer: &mut Writer, events: &[Event<'_>]) {
    assert_eq!(writer.push(events).written, events.len() as u64);
}

#[test]
fn agents_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let tail = Tail::start(&["--format", "json", text(directory.path())]);
    let mut first = writer(directory.path(), "first", Options::default());
    tail.err.has("note: first is followed: ring version 4, 4,096 slots");

    // Once it follows, an event is shown soon.
    push(&mut first, &[Event::new(Kind::TX_BYTES, 4096)]);
    tail.out.when("the first event", |lines| lines.len() == 1);

    let mut second = writer(directory.path(), "second", Options { generation: Generation::V0_9, ..Options::default() });
    push(&mut second, &[Event::new(Kind::ERR_BACKEND, 1).at(7)]);
    tail.out.when("the second event", |lines| lines.len() == 2);
    fs::remove_file(first.path()).unwrap();
    tail.err.has("note: first has gone");

    // The next of its name is begun anew.
    drop(first);
    let mut first = writer(directory.path(), "first", Options::default());
    push(&mut first, &[Event::new(Kind::RX_BYTES, 1)]);
    tail.out.when("the third event", |lines| lines.len() == 3);

    let (code, out, err) = tail.end(Signal::INT);
    assert_eq!(code, Some(130));
    let expected = [
        r#"{"agent":"first","event":"agent_tx_bytes","category":"TRANSFER","value":4096,"unit":"bytes"}"#,
        r#"{"timestamp_us":7,"agent":"second","event":"agent_err_backend","category":"ERROR","value":1,"unit":"errors"}"#,
        r#"{"agent":"first","event":"agent_rx_bytes","category":"TRANSFER","value":1,"unit":"bytes"}"#,
    ];
    assert_eq!(out, expected);
    let expected = [
        "note: first is followed: ring version 4, 4,096 slots",
        "note: second is followed: ring version 1, 4,096 slots",
        "note: first has gone",
        "note: first is followed: ring version 4, 4,096 slots",
    ];
    assert_eq!(err, expected);
}

#[test]
fn text_tells_times_that_are_known_from_those_that_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), "a", Options::default());
    push(&mut writer, &[Event::new(Kind::TX_BYTES, 1); 2]);
    let tail = Tail::start(&["-q", text(directory.path())]);
    tail.out.when("what was there", |lines| lines.len() == 2);
    push(&mut writer, &[Event::new(Kind::XFER_TIME, 1970)]);
    tail.out.when("what came", |lines| lines.len() == 3);
    let (code, out, err) = tail.end(Signal::TERM);
    assert_eq!((code, err), (Some(143), Vec::new()));
    assert_eq!(out[..2], ["-  a  agent_tx_bytes                      1 B"; 2]);
    // The date of the test, whatever it is.
    let (time, rest) = out[2].split_at("~2026-11-26T05:34:28.123456Z".len());
    assert!(time.starts_with("~20") && time.ends_with('Z'), "{time}");
    assert_eq!(rest, "  a  agent_xfer_time                 1.97 ms");
}

#[test]
fn since_now_leaves_out_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut old = writer(directory.path(), "old", Options::default());
    push(&mut old, &[Event::new(Kind::TX_BYTES, 1); 3]);
    let mut timed = writer(directory.path(), "timed", Options { generation: Generation::V0_9, ..Options::default() });
    push(&mut timed, &[Event::new(Kind::TX_BYTES, 1).at(5)]);
    let tail = Tail::start(&["-q", "--format", "csv", "--since", "0s", text(directory.path())]);
    tail.err.has("--since leaves out 3 events without a time");
    push(&mut old, &[Event::new(Kind::TX_BYTES, 2)]);
    push(&mut timed, &[Event::new(Kind::TX_BYTES, 3).at(6), Event::new(Kind::TX_BYTES, 4).at(u64::MAX)]);
    tail.out.when("two events", |lines| lines.len() == 3);
    let (code, mut out, err) = tail.end(Signal::INT);
    assert_eq!((code, err.len()), (Some(130), 1));
    out.sort_unstable();
    let expected = [
        ",old,agent_tx_bytes,TRANSFER,2,bytes",
        "18446744073709551615,timed,agent_tx_bytes,TRANSFER,4,bytes",
        "timestamp_us,agent,event,category,value,unit",
    ];
    assert_eq!(out, expected);
}

#[test]
fn what_happens_to_files_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let tail = Tail::start(&["-q", "--format", "csv", text(&path)]);
    tail.err.has("is not there yet");
    let mut first = Writer::at(path.clone(), Options::default()).unwrap();
    push(&mut first, &[Event::new(Kind::TX_BYTES, 1), Event::new(Kind::TX_BYTES, 2)]);
    tail.out.when("two events", |lines| lines.len() == 3);

    // It shrinks, which breaks it, and grows again.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(100).unwrap();
    tail.err.has("has 100 bytes: expected 65576 for 4096 slots of version 4");
    drop(first);
    fs::remove_file(&path).unwrap();
    let mut second = Writer::at(path.clone(), Options::default()).unwrap();
    push(&mut second, &[Event::new(Kind::TX_BYTES, 3), Event::new(Kind::TX_BYTES, 4)]);
    tail.out.when("four events", |lines| lines.len() == 5);
    tail.err.has("was begun anew by its writer");

    // The next writer begins it anew where it is.
    drop(second);
    let mut third = Writer::at(path.clone(), Options::default()).unwrap();
    push(&mut third, &[Event::new(Kind::TX_BYTES, 5)]);
    tail.out.when("five events", |lines| lines.len() == 6);
    tail.err.when("a second time", |lines| lines.iter().filter(|line| line.contains("was begun anew")).count() == 2);

    // Nobody takes anything out.
    push(&mut third, &[Event::new(Kind::TX_BYTES, 6); 4094]);
    tail.out.when("a full ring", |lines| lines.len() == 4100);
    tail.err.has("is full: NIXL drops new events");

    let (code, out, err) = tail.end(Signal::INT);
    assert_eq!(code, Some(130));
    let values: Vec<_> = out[1..7].iter().map(|line| line.split(',').nth(4).unwrap()).collect();
    assert_eq!(values, ["1", "2", "3", "4", "5", "6"]);
    let name = text(&path);
    let expected = [
        format!("warning: {name} is not there yet"),
        format!("error: {name} has 100 bytes: expected 65576 for 4096 slots of version 4"),
        format!("warning: {name} was begun anew by its writer: what it held, and was not read yet, is gone"),
        format!("warning: {name} was begun anew by its writer: what it held, and was not read yet, is gone"),
        format!("warning: {name} is full: NIXL drops new events until somebody takes some out, as --consume does"),
    ];
    assert_eq!(err, expected);
}

#[test]
fn a_closed_pipe_ends_it_even_if_nothing_comes() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), "a", Options::default());
    push(&mut writer, &[Event::new(Kind::TX_BYTES, 1)]);
    let mut command = command(&["tail", "-q", text(directory.path())]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    wait_until("the end", || child.try_wait().unwrap().is_some());
    let ran = support::ran(child.wait_with_output().unwrap()).ends(0);
    assert_eq!((line.as_str(), ran.err.as_str()), ("-  a  agent_tx_bytes                      1 B\n", ""));
}

/// How many events remarks say were lost, and whether there may have been more.
fn lost(remarks: &[String]) -> (u64, bool) {
    let lost = remarks.iter().filter_map(|line| {
        let (_, what) = line.split_once(" lost ")?;
        let (number, _) = what.strip_prefix("at least ").unwrap_or(what).split_once(" event")?;
        Some((number.replace(',', "").parse::<u64>().unwrap(), what.starts_with("at least ")))
    });
    lost.fold((0, false), |(all, any), (number, or_more)| (all + number, any | or_more))
}

#[test]
fn one_takes_each_event_out_once_while_ten_look_on() {
    const EVENTS: u64 = 40_000;
    const AT_ONCE: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), "a", Options::default());
    let arguments = ["--format", "json", text(directory.path())];
    let lookers: Vec<_> = (0..10).map(|_| Tail::start(&arguments)).collect();
    let consumer = Tail::start(&[&["--consume"], arguments.as_slice()].concat());
    for tail in lookers.iter().chain([&consumer]) {
        tail.err.has("a is followed");
    }

    let mut value = 0..EVENTS;
    while !value.is_empty() {
        // A writer that is nearly a round ahead of who looks on could be a new one.
        let pushed = value.start;
        let is_there = |tail: &Tail| tail.out.count() as u64 + lost(&tail.err.get()).0 + 3000 >= pushed;
        wait_until("room", || writer.unread() + (AT_ONCE as u64) < writer.capacity() && lookers.iter().all(is_there));
        let events: Vec<_> = value.by_ref().take(AT_ONCE).map(|value| Event::new(Kind::XFER_TIME, value)).collect();
        push(&mut writer, &events);
        thread::sleep(Duration::from_millis(2));
    }
    let last = format!("\"value\":{},", EVENTS - 1);
    consumer.out.when("the last event", |lines| lines.last().is_some_and(|line| line.contains(&last)));
    // Who looks on late finds the last ones taken out already, and says so.
    for tail in &lookers {
        wait_until("every event", || tail.out.count() as u64 + lost(&tail.err.get()).0 == EVENTS);
    }
    assert_eq!(writer.unread(), 0);
    assert_eq!(consumer.out.count() as u64, EVENTS);

    let values = |lines: &[String]| -> Vec<u64> {
        let objects = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.map(|object| object["value"].as_u64().unwrap()).collect()
    };
    let (code, out, err) = consumer.end(Signal::INT);
    assert_eq!(code, Some(130));
    assert!(values(&out).into_iter().eq(0..EVENTS));
    assert_eq!(err, ["note: a is followed: ring version 4, 4,096 slots"]);
    for tail in lookers {
        let (code, out, err) = tail.end(Signal::INT);
        assert_eq!(code, Some(130));
        let seen = values(&out);
        assert!(seen.is_sorted_by(|a, b| a < b));
        assert_eq!((seen.len() as u64 + lost(&err).0, lost(&err).1), (EVENTS, false), "{err:?}");
    }
}
