// SPDX-License-Identifier: Apache-2.0

//! A plugin written in C++, found by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nixl_telemetry_host::{Collector, Direction, RecordingSink, Transfer};
use nixl_telemetry_settings::Settings;

use crate::common::{check_settled, log_of};

const FAIL: (&str, &str) = ("NIXL_TELEMETRY_ON_ERROR", "fail");

/// Settings that name the plugin, in the folder it was compiled into.
fn settings(variables: &[(&str, &str)]) -> Settings {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    let plugin = PLUGIN.get_or_init(|| {
        let source = Path::new("crates/host/tests/fixtures/lines.cc");
        nixl_telemetry_testkit::compile_cpp("libtelemetry_exporter_lines.so", &[source], &["-shared"])
    });
    let folder = plugin.parent().unwrap().to_str().unwrap();
    let fixed = [
        ("NIXL_TELEMETRY_ENABLE", "1"),
        ("NIXL_TELEMETRY_EXPORTER", "lines"),
        ("NIXL_TELEMETRY_PLUGIN_PATH", folder),
        ("NIXL_TELEMETRY_BUFFER_SIZE", "100"),
        ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000"),
    ];
    Settings::from_pairs(fixed.iter().chain(variables).copied())
}

#[test]
fn a_plugin_gets_every_event_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    let collector = Collector::create(file.to_str().unwrap(), &settings(&[FAIL])).unwrap().unwrap();
    let recorder = collector.recorder();
    recorder.transfer(Transfer { direction: Direction::Read, bytes: 512, post_time_us: 3, transfer_time_us: 8 });
    recorder.memory_registered(13);
    recorder.memory_registered(14);
    recorder.memory_registered(15);
    recorder.backend("ucx_retries", 16);
    let counts = collector.close();
    check_settled(&counts);
    let lines = counts.exporter("lines").unwrap();
    assert_eq!((lines.exported, lines.failed, lines.unsupported), (5, 2, 1));
    assert_eq!(fs::read_to_string(file).unwrap(), "room for 100\n7 3\n6 8\n1 512\n3 1\n4 15\nend\n");
}

#[test]
fn a_plugin_that_creates_nothing_fails_or_degrades() {
    let error = Collector::create("null", &settings(&[FAIL])).unwrap_err().to_string();
    let (start, end) = (
        "NIXL_TELEMETRY_EXPORTER names \"lines\" (environment): ",
        ": the plugin returned no exporter (its own log line says why)",
    );
    assert!(error.starts_with(start) && error.ends_with(end), "{error}");

    let kept = RecordingSink::new();
    let builder = Collector::builder("null").settings(settings(&[])).sink("kept", Box::new(kept.clone()));
    let collector = builder.build().unwrap().unwrap();
    collector.recorder().memory_registered(1);
    let counts = collector.close();
    check_settled(&counts);
    assert_eq!(counts.drops(), [("lines", "unavailable", 1)]);
    assert_eq!(kept.events().len(), 1);
}

#[test]
fn an_address_that_is_taken_is_no_error() {
    let log = log_of("plugins::an_address_that_is_taken_is_no_error", &[], || {
        let collector = Collector::create("taken", &settings(&[FAIL])).unwrap().unwrap();
        collector.recorder().memory_registered(1);
        assert_eq!(collector.close().drops(), [("lines", "unavailable", 1)]);
    });
    if let Some(log) = log {
        let line = "agent taken: NIXL_TELEMETRY_EXPORTER names \"lines\" (environment): the plugin could not bind its \
                    address: 127.0.0.1:9090 is in use; its events are dropped";
        assert_eq!(log, [format!("W choose.rs {line}")]);
    }
}
