// SPDX-License-Identifier: Apache-2.0

//! `recover`: what processes had not exported when they were killed is in the file, each event once.

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_host::{Collector, Exported, Sink};
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit::compile_cpp;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, getpid, kill_process};
use support::{Ran, command, csv, finish, names, text};

/// Bytes that every journal has, and no ring.
const HEADER: usize = 212_992;
const NEVER: (&str, &str) = ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000");

/// A place for journals, the exporter csv, and the file it writes.
struct Scene {
    plugins: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { plugins: csv().0, root: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.journals()).unwrap();
        scene
    }

    fn journals(&self) -> PathBuf {
        self.root.path().join("journals")
    }

    /// The one journal there is.
    fn journal(&self) -> PathBuf {
        let names = names(&self.journals());
        let [name] = names.as_slice() else { panic!("{names:?}") };
        self.journals().join(name)
    }

    fn output(&self) -> PathBuf {
        self.root.path().join("out.csv")
    }

    /// A process that does this with a journal; see [`victim`].
    fn start(&self, role: &str, variables: &[(&str, &str)]) -> Child {
        support::victim(role)
            .env("NIXL_TELEMETRY_EXPORTER", "csv")
            .env("NIXL_TELEMETRY_CSV_FILE", self.output())
            .env("NIXL_TELEMETRY_PLUGIN_PATH", self.plugins.path())
            .env("NIXL_TELEMETRY_JOURNAL_DIR", self.journals())
            .envs(variables.iter().copied())
            .spawn()
            .unwrap()
    }

    /// A process that has recorded this many events and exported none, for which they must not be too many, and was
    /// killed.
    fn leave(&self, events: u64, variables: &[(&str, &str)]) {
        self.leave_as(&events.to_string(), &[&[NEVER], variables].concat());
    }

    fn leave_as(&self, role: &str, variables: &[(&str, &str)]) {
        support::is_killed(self.start(role, variables));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let journals = self.journals();
        let mut command =
            command(&[&["recover", "--plugin-dir", text(self.plugins.path())], arguments, &[text(&journals)]].concat());
        command.env("NIXL_TELEMETRY_CSV_FILE", self.output());
        command
    }

    fn recover(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments))
    }

    /// Asserts that the file has the events from 0 up to this one, each once, and that there is no journal any more.
    #[track_caller]
    fn check(&self, events: u64) {
        assert_eq!(each_once(&self.output()), events);
        assert_eq!(names(&self.journals()), [""; 0]);
    }
}

/// How many events a file has, which are those from 0 on, each once.
#[track_caller]
fn each_once(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let mut values: Vec<u64> =
        text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    values.sort_unstable();
    let wrong = values.iter().zip(0..).find(|(value, expected)| **value != *expected);
    assert_eq!(wrong, None, "of {} events", values.len());
    values.len() as u64
}

/// A sink that never comes back.
struct Stuck;

impl Sink for Stuck {
    fn export(&mut self, _: &[Event<'_>]) -> Exported {
        loop {
            thread::park();
        }
    }
}

/// Records numbered events and is killed. As `lives` it waits for its end instead; as `forever` it goes on and says how far
/// it is; as `stuck` it has a sink that never comes back, which is handed what csv has had.
#[test]
#[ignore = "run by the others"]
fn victim() {
    let role = env::var("VICTIM").unwrap();
    let (role, events) = role.split_once(' ').unwrap_or(("", &role));
    let agent = env::var("VICTIM_NAME").unwrap_or_else(|_| "victim".to_owned());
    let builder = Collector::builder(agent).settings(Settings::from_process());
    let builder = if role == "stuck" { builder.sink("own", Box::new(Stuck)) } else { builder };
    let collector = builder.build().unwrap().unwrap();
    let recorder = collector.recorder();
    for value in 0..events.parse().unwrap() {
        recorder.event(Kind::TX_BYTES, value);
        if role == "forever" && value % 1000 == 999 {
            println!("\n{}", value + 1);
        }
    }
    if role == "lives" {
        println!("\nready");
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        assert!(collector.close().is_balanced());
        return;
    }
    if role == "stuck" {
        // Its first batch is with csv by then, if that is one of its exporters, and with the sink soon.
        let is_begun = || collector.counts().exporters[0].exported > 0;
        while !is_begun() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    kill_process(getpid(), Signal::KILL).unwrap();
}

/// Reads a child's lines until this one is there.
fn read_until(child: &mut Child, is_it: impl Fn(&str) -> bool) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| is_it(line)).expect("it says so")
}

