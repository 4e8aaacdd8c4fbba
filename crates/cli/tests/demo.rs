// SPDX-License-Identifier: Apache-2.0

//! `demo`, from the transfers to the rows in the file.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nixl_telemetry_testkit::{compile_cpp, nixl_release, require, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use support::{Ran, command, command_of, contents, csv, finish, installed, names, plugins, ran, text};

/// What the demo needs, and all that it may leave behind.
struct Scene {
    supply: tempfile::TempDir,
    /// Where temporary files go.
    scratch: tempfile::TempDir,
    output: std::path::PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (supply, _) = csv();
        let output = supply.path().join("out.csv");
        Self { supply, scratch: tempfile::tempdir().unwrap(), output }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = command(&[&["demo", "--plugin-dir", text(self.supply.path())], arguments].concat());
        command.env("TMPDIR", self.scratch.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments))
    }

    fn run_into_file(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["--output", text(&self.output)], arguments].concat())
    }
}

/// The rows of a file by the event's name.
fn rows(path: &Path, event: &str) -> usize {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("timestamp_us,category,event_name,value\n"), "{text}");
    text.lines().skip(1).filter(|line| event.is_empty() || line.split(',').nth(2) == Some(event)).count()
}

/// The numbers of the line `events  A = B exported + C dropped`.
fn fates(out: &str) -> [u64; 3] {
    let line = out.lines().find(|line| line.starts_with("  events  ")).unwrap_or_else(|| panic!("{out}"));
    let numbers = line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
    numbers.collect::<Vec<u64>>().try_into().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn every_event_is_in_the_file() {
    let scene = Scene::new();
    let ran = scene.run_into_file(&["--transfers", "200", "--threads", "3"]).ends(0).says(&[
        "embedded agents, exporter csv",
        "200 arrived intact, 0 did not",
        "rows, as many as were exported",
    ]);
    let [produced, exported, dropped] = fates(&ran.out);
    assert_eq!((produced, dropped), (exported, 0));
    assert_eq!(rows(&scene.output, "") as u64, produced);
    let count = |event| rows(&scene.output, event);
    assert_eq!(count("agent_tx_requests_num") + count("agent_rx_requests_num"), 200);
    assert_eq!((count("agent_xfer_time"), count("agent_xfer_post_time")), (200, 200));
    assert_eq!(count("agent_memory_registered"), count("agent_memory_deregistered"));
    // Each thread makes every mistake once.
    assert_eq!((count("agent_err_not_found"), count("agent_err_canceled")), (3, 3));
    assert!(!ran.out.contains("NIXL itself"), "there is none");
    assert_eq!(names(scene.scratch.path()), [""; 0]);

    // A second run appends, and counts its own rows only.
    let before = rows(&scene.output, "");
    let ran = scene.run_into_file(&["--transfers", "10", "--no-errors"]).ends(0);
    assert_eq!((rows(&scene.output, "") - before) as u64, fates(&ran.out)[0]);
    assert_eq!(rows(&scene.output, "agent_err_not_found"), 3);
}

#[test]
fn without_a_file_there_is_a_temporary_one() {
    let scene = Scene::new();
    let ran = scene.run(&["--transfers", "10"]).ends(0);
    let left = names(scene.scratch.path());
    let [name] = left.as_slice() else { panic!("{left:?}") };
    assert!(ran.out.contains(text(&scene.scratch.path().join(name))), "{}", ran.out);
    assert_eq!(rows(&scene.scratch.path().join(name), "") as u64, fates(&ran.out)[1]);
}

#[test]
fn agents_may_have_a_file_each() {
    let scene = Scene::new();
    let template = scene.supply.path().join("{agent}.csv");
    let ran = scene.run(&["--transfers", "10", "--output", text(&template)]).ends(0);
    let count = |agent: &str| rows(&scene.supply.path().join(format!("{agent}.csv")), "") as u64;
    assert_eq!(count("initiator") + count("target"), fates(&ran.out)[1]);
    assert!(count("target") > 0);
}

#[test]
fn drops_are_counted_and_are_no_failure() {
    let scene = Scene::new();
    // A transfer is four events, which go together or not at all.
    let small = ["--transfers", "50", "--no-errors", "--set", "NIXL_TELEMETRY_BUFFER_SIZE=1"];
    let ran = scene.run_into_file(&small).ends(0).says(&["dropped      initiator, staging: queue_full "]);
    assert_eq!(rows(&scene.output, "agent_tx_requests_num"), 0);
    assert!(ran.out.contains("rows, as many as were exported"), "{}", ran.out);
}

#[test]
fn settings_reach_collector_and_exporter() {
    let scene = Scene::new();
    let settings =
        ["--set", "NIXL_TELEMETRY_ENABLED_METRICS=agent_tx_bytes", "--set", "NIXL_TELEMETRY_CSV_COLUMNS=value"];
    let ran = scene.run_into_file(&[&["--transfers", "50", "--size", "100"], &settings[..]].concat()).ends(0);
    let text = fs::read_to_string(&scene.output).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("value"));
    assert!(lines.clone().all(|line| line == "100"), "{text}");
    assert_eq!(lines.count() as u64, fates(&ran.out)[0]);
}

