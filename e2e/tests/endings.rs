// SPDX-License-Identifier: Apache-2.0

//! However a process ends, what it recorded is in the file: once it is gone, or after its journal was recovered.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::OnceLock,
};

use nixl_telemetry_e2e::{nixl_command, on_small_disk};
use nixl_telemetry_testkit as testkit;
use tempfile::TempDir;

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| testkit::compile_cpp("endings", &[Path::new("e2e/tests/endings.cc")], &["-pthread", "-ldl"]))
}

/// A program that records, and where.
struct Scene {
    folder: TempDir,
    output: Output,
}

impl Scene {
    /// Runs the program to this end, its events flushed at the end alone.
    fn play(how: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = nixl_command(program())
            .arg(how)
            .env("LD_PRELOAD", testkit::preload())
            .env("NIXL_TELEMETRY_EXPORTER", "csv")
            .env("NIXL_TELEMETRY_CSV_FILE", folder.path().join("{agent}.csv"))
            .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
            .env("NIXL_TELEMETRY_RUN_INTERVAL", "3600000")
            .env("NIXL_TELEMETRY_JOURNAL_DIR", folder.path())
            .env("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000")
            .envs(variables.iter().copied())
            .output()
            .expect("the program runs");
        Self { folder, output }
    }

    /// How often each number of bytes is in the file; asserts that every transfer is there with all its events.
    fn transfers(&self) -> BTreeMap<u64, u64> {
        let mut found = BTreeMap::new();
        let (mut bytes, mut others) = (0, BTreeMap::new());
        for row in csv::Reader::from_path(self.folder.path().join("parent.csv")).unwrap().records() {
            let row = row.unwrap();
            if &row[2] == "agent_tx_bytes" {
                *found.entry(row[3].parse().unwrap()).or_insert(0) += 1;
                bytes += 1;
            } else {
                *others.entry((row[2].to_owned(), row[3].to_owned())).or_insert(0u64) += 1;
            }
        }
        let expected = [("agent_tx_requests_num", "1"), ("agent_xfer_post_time", "3"), ("agent_xfer_time", "7")];
        let expected = expected.map(|(name, value)| ((name.to_owned(), value.to_owned()), bytes));
        assert_eq!(others, expected.into_iter().filter(|_| bytes > 0).collect());
        found
    }

