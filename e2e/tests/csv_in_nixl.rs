// SPDX-License-Identifier: Apache-2.0

//! One csv plugin, one file, in every release of NIXL: what it writes is what happened.

use std::{collections::BTreeSet, fs, path::Path, time::SystemTime};

use nixl_telemetry_e2e::{Sandbox, Totals, add, add_ring, nixl_command, on_small_disk, truth};
use nixl_telemetry_event::{Category, Generation, Kind};
use nixl_telemetry_testkit as testkit;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

#[test]
fn nixl_0_10_1() {
    csv_holds_what_happened("0.10.1", Generation::V0_9);
}

#[test]
fn nixl_1_0_1() {
    csv_holds_what_happened("1.0.1", Generation::V0_9);
}

#[test]
fn nixl_1_1_0() {
    csv_holds_what_happened("1.1.0", Generation::V1_1);
}

#[test]
fn nixl_1_2_0() {
    csv_holds_what_happened("1.2.0", Generation::V1_2);
}

#[test]
fn nixl_1_3_2() {
    csv_holds_what_happened("1.3.2", Generation::V1_3);
}

#[test]
fn nixl_1_4_1() {
    csv_holds_what_happened("1.4.1", Generation::V1_4);
}

#[test]
fn nixl_1_5_1() {
    csv_holds_what_happened("1.5.1", Generation::V1_5);
}

fn csv_holds_what_happened(version: &str, generation: Generation) {
    let test = format!("csv in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("csv"));
    let files = tempfile::tempdir().unwrap();

    // Each agent into a file of its own.
    let started_us = now_us();
    let own = files.path().join("{agent}.csv");
    let output = sandbox.drive(
        Path::new(DRIVER),
        TRANSFERS,
        LINGER_MS,
        &[
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "csv"),
            ("NIXL_TELEMETRY_CSV_FILE", own.to_str().unwrap()),
        ],
    );
    let expected = truth(&output);
    assert_plausible(&expected);
    let mut seen = Totals::new();
    for agent in expected.keys() {
        let path = files.path().join(format!("{agent}.csv"));
        let mut rows = csv::Reader::from_path(&path).unwrap();
        assert_eq!(rows.headers().unwrap(), vec!["timestamp_us", "category", "event_name", "value"]);
        for row in rows.records() {
            let row = row.unwrap();
            let (timestamp, value): (u64, u64) = (row[0].parse().unwrap(), row[3].parse().unwrap());
            // In no order: hosts that stamp events look at the clock before one thread waits for another.
            assert!((started_us..now_us()).contains(&timestamp), "{timestamp} after {started_us}");
            let category = Kind::from_name(&row[2]).and_then(Kind::category).map(Category::code);
            assert_eq!(row[1].parse().ok(), category, "{row:?}");
            add(&mut seen, agent, &row[2], value);
        }
    }
    assert_eq!(seen, expected, "NIXL {version}");
    // The host lived on without complaint.
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("exporter csv"), "{log}");

    // Both agents into one file, with a column that tells them apart, while NIXL is told so by its own file.
    let shared = files.path().join("shared.csv");
    let config = files.path().join("nixl.cfg");
    let columns = "agent_name,event_name,value,unit,category_name,pid,hostname,timestamp_us";
    let mut variables = vec![("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_EXPORTER", "csv")];
    let in_file = format!(
        "NIXL_TELEMETRY_CSV_FILE = \"{}\"\nNIXL_TELEMETRY_CSV_COLUMNS = \"{columns}\"\n",
        shared.to_str().unwrap()
    );
    fs::write(&config, in_file).unwrap();
    variables.push(("NIXL_CONFIG_FILE", config.to_str().unwrap()));
    let expected = truth(&sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables));
    let text = fs::read_to_string(&shared).unwrap();
    assert_eq!(text.lines().next(), Some(columns));
    assert_eq!(text.matches("agent_name").count(), 1, "one header");
    let mut seen = Totals::new();
    for row in csv::Reader::from_reader(text.as_bytes()).records() {
        let row = row.unwrap();
        add(&mut seen, &row[0], &row[1], row[2].parse().unwrap());
        assert_eq!(Some(&row[3]), Kind::from_name(&row[1]).and_then(Kind::unit).map(|unit| unit.as_str()));
    }
    assert_eq!(seen, expected, "NIXL {version}");

    // NIXL's own ring of the same work agrees with the same truth.
    let rings = tempfile::tempdir().unwrap();
    let buffer = [("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_DIR", rings.path().to_str().unwrap())];
    let expected = truth(&sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &buffer));
    let mut seen = Totals::new();
    for agent in expected.keys() {
        add_ring(&mut seen, agent, &rings.path().join(agent), generation.layout());
    }
    assert_eq!(seen, expected, "the ring of NIXL {version}");
}

/// The truth is no empty promise: everything a pair of agents can do has been done.
fn assert_plausible(truth: &Totals) {
    let initiator = &truth["initiator"];
    let count = |event: &str| initiator.get(event).map_or(0, |&(count, _)| count);
    assert_eq!(count("agent_tx_requests_num") + count("agent_rx_requests_num"), TRANSFERS);
    assert_eq!(count("agent_xfer_time"), TRANSFERS);
    let happened: BTreeSet<_> = initiator.keys().map(String::as_str).collect();
    for event in ["agent_tx_bytes", "agent_rx_bytes", "agent_memory_registered", "agent_memory_deregistered"] {
        assert!(happened.contains(event), "{event}");
    }
    assert!(happened.iter().any(|event| event.starts_with("agent_err_")), "{happened:?}");
    assert!(truth["target"].contains_key("agent_memory_registered"));
}

