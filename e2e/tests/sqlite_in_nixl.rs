// SPDX-License-Identifier: Apache-2.0

//! The sqlite plugin in a real NIXL: what its database holds is what happened, as `sqlite3` adds it up.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nixl_telemetry_e2e::{Sandbox, Totals, on_small_disk, preloaded, truth};
use nixl_telemetry_testkit as testkit;
use serde_json::Value;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// A release, and `sqlite3`.
fn require(test: &str, version: &str) -> Option<PathBuf> {
    testkit::require(test, testkit::command("sqlite3", "sqlite3"))?;
    testkit::require(test, testkit::nixl_release(version))
}

fn sqlite3(file: &Path, sql: &str) -> Value {
    let output = Command::new("sqlite3").args(["-batch", "-json"]).arg(file).arg(sql).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a database holds, which is whole and has every event once.
fn totals(file: &Path) -> Totals {
    assert_eq!(sqlite3(file, "PRAGMA integrity_check"), serde_json::json!([{"integrity_check": "ok"}]));
    let twice = "SELECT count(*) - count(DISTINCT origin || ' ' || sequence) AS twice, count(*) = (SELECT count(*) FROM events) AS \
                 joined, min(timestamp_us) > 1700000000000000 AS timed FROM telemetry";
    assert_eq!(sqlite3(file, twice), serde_json::json!([{"twice": 0, "joined": 1, "timed": 1}]));
    let mut totals = Totals::new();
    let rows = sqlite3(file, "SELECT agent, event, count(*), sum(value) FROM telemetry GROUP BY agent, event");
    for row in rows.as_array().unwrap() {
        let (text, number) = (|column| row[column].as_str().unwrap(), |column| row[column].as_u64().unwrap());
        let total = (number("count(*)"), number("sum(value)"));
        totals.entry(text("agent").to_owned()).or_default().insert(text("event").to_owned(), total);
    }
    totals
}

fn sqlite_holds_what_happened(version: &str) {
    let Some(release) = require(&format!("sqlite in NIXL {version}"), version) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("sqlite"));
    let folder = tempfile::tempdir().unwrap();
    let drive = |file: &str| {
        let file = folder.path().join(file);
        let variables = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "sqlite"),
            ("NIXL_TELEMETRY_SQLITE_FILE", file.to_str().unwrap()),
            ("NIXL_TELEMETRY_SQLITE_SHUTDOWN_TIMEOUT", "60000"),
        ];
        let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("SQLITE") && !log.contains("exporter sqlite"), "{log}");
        let truth = truth(&output);
        assert_eq!(truth["initiator"]["agent_xfer_time"].0, TRANSFERS);
        truth
    };
    // All agents into one.
    let expected = drive("shared.db");
    assert_eq!(totals(&folder.path().join("shared.db")), expected, "NIXL {version}");
    // Each into one of its own.
    let expected = drive("{agent}.db");
    for (agent, events) in expected {
        let own = totals(&folder.path().join(format!("{agent}.db")));
        assert_eq!(own, Totals::from([(agent, events)]), "NIXL {version}");
    }
    // Nothing is left beside them.
    let names: BTreeSet<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.iter().all(|path| path.extension().is_some_and(|ending| ending == "db")), "{names:?}");
}

#[test]
fn nixl_1_0_1() {
    sqlite_holds_what_happened("1.0.1");
}

#[test]
fn nixl_1_5_1() {
    sqlite_holds_what_happened("1.5.1");
}

/// With our collector in the process nothing is lost, although the agents are destroyed at once.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let Some(release) = require("sqlite preloaded", "1.5.1") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let output = preloaded(Path::new(DRIVER), &release, TRANSFERS, "sqlite")
        .env("NIXL_TELEMETRY_SQLITE_FILE", &file)
        .output()
        .unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&file), expected);
}

/// A file system with room for some of it, which grows as soon as the log complains: nothing is lost.
#[test]
fn what_finds_no_room_comes_when_there_is_some() {
    let test = "sqlite on a full disk";
    let Some(release) = require(test, "1.5.1") else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("sqlite"));
    let copy = tempfile::tempdir().unwrap();
    let script = format!(
        "'{DRIVER}' '{driven}' 3000 1500 > '{out}/truth' 2> '{out}/log' & \
         until grep -q 'it is tried again' '{out}/log' || ! kill -0 $! 2> /dev/null; do sleep 0.05; done; \
         mount -o remount,size=64m /mnt && wait $! && cp /mnt/* '{out}'",
        driven = sandbox.path().display(),
        out = copy.path().display()
    );
    let Some(mut shell) = on_small_disk(test, &script) else { return };
    let output = shell
        .env("NIXL_LOG_LEVEL", "INFO")
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "sqlite")
        .env("NIXL_TELEMETRY_RUN_INTERVAL", "10")
        .env("NIXL_TELEMETRY_SQLITE_RETRY_INITIAL_INTERVAL", "20")
        .env("NIXL_TELEMETRY_SQLITE_SHUTDOWN_TIMEOUT", "60000")
        .env("NIXL_TELEMETRY_SQLITE_FILE", "/mnt/events.db")
        .output()
        .unwrap();
    let log = fs::read_to_string(copy.path().join("log")).unwrap();
    assert!(output.status.success(), "{output:?} {log}");
    assert!(log.contains("/mnt/events.db: database or disk is full, expected room on its disk"), "{log}");
    assert!(log.contains("delivers again") && !log.contains("are lost"), "{log}");
    let expected: Totals = serde_json::from_slice(&fs::read(copy.path().join("truth")).unwrap()).unwrap();
    assert_eq!(totals(&copy.path().join("events.db")), expected);
}
