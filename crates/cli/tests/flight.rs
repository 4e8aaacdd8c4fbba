// SPDX-License-Identifier: Apache-2.0

//! `flight`, and the exporter of that name: what a process did last is in its file, however it ended.

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, SystemTime};

use nixl_telemetry_event::Kind;
use nixl_telemetry_host::Collector;
use nixl_telemetry_ring::{Batch, DumpName, Mode, Reader, Reason};
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::Value;
use support::{Ran, command, finish, names, run, text};

/// A directory for recorders.
struct Scene {
    root: tempfile::TempDir,
    started_us: u64,
}

impl Scene {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), started_us: now_us() }
    }

    fn live(&self) -> PathBuf {
        self.root.path().join("victim-0")
    }

    fn dumps(&self) -> PathBuf {
        self.root.path().join("dumps")
    }

    /// A process that records as [`victim`] says, through the exporter as it is built.
    fn start(&self, role: &str, variables: &[(&str, &str)]) -> Child {
        support::victim(role)
            .env("NIXL_TELEMETRY_RUN_INTERVAL", "1")
            .env("NIXL_TELEMETRY_OVERFLOW", "block:60000")
            .env("NIXL_TELEMETRY_EXPORTER", "flight")
            .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("flight").parent().unwrap())
            .env("NIXL_TELEMETRY_FLIGHT_DIR", self.root.path())
            .env("NIXL_TELEMETRY_FLIGHT_EVENTS", "1024")
            .envs(variables.iter().copied())
            .spawn()
            .unwrap()
    }

    /// A process that has recorded and was killed then.
    fn leave(&self, role: &str, variables: &[(&str, &str)]) {
        support::is_killed(self.start(role, variables));
    }

    fn flight(&self, arguments: &[&str]) -> Ran {
        run(&[&["flight"], arguments, &[text(self.root.path())]].concat())
    }

    /// The lines of a call with `--json`.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.flight(&[arguments, &["--json"]].concat()).ends(0);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The values in a ring; their times are in order, and between the beginning of the scene and now.
    #[track_caller]
    fn values(&self, path: &Path) -> Vec<u64> {
        let (mut batch, mut last_us) = (Batch::new(), self.started_us);
        Reader::open(path, Mode::Peek).unwrap().read(&mut batch).unwrap();
        let values = batch.events().map(|event| {
            let time_us = event.timestamp_us().unwrap();
            assert!((last_us..=now_us()).contains(&time_us), "{time_us} after {last_us}");
            last_us = time_us;
            event.value()
        });
        values.collect()
    }

    /// Why there are dumps, oldest first, and what is in them.
    fn dumped(&self) -> Vec<(Reason, Vec<u64>)> {
        let dumps = DumpName::all(&self.dumps()).unwrap();
        dumps.iter().map(|name| (name.reason, self.values(&self.dumps().join(name.to_string())))).collect()
    }
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}

/// Events that a ring of 1024 slots holds after so many: when it is full, 128 give way.
fn held(events: u64) -> u64 {
    if events <= 1023 { events } else { 1023 - 128 + (events - 1024) % 128 + 1 }
}

/// Records so many numbered events, `ROLE EVENTS`, waits until they are exported, and is killed; as `lives` it waits for its
/// end instead; as `forever` it goes on and says how far it is; as `errors` they are errors.
#[test]
#[ignore = "run by the tests that need a process to die"]
fn victim() {
    let role = env::var("VICTIM").unwrap();
    let (role, events) = role.split_once(' ').unwrap();
    let events: u64 = events.parse().unwrap();
    let collector = Collector::create("victim-0", Settings::process()).unwrap().unwrap();
    let exported = || collector.counts().exporters[0].exported;
    let recorder = collector.recorder();
    let kind = if role == "errors" { Kind::ERR_BACKEND } else { Kind::TX_BYTES };
    for value in 0..events {
        recorder.event(kind, value);
        if role == "forever" && value % 1000 == 999 {
            println!("\n{}", exported());
        }
    }
    while exported() < events {
        thread::sleep(Duration::from_millis(1));
    }
    if role == "lives" {
        println!("\nready");
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        assert!(collector.close().is_balanced());
        return;
    }
    kill_process(getpid(), Signal::KILL).unwrap();
}

