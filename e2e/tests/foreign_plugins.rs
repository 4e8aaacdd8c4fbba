// SPDX-License-Identifier: Apache-2.0

//! Plugins that are not csv: C++ after NIXL's guide, its Rust twin, and one that panics; in stock NIXL and in our host.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nixl_telemetry_e2e::{Sandbox, Totals, add, on_small_disk, run_apart, truth};
use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_host::{Collector, Direction, Transfer};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;

const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// The guide's example, compiled as its README says.
fn cpp_example(version: u32) -> PathBuf {
    let folder = format!("examples/cpp-v{version}");
    testkit::compile_cpp(
        &format!("libtelemetry_exporter_csv_cpp_v{version}.so"),
        &[&Path::new(&folder).join("csv_plugin.cpp"), &Path::new(&folder).join("csv_exporter.cpp")],
        &["-Wpedantic", "-Werror", "-shared", "-fvisibility=hidden", "-I", &format!("include/v{version}"), "-ldl"],
    )
}

fn rust_twin() -> PathBuf {
    testkit::artifact(&["--release", "--package", "telemetry-exporter-csv-rust"], "libtelemetry_exporter_csv_rust.so")
}

fn misbehave() -> PathBuf {
    let example = ["--package", "nixl-telemetry-sdk", "--example", "telemetry_exporter_misbehave"];
    testkit::artifact(&example, "libtelemetry_exporter_misbehave.so")
}

/// Both agents of the driver write into one file, so that totals are compared without agents.
fn sum_over_agents(totals: &Totals) -> Totals {
    let mut sums = Totals::new();
    for (event, (count, sum)) in totals.values().flatten() {
        let total = sums.entry("all".to_owned()).or_default().entry(event.clone()).or_default();
        *total = (total.0 + count, total.1 + sum);
    }
    sums
}

/// What a CSV file holds, under the names of today: the guide's C++ prints the host's names, old ones for errors.
fn read_csv(path: &Path) -> Totals {
    let mut totals = Totals::new();
    let mut rows = csv::Reader::from_path(path).unwrap();
    let column = |rows: &mut csv::Reader<fs::File>, name: &str| {
        rows.headers().unwrap().iter().position(|header| header == name).unwrap_or_else(|| panic!("column {name}"))
    };
    let (name, value) = (column(&mut rows, "event_name"), column(&mut rows, "value"));
    for row in rows.records() {
        let row = row.unwrap();
        let kind = Status::error_from_name(&row[name]).and_then(Status::kind);
        let event = kind.map_or(row[name].to_owned(), |kind| kind.to_string());
        add(&mut totals, "all", &event, row[value].parse().unwrap());
    }
    totals
}

fn runs_in_nixl(plugin: &Path, exporter: &str, releases: &[&str]) {
    for version in releases {
        let test = format!("{exporter} in NIXL {version}");
        let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
        let sandbox = Sandbox::new(&release);
        sandbox.add_plugin(plugin);
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("events.csv");
        let variables = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", exporter),
            ("NIXL_TELEMETRY_CSV_FILE", file.to_str().unwrap()),
        ];
        let output = sandbox.drive(Path::new(DRIVER), 100, 1500, &variables);
        assert_eq!(read_csv(&file), sum_over_agents(&truth(&output)), "{test}");
    }
}

#[test]
fn the_cpp_example_of_the_first_api_runs_in_nixl() {
    runs_in_nixl(&cpp_example(1), "csv_cpp_v1", &["0.10.1", "1.0.1"]);
}

#[test]
fn the_cpp_example_of_the_second_api_runs_in_nixl() {
    runs_in_nixl(&cpp_example(2), "csv_cpp_v2", &["1.3.2", "1.4.1", "1.5.1"]);
}

/// Our host may call the batch hooks of a plugin built with our headers, and knows it from the file.
#[test]
fn the_cpp_examples_say_that_they_have_batch_hooks() {
    for version in [1, 2] {
        let inspection = nixl_telemetry_loader::inspect(cpp_example(version)).unwrap();
        assert_eq!(inspection.batch_hooks(), Some(true), "version {version}: {inspection:?}");
    }
}

#[test]
fn the_rust_twin_runs_in_nixl() {
    runs_in_nixl(&rust_twin(), "csv_rust", &["0.10.1", "1.1.0", "1.2.0", "1.5.1"]);
}

/// In our host, a plugin is a plugin: events of every kind arrive, whatever language and API it was written for.
#[test]
fn every_example_runs_in_our_host() {
    let plugins = [
        (cpp_example(1), "csv_cpp_v1"),
        (cpp_example(2), "csv_cpp_v2"),
        (rust_twin(), "csv_rust"),
        (testkit::plugin("csv"), "csv"),
    ];
    for (plugin, exporter) in plugins {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("events.csv");
        // A plugin reads the environment of its process, so each runs in one of its own.
        run_apart(
            "in_our_host",
            &[
                ("NIXL_TELEMETRY_ENABLE", Path::new("y")),
                ("NIXL_TELEMETRY_EXPORTER", Path::new(exporter)),
                ("NIXL_TELEMETRY_PLUGIN_PATH", plugin.parent().unwrap()),
                ("NIXL_TELEMETRY_CSV_FILE", &file),
            ],
        );
        let mut expected = Totals::new();
        for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::TELEMETRY_EVENTS_DROPPED) {
            add(&mut expected, "all", &kind.to_string(), u64::from(kind.code()) + 1);
        }
        for (event, value) in [
            ("agent_xfer_post_time", 3),
            ("agent_xfer_time", 4),
            ("agent_tx_bytes", u64::MAX >> 1),
            ("agent_tx_requests_num", 1),
        ] {
            add(&mut expected, "all", event, value);
        }
        assert_eq!(read_csv(&file), expected, "{exporter}");
    }
}

