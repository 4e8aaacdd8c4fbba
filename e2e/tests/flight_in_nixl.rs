// SPDX-License-Identifier: Apache-2.0

//! The exporter flight in real releases of NIXL: what happened last is in its file, and NIXL's own reader shows it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::SystemTime,
};

use nixl_telemetry_e2e::{Sandbox, Totals, add, truth};
use nixl_telemetry_event::Event;
use nixl_telemetry_ring::{Batch, DumpName, Mode, Reader, Reason};
use nixl_telemetry_testkit as testkit;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

#[test]
fn nixl_1_0_1() {
    the_last_events_are_kept("1.0.1");
}

#[test]
fn nixl_1_4_1() {
    the_last_events_are_kept("1.4.1");
}

#[test]
fn nixl_1_5_1() {
    the_last_events_are_kept("1.5.1");
}

fn the_last_events_are_kept(version: &str) {
    let test = format!("flight in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("flight"));
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let drive = |variables: &[(&str, &str)]| {
        let base = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "flight"),
            ("NIXL_TELEMETRY_FLIGHT_DIR", directory),
        ];
        let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &[&base, variables].concat());
        (truth(&output), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    // With room for everything, everything.
    let started_us = now_us();
    let (expected, log) = drive(&[]);
    assert!(!log.contains("exporter flight"), "{log}");
    let mut seen = Totals::new();
    for agent in expected.keys() {
        events(&folder.path().join(agent), |event| {
            let time_us = event.timestamp_us().unwrap();
            // In no order: hosts that stamp events look at the clock before one thread waits for another.
            assert!((started_us..now_us()).contains(&time_us), "{time_us} after {started_us}");
            add(&mut seen, agent, &event.name().to_string(), event.value());
        });
    }
    assert_eq!(seen, expected, "NIXL {version}");

    // With less, what was last; and what the run before has left is saved.
    let (second, log) = drive(&[("NIXL_TELEMETRY_FLIGHT_EVENTS", "64")]);
    let (mut kept, mut last) = (0, String::new());
    events(&folder.path().join("initiator"), |event| {
        kept += 1;
        last = event.name().to_string();
    });
    assert!((55..64).contains(&kept), "{kept}");
    assert_eq!(last, "agent_memory_deregistered");
    let dumps = DumpName::all(&folder.path().join("dumps")).unwrap();
    let mut saved = Totals::new();
    for name in &dumps {
        assert_eq!(name.reason, Reason::Previous);
        assert!(log.contains(&name.to_string()), "{log}");
        events(&folder.path().join("dumps").join(name.to_string()), |event| {
            add(&mut saved, &name.recorder, &event.name().to_string(), event.value());
        });
    }
    assert_eq!(dumps.len(), second.len());
    assert_eq!(saved, expected, "NIXL {version}");

    // One error is enough, where that is asked for.
    let (third, _) = drive(&[("NIXL_TELEMETRY_FLIGHT_ERRORS", "1/1s"), ("NIXL_TELEMETRY_FLIGHT_MAX_DUMPS", "1")]);
    let is_error = |name: &String| name.starts_with("agent_err_");
    assert!(third["initiator"].keys().any(is_error));
    let dumps = DumpName::all(&folder.path().join("dumps")).unwrap();
    let errors: Vec<_> = dumps.iter().filter(|name| name.reason == Reason::Errors).collect();
    let [dump] = &errors[..] else { panic!("{dumps:?}") };
    let mut last = String::new();
    events(&folder.path().join("dumps").join(dump.to_string()), |event| last = event.name().to_string());
    assert!(dump.recorder == "initiator" && is_error(&last), "{dump}: {last}");
}

/// The reader NIXL 1.0.1 comes with shows a file of this exporter as one of its own.
#[test]
fn nixls_own_reader_shows_it() {
    let test = "flight and NIXL's telemetry_reader";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.0.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("flight"));
    let folder = tempfile::tempdir().unwrap();
    let expected = truth(&sandbox.drive(
        Path::new(DRIVER),
        20,
        LINGER_MS,
        &[
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "flight"),
            ("NIXL_TELEMETRY_FLIGHT_DIR", folder.path().to_str().unwrap()),
        ],
    ));
    let total: u64 = expected["initiator"].values().map(|(count, _)| count).sum();

    let program = tempfile::tempdir().unwrap();
    let mut reading = testkit::nixl_reader(sandbox.path(), program.path());
    let mut reading = reading.arg(folder.path().join("initiator")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (mut values, mut times) = (0, 0);
    // It goes on for ever.
    while values < total {
        let line = lines.next().expect("it shows all of them");
        values += u64::from(line.starts_with("Value: "));
        times += u64::from(line.starts_with("Timestamp: 20"));
    }
    reading.kill().unwrap();
    reading.wait().unwrap();
    assert_eq!(times, total);
}

/// Calls `each` with the events of a ring, of which none is missing.
fn events(path: &Path, mut each: impl FnMut(Event<'_>)) {
    let mut reader = Reader::open(path, Mode::Peek).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut batch = Batch::new();
    reader.read(&mut batch).unwrap();
    assert!(!batch.lost().is_some());
    batch.events().for_each(&mut each);
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}