#[test]
fn other_exporters_do_without_a_file() {
    let scene = Scene::new();
    scene.run(&["--transfers", "10", "--exporter", "NOP"]).ends(0).says(&["exporter NOP", "= "]);
    let mut command = scene.command(&["--transfers", "10"]);
    command.env("NIXL_TELEMETRY_EXPORTER", "NOP");
    finish(command).ends(0).says(&["exporter NOP"]);
    scene.run(&["--transfers", "10", "--set", "NIXL_TELEMETRY_EXPORTER=NOP"]).ends(0).says(&["exporter NOP"]);
    let mut command = scene.command(&["--transfers", "10"]);
    command.env("NIXL_TELEMETRY_EXPORTER", "");
    finish(command).ends(0).says(&["exporter csv"]);
    let ran = scene.run(&["--transfers", "10", "--exporter", "csv,NOP"]).ends(0);
    let count = |name: &str| {
        ran.out.lines().find(|line| line.starts_with(&format!("  {name}  "))).unwrap().split_once("= ").unwrap().1
    };
    assert_eq!(count("csv"), count("NOP"));
}

#[test]
fn what_cannot_be_is_an_error_and_leaves_nothing() {
    let scene = Scene::new();
    let check = |arguments: &[&str], parts: &[&str]| {
        scene.run(&[&["--transfers", "10"], arguments].concat()).ends(1).complains(&["error: "]).complains(parts);
        assert_eq!(names(scene.scratch.path()), [""; 0], "{arguments:?}");
    };
    check(
        &["--exporter", "absent"],
        &[r#"no exporter "absent""#, "libtelemetry_exporter_absent.so", text(scene.supply.path())],
    );
    check(&["--exporter", "../csv"], &[r#""../csv" is no exporter name"#]);
    check(&["--output", "/nonexistent/x.csv"], &["NIXL_TELEMETRY_CSV_FILE", "its folder /nonexistent does not exist"]);
    check(&["--output", "/dev/full"], &["/dev/full: no space left on device"]);
    check(
        &["--set", "NIXL_TELEMETRY_BUFFER_SIZE=0"],
        &[r#"NIXL_TELEMETRY_BUFFER_SIZE is "0" (environment): expected "#],
    );
    check(&["--set", "NIXL_TELEMETRY_ENABLE=n"], &["telemetry is off"]);
    check(&["--agent", "nixl"], &["no NIXL found", "--nixl DIR", "(VIRTUAL_ENV): not set"]);
}

#[test]
fn what_only_degrades_a_program_fails_the_demo() {
    let scene = Scene::new();
    let degrade = ["--transfers", "10", "--set", "NIXL_TELEMETRY_ON_ERROR=degrade"];
    let output = ["--output", "/nonexistent/x.csv"];
    scene
        .run(&[&degrade[..], &output].concat())
        .ends(1)
        .says(&["cannot read /nonexistent/x.csv: No such file or directory"]);
    let absent = ["--exporter", "absent"];
    scene
        .run(&[&degrade[..], &absent].concat())
        .ends(1)
        .says(&["initiator, absent: unavailable ", r#"no exporter "absent""#]);
}

#[test]
fn ctrl_c_ends_the_work_and_the_table_comes_all_the_same() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let scene = Scene::new();
        let mut command = scene.command(&["--duration", "120", "--output", text(&scene.output)]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        wait_until(|| fs::metadata(&scene.output).is_ok_and(|file| file.len() > 10_000));
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ran = ran(child.wait_with_output().unwrap())
            .ends(code)
            .says(&["stopped early", "rows, as many as were exported"]);
        assert!(started.elapsed() < Duration::from_secs(100), "the signal ended it");
        assert_eq!(rows(&scene.output, "") as u64, fates(&ran.out)[1]);
    }
}

/// A demo whose exporter hangs, which has just begun to.
fn hanging(scene: &Scene, timeout: &str) -> std::process::Child {
    let arguments = ["-shared", "-fvisibility=hidden", "-I", "include/v2", "-ldl"];
    let source = Path::new("crates/cli/tests/fixtures/hang.cc");
    let plugin = compile_cpp("libtelemetry_exporter_hang.so", &[source], &arguments);
    let sign = scene.supply.path().join("sign");
    let mut command = scene.command(&["--exporter", "hang", "--transfers", "10", "--set", timeout]);
    command.env("NIXL_TELEMETRY_PLUGIN_PATH", plugin.parent().unwrap()).env("HANG_FILE", &sign);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| sign.exists() || child.try_wait().unwrap().is_some());
    child
}

#[test]
fn an_exporter_that_hangs_does_not_hang_the_demo() {
    let scene = Scene::new();
    let child = hanging(&scene, "NIXL_TELEMETRY_SHUTDOWN_TIMEOUT=5000");
    ran(child.wait_with_output().unwrap()).ends(1).says(&["initiator, hang: shutdown_timeout ", " = 0 exported + "]);
}

#[test]
fn a_second_ctrl_c_ends_the_process() {
    let scene = Scene::new();
    let mut child = hanging(&scene, "NIXL_TELEMETRY_SHUTDOWN_TIMEOUT=600000");
    let pid = Pid::from_child(&child);
    // Two of the same signal that wait at the same time are one.
    let pending = || {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap_or_default();
        let sets = status.lines().filter_map(|line| line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:")));
        sets.map(|set| u64::from_str_radix(set.trim(), 16).unwrap())
            .any(|set| set & (1 << (Signal::INT.as_raw() - 1)) != 0)
    };
    kill_process(pid, Signal::INT).unwrap();
    wait_until(|| !pending());
    assert!(child.try_wait().unwrap().is_none(), "the first one only asks");
    // Should another thread take the second one while the first is still being noted, there is a third.
    wait_until(|| child.try_wait().unwrap().is_some() || kill_process(pid, Signal::INT).is_err());
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
}

/// A demo on the agents of a release.
fn on_nixl(scene: &Scene, nixl: &Path, arguments: &[&str]) -> Ran {
    let folder = installed();
    let plugins = text(scene.supply.path());
    let start =
        ["demo", "--plugin-dir", plugins, "--agent", "nixl", "--nixl", text(nixl), "--output", text(&scene.output)];
    let mut command = command_of(&folder.path().join("nixl-telemetry"), &[&start, arguments].concat());
    finish(command.env("TMPDIR", scene.scratch.path()))
}

#[test]
fn the_same_goes_through_a_real_nixl_which_stays_as_it_is() {
    for release in ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"] {
        let Some(nixl) = require("the_same_goes_through_a_real_nixl", nixl_release(release)) else { return };
        let scene = Scene::new();
        let before = contents(&plugins(&nixl));
        // As fast as it goes; the oldest takes its time.
        let (transfers, shown) = if release == "0.10.1" { (200, "200") } else { (5000, "5,000") };
        let ran =
            on_nixl(&scene, &nixl, &["--transfers", &transfers.to_string(), "--size", "4K", "--exporter", "csv,NOP"])
                .ends(0)
                .says(&[
                    &format!("agents of nixl_cu12 {release}, exporter csv,NOP"),
                    &format!(" {shown} arrived intact, 0 did not"),
                ]);
        let [happened, exported, dropped] = fates(&ran.out);
        assert_eq!((happened, dropped), (exported, 0), "{release}: {}", ran.out);
        assert_eq!(rows(&scene.output, "") as u64, happened, "{release}");
        let count = |event| rows(&scene.output, event);
        assert_eq!(count("agent_tx_requests_num") + count("agent_rx_requests_num"), transfers, "{release}");
        assert_eq!(contents(&plugins(&nixl)), before, "{release}");
        assert_eq!(names(scene.scratch.path()), [""; 0], "{release}");
    }
}

#[test]
fn a_real_nixl_is_refused_what_cannot_be() {
    let Some(nixl) = require("a_real_nixl_is_refused", nixl_release("1.5.1")) else { return };
    let scene = Scene::new();
    on_nixl(&scene, &nixl, &["--transfers", "10", "--exporter", "csv,absent"]).ends(1).complains(&[
        r#"error: no exporter "absent""#,
        text(scene.supply.path()),
        ".nixl_cu12.mesonpy.libs/plugins",
    ]);
    on_nixl(&scene, &nixl, &["--transfers", "10", "--exporter", "csv,../x"]).ends(1).complains(&["no exporter name"]);
    on_nixl(&scene, &nixl, &["--transfers", "10", "--set", "NIXL_TELEMETRY_CSV_COLUMNS=x"]).ends(1).complains(&[
        "error: NIXL refuses its agents",
        r#"NIXL_TELEMETRY_CSV_COLUMNS is "x" (environment): expected "#,
    ]);
    // Without what comes with it.
    let arguments = ["--agent", "nixl", "--nixl", text(&nixl)];
    let alone = tempfile::tempdir().unwrap();
    let program = alone.path().join("nixl-telemetry");
    support::copy_command(&program);
    finish(command_of(&program, &[&["demo"], &arguments[..]].concat()))
        .ends(1)
        .complains(&["libnixl_telemetry_preload.so is missing: expected it in "]);
}

#[test]
fn a_nixl_without_c_api_cannot_be_driven() {
    let Some(nixl) = require("a_nixl_without_c_api_cannot_be_driven", nixl_release("0.9.0")) else { return };
    let ran = Scene::new().run(&["--agent", "nixl", "--nixl", text(&nixl)]).ends(1);
    assert!(ran.err.contains("has no C API to drive it by: expected 0.10.1 or newer"), "{}", ran.err);
}

#[test]
fn where_there_is_a_nixl_the_last_line_tells_of_it() {
    let Some(nixl) = require("where_there_is_a_nixl", nixl_release("1.5.1")) else { return };
    let ran = Scene::new().run(&["--transfers", "10", "--nixl", text(&nixl)]).ends(0);
    let last = ran.out.lines().last().unwrap();
    assert!(last.starts_with("the same through NIXL itself: nixl-telemetry demo --agent nixl --nixl /"), "{last}");
}