#[test]
fn what_a_killed_process_had_not_exported_is_in_the_file() {
    let scene = Scene::new();
    scene.leave(1000, &[]);
    let name = scene.journal();
    let ran = scene.recover(&[]).ends(0).says(&[
        text(&name),
        "victim, process ",
        ", created 20",
        "held           1,000 events\n",
        "csv            1,000 exported\n",
        "journal        removed\n",
        "1 journal recovered with 1,000 events\n",
    ]);
    assert_eq!(ran.err, "");
    scene.check(1000);
    // And now there is nothing to do.
    scene.recover(&[]).ends(0).says(&["0 journals recovered with 0 events\n"]);
    scene.check(1000);
}

#[test]
fn wherever_it_is_killed_each_event_is_there_once() {
    // Nothing is dropped: who finds no room waits.
    let variables = [("NIXL_TELEMETRY_RUN_INTERVAL", "0"), ("NIXL_TELEMETRY_OVERFLOW", "block:60000")];
    for round in 1..=15 {
        let scene = Scene::new();
        let mut child = scene.start(&format!("forever {}", u64::MAX), &variables);
        let said = read_until(&mut child, |line| line.parse::<u64>().is_ok_and(|events| events >= round * 7000));
        child.kill().unwrap();
        child.wait().unwrap();
        let ran = scene.recover(&[]).ends(0);
        let events = each_once(&scene.output());
        assert!(events >= said.parse().unwrap(), "{said}: {}", ran.out);
        scene.check(events);
    }
}

#[test]
fn a_living_process_is_left_alone() {
    let scene = Scene::new();
    let mut child = scene.start("lives 1000", &[NEVER]);
    read_until(&mut child, |line| line == "ready");
    let before = fs::read(scene.journal()).unwrap();
    for arguments in [&[][..], &["--dry-run"], &["--exporter", "NOP"]] {
        scene.recover(arguments).ends(0).says(&["in use by a living process\n", ", 1 in use by a living process\n"]);
    }
    let ran = scene.recover(&["--json"]).ends(0);
    assert_eq!(ran.out, format!("{{\"journal\":\"{}\",\"state\":\"in_use\"}}\n", scene.journal().display()));
    assert!(fs::read(scene.journal()).unwrap() == before, "the journal is as it was");
    // Its end is as ever.
    assert!(child.wait().unwrap().success());
    scene.check(1000);
}

#[test]
fn a_dry_run_changes_nothing() {
    let scene = Scene::new();
    scene.leave(1000, &[]);
    scene.leave(234, &[("NIXL_TELEMETRY_EXPORTER", "csv,NOP")]);
    let before = support::contents(&scene.journals());
    let ran = scene.recover(&["--dry-run"]).ends(0).says(&[
        "held           1,000 events\n",
        "held           234 events\n",
        "exporters      csv\n",
        "exporters      csv, NOP\n",
        "2 journals with 1,234 events to recover\n",
    ]);
    assert_eq!(ran.err, "");
    assert!(support::contents(&scene.journals()) == before, "the journals are as they were");
    assert_eq!(each_once(&scene.output()), 0);
}

#[test]
fn json_has_an_object_a_line() {
    let scene = Scene::new();
    scene.leave(1000, &[]);
    let parse = |ran: Ran| -> serde_json::Value {
        assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    };
    let path = scene.journal();
    let found = parse(scene.recover(&["--json", "--dry-run"]).ends(0));
    assert_eq!((found["state"].as_str(), found["events"].as_u64()), (Some("found"), Some(1000)));
    let recovered = parse(scene.recover(&["--json"]).ends(0));
    let expected = serde_json::json!({
        "journal": text(&path),
        "state": "recovered",
        "agent": "victim",
        "pid": found["pid"],
        "created_unix": found["created_unix"],
        "events": 1000,
        "exporters": ["csv"],
        "damage": [],
        "dropped": 0,
        "exported": [{
            "exporter": "csv",
            "exported": 1000,
            "exported_before": 0,
            "aggregated": 0,
            "unsupported": 0,
            "failed": 0,
            "pending": 0,
        }],
    });
    assert_eq!(recovered, expected);
    scene.check(1000);
}

