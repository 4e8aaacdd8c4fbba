// SPDX-License-Identifier: Apache-2.0

//! `spool`: what waits for a sink is seen, delivered once, and removed by nobody but who means it.

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nixl_telemetry_event::Kind;
use nixl_telemetry_host::Collector;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit::artifact;
use rustix::process::{Pid, Signal, getpid, kill_process};
use support::{Ran, command, contents, finish, names, text};

/// What is done to the bytes of a segment.
type Damage<'a> = dyn Fn(&mut Vec<u8>) + 'a;

const DIRECTORY: &str = "NIXL_TELEMETRY_ROWS_SPOOL_DIR";

/// A directory of spools, and the exporter `rows`, which appends to a file.
struct Scene {
    plugins: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { plugins: tempfile::tempdir().unwrap(), root: tempfile::tempdir().unwrap() };
        let name = "libtelemetry_exporter_rows.so";
        let built = artifact(&["--package", "nixl-telemetry-sdk", "--example", "telemetry_exporter_rows"], name);
        fs::copy(built, scene.plugins.path().join(name)).unwrap();
        scene
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("spool")
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("rows")
    }

    /// Whether the sink takes anything.
    fn set_down(&self, down: bool) {
        let flag = self.file().with_added_extension("down");
        if down { fs::write(flag, "") } else { fs::remove_file(flag) }.unwrap();
    }

    /// A process that does this; see [`victim`].
    fn start(&self, role: &str, agent: &str) -> Child {
        let mut victim = support::victim(role);
        self.settings(&mut victim).env("VICTIM_NAME", agent).env("NIXL_TELEMETRY_EXPORTER", "rows");
        // Nothing is dropped: who finds no room waits.
        victim.env("NIXL_TELEMETRY_RUN_INTERVAL", "0").env("NIXL_TELEMETRY_OVERFLOW", "block:60000");
        victim.env("NIXL_TELEMETRY_PLUGIN_PATH", self.plugins.path()).env(DIRECTORY, self.directory()).spawn().unwrap()
    }

    /// A process that has queued so many events, of which the sink has none, and was killed.
    fn leave(&self, events: u64, agent: &str) {
        self.set_down(true);
        support::is_killed(self.start(&events.to_string(), agent));
        self.set_down(false);
    }

    fn settings<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NIXL_TELEMETRY_ROWS_FILE", self.file()).env("NIXL_TELEMETRY_ROWS_RETRY_INITIAL_INTERVAL", "20")
    }

    fn command(&self, what: &str, arguments: &[&str]) -> Command {
        let directory = self.directory();
        let mut command = command(&[&["spool", what, text(&directory)], arguments].concat());
        self.settings(&mut command);
        command
    }

    fn run(&self, what: &str, arguments: &[&str]) -> Ran {
        finish(self.command(what, arguments))
    }

    fn replay_command(&self, arguments: &[&str]) -> Command {
        self.command("replay", &[&["--plugin-dir", text(self.plugins.path())], arguments].concat())
    }

    fn replay(&self, arguments: &[&str]) -> Ran {
        finish(self.replay_command(arguments))
    }

    /// Asserts that the file has these events of each agent, from 0 up to this one, each once and in order.
    #[track_caller]
    fn check(&self, expected: &[(&str, u64)]) {
        let mut next = BTreeMap::new();
        for row in fs::read_to_string(self.file()).unwrap().lines() {
            let [_, number, agent, value] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
            let next: &mut u64 = next.entry(agent.to_owned()).or_default();
            assert_eq!((number, value), (text_of(*next).as_str(), text_of(*next).as_str()), "{row}");
            *next += 1;
        }
        assert_eq!(next, expected.iter().map(|(agent, events)| ((*agent).to_owned(), *events)).collect());
    }

    /// The only segment there is.
    fn segment(&self) -> PathBuf {
        let names = names(&self.directory());
        let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".segment")).collect();
        let [segment] = segments[..] else { panic!("{names:?}") };
        self.directory().join(segment)
    }
}

fn text_of(number: u64) -> String {
    number.to_string()
}

