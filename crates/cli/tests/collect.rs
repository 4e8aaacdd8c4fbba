// SPDX-License-Identifier: Apache-2.0

//! `collect`: every event of every ring is in its agent's file, whatever happens to rings, exporters and the command.

mod support;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nixl_telemetry_event::{Event, Generation, Kind, Status};
use nixl_telemetry_ring::{Batch, Keep, Mode, Options, Reader, Writer};
use nixl_telemetry_testkit::{compile_cpp, workspace_root};
use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Ran, command, csv, finish, run, text};

/// Events without times, and with them.
const NEW: Generation = Generation::V1_5;
const TIMED: Generation = Generation::V0_9;

/// Rings, the exporter csv, and the files it writes, one for each agent.
struct Scene {
    plugins: tempfile::TempDir,
    root: tempfile::TempDir,
}

/// A `collect` that runs.
struct Running {
    child: Child,
    err: PathBuf,
    out: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { plugins: csv().0, root: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.rings()).unwrap();
        fs::create_dir(scene.path("out")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn rings(&self) -> PathBuf {
        self.path("rings")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (rings, file) = (self.rings(), self.path("out/{agent}.csv"));
        let usual = ["collect", "--from", text(&rings), "--plugin-dir", text(self.plugins.path())];
        let exporter: &[&str] = if arguments.contains(&"--exporter") { &[] } else { &["--exporter", "csv"] };
        let mut command = command(&[&usual, exporter, arguments].concat());
        command.env("NIXL_TELEMETRY_CSV_FILE", file).current_dir(self.root.path());
        command
    }

    fn once(&self, arguments: &[&str]) -> Ran {
        finish(self.command(&[&["--once"], arguments].concat()))
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let (err, out) = (self.path("stderr"), self.path("stdout"));
        let mut command = self.command(arguments);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), err, out }
    }

    fn writer(&self, agent: &str, generation: Generation) -> Writer {
        Writer::create(&self.rings(), agent, Options { generation, ..Options::default() }).unwrap()
    }

    /// The values in the file of an agent, in order.
    fn values(&self, agent: &str) -> Vec<u64> {
        let rows = rows(&self.path("out").join(agent).with_extension("csv"));
        rows.into_iter().map(|[_, _, value]| value.parse().unwrap()).collect()
    }

    fn wait_for_values(&self, agent: &str, count: usize) {
        until(&format!("{count} events of {agent}"), || self.values(agent).len() >= count);
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    fn wait_until_said(&mut self, what: &str) {
        let (err, child) = (&self.err, &mut self.child);
        until(what, || {
            let said = fs::read_to_string(err).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended:\n{said}");
            said.contains(what)
        });
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it by SIGTERM, which it does with this code; what it said in the end.
    #[track_caller]
    fn ends(&mut self, code: i32) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.said());
        fs::read_to_string(&self.out).unwrap()
    }

    /// The same of one with `--json`.
    #[track_caller]
    fn ends_with_status(&mut self, code: i32) -> Value {
        serde_json::from_str(&self.ends(code)).unwrap()
    }
}

/// None is left behind by a test that fails.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn until(what: &str, is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    let mut is_so = is_so;
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Time, name and value of each row that is whole; none of a file that is not there.
fn rows(path: &Path) -> Vec<[String; 3]> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let row = |line: &str| {
        let [time, _, name, value] = line.split(',').collect::<Vec<_>>().try_into().ok()?;
        (!value.is_empty()).then(|| [time, name, value].map(str::to_owned))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Writes numbered events, waiting for room.
fn push(writer: &mut Writer, values: std::ops::Range<u64>) {
    let events: Vec<_> = values.map(|value| Event::new(Kind::TX_BYTES, value)).collect();
    let begun = Instant::now();
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(500));
        let pushed = writer.push(now);
        rest = if pushed.refused == 0 { later } else { &rest[usize::try_from(pushed.written).unwrap()..] };
        if pushed.refused > 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "nobody makes room");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Where values are others than all those from 0 on, and what is there.