    fn journals(&self) -> Vec<PathBuf> {
        nixl_telemetry_host::journals(self.folder.path()).unwrap()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// Each number from the first of a pair to before the second, once.
fn once(ranges: &[(u64, u64)]) -> BTreeMap<u64, u64> {
    ranges.iter().flat_map(|(from, to)| *from..*to).map(|bytes| (bytes, 1)).collect()
}

fn check(how: &str, expected: &[(u64, u64)]) {
    let scene = Scene::play(how, &[]);
    assert!(scene.output.status.success(), "{how}: {:?}", scene.output);
    assert_eq!(scene.log(), "", "{how}");
    assert_eq!(scene.transfers(), once(expected), "{how}");
    assert_eq!(scene.journals(), [] as [PathBuf; 0], "{how}");
}

#[test]
fn whoever_leaves_leaves_nothing_behind() {
    for how in ["return", "exit", "_exit", "_Exit", "thread", "destroyed"] {
        check(how, &[(1, 101)]);
    }
}

/// Whatever it interrupted: should that have been the allocator, the end takes its time, and the empty journal stays.
#[test]
fn whoever_leaves_in_a_signal_handler_leaves_no_event_behind() {
    let scene = Scene::play("signal", &[("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "5000")]);
    assert!(scene.output.status.success(), "{:?}", scene.output);
    assert_eq!(scene.transfers(), once(&[(1, 101)]));
    for journal in scene.journals() {
        let abandoned = nixl_telemetry_host::Abandoned::open(&journal).unwrap().expect("its process has ended");
        assert_eq!(abandoned.events(), 0);
    }
}

#[test]
fn quick_exit_calls_its_handlers() {
    let scene = Scene::play("quick_exit", &[]);
    assert_eq!((scene.output.stdout.as_slice(), scene.output.status.code()), (&b"handler\n"[..], Some(0)));
    assert_eq!(scene.transfers(), once(&[(1, 101)]));
}

#[test]
fn a_child_that_is_about_to_be_another_program_leaves_its_parent_alone() {
    check("exec", &[(1, 201)]);
    check("fork_idle", &[(1, 201)]);
}

#[test]
fn forked_children_export_what_they_record_and_nothing_else() {
    check("fork", &[(1, 201), (1001, 1201), (2001, 2101)]);
}

#[test]
fn forks_in_the_middle_of_recording() {
    let scene = Scene::play("fork_busy", &[]);
    assert!(scene.output.status.success(), "{:?}", scene.output);
    let end: u64 = String::from_utf8_lossy(&scene.output.stdout).trim().parse().unwrap();
    let billion = 1_000_000_000;
    assert_eq!(scene.transfers(), once(&[(1, end), (billion, billion + 200)]));
    assert_eq!(scene.journals(), [] as [PathBuf; 0]);
}

/// With nothing but a journal to tell of it.
#[test]
fn who_is_killed_leaves_a_journal() {
    for (how, signal) in [("killed", 9), ("aborted", 6)] {
        let scene = Scene::play(how, &[]);
        assert_eq!(scene.output.status.signal(), Some(signal), "{how}");
        let [journal] = scene.journals().try_into().expect("one journal");
        let abandoned = nixl_telemetry_host::Abandoned::open(&journal).unwrap().expect("its process is dead");
        assert_eq!((abandoned.agent(), abandoned.events()), ("parent".to_owned(), 400));
        assert_eq!(abandoned.exporters(), ["csv"]);
        assert!(!scene.folder.path().join("parent.csv").exists() || scene.transfers().is_empty());
    }
}

/// Where a disk has no room for a journal there is none, and where it has none for a bigger one, what finds no room is dropped
/// and counted; either is said once.
#[test]
fn a_journal_on_a_full_disk() {
    for (size, complaint) in [("64k", "No space left on device"), ("260k", "cannot grow: No space left on device")] {
        let folder = tempfile::tempdir().unwrap();
        let script =
            format!("mount -o remount,size={size} /mnt && mkdir -m 700 /mnt/journals && exec \"$PROGRAM\" many");
        let Some(mut command) = on_small_disk("journals on a full disk", &script) else { return };
        let file = folder.path().join("parent.csv");
        let output = command
            .env("PROGRAM", program())
            .env("LD_PRELOAD", testkit::preload())
            .env("NIXL_TELEMETRY_EXPORTER", "csv")
            .env("NIXL_TELEMETRY_CSV_FILE", &file)
            .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
            .env("NIXL_TELEMETRY_JOURNAL_DIR", "/mnt/journals")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && log.matches(complaint).count() == 1 && log.lines().count() == 1, "{log}");
        let mut events = 0;
        for row in csv::Reader::from_path(&file).unwrap().records() {
            let row = row.unwrap();
            events += if &row[2] == "agent_telemetry_events_dropped" { row[3].parse().unwrap() } else { 1u64 };
        }
        assert_eq!(events, 4 * 5000, "{size}");
    }
}

/// What cannot be had is said, and nothing else is different.
#[test]
fn a_journal_that_cannot_be_had_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let table = [
        (missing.to_str().unwrap(), "expected a directory"),
        (file.to_str().unwrap(), "is no directory: expected one"),
        ("/tmp", "may be written by others (mode 1777): expected a directory that only its owner may write, mode 700"),
        ("/proc/self", "expected a directory on a file system with room, with locks, and whose files can be mapped"),
    ];
    for (directory, complaint) in table {
        let scene = Scene::play("exit", &[("NIXL_TELEMETRY_JOURNAL_DIR", directory)]);
        let log = scene.log();
        let line = format!("NIXL_TELEMETRY_JOURNAL_DIR is {directory} (environment)");
        assert!(log.lines().count() == 1 && log.contains(&line) && log.contains(complaint), "{log}");
        assert_eq!(scene.transfers(), once(&[(1, 101)]));

        let refused =
            Scene::play("exit", &[("NIXL_TELEMETRY_JOURNAL_DIR", directory), ("NIXL_TELEMETRY_ON_ERROR", "fail")]);
        assert_eq!(refused.output.status.signal(), Some(6), "an exception nobody catches: {:?}", refused.output);
        assert!(refused.log().contains(complaint), "{}", refused.log());
    }
}