/// Records numbered events, waits until they are queued, and is killed. As `lives` it waits for its end instead; as `forever`
/// it goes on and says how far it is.
#[test]
#[ignore = "run by the others"]
fn victim() {
    let role = env::var("VICTIM").unwrap();
    let (role, events) = role.split_once(' ').unwrap_or(("", &role));
    let builder = Collector::builder(env::var("VICTIM_NAME").unwrap()).settings(Settings::from_process());
    let collector = builder.build().unwrap().unwrap();
    let recorder = collector.recorder();
    let events = events.parse().unwrap();
    for value in 0..events {
        recorder.event(Kind::TX_BYTES, value);
        if role == "forever" && value % 1000 == 999 {
            println!("\n{}", value + 1);
        }
    }
    while collector.counts().exporters[0].exported < events {
        thread::sleep(Duration::from_millis(1));
    }
    if role == "lives" {
        println!("\nready");
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        collector.close();
        return;
    }
    kill_process(getpid(), Signal::KILL).unwrap();
}

/// Reads a child's lines until this one is there.
fn read_until(child: &mut Child, is_it: impl Fn(&str) -> bool) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| is_it(line)).expect("it says so");
}

fn json(ran: &Ran) -> Vec<serde_json::Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_killed_process_left_is_seen_and_delivered_once() {
    let scene = Scene::new();
    scene.leave(20_000, "prefill-0");
    let before = contents(&scene.directory());
    let ran = scene.run("ls", &[]).ends(0).says(&["rows  prefill-0  ", "  ended  ", "  20,000  20"]);
    assert!(ran.out.contains("\n1 spool with 20,000 events that wait, "), "{}", ran.out);
    let [spool] = &json(&scene.run("ls", &["--format", "json"]).ends(0))[..] else { panic!("one spool") };
    for (field, expected) in [("sink", "rows"), ("agent", "prefill-0"), ("state", "left")] {
        assert_eq!(spool[field], expected);
    }
    assert_eq!((&spool["events"], &spool["segments"]), (&20_000.into(), &1.into()));
    assert_eq!(spool["bytes"], fs::metadata(scene.segment()).unwrap().len());
    assert_eq!((spool.get("writer"), &spool["problems"]), (None, &serde_json::json!([])));
    assert!(spool["oldest_us"].as_u64().unwrap() <= spool["newest_us"].as_u64().unwrap());

    let origin = spool["origin"].as_str().unwrap();
    let events = json(&scene.run("cat", &["--format", "json"]).ends(0));
    assert_eq!(events.len(), 20_000);
    for (number, event) in (0_u64..).zip(&events) {
        assert_eq!((&event["origin"], &event["sequence"]), (&origin.into(), &number.into()));
        assert_eq!((&event["agent"], &event["value"]), (&"prefill-0".into(), &number.into()));
        assert_eq!((&event["event"], &event["unit"]), (&"agent_tx_bytes".into(), &"bytes".into()));
    }
    let ran = scene.run("cat", &["--format", "csv"]).ends(0);
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("origin,sequence,timestamp_us,agent,event,category,value,unit"));
    let time = &events[19_999]["timestamp_us"];
    let last = format!("{origin},19999,{time},prefill-0,agent_tx_bytes,TRANSFER,19999,bytes");
    assert_eq!((lines.clone().count(), lines.next_back()), (20_000, Some(last.as_str())));
    let ran = scene.run("cat", &[]).ends(0).says(&[&format!("\n{}    19999  20", &origin[..8])]);
    assert_eq!(ran.out.lines().count(), 20_000);
    for arguments in [["--agent", "decode*"], ["--event", "agent_rx_*"], ["--sink", "postgres"]] {
        assert_eq!(scene.run("cat", &arguments).ends(0).out, "");
    }
    assert_eq!(contents(&scene.directory()), before, "nothing was changed");

    scene.set_down(true);
    let ran = scene.replay(&["--timeout", "2"]).ends(1).says(&["1 spool replayed with 0 events\n"]);
    ran.complains(&[
        "the file of rows is down",
        "error: 20,000 events are not delivered, and stay: nothing was for 2 s",
    ]);
    scene.set_down(false);
    scene.replay(&[]).ends(0).says(&["1 spool replayed with 20,000 events\n"]);
    scene.check(&[("prefill-0", 20_000)]);
    assert_eq!(names(&scene.directory()), [""; 0]);
    scene.replay(&[]).ends(0).says(&["0 spools replayed with 0 events\n"]);
    assert_eq!(scene.run("ls", &[]).ends(0).out, "0 spools with 0 events that wait, 0 B\n");
}