/// Reads a child's lines until this one is there.
fn read_until(child: &mut Child, is_it: impl Fn(&str) -> bool) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| is_it(line)).expect("it says so")
}

#[test]
fn what_a_killed_process_did_last_is_in_its_file() {
    for events in [1, 1023, 1024, 1151, 1152, 20_000] {
        let scene = Scene::new();
        scene.leave(&format!("dies {events}"), &[]);
        assert_eq!(scene.values(&scene.live()), Vec::from_iter(events - held(events)..events));
        assert!(!scene.dumps().exists());
    }
}

#[test]
fn wherever_it_is_killed_the_last_events_are_there_in_order() {
    for round in 1..=10 {
        let scene = Scene::new();
        let mut child = scene.start(&format!("forever {}", u64::MAX), &[]);
        let said = read_until(&mut child, |line| line.parse::<u64>().is_ok_and(|events| events >= round * 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        let values = scene.values(&scene.live());
        let last = *values.last().unwrap();
        assert_eq!(values, Vec::from_iter(last + 1 - values.len() as u64..=last));
        assert!(last + 1 >= said.parse::<u64>().unwrap() && values.len() >= 895, "{said}, {last}, {}", values.len());
    }
}

#[test]
fn errors_at_a_rate_are_dumped_on_the_spot() {
    let scene = Scene::new();
    scene.leave("errors 100", &[]);
    assert_eq!(scene.dumped(), [(Reason::Errors, (0..10).collect())]);
    assert_eq!(scene.values(&scene.live()), Vec::from_iter(0..100));
    let scene = Scene::new();
    scene.leave("errors 100", &[("NIXL_TELEMETRY_FLIGHT_ERRORS", "off")]);
    scene.leave("errors 9", &[]);
    assert_eq!(scene.dumped(), [(Reason::Previous, (0..100).collect())]);
}

#[test]
fn a_dump_needs_no_living_process() {
    let scene = Scene::new();
    scene.leave("dies 5000", &[]);
    let values = Vec::from_iter(5000 - held(5000)..5000);
    scene.flight(&["dump"]).ends(0).says(&[&format!("victim-0: {} events from 20", values.len()), "UTC in "]);
    assert_eq!(scene.dumped(), [(Reason::Request, values.clone())]);
    assert_eq!(scene.values(&scene.live()), values, "the recorder is as it was");
    scene.flight(&["list"]).ends(0).says(&[
        "recorder  process  events",
        "victim-0  ended",
        "dump of   made",
        " request ",
    ]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let [dump] = &names(&scene.dumps())[..] else { panic!("one dump") };
    assert_eq!((mode(&scene.dumps()), mode(&scene.dumps().join(dump))), (0o700, 0o600));

    // The next of that name saves it by itself, and never removes what somebody asked for.
    for _ in 0..3 {
        scene.leave("dies 5", &[("NIXL_TELEMETRY_FLIGHT_MAX_DUMPS", "1")]);
    }
    assert_eq!(scene.dumped(), [(Reason::Request, values), (Reason::Previous, (0..5).collect())]);
}

#[test]
fn a_living_process_does_not_notice() {
    let scene = Scene::new();
    let mut child = scene.start("lives 700", &[]);
    read_until(&mut child, |line| line == "ready");
    let before = fs::read(scene.live()).unwrap();
    scene.flight(&["list"]).ends(0).says(&[&format!("victim-0  {} ", child.id()), "  700  20"]);
    scene.flight(&["dump", "--wait", "0.1"]).ends(0).says(&["victim-0: 700 events from 20"]);
    assert!(fs::read(scene.live()).unwrap() == before, "the recorder is as it was");
    // A second one of its name, and that one is gone.
    scene.leave("dies 3", &[]);
    assert_eq!(scene.values(&scene.root.path().join("victim-0.2")), [0, 1, 2]);

    let [first, second, dump] = &scene.json(&["list"])[..] else { panic!("two recorders and a dump") };
    assert_eq!(first["recorder"], text(&scene.live()));
    assert_eq!((&first["agent"], &first["state"]), (&"victim-0".into(), &"alive".into()));
    assert_eq!((&first["pid"], &first["events"]), (&child.id().into(), &700.into()));
    assert_eq!((&first["slots"], &first["bytes"]), (&1024.into(), &(40 + 1024 * 56).into()));
    assert_eq!((&second["agent"], &second["state"]), (&"victim-0.2".into(), &"ended".into()));
    assert_eq!((&second["pid"], &second["events"]), (&Value::Null, &3.into()));
    assert_eq!((&dump["agent"], &dump["reason"]), (&"victim-0".into(), &"request".into()));
    for time in ["first_us", "last_us"] {
        assert_eq!(dump[time], first[time]);
        assert!(dump[time].as_u64() >= Some(scene.started_us));
    }
    let [copied] = &scene.json(&["dump", "--agent", "*.2"])[..] else { panic!("one copy") };
    assert_eq!((&copied["agent"], &copied["events"]), (&"victim-0.2".into(), &3.into()));
    assert_eq!((&copied["overwritten"], &copied["bytes"]), (&0.into(), &(40 + 4 * 56).into()));
    assert_eq!(scene.values(Path::new(copied["dump"].as_str().unwrap())), [0, 1, 2]);
    assert_eq!(scene.json(&["list", "--agent", "other"]), [Value::Null; 0]);
    // Its end changes nothing.
    assert!(child.wait().unwrap().success());
    assert!(fs::read(scene.live()).unwrap() == before, "the recorder is as it was");
}

#[test]
fn a_process_at_work_is_copied_as_it_goes() {
    let scene = Scene::new();
    let mut child = scene.start(&format!("forever {}", u64::MAX), &[]);
    read_until(&mut child, |line| line.parse::<u64>().is_ok_and(|events| events >= 5000));
    let stdout = child.stdout.take().unwrap();
    let drain = thread::spawn(move || io::copy(&mut { stdout }, &mut io::sink()).unwrap());
    for _ in 0..20 {
        scene.flight(&["dump"]).ends(0);
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    drain.join().unwrap();
    let dumped = scene.dumped();
    assert_eq!(dumped.len(), 20);
    for (reason, values) in dumped {
        assert_eq!(reason, Reason::Request);
        // As much as the writer left, without a gap.
        let gap = values.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "in {} events", values.len());
    }
}

#[test]
fn what_is_no_recorder_is_passed_over_or_named() {
    let scene = Scene::new();
    scene.flight(&["list"]).ends(0).says(&["no recorders in /"]);
    scene.flight(&["dump"]).ends(1).complains(&["error: no such recorders in /"]);
    let absent = scene.root.path().join("absent");
    for what in ["list", "dump"] {
        let ran = run(&["flight", what, text(&absent)]).ends(1);
        assert_eq!(
            ran.err,
            format!("error: cannot read {}: No such file or directory (os error 2)\n", absent.display())
        );
    }
    scene.leave("dies 3", &[]);
    fs::write(scene.root.path().join("notes"), "somebody's").unwrap();
    fs::write(scene.root.path().join(".hidden"), "somebody's").unwrap();
    symlink(scene.live(), scene.root.path().join("link")).unwrap();
    assert_eq!(scene.json(&["list"]).len(), 1);
    // One that is cut short, and a directory nothing can be put into.
    let broken = scene.root.path().join("broken");
    fs::copy(scene.live(), &broken).unwrap();
    File::options().write(true).open(&broken).unwrap().set_len(1000).unwrap();
    let problem = format!("error: {}: has 1000 bytes: expected 57384 for 1024 slots of version 1\n", broken.display());
    let ran = scene.flight(&["list"]).ends(1).says(&["victim-0  ended"]);
    assert_eq!(ran.err, problem);
    let to = scene.root.path().join("none/dumps");
    let ran = scene.flight(&["dump", "--to", text(&to)]).ends(1);
    let directory = format!("cannot make {}: No such file or directory (os error 2)", to.display());
    assert_eq!(ran.err, problem + &format!("error: {}: {directory}\n", scene.live().display()));
    scene.flight(&["dump", "--wait", "soon"]).ends(2).complains(&["expected seconds from 0 to 3600"]);
    finish(command(&["flight"])).ends(2).complains(&["list", "dump"]);
}