#[test]
fn what_had_no_room_is_told() {
    let scene = Scene::new();
    scene.leave_as("stuck 20000", &[("NIXL_TELEMETRY_BUFFER_SIZE", "100"), ("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    scene
        .recover(&["--exporter", "csv"])
        .ends(0)
        .says(&["dropped        ", " events for which the process had no room"]);
    let (mut kept, mut dropped) = (0, 0);
    for line in fs::read_to_string(scene.output()).unwrap().lines().skip(1) {
        match line.split_once(",agent_telemetry_events_dropped,") {
            Some((_, events)) => dropped += events.parse::<u64>().unwrap(),
            None => kept += 1,
        }
    }
    assert_eq!(kept + dropped, 20_000);
    assert!(kept >= 100 && dropped >= 100, "{kept}, {dropped}");
}

#[test]
fn others_than_its_own_exporters_can_have_it() {
    let scene = Scene::new();
    scene.leave(1000, &[("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    let refused = |arguments: &[&str], problem: &str| {
        let journal = scene.journal();
        scene
            .recover(arguments)
            .ends(1)
            .says(&["journal        kept as it was\n", ", 1 with an error\n"])
            .complains(&[&format!("error: {}: ", journal.display()), problem]);
    };
    refused(&[], "its process had no exporter: --exporter says which is to have the events");
    refused(&["--exporter", "absent"], "exporter \"absent\" cannot be had: no exporter \"absent\"");
    refused(&["--exporter", "BUFFER"], "exporter \"BUFFER\" cannot be had: NIXL_TELEMETRY_DIR is not set");
    refused(
        &["--exporter", "csv", "--set", "NIXL_TELEMETRY_CSV_FILE=/nonexistent/x.csv"],
        "exporter \"csv\" cannot be had: ",
    );
    scene.recover(&["--exporter", "../csv"]).ends(1).complains(&["\"../csv\" is no exporter name"]);
    scene
        .recover(&["--exporter", "csv,NOP,csv"])
        .ends(0)
        .says(&["csv            1,000 exported\n", "NOP            1,000"]);
    scene.check(1000);
    // Only who says so throws away.
    scene.leave(1000, &[]);
    scene.recover(&["--exporter", "NOP"]).ends(0).says(&["NOP            1,000 exported\n"]);
    scene.check(1000);
}

#[test]
fn an_exporter_whose_address_is_taken_gets_nothing_and_loses_nothing() {
    let scene = Scene::new();
    scene.leave(1000, &[("VICTIM_NAME", "taken")]);
    let source = Path::new("crates/host/tests/fixtures/lines.cc");
    let plugin = compile_cpp("libtelemetry_exporter_lines.so", &[source], &["-shared"]);
    scene
        .recover(&["--exporter", "csv,lines", "--plugin-dir", text(plugin.parent().unwrap())])
        .ends(1)
        .complains(&["exporter \"lines\" cannot be had: ", "127.0.0.1:9090 is in use"]);
    scene.recover(&[]).ends(0);
    scene.check(1000);
}

#[test]
fn a_sink_that_was_stuck_is_replaced() {
    let scene = Scene::new();
    scene.leave_as("stuck 20000", &[]);
    scene
        .recover(&[])
        .ends(1)
        .complains(&["its exporter \"own\" cannot be had: no exporter", "--exporter chooses another"]);
    // csv has had a batch, and it does not come again.
    scene.recover(&["--exporter", "csv"]).ends(0).says(&[" exported, ", " exported before\n"]);
    scene.check(20_000);
    // Whoever has had nothing gets all.
    let scene = Scene::new();
    scene.leave_as("stuck 20000", &[("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    scene.recover(&["--exporter", "csv"]).ends(0).says(&["csv            20,000 exported\n"]);
    scene.check(20_000);
}

#[test]
fn what_an_exporter_fails_at_stays_for_the_next_time() {
    let scene = Scene::new();
    scene.leave_as("stuck 20000", &[("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    let full = ["--exporter", "csv", "--set", "NIXL_TELEMETRY_CSV_FILE=/dev/full"];
    scene.recover(&full).ends(1).complains(&["/dev/full: no space left on device"]);
    // A file that cannot grow beyond some of the batches is as good as a disk that is full.
    let full = scene.command(&["--exporter", "csv"]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""]);
    limited.arg(full.get_program()).args(full.get_args());
    limited.env_clear().env("NIXL_TELEMETRY_CSV_FILE", scene.output());
    let ran = finish(limited).ends(1).says(&[" failed, ", " not tried\n", "journal        kept: csv failed at "]);
    assert!(ran.err.contains("exporter csv failed at "), "{}", ran.err);
    let before = each_once(&scene.output());
    assert!(before > 0 && before < 20_000, "{before}");
    let held = scene.recover(&["--json", "--dry-run"]).ends(0).out;
    let held: serde_json::Value = serde_json::from_str(&held).unwrap();
    assert_eq!(held["events"].as_u64().unwrap(), 20_000 - before);
    // By now csv is what the journal is for.
    scene.recover(&[]).ends(0).says(&["journal        removed\n"]);
    scene.check(20_000);
}

#[test]
fn what_is_no_journal_is_named_and_the_others_go_on() {
    let scene = Scene::new();
    scene.leave(1000, &[]);
    let (journal, journals) = (scene.journal(), scene.journals());
    let whole = fs::read(&journal).unwrap();
    let expect = |name: &str, problem: &str| format!("error: {}: {problem}\n", journals.join(name).display());
    let mut problems = Vec::new();
    let mut add = |name: &str, content: &[u8], problem: &str| {
        fs::write(journals.join(name), content).unwrap();
        problems.push(expect(name, problem));
    };
    add("a-empty.journal", b"", "has 0 bytes: expected at least 212992");
    add("b-short.journal", &whole[..1000], "has 1000 bytes: expected at least 212992");
    add("c-other.journal", &[7; HEADER], "does not begin as a journal does: expected NIXLTLMJ");
    let newer = [&whole[..8], &2_u64.to_ne_bytes(), &whole[16..]].concat();
    add("d-newer.journal", &newer, "is a journal of version 2: expected 1");
    std::os::unix::fs::symlink(&journal, journals.join("e-link.journal")).unwrap();
    problems.push(expect("e-link.journal", "is a symbolic link: expected the journal itself"));
    mknodat(CWD, journals.join("f-pipe.journal"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    problems.push(expect("f-pipe.journal", "is no regular file: expected a journal"));
    fs::create_dir(journals.join("g-folder.journal")).unwrap();
    problems.push(expect("g-folder.journal", "Is a directory (os error 21)"));
    fs::write(journals.join("not-looked-at"), "").unwrap();

    let broken = problems.len();
    let ran = scene
        .recover(&["/nonexistent"])
        .ends(1)
        .says(&["1 journal recovered with 1,000 events, ", &format!(", {broken} with an error\n")]);
    let nothing = "error: cannot read /nonexistent: No such file or directory (os error 2)\n".to_owned();
    problems.insert(0, nothing);
    assert_eq!(ran.err, problems.concat());
    assert_eq!(each_once(&scene.output()), 1000);
    assert!(!journal.exists());
}

#[test]
fn whose_it_is_matters() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped whose_it_is_matters: only root gives files away");
        return;
    }
    let scene = Scene::new();
    scene.leave(1000, &[]);
    let journal = scene.journal();
    for folder in [scene.root.path(), scene.plugins.path(), &scene.journals()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // To be run by anybody.
    let program = scene.plugins.path().join("nixl-telemetry");
    support::copy_command(&program);
    let mut nobody = Command::new(program);
    nobody.arg("recover").arg(scene.journals()).env_clear().uid(65534).gid(65534);
    finish(nobody).ends(1).complains(&[&format!("error: {}: Permission denied", journal.display())]);
    std::os::unix::fs::chown(&journal, Some(4242), None).unwrap();
    scene.recover(&[]).ends(1).complains(&["belongs to user 4242: expected user 0"]);
    std::os::unix::fs::chown(&journal, Some(0), None).unwrap();
    scene.recover(&[]).ends(0);
    scene.check(1000);
}

#[test]
fn what_is_cut_off_is_lost_and_said() {
    let scene = Scene::new();
    scene.leave(1000, &[]);
    let journal = scene.journal();
    File::options().write(true).open(&journal).unwrap().set_len(HEADER as u64).unwrap();
    scene.recover(&["--dry-run"]).ends(1).says(&["damage         the ring at byte 212992 is damaged or cut off"]);
    scene.recover(&[]).ends(1).says(&["journal        kept: the ring at byte 212992 is damaged or cut off"]);
    assert!(journal.exists());
    // More lanes than there can be.
    File::options().write(true).open(&journal).unwrap().write_at(&u64::MAX.to_ne_bytes(), 9 * 8).unwrap();
    scene.recover(&[]).ends(1).complains(&["its header is damaged: more lanes than there can be"]);
}

#[test]
fn ctrl_c_leaves_what_is_not_exported() {
    let scene = Scene::new();
    scene.leave_as("stuck 20000", &[("NIXL_TELEMETRY_EXPORTER", "NOP")]);
    let arguments = ["-shared", "-fvisibility=hidden", "-I", "include/v2", "-ldl"];
    let source = Path::new("crates/cli/tests/fixtures/hang.cc");
    let plugin = compile_cpp("libtelemetry_exporter_hang.so", &[source], &arguments);
    let sign = scene.root.path().join("sign");
    let mut command = scene.command(&["--exporter", "hang", "--set", &format!("HANG_FILE={}", sign.display())]);
    command.env("NIXL_TELEMETRY_PLUGIN_PATH", plugin.parent().unwrap());
    // Who runs tests in the background has them ignore the signal.
    let mut hears = Command::new("/usr/bin/env");
    hears.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    hears.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = hears.stdout(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !sign.exists() {
        assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(5));
    }
    // Meanwhile it is somebody's.
    scene.recover(&[]).ends(0).says(&["in use by a living process"]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    scene.recover(&["--exporter", "csv"]).ends(0).says(&["csv            20,000 exported\n"]);
    scene.check(20_000);
}