#[test]
fn wherever_it_is_killed_the_sink_has_each_event_once() {
    let mut waited = 0;
    for round in 1..=8 {
        let scene = Scene::new();
        let mut child = scene.start(&format!("forever {}", u64::MAX), "killed");
        let mut until =
            |least: u64| read_until(&mut child, |line| line.parse().is_ok_and(|events: u64| events >= least));
        until(round * 5000);
        scene.set_down(true);
        until(round * 10_000);
        child.kill().unwrap();
        child.wait().unwrap();
        scene.set_down(false);
        let [spool] = &json(&scene.run("ls", &["--format", "json"]).ends(0))[..] else { panic!("one spool") };
        let waiting = spool["events"].as_u64().unwrap();
        let listed = scene.run("cat", &["--format", "csv"]).ends(0).out.lines().count() as u64 - 1;
        assert_eq!(listed, waiting);
        scene.replay(&[]).ends(0).says(&[&format!(" replayed with {} event", grouped(waiting))]);
        assert_eq!(names(&scene.directory()), [""; 0]);
        let delivered = fs::read_to_string(scene.file()).unwrap().lines().count() as u64;
        assert!(delivered >= waiting);
        scene.check(&[("killed", delivered)]);
        waited += waiting;
    }
    assert!(waited > 0);
}

fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
}