fn odd(values: &[u64], count: u64) -> Option<(usize, Vec<u64>)> {
    let wrong = values.iter().zip(0..).position(|(value, expected)| *value != expected);
    let wrong = wrong.or((values.len() as u64 != count).then_some(values.len()))?;
    Some((wrong, values[wrong.saturating_sub(2)..values.len().min(wrong + 3)].to_vec()))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// Asserts the law for each agent and exporter, and returns the agent of this name.
#[track_caller]
fn agent<'a>(status: &'a Value, name: &str) -> &'a Value {
    let agents = status["agents"].as_array().unwrap();
    for agent in agents {
        for exporter in agent["exporters"].as_array().unwrap() {
            let sum: u64 =
                ["exported", "failed", "unsupported", "pending"].iter().map(|field| number(&exporter[field])).sum();
            assert_eq!(sum, number(&agent["read"]), "{agent}");
        }
    }
    agents.iter().find(|agent| agent["agent"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[test]
fn every_event_of_every_agent_is_in_its_file() {
    const EACH: u64 = 30_000;
    let scene = Scene::new();
    let mut running = scene.start(&["--consume", "--json"]);
    let agents = [("a", NEW), ("b", TIMED), ("rank 0/1", NEW), ("c", TIMED)];
    thread::scope(|scope| {
        for (agent, generation) in agents {
            let scene = &scene;
            scope.spawn(move || push(&mut scene.writer(agent, generation), 0..EACH));
        }
    });
    // What is in the rings now, up to 4095 of each, it exports before it ends.
    let status = running.ends_with_status(143);
    for (name, _) in agents {
        let file = nixl_telemetry_event::escape_file_name(name);
        assert_eq!(odd(&scene.values(&file), EACH), None, "{name}");
        let agent = agent(&status, name);
        assert_eq!((number(&agent["read"]), number(&agent["lost"]), &agent["present"]), (EACH, 0, &Value::Bool(true)));
        let exporter = &agent["exporters"][0];
        assert_eq!((number(&exporter["exported"]), number(&exporter["pending"])), (EACH, 0));
        assert!(number(&exporter["batches"]) > EACH / 4096 && exporter["problem"].is_null());
    }
    assert_eq!(
        (&status["healthy"], &status["state"], status["agents"].as_array().unwrap().len()),
        (&Value::Bool(true), &"ended".into(), 4)
    );
    for agent in ["a", "b", "rank 0/1", "c"] {
        assert!(running.said().contains(&format!("note: agent {agent} came: ")), "{}", running.said());
    }
}

#[test]
fn it_looks_on_while_somebody_else_consumes() {
    const EVENTS: u64 = 40_000;
    let scene = Scene::new();
    let mut writer = scene.writer("a", NEW);
    let mut running = scene.start(&["--json"]);
    running.wait_until_said("agent a came");
    let mut other = Reader::open(writer.path(), Mode::Consume).unwrap();
    let mut consumed = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for from in (0..EVENTS).step_by(1000) {
                push(&mut writer, from..from + 1000);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let mut batch = Batch::new();
        while consumed < EVENTS {
            other.read(&mut batch).unwrap();
            consumed += batch.len() as u64;
            assert!(other.commit().unwrap(), "nobody else consumes");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let status = running.ends_with_status(143);
    let values = scene.values("a");
    assert!(values.is_sorted_by(|a, b| a < b), "each once, in order");
    let agent = agent(&status, "a");
    // A machine that is too slow loses some, and knows how many.
    assert_eq!(number(&agent["lost"]) + values.len() as u64, EVENTS);
    assert_eq!(number(&agent["read"]), values.len() as u64);
    assert!(!values.is_empty());
}

#[test]
fn a_full_ring_that_nobody_consumes_is_worth_a_word() {
    let scene = Scene::new();
    let mut writer = scene.writer("a", NEW);
    push(&mut writer, 0..4095);
    let mut running = scene.start(&["-q"]);
    running.wait_until_said("warning: agent a: its ring is full and nobody consumes");
    assert_eq!(writer.unread(), 4095);
    running.ends(143);
    assert!(scene.values("a").into_iter().eq(0..4095));
    assert_eq!(running.said().lines().count(), 1, "{}", running.said());
}

#[test]
fn a_kill_loses_nothing() {
    const EVENTS: u64 = 200_000;
    let scene = Scene::new();
    let mut writers = ["a", "b"].map(|agent| scene.writer(agent, TIMED));
    let mut kills = 0;
    thread::scope(|scope| {
        let pushing: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(move || push(writer, 0..EVENTS))).collect();
        while pushing.iter().any(|thread| !thread.is_finished()) {
            let mut running = scene.start(&["--consume", "-q"]);
            thread::sleep(Duration::from_millis(150));
            running.child.kill().unwrap();
            assert_eq!(running.wait().signal(), Some(9));
            kills += 1;
        }
    });
    scene.once(&["--consume"]).ends(0);
    for agent in ["a", "b"] {
        let mut values = scene.values(agent);
        // Each kill may have come between exporting a batch and taking it out, and in the middle of a line.
        let twice = values.len() as u64 - EVENTS;
        assert!(twice <= kills * 4096, "{twice} twice after {kills} kills");
        values.sort_unstable();
        values.dedup();
        assert_eq!(odd(&values, EVENTS), None, "{agent}");
    }
    assert!(kills > 0);
}

#[test]
fn rings_go_and_come_again() {
    let scene = Scene::new();
    let mut running = scene.start(&["--consume", "--json"]);
    // Begun anew in place, by the next process of that name.
    let mut writer = scene.writer("a", NEW);
    push(&mut writer, 0..10);
    until("them to be taken out", || writer.unread() == 0);
    drop(writer);
    push(&mut scene.writer("a", NEW), 10..20);
    scene.wait_for_values("a", 20);
    // Replaced by one of another shape.
    let mut writer = scene.writer("a", TIMED);
    push(&mut writer, 20..30);
    scene.wait_for_values("a", 30);
    assert!(!running.said().contains("is gone"), "its exporters stay");
    // Removed with events in it, and made again.
    push(&mut writer, 30..40);
    fs::remove_file(writer.path()).unwrap();
    running.wait_until_said("note: agent a is gone: ");
    scene.wait_for_values("a", 40);
    push(&mut scene.writer("a", NEW), 40..50);
    scene.wait_for_values("a", 50);
    push(&mut scene.writer("b", NEW), 0..10);
    scene.wait_for_values("b", 10);
    fs::remove_dir_all(scene.rings()).unwrap();
    running.wait_until_said("note: agent b is gone: ");
    fs::create_dir(scene.rings()).unwrap();
    push(&mut scene.writer("c", NEW), 0..10);
    let status = running.ends_with_status(143);
    for (name, count, present) in [("a", 50, false), ("b", 10, false), ("c", 10, true)] {
        assert!(scene.values(name).into_iter().eq(0..count), "{name}");
        let agent = agent(&status, name);
        assert_eq!((number(&agent["read"]), &agent["present"]), (count, &Value::Bool(present)), "{status}");
    }
    assert!(number(&agent(&status, "a")["restarts"]) >= 1, "{status}");
}

#[test]
fn a_directory_may_come_later() {
    let scene = Scene::new();
    fs::remove_dir(scene.rings()).unwrap();
    scene.once(&[]).ends(1).complains(&["error: ", "rings: no such file or directory"]);
    let mut running = scene.start(&["--consume"]);
    running.wait_until_said(&format!("note: waiting for {}, which does not exist", scene.rings().display()));
    fs::create_dir(scene.rings()).unwrap();
    push(&mut scene.writer("a", NEW), 0..100);
    running.wait_until_said("agent a came");
    running.ends(143);
    assert!(scene.values("a").into_iter().eq(0..100));
    let said = running.said();
    assert_eq!(said.matches("waiting for").count(), 1, "{said}");
    assert!(
        said.contains("1 agents, 100 events read, 0 lost") && said.contains("  a      csv        100     0       100"),
        "{said}"
    );
}

#[test]
fn only_what_is_wanted_is_taken() {
    let scene = Scene::new();
    let (mut a, mut b) = (scene.writer("a", NEW), scene.writer("b", NEW));
    for writer in [&mut a, &mut b] {
        let events = [Kind::TX_BYTES, Kind::ERR_NOT_FOUND, Kind::RX_BYTES].map(|kind| Event::new(kind, 1));
        assert_eq!(writer.push(&events).written, 3);
    }
    let ran = scene.once(&["--consume", "--agent", "a*", "--event", "agent_err_*", "--json"]).ends(0);
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status["agents"].as_array().unwrap().len(), 1);
    let agent = agent(&status, "a");
    assert_eq!((number(&agent["read"]), number(&agent["left_out"])), (1, 2));
    assert_eq!((a.unread(), b.unread()), (0, 3), "b is nobody's business");
    assert_eq!(rows(&scene.path("out/a.csv")).len(), 1);
    assert!(!scene.path("out/b.csv").exists());
    // Once more: there is nothing left. Without --consume, it is there each time.
    let ran = scene.once(&["--consume", "--agent", "a", "--exporter", "NOP"]).ends(0);
    assert!(ran.err.contains("1 agents, 0 events read, 0 lost"), "{}", ran.err);
    for _ in 0..2 {
        let ran = scene.once(&["--agent", "b", "--exporter", "NOP", "-q", "--json"]).ends(0);
        assert_eq!(number(&serde_json::from_str::<Value>(&ran.out).unwrap()["agents"][0]["read"]), 3);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn status_is_told_under_load_whoever_listens() {
    let scene = Scene::new();
    let socket = scene.path("status");
    let ask = |arguments: &[&str]| run(&[&["collect-status", text(&socket)], arguments].concat());
    ask(&[]).ends(1).complains(&["error: nobody answers at ", "status: No such file"]);
    let mut running = scene.start(&["--consume", "--exporter", "csv,NOP", "--status", text(&socket)]);
    until("an answer", || UnixStream::connect(&socket).is_ok());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let _silent: Vec<_> = (0..3).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut last = 0;
    thread::scope(|scope| {
        let pushing = scope.spawn(|| push(&mut scene.writer("a", NEW), 0..100_000));
        while !pushing.is_finished() {
            let status: Value = serde_json::from_str(&ask(&["--json"]).ends(0).out).unwrap();
            if status["agents"].as_array().unwrap().is_empty() {
                continue;
            }
            let read = number(&agent(&status, "a")["read"]);
            assert!(read >= last, "{read} after {last}");
            last = read;
        }
    });
    until("all to be read", || ask(&[]).ends(0).out.contains("1 agents, 100,000 events read, 0 lost"));
    ask(&[]).ends(0).says(&["healthy: running, process ", "  a      csv       100,000", "  a      NOP       100,000"]);
    assert_eq!(ask(&["-q"]).ends(0).out, "");
    // A second one does not take it away, nor anything else that is there.
    let second = scene.command(&["--status", text(&socket)]);
    finish(second)
        .ends(1)
        .complains(&["status is there already, and is no socket that a process of this user has left"]);
    ask(&[]).ends(0);
    running.ends(143);
    assert!(!socket.exists());
    // What a killed one has left is in nobody's way.
    let mut killed = scene.start(&["--status", text(&socket)]);
    until("an answer", || ask(&[]).code == Some(0));
    killed.child.kill().unwrap();
    killed.wait();
    assert!(socket.exists());
    ask(&[]).ends(1).complains(&["error: nobody answers at ", "Connection refused"]);
    let mut next = scene.start(&["--status", text(&socket)]);
    until("an answer", || ask(&[]).code == Some(0));
    next.ends(143);
}

#[test]
fn an_exporter_that_cannot_be_had_keeps_no_other() {
    let lines = lines();
    let scene = Scene::new();
    let mut writer = scene.writer("taken", NEW);
    push(&mut writer, 0..100);
    let socket = scene.path("status");
    let arguments =
        ["--exporter", "lines,csv", "--plugin-dir", text(&lines), "--json", "--status", text(&socket), "--consume"];
    // Without --consume the others have it at once.
    let mut running = scene.start(&arguments[..7]);
    running.wait_until_said(
        "error: agent taken: exporter lines cannot be had: the plugin could not bind its address: 127.0.0.1:9090 is in use",
    );
    scene.wait_for_values("taken", 100);
    let problem = "agent taken: exporter lines cannot be had: ";
    run(&["collect-status", text(&socket)]).ends(1).says(&[
        "not healthy: running",
        problem,
        "127.0.0.1:9090 is in use",
    ]);
    let status = running.ends_with_status(1);
    let exporters = &agent(&status, "taken")["exporters"];
    assert_eq!((number(&exporters[0]["failed"]), number(&exporters[1]["exported"])), (100, 100));
    assert_eq!(running.said().matches("cannot be had").count(), 1, "{}", running.said());
    // With it, events wait as long as there is room.
    fs::remove_file(scene.path("out/taken.csv")).unwrap();
    let mut running = scene.start(&arguments);
    running.wait_until_said(problem);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((scene.values("taken").len(), writer.unread()), (0, 100));
    push(&mut writer, 100..2100);
    scene.wait_for_values("taken", 2100);
    let status = running.ends_with_status(1);
    assert!(scene.values("taken").into_iter().eq(0..2100));
    let exporters = &agent(&status, "taken")["exporters"];
    assert_eq!((number(&exporters[0]["failed"]), number(&exporters[1]["exported"])), (2100, 2100));
    // Who comes only once takes nothing.
    push(&mut writer, 2100..4200);
    let once = scene.once(&arguments[..5]).ends(1);
    assert_eq!(number(&agent(&serde_json::from_str(&once.out).unwrap(), "taken")["exporters"][0]["failed"]), 2100);
    let once = scene.once(&["--consume", "--exporter", "lines", "--plugin-dir", text(&lines)]).ends(1);
    assert!(once.err.contains("1 agents, 0 events read") && writer.unread() == 2100, "{}", once.err);
}

#[test]
fn an_exporter_that_comes_later_has_missed_nothing() {
    let scene = Scene::new();
    push(&mut scene.writer("a", NEW), 0..500);
    let later = format!("NIXL_TELEMETRY_CSV_FILE={}", scene.path("later/{agent}.csv").display());
    let mut running = scene.start(&["--consume", "--set", &later, "--exporter", "NOP,csv"]);
    running.wait_until_said("agent a: exporter csv cannot be had: ");
    fs::create_dir(scene.path("later")).unwrap();
    running.wait_until_said("note: agent a: exporter csv is there at last, after ");
    running.ends(143);
    assert_eq!(rows(&scene.path("later/a.csv")).len(), 500);
}

#[test]
fn what_an_exporter_fails_at_is_counted() {
    let scene = Scene::new();
    let mut writer = scene.writer("lines", NEW);
    push(&mut writer, 0..20);
    let mut running = scene.start(&["--consume", "--exporter", "lines,csv", "--plugin-dir", text(&lines()), "--json"]);
    running.wait_until_said("error: agent lines: exporter lines failed at 2 of 20 events: refused an event or a total");
    push(&mut writer, 20..25);
    running.wait_until_said("note: agent lines: exporter lines works again");
    let status = running.ends_with_status(143);
    let exporters = &agent(&status, "lines")["exporters"];
    assert_eq!((number(&exporters[0]["failed"]), number(&exporters[0]["exported"])), (2, 23));
    assert_eq!((number(&exporters[1]["failed"]), number(&exporters[1]["exported"])), (0, 25));
    assert!(scene.values("lines").into_iter().eq(0..25));
    let file = fs::read_to_string(scene.path("lines")).unwrap();
    assert!(file.starts_with("room for 4096\n0 0\n0 1\n") && file.ends_with("0 24\nend\n"), "{file}");
}

#[test]
fn what_is_no_ring_keeps_no_other() {
    let scene = Scene::new();
    let rings = scene.rings();
    push(&mut scene.writer("a", NEW), 0..10);
    let whole = fs::read(rings.join("a")).unwrap();
    let write = |name: &str, content: &[u8]| fs::write(rings.join(name), content).unwrap();
    write("empty", b"");
    write("text", &b"this is not a ring file, and it is longer than a header is\n".repeat(3));
    write("husk", &[&whole[..16], &[0; 8], &whole[24..]].concat());
    write("cut", &whole[..1000]);
    write("odd", &[&whole[..24], &4095_u64.to_le_bytes(), &whole[32..]].concat());
    write(".hidden", &whole);
    fs::create_dir(rings.join("folder")).unwrap();
    mknodat(CWD, rings.join("pipe"), FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let ran = scene.once(&["--json"]).ends(1);
    assert!(scene.values("a").into_iter().eq(0..10));
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status["agents"].as_array().unwrap().len(), 1);
    assert_eq!(status["problems"].as_array().unwrap().len(), 3, "{status}");
    for (name, problem) in [
        ("husk", "has version 0: its writer did not finish making it"),
        ("cut", "has 1000 bytes: expected 65576 for 4096 slots of version 4"),
        ("odd", "has 4095 slots: expected a power of two"),
    ] {
        let line = format!("error: {} cannot be read: it {problem}\n", rings.join(name).display());
        assert!(ran.err.contains(&line), "{line}{}", ran.err);
    }
    for (name, what) in [("empty", "has 0 bytes"), ("text", "has version ")] {
        let line = format!("note: {} is left alone: it {what}", rings.join(name).display());
        assert!(ran.err.contains(&line), "{line}{}", ran.err);
    }
    // A ring that is made well is a problem no more.
    let mut running = scene.start(&["--json", "-q"]);
    running.wait_until_said("odd cannot be read");
    ["husk", "cut", "odd"].iter().for_each(|name| write(name, &whole));
    until("their events", || ["husk", "cut", "odd"].iter().all(|name| scene.values(name).len() == 10));
    assert_eq!(running.ends_with_status(143)["problems"], Value::Array(vec![]));
}

#[test]
fn rings_of_seven_releases_are_in_the_files() {
    let golden = workspace_root().join("crates/event/tests/golden/ring");
    let mut total = 0;
    for release in ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"] {
        let scene = Scene::new();
        let before = micros();
        for agent in ["agentA", "agentB"] {
            fs::copy(golden.join(release).join(agent).with_extension("ring"), scene.rings().join(agent)).unwrap();
        }
        let ran = scene.once(&["--json", "--consume"]).ends(0);
        let status: Value = serde_json::from_str(&ran.out).unwrap();
        for name in ["agentA", "agentB"] {
            let json = fs::read(golden.join(release).join(name).with_extension("json")).unwrap();
            let json: Value = serde_json::from_slice(&json).unwrap();
            let expected = json["events"].as_array().unwrap();
            let rows = rows(&scene.path("out").join(name).with_extension("csv"));
            assert_eq!(rows.len(), expected.len(), "{release}");
            assert_eq!(number(&agent(&status, name)["exporters"][0]["exported"]), rows.len() as u64);
            total += rows.len();
            for ([time, name, value], expected) in rows.iter().zip(expected) {
                let text = expected["name"].as_str().unwrap();
                let kind = Status::error_from_name(text).map_or_else(|| Kind::from_name(text), Status::kind);
                assert_eq!(*name, kind.unwrap().to_string(), "{release}");
                assert_eq!(value.parse::<u64>().unwrap(), number(&expected["value"]), "{release}");
                let time: u64 = time.parse().unwrap();
                match expected["timestamp_us"].as_u64() {
                    Some(own) => assert_eq!(time, own, "{release}"),
                    None => assert!((before..=micros()).contains(&time), "{release}: {time}"),
                }
            }
        }
    }
    assert_eq!(total, 126);
}

#[test]
fn an_exporter_that_hangs_is_left_behind() {
    let arguments = ["-shared", "-fvisibility=hidden", "-I", "include/v2", "-ldl"];
    let source = Path::new("crates/cli/tests/fixtures/hang.cc");
    let plugin = compile_cpp("libtelemetry_exporter_hang.so", &[source], &arguments);
    let scene = Scene::new();
    push(&mut scene.writer("a", NEW), 0..10);
    let (sign, socket) = (scene.path("sign"), scene.path("status"));
    let setting = format!("HANG_FILE={}", sign.display());
    let arguments =
        ["--plugin-dir", text(plugin.parent().unwrap()), "--exporter", "csv,hang", "--set", &setting, "--json"];
    let mut running = scene.start(&[&arguments[..], &["--stop-timeout", "0.5", "--status", text(&socket)]].concat());
    until("it to hang", || sign.exists());
    let mut answer = String::new();
    UnixStream::connect(&socket).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(number(&agent(&serde_json::from_str(&answer).unwrap(), "a")["exporters"][1]["pending"]), 10);
    let begun = Instant::now();
    let status = running.ends_with_status(1);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(number(&agent(&status, "a")["exporters"][1]["pending"]), 10);
    for line in [
        "error: the end took longer than 0.5 s because of agent a: exporter hang\n",
        "error: agent a: exporter hang did not get 10 events\n",
    ] {
        assert!(running.said().contains(line), "{}", running.said());
    }
    assert!(scene.values("a").into_iter().eq(0..10) && !socket.exists());
    // A second signal waits for nothing.
    fs::remove_file(&sign).unwrap();
    let mut running = scene.start(&arguments);
    until("it to hang", || sign.exists());
    // Two that wait at the same time are one.
    until("it to end", || {
        running.signal(Signal::INT);
        running.child.try_wait().unwrap().is_some()
    });
    assert_eq!(running.wait().signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn what_cannot_begin_says_why() {
    let scene = Scene::new();
    let refused = |arguments: &[&str], code: i32, problem: &str| {
        finish(scene.command(arguments).stdin(Stdio::null())).ends(code).complains(&["error: ", problem]);
    };
    refused(&["--exporter", "absent"], 1, "no exporter \"absent\": libtelemetry_exporter_absent.so is not in ");
    refused(&["--exporter", "csv,../x"], 1, "\"../x\" is no exporter name");
    refused(&["--exporter", " , "], 2, "--exporter names none: expected NAME[,NAME]");
    refused(&["--set", "NIXL_TELEMETRY_EXPORTER=csv"], 2, "expected --exporter");
    refused(&["--stop-timeout", "0"], 2, "expected seconds above 0");
    refused(&["--from", "/dev/null"], 1, "/dev/null is a device: expected a ring file, or a directory of them");
    refused(&["--from", "/proc/self/exe"], 1, "expected a ring of version 1 to 4, or a directory of them");
    refused(&["--status", "/proc/absent/status"], 1, "cannot make the socket /proc/absent/status: No such file");
    run(&["collect", "--exporter", "NOP"]).ends(2).complains(&["--from <DIR|FILE>"]);
    run(&["collect", "--from", "/tmp"]).ends(2).complains(&["--exporter <NAME[,NAME]>"]);
}

#[test]
fn a_named_file_is_followed_alone() {
    let scene = Scene::new();
    push(&mut scene.writer("a", TIMED), 0..10);
    push(&mut scene.writer("b", TIMED), 0..10);
    let file = scene.rings().join("a");
    let arguments = ["collect", "--from", text(&file), "--from", text(&file), "--exporter", "NOP", "--once", "--json"];
    let ran = run(&arguments).ends(0);
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((number(&agent(&status, "a")["read"]), status["agents"].as_array().unwrap().len()), (10, 1));
}

#[test]
fn what_is_overwritten_is_counted() {
    let scene = Scene::new();
    let options = Options { keep: Keep::Newest, ..Options::default() };
    let mut writer = Writer::create(&scene.rings(), "a", options).unwrap();
    let mut running = scene.start(&["--json", "--exporter", "csv"]);
    // From the first that it has seen, it knows the number of each.
    push(&mut writer, 0..10);
    scene.wait_for_values("a", 10);
    for from in (10..200_010_u64).step_by(5000) {
        let events: Vec<_> = (from..from + 5000).map(|value| Event::new(Kind::TX_BYTES, value)).collect();
        assert_eq!(writer.push(&events).written, 5000);
    }
    let status = running.ends_with_status(143);
    let (values, agent) = (scene.values("a"), agent(&status, "a"));
    // Where the writer came round while it was looked at, it is known how many at least.
    let known = values.len() as u64 + number(&agent["lost"]);
    assert!(known == 200_010 || (known < 200_010 && agent["lost_or_more"] == true), "{known}: {agent}");
    assert!(number(&agent["lost"]) > 0, "{agent}");
    let turn = values.windows(2).position(|pair| pair[0] >= pair[1]);
    assert_eq!(
        turn.map(|at| &values[at.saturating_sub(3)..values.len().min(at + 4)]),
        None,
        "each once, in order: {agent}"
    );
    assert_eq!(values.last(), Some(&200_009));
}

/// The folder of an exporter that refuses value 13 and throws at 14, and has its address taken for the agent "taken".
fn lines() -> PathBuf {
    let source = Path::new("crates/host/tests/fixtures/lines.cc");
    let plugin = compile_cpp("libtelemetry_exporter_lines.so", &[source], &["-shared"]);
    plugin.parent().unwrap().to_owned()
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}