/// 0.9.0 has no C API: its Python binding registers memory, and what it registered is in the file.
#[test]
fn nixl_0_9_0_registers_through_python() {
    let test = "csv in NIXL 0.9.0";
    let Some(release) = testkit::require(test, testkit::nixl_release("0.9.0")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("csv"));
    let files = tempfile::tempdir().unwrap();
    let csv = files.path().join("a.csv");
    let stubs = release.parent().unwrap().join("stubs");
    let output = nixl_command(Path::new("python3"))
        .arg(testkit::workspace_root().join("e2e/python_agent.py"))
        .args(["--name", "agentA", "--register", "4096", "--register", "70000", "--linger", "1.5"])
        .env("PYTHONPATH", format!("{}:{}", sandbox.path().display(), stubs.display()))
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "csv")
        .env("NIXL_TELEMETRY_CSV_FILE", &csv)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut seen = Totals::new();
    for row in csv::Reader::from_path(&csv).unwrap().records() {
        let row = row.unwrap();
        assert_eq!(&row[1], "0");
        add(&mut seen, "agentA", &row[2], row[3].parse().unwrap());
    }
    let mut expected = Totals::new();
    for bytes in [4096, 70000] {
        add(&mut expected, "agentA", "agent_memory_registered", bytes);
        add(&mut expected, "agentA", "agent_memory_deregistered", bytes);
    }
    assert_eq!(seen, expected);
}

/// What goes wrong with the file costs events, not the agent; with `fail` it costs the agent, where NIXL says so.
#[test]
fn a_bad_file_costs_events_and_nothing_else() {
    let test = "csv with a bad file in NIXL";
    for version in ["1.0.1", "1.5.1"] {
        let Some(release) = testkit::require(test, testkit::nixl_release(version)) else { return };
        let sandbox = Sandbox::new(&release);
        sandbox.add_plugin(&testkit::plugin("csv"));
        let drive = |variables: &[(&str, &str)]| {
            let base = [("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_EXPORTER", "csv")];
            sandbox.drive(Path::new(DRIVER), 20, 200, &[&base, variables].concat())
        };
        let table: [(&[(&str, &str)], &str); 5] = [
            (&[], "NIXL_TELEMETRY_CSV_FILE is not set"),
            (&[("NIXL_TELEMETRY_CSV_FILE", "/tmp")], "NIXL_TELEMETRY_CSV_FILE: /tmp: is a directory, expected a file"),
            (
                &[("NIXL_TELEMETRY_CSV_FILE", "/dev/full")],
                "NIXL_TELEMETRY_CSV_FILE: /dev/full: no space left on device",
            ),
            (&[("NIXL_TELEMETRY_CSV_FILE", "{agnet}.csv")], "NIXL_TELEMETRY_CSV_FILE is \"{agnet}.csv\" (environment)"),
            (
                &[("NIXL_TELEMETRY_CSV_FILE", "/dev/null"), ("NIXL_TELEMETRY_CSV_COLUMNS", "value,valu")],
                "NIXL_TELEMETRY_CSV_COLUMNS is \"value,valu\" (environment)",
            ),
        ];
        for (variables, message) in table {
            let output = drive(variables);
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "NIXL {version}, {variables:?}: {log}");
            assert!(log.contains(message), "NIXL {version}: {log}");

            let output = drive(&[variables, &[("NIXL_TELEMETRY_ON_ERROR", "fail")]].concat());
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(log.contains(message), "NIXL {version}: {log}");
            // Up to 1.3 a refused exporter is an error line, from 1.4 on it is fatal to the agent.
            assert_eq!(output.status.success(), version == "1.0.1", "NIXL {version}: {log}");
        }
    }
}

/// A file system with room for some of it: whole lines up to there, and the agent lives on.
#[test]
fn a_full_disk_leaves_whole_lines() {
    let test = "csv on a full disk";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("csv"));
    let copy = tempfile::tempdir().unwrap();
    let script =
        format!("'{DRIVER}' '{}' 3000 1500 && cp /mnt/*.csv '{}'", sandbox.path().display(), copy.path().display());
    let Some(mut shell) = on_small_disk(test, &script) else { return };
    let output = shell
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "csv")
        .env("NIXL_TELEMETRY_RUN_INTERVAL", "10")
        .env("NIXL_TELEMETRY_CSV_FILE", "/mnt/{agent}.csv")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("/mnt/initiator.csv: no space left on device"), "{log}");
    let text = fs::read_to_string(copy.path().join("initiator.csv")).unwrap();
    assert!(text.ends_with('\n') && text.len() <= 65536, "{} bytes", text.len());
    let rows = csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap().len()).collect::<Vec<_>>();
    assert!(rows.len() > 100 && rows.iter().all(|&fields| fields == 4), "{} rows", rows.len());
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}