/// The host's half of the test above, run in a process with the right environment.
#[test]
#[ignore = "run by every_example_runs_in_our_host"]
fn in_our_host() {
    let collector = Collector::create("agentA", &Settings::from_process()).unwrap().expect("telemetry is on");
    let recorder = collector.recorder();
    for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::TELEMETRY_EVENTS_DROPPED) {
        recorder.event(kind, u64::from(kind.code()) + 1);
    }
    recorder.transfer(Transfer {
        direction: Direction::Write,
        bytes: u64::MAX >> 1,
        post_time_us: 3,
        transfer_time_us: 4,
    });
    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty(), "{counts:?}");
    assert_eq!((counts.produced, counts.exporters[0].exported), (24, 24));
}

#[test]
fn a_panic_in_any_entry_hurts_nobody() {
    let plugin = misbehave();
    for version in ["1.0.1", "1.3.2", "1.5.1"] {
        let test = format!("misbehave in NIXL {version}");
        let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
        let sandbox = Sandbox::new(&release);
        sandbox.add_plugin(&plugin);
        for place in ["open", "export", "flush", "drop"] {
            let variables = [
                ("NIXL_TELEMETRY_ENABLE", "y"),
                ("NIXL_TELEMETRY_EXPORTER", "misbehave"),
                ("NIXL_TELEMETRY_MISBEHAVE", place),
            ];
            let output = sandbox.drive(Path::new(DRIVER), 20, 200, &variables);
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{test}, {place}: {log}");
            // Two agents, each reports once.
            assert_eq!(log.matches(&format!("misbehaving in {place}")).count(), 2 * 2, "{test}, {place}: {log}");
        }
    }
}

/// The same in our host, which goes on and counts.
#[test]
fn a_panic_in_any_entry_hurts_our_host_neither() {
    for place in ["open", "export", "flush", "drop"] {
        let plugin = misbehave();
        let log = run_apart(
            "misbehaving_in_our_host",
            &[("NIXL_TELEMETRY_MISBEHAVE", Path::new(place)), ("NIXL_TELEMETRY_PLUGIN_PATH", plugin.parent().unwrap())],
        );
        assert!(log.contains(&format!("misbehaving in {place}")), "{place}: {log}");
    }
}

#[test]
#[ignore = "run by a_panic_in_any_entry_hurts_our_host_neither"]
fn misbehaving_in_our_host() {
    let settings = Settings::from_process();
    let path = SearchPath::from_settings(&settings, None).unwrap();
    let settings = settings.with_override("NIXL_TELEMETRY_ENABLE", "y");
    let builder = Collector::builder("agentA").settings(settings).search_path(path).exporter("misbehave");
    let collector = builder.build().unwrap().expect("telemetry is on");
    let recorder = collector.recorder();
    for _ in 0..3 {
        recorder.error(Status::Backend);
        assert!(collector.flush(Duration::from_secs(60)));
    }
    let counts = collector.close();
    assert_eq!(counts.produced, 3);
    assert!(counts.is_balanced(), "{counts:?}");
}

/// What an exporter loses after it took it, our host learns and counts.
#[test]
fn a_full_disk_is_counted_by_our_host() {
    let test = "a full disk in our host";
    let program = std::env::current_exe().unwrap();
    let child = "--exact filling_a_disk --nocapture --include-ignored";
    let Some(mut shell) = on_small_disk(test, &format!("exec '{}' {child}", program.display())) else { return };
    let output = shell
        .env("NIXL_TELEMETRY_CSV_FILE", "/mnt/events.csv")
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && passed, "{output:?}");
    assert!(log.contains("/mnt/events.csv: no space left on device"), "{log}");
}

#[test]
#[ignore = "run by a_full_disk_is_counted_by_our_host"]
fn filling_a_disk() {
    let settings = Settings::from_process().with_override("NIXL_TELEMETRY_ENABLE", "y");
    let collector = Collector::builder("agentA").settings(settings).exporter("csv").build().unwrap().unwrap();
    let recorder = collector.recorder();
    for _ in 0..30 {
        for value in 0..100 {
            recorder.event(Kind::TX_BYTES, value);
        }
        assert!(collector.flush(Duration::from_secs(60)));
    }
    let counts = collector.close();
    let rows = fs::read_to_string("/mnt/events.csv").unwrap().lines().count() as u64 - 1;
    let csv = &counts.exporters[0];
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!((counts.produced, csv.exported, csv.failed), (3000, rows, 3000 - rows), "{counts:?}");
    assert!(rows > 100 && rows < 2900, "{rows}");
}
