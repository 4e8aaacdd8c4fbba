// SPDX-License-Identifier: Apache-2.0

//! One jsonl plugin, one file, in releases of NIXL: what it writes is what happened, as the schema says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nixl_telemetry_e2e::{Sandbox, Totals, add, on_small_disk, preloaded, truth};
use nixl_telemetry_testkit::{self as testkit, check_schema, event_schema};
use serde_json::Value;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// What these files hold, of which each line fits the schema and has a time.
fn totals(files: &[PathBuf]) -> Totals {
    let schema = event_schema();
    let mut totals = Totals::new();
    for file in files {
        let text = match file.extension() {
            Some(ending) if ending == "gz" => {
                let output = Command::new("gzip").arg("-dc").arg(file).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout).unwrap()
            }
            _ => fs::read_to_string(file).unwrap(),
        };
        assert!(text.ends_with('\n'), "{}", file.display());
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            assert_eq!(check_schema(&schema, &event), Ok(()));
            assert!(event["timestamp_us"].is_u64(), "{line}");
            let name = |field: &str| event[field].as_str().unwrap();
            add(&mut totals, name("agent"), name("event"), event["value"].as_u64().unwrap());
        }
    }
    totals
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn jsonl_holds_what_happened(version: &str) {
    let Some(release) = testkit::require(&format!("jsonl in NIXL {version}"), testkit::nixl_release(version)) else {
        return;
    };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("jsonl"));
    let drive = |file: &Path, more: &[(&str, &str)]| {
        let variables = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "jsonl"),
            ("NIXL_TELEMETRY_JSONL_FILE", file.to_str().unwrap()),
        ];
        let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &[&variables, more].concat());
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("exporter jsonl") && !log.contains("compressed"), "{log}");
        let truth = truth(&output);
        assert_eq!(truth["initiator"]["agent_xfer_time"].0, TRANSFERS);
        truth
    };

    // Each agent into a file of its own.
    let folder = tempfile::tempdir().unwrap();
    let expected = drive(&folder.path().join("{agent}.jsonl"), &[]);
    assert_eq!(totals(&files(folder.path())), expected, "NIXL {version}");
    for agent in expected.keys() {
        let own = totals(&[folder.path().join(format!("{agent}.jsonl"))]);
        assert_eq!(own.keys().collect::<Vec<_>>(), [agent]);
    }

    // All into one, whose past is compressed.
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared.jsonl");
    let rotation = [
        ("NIXL_TELEMETRY_JSONL_MAX_SIZE", "20000"),
        ("NIXL_TELEMETRY_JSONL_MAX_FILES", "1000"),
        ("NIXL_TELEMETRY_JSONL_COMPRESS", "gzip"),
        ("NIXL_TELEMETRY_RUN_INTERVAL", "10"),
    ];
    let expected = drive(&shared, &rotation);
    let files = files(folder.path());
    assert_eq!(totals(&files), expected, "NIXL {version}");
    let plain: Vec<_> = files.iter().filter(|file| !file.to_str().unwrap().ends_with(".gz")).collect();
    assert!(plain == [&shared] && files.len() > 2, "{files:?}");
}

#[test]
fn nixl_1_0_1() {
    jsonl_holds_what_happened("1.0.1");
}

#[test]
fn nixl_1_4_1() {
    jsonl_holds_what_happened("1.4.1");
}

#[test]
fn nixl_1_5_1() {
    jsonl_holds_what_happened("1.5.1");
}

/// With our collector in the process nothing is lost, although the agents are destroyed at once.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let Some(release) = testkit::require("jsonl preloaded", testkit::nixl_release("1.5.1")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = preloaded(Path::new(DRIVER), &release, TRANSFERS, "jsonl")
        .env("NIXL_TELEMETRY_JSONL_FILE", folder.path().join("{agent}.jsonl"))
        .output()
        .unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&files(folder.path())), expected);
}

/// A file system with room for some of it: whole lines up to there, and the agent lives on.
#[test]
fn a_full_disk_leaves_whole_lines() {
    let test = "jsonl on a full disk";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("jsonl"));
    let copy = tempfile::tempdir().unwrap();
    let script =
        format!("'{DRIVER}' '{}' 3000 1500 && cp /mnt/* '{}'", sandbox.path().display(), copy.path().display());
    for more in [&[][..], &[("NIXL_TELEMETRY_JSONL_MAX_SIZE", "24000"), ("NIXL_TELEMETRY_JSONL_COMPRESS", "gzip")]] {
        let Some(mut shell) = on_small_disk(test, &script) else { return };
        let output = shell
            .env("NIXL_TELEMETRY_ENABLE", "y")
            .env("NIXL_TELEMETRY_EXPORTER", "jsonl")
            .env("NIXL_TELEMETRY_RUN_INTERVAL", "10")
            .env("NIXL_TELEMETRY_JSONL_FILE", "/mnt/{agent}.jsonl")
            .envs(more.iter().copied())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert!(!more.is_empty() || log.contains("/mnt/initiator.jsonl: no space left on device"), "{log}");
        let seen = totals(&files(copy.path()));
        assert!(seen["initiator"].values().map(|(count, _)| count).sum::<u64>() > 100, "{seen:?}");
        for file in files(copy.path()) {
            fs::remove_file(file).unwrap();
        }
    }
}