#[test]
fn what_a_living_process_has_is_seen_and_left_to_it() {
    let scene = Scene::new();
    scene.leave(10, "dead");
    scene.set_down(true);
    // It has the other one, too: a queue takes over what it finds.
    let mut child = scene.start("lives 1000", "living");
    read_until(&mut child, |line| line == "ready");
    while json(&scene.run("ls", &["--format", "json"])).iter().any(|spool| spool["state"] == "left") {
        thread::sleep(Duration::from_millis(10));
    }
    let process = child.id().to_string();
    scene.run("ls", &[]).ends(0).says(&[
        &process,
        "2 spools with 1,010 events that wait, ",
        ", 2 in use by a living process\n",
    ]);
    let spools = json(&scene.run("ls", &["--format", "json", "--agent", "living"]).ends(0));
    assert_eq!((spools.len(), &spools[0]["state"], &spools[0]["writer"]), (1, &"in_use".into(), &child.id().into()));
    assert_eq!(scene.run("cat", &["--agent", "living"]).ends(0).out.lines().count(), 1000);
    let before = contents(&scene.directory());
    let note = "note: 2 spools in use by a living process";
    scene.replay(&[]).ends(0).says(&["0 spools replayed with 0 events\n"]).complains(&[note]);
    scene.run("rm", &["--yes"]).ends(0).says(&["0 spools with 0 events removed\n"]).complains(&[note]);
    assert_eq!(contents(&scene.directory()), before);
    scene.set_down(false);
    // Its end is as ever.
    assert!(child.wait().unwrap().success());
    scene.check(&[("dead", 10), ("living", 1000)]);
    assert_eq!(names(&scene.directory()), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_told_and_left() {
    let scene = Scene::new();
    scene.leave(20_000, "dead");
    let (segment, sound) = (scene.segment(), fs::read(scene.segment()).unwrap());
    let write = |damage: &Damage<'_>| {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        fs::write(&segment, bytes).unwrap();
    };
    let name = text(&segment);
    // The part of the first record that says how long it is leads to the second.
    let headers = u32::from_le_bytes(*sound[12..].first_chunk().unwrap()) as usize;
    let table: [(&Damage<'_>, &str, bool); 3] = [
        (&|bytes| bytes[8] = 2, "is a segment of version 2: expected 1", true),
        (&|bytes| bytes[0] = b'x', "does not begin as a segment of a spool does: expected NIXLTLMS", true),
        (&|bytes| bytes[headers + 20] ^= 1, &format!("its record at byte {headers} is damaged"), false),
    ];
    for (damage, expected, is_all) in table {
        write(damage);
        let error = format!("error: {name} {expected}\n");
        let [spool] = &json(&scene.run("ls", &["--format", "json"]).ends(1).complains(&[&error]))[..] else { panic!() };
        assert_eq!((&spool["problems"][0]["file"], &spool["problems"][0]["error"]), (&name.into(), &expected.into()));
        assert_eq!(spool["problems"][0].get("version").is_some(), expected.contains("version"));
        let seen = scene.run("cat", &["--format", "csv"]).ends(1).complains(&[&error]).out.lines().count() as u64 - 1;
        assert_eq!(spool["events"], seen);
        assert!(if is_all { seen == 0 } else { (1..20_000).contains(&seen) }, "{seen}");
        let before = fs::read(&segment).unwrap();
        scene.replay(&["--timeout", "5"]).ends(1).complains(&[&error]);
        assert_eq!(fs::read(&segment).unwrap(), before);
        assert!(!scene.file().exists());
    }
    // What was not written to its end was never there.
    write(&|bytes| bytes.truncate(bytes.len() - 1));
    let torn = [&format!("warning: {name} its last "), " bytes are no whole record\n"];
    let ran = scene.run("cat", &["--format", "csv"]).ends(0).complains(&[torn[0], torn[1]]);
    let left = ran.out.lines().count() as u64 - 1;
    assert!((1..20_000).contains(&left));
    scene.replay(&[]).ends(0).complains(&[torn[0]]).says(&[&format!("1 spool replayed with {} events", grouped(left))]);
    scene.check(&[("dead", left)]);
}

#[test]
fn what_was_set_aside_is_shown_and_removed() {
    let scene = Scene::new();
    scene.leave(20_000, "dead");
    let (segment, mut bytes) = (scene.segment(), fs::read(scene.segment()).unwrap());
    let all = scene.run("cat", &["--format", "csv"]).ends(0).out.lines().count() - 1;
    // In the last record: what is in front of it is delivered.
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    let sound = scene.run("cat", &["--format", "csv"]).ends(1).out.lines().count() - 1;
    assert!((1..all).contains(&sound));
    let replayed = format!("1 spool replayed with {} events\n", grouped(sound as u64));
    scene.replay(&[]).ends(1).says(&[&replayed]).complains(&["its record at byte "]);
    scene.check(&[("dead", sound as u64)]);
    let damaged = segment.with_added_extension("damaged");
    assert_eq!(names(&scene.directory()), [damaged.file_name().unwrap().to_str().unwrap()]);
    let error = format!("error: {} its record at byte ", damaged.display());
    let [spool] = &json(&scene.run("ls", &["--format", "json"]).ends(1).complains(&[&error]))[..] else { panic!() };
    assert_eq!((&spool["events"], &spool["segments"], &spool["state"]), (&0.into(), &1.into(), &"left".into()));
    let shown = scene.run("cat", &["--format", "csv"]).ends(1).complains(&[&error]).out.lines().count() - 1;
    assert_eq!(shown, sound);
    scene.replay(&[]).ends(1).says(&["0 spools replayed with 0 events\n"]);
    scene.run("rm", &["--yes"]).ends(0).says(&["1 spool with 0 events removed\n"]);
    assert_eq!(names(&scene.directory()), [""; 0]);
}

#[test]
fn what_is_refused_is_not_said_to_be_delivered() {
    let scene = Scene::new();
    scene.leave(20_000, "dead");
    fs::write(scene.file().with_added_extension("full"), "").unwrap();
    let ran = scene.replay(&[]).ends(1).says(&["1 spool replayed with 0 events\n"]);
    ran.complains(&["error: 20,000 events are lost: refused, too old or damaged, as the log tells\n"]);
    assert_eq!(names(&scene.directory()), [""; 0]);
}

#[test]
fn what_is_removed_was_meant() {
    let scene = Scene::new();
    scene.leave(10, "a");
    scene.leave(20, "b");
    scene.leave(30, "c");
    File::create(scene.directory().join("of somebody else")).unwrap();
    let before = contents(&scene.directory());
    assert_eq!(before.len(), 7);
    scene.run("rm", &[]).ends(0).says(&["3 spools with 60 events to remove: --yes does it\n"]);
    scene.run("rm", &["--older-than", "1h", "--yes"]).ends(0).says(&["0 spools with 0 events removed\n"]);
    scene.run("rm", &["--agent", "d", "--yes"]).ends(0).says(&["0 spools with 0 events removed\n"]);
    scene.run("rm", &["--sink", "postgres", "--yes"]).ends(0).says(&["0 spools with 0 events removed\n"]);
    assert_eq!(contents(&scene.directory()), before);
    scene
        .run("rm", &["--agent", "a", "--older-than", "0s", "--yes"])
        .ends(0)
        .says(&["1 spool with 10 events removed\n"]);
    let spools = json(&scene.run("ls", &["--format", "json", "--agent", "b"]).ends(0));
    let origin = spools[0]["origin"].as_str().unwrap();
    scene
        .run("rm", &["--origin", &origin[..12], "--yes"])
        .ends(0)
        .says(&["1 spool with 20 events removed\n", &origin[..8]]);
    let left: Vec<_> =
        json(&scene.run("ls", &["--format", "json"]).ends(0)).iter().map(|spool| spool["agent"].clone()).collect();
    assert_eq!(left, ["c"]);
    // One that does not say whose it is goes only if nobody was named.
    fs::write(scene.segment(), "damaged").unwrap();
    scene.run("rm", &["--agent", "c", "--yes"]).ends(0).says(&["0 spools with 0 events removed\n"]);
    scene.run("rm", &["--yes"]).ends(0).says(&["1 spool with 0 events removed\n"]);
    assert_eq!(names(&scene.directory()), ["of somebody else"]);
}

#[test]
fn a_signal_ends_a_replay_and_everything_stays() {
    let scene = Scene::new();
    scene.leave(100, "dead");
    scene.set_down(true);
    let mut child = scene.replay_command(&[]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("the file of rows is down")).expect("it tries");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    scene.set_down(false);
    scene.replay(&[]).ends(0).says(&["1 spool replayed with 100 events\n"]);
    scene.check(&[("dead", 100)]);
}

#[test]
fn directories_come_from_the_settings_or_are_asked_for() {
    let scene = Scene::new();
    scene.leave(10, "dead");
    let set = |command: &mut Command, directory: &Path| finish(command.env(DIRECTORY, directory));
    set(&mut command(&["spool", "ls"]), &scene.directory()).ends(0).says(&["1 spool with 10 events that wait, "]);
    let mut replay = command(&["spool", "replay", "--plugin-dir", text(scene.plugins.path())]);
    set(scene.settings(&mut replay), &scene.directory()).ends(0).says(&["1 spool replayed with 10 events\n"]);
    scene.check(&[("dead", 10)]);

    let expected = "no directory of spools: expected DIR, or a setting such as NIXL_TELEMETRY_POSTGRES_SPOOL_DIR";
    for what in ["ls", "cat", "replay", "rm"] {
        support::run(&["spool", what]).ends(2).complains(&[expected]);
        let missing = scene.root.path().join("missing");
        support::run(&["spool", what, text(&missing)])
            .ends(1)
            .complains(&[&format!("error: cannot read {}: No such", missing.display())]);
    }
    support::run(&["spool", "rm", "--origin", "xyz", "/"]).ends(2).complains(&["expected up to 32 hexadecimal digits"]);
}

#[test]
fn an_exporter_that_is_not_there_is_named() {
    let scene = Scene::new();
    scene.leave(10, "dead");
    let before = contents(&scene.directory());
    scene.run("replay", &[]).ends(1).complains(&["error: ", "libtelemetry_exporter_rows.so"]);
    scene.replay(&["--exporter", "absent"]).ends(1).complains(&["error: ", "libtelemetry_exporter_absent.so"]);
    scene
        .replay(&["--set", "NIXL_TELEMETRY_ROWS_QUEUE_SIZE=0"])
        .ends(1)
        .complains(&["exporter \"rows\" cannot be had", "a number from 1"]);
    assert_eq!(contents(&scene.directory()), before);
}

#[test]
fn a_spool_that_cannot_be_opened_is_an_error() {
    let scene = Scene::new();
    scene.leave(10, "dead");
    let lock = names(&scene.directory()).into_iter().find(|name| name.ends_with(".lock")).unwrap();
    fs::remove_file(scene.directory().join(&lock)).unwrap();
    symlink("/etc/passwd", scene.directory().join(&lock)).unwrap();
    // The other ones are looked at all the same.
    scene.leave(20, "other");
    let error = ["error: cannot look at the spool rows "];
    scene.run("ls", &[]).ends(1).says(&["1 spool with 20 events that wait"]).complains(&error);
    assert_eq!(scene.run("cat", &[]).ends(1).complains(&error).out.lines().count(), 20);
    scene.replay(&[]).ends(1).says(&["1 spool replayed with 20 events\n"]).complains(&error);
    scene.check(&[("other", 20)]);
    scene.leave(30, "third");
    scene.run("rm", &["--yes"]).ends(1).says(&["1 spool with 30 events removed\n"]).complains(&error);
    assert_eq!(names(&scene.directory()).len(), 2);
}
