// SPDX-License-Identifier: Apache-2.0

//! Workloads on real NIXL: what its own exporter wrote is what the report says, to the last microsecond.
//!
//! A process can hold one NIXL, and NIXL reads its settings from the environment, so each test starts this program
//! again to run [`child`] on one release, with telemetry into NIXL's own ring files, and reads those afterwards.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixl_telemetry_event::{Kind, Layout, Status};
use nixl_telemetry_nixl::{Library, find};
use nixl_telemetry_testkit::{nixl_release, require};
use nixl_telemetry_traffic::real::{RealEngine, RealOptions, Transport};
use nixl_telemetry_traffic::workload::{Report, Sizes, Stop, Truth, Workload, run};

/// Tells the child where its release is.
const RELEASE: &str = "NIXL_TELEMETRY_TEST_RELEASE";
/// Tells the child what to do: `memory`, `loopback` or `files`.
const SCENARIO: &str = "NIXL_TELEMETRY_TEST_SCENARIO";

/// What one agent's telemetry has, or has to have: number of events and sum of values, by kind.
type Totals = BTreeMap<Kind, (u64, u64)>;

#[test]
fn release_0_10_1() {
    check("0.10.1", Layout::L56, &["memory"]);
}

#[test]
fn release_1_0_1() {
    check("1.0.1", Layout::L56, &["memory", "loopback", "files"]);
}

#[test]
fn release_1_1_0() {
    check("1.1.0", Layout::L48, &["memory"]);
}

#[test]
fn release_1_2_0() {
    check("1.2.0", Layout::L16c, &["memory"]);
}

#[test]
fn release_1_3_2() {
    check("1.3.2", Layout::L16, &["memory"]);
}

#[test]
fn release_1_4_1() {
    check("1.4.1", Layout::L16, &["memory"]);
}

#[test]
fn release_1_5_1() {
    check("1.5.1", Layout::L16, &["memory", "loopback", "files"]);
}

/// With telemetry off, everything but the durations is known all the same.
#[test]
fn telemetry_off() {
    let Some(folder) = require("traffic on NIXL 1.5.1", nixl_release("1.5.1")) else { return };
    let printed = spawn(&folder, "off", &[]);
    let transfers = planned(&workload("off"));
    assert_eq!(printed["initiator"][&Kind::TX_BYTES], transfers[&Kind::TX_BYTES]);
    assert!(!printed["initiator"].contains_key(&Kind::XFER_TIME), "nobody knows the durations");
}

#[track_caller]
fn check(version: &str, layout: Layout, scenarios: &[&str]) {
    let Some(folder) = require(&format!("traffic on NIXL {version}"), nixl_release(version)) else { return };
    for scenario in scenarios {
        let rings = tempfile::tempdir().unwrap();
        let directory = rings.path().to_str().unwrap();
        let settings = [
            // As releases before 1.0 spell it, and all others accept.
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_DIR", directory),
            ("NIXL_TELEMETRY_BUFFER_SIZE", "8192"),
            ("NIXL_TELEMETRY_RUN_INTERVAL", "50"),
        ];
        let printed = spawn(&folder, scenario, &settings);
        let workload = workload(scenario);
        let transfers = planned(&workload);
        for (kind, expected) in &transfers {
            assert_eq!(printed["initiator"].get(kind), Some(expected), "{version} {scenario} {kind}");
        }
        assert_eq!(printed["initiator"][&Kind::ERR_NOT_FOUND], (2, 2), "{version} {scenario}: one per thread");
        for agent in ["initiator", "target"] {
            assert_eq!(ring(&rings.path().join(agent), layout), printed[agent], "{version} {scenario} {agent}");
        }
    }
}

fn workload(scenario: &str) -> Workload {
    Workload {
        transfers: 200,
        sizes: Sizes::Range { min: 1, max: 300_000 },
        seed: 7,
        write_percent: 60,
        file_percent: if scenario == "files" { 40 } else { 0 },
        threads: 2,
        provoke_errors: true,
        max_rate: NonZeroU32::new(5000),
        ..Workload::default()
    }
}

/// The transfers of a workload, by the workload alone.
fn planned(workload: &Workload) -> Totals {
    let mut truth = Truth::default();
    for transfer in (0..workload.transfers).map(|number| workload.transfer(number)) {
        truth.add_transfer(transfer.operation, transfer.bytes, None);
    }
    known(&truth)
}

/// What of a truth is not zero and known.
fn known(truth: &Truth) -> Totals {
    let happened = truth.iter().filter(|(_, tally)| tally.count > 0);
    happened.filter_map(|(kind, tally)| Some((kind, (tally.count, tally.sum?)))).collect()
}

/// What NIXL's ring file of an agent holds. It is large enough to hold everything, and nobody has read from it.
#[track_caller]
fn ring(path: &Path, layout: Layout) -> Totals {
    const HEADER: usize = 40;
    let bytes = std::fs::read(path).unwrap();
    let head = |offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
    let (written, read, capacity) = (head(0), head(8), head(24));
    assert_eq!((bytes.len() - HEADER) as u64, capacity * layout.size() as u64);
    assert!(read == 0 && written < capacity - 1, "{written} of {capacity}");
    let mut totals = Totals::new();
    let slots = bytes[HEADER..].chunks(layout.size()).take(usize::try_from(written).unwrap());
    for event in slots.map(|slot| layout.decode(slot).unwrap()) {
        let (count, sum) = totals.entry(event.kind().unwrap()).or_default();
        *count += 1;
        *sum += event.value();
    }
    totals
}

/// Runs [`child`] and returns what it printed, by agent.
#[track_caller]
fn spawn(release: &Path, scenario: &str, settings: &[(&str, &str)]) -> BTreeMap<String, Totals> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NIXL_") {
            command.env_remove(name);
        }
    }
    let command = command.args(["--exact", "child", "--ignored", "--nocapture"]).env(RELEASE, release);
    let output = command.env(SCENARIO, scenario).envs(settings.iter().copied()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    let mut agents = BTreeMap::from(["initiator", "target"].map(|agent| (agent.to_owned(), Totals::new())));
    for line in stdout.lines().filter_map(|line| line.strip_prefix("truth ")) {
        let words: Vec<_> = line.split(' ').collect();
        let kind = Kind::from_name(words[1]).unwrap();
        let totals = agents.get_mut(words[0]).unwrap();
        totals.insert(kind, (words[2].parse().unwrap(), words[3].parse().unwrap()));
    }
    agents
}

#[test]
#[ignore = "started by the tests above"]
fn child() {
    let release = PathBuf::from(std::env::var_os(RELEASE).expect("the parent says which release"));
    let scenario = std::env::var(SCENARIO).expect("the parent says which scenario");
    let library = Library::open(&find(Some(&release)).unwrap().capi().unwrap()).unwrap();
    let engine = RealEngine::new(
        library,
        RealOptions {
            transport: if scenario == "loopback" { Transport::Loopback } else { Transport::Memory },
            capture_telemetry: scenario != "off",
            ..RealOptions::default()
        },
    )
    .unwrap();
    let workload = workload(&scenario);
    let report: Report = run(&engine, &workload, &Stop::new(), &mut |_| ()).unwrap();
    assert_eq!((report.verified, report.corrupt, report.stopped), (200, 0, false));
    let measured = if scenario == "off" { 0 } else { 200 };
    assert_eq!((report.xfer_us.count(), report.post_us.count(), report.request_ns.count()), (measured, measured, 200));
    assert_eq!(report.initiator().errors(), 2);
    assert_eq!(report.initiator().tally(Status::NotFound.kind().unwrap()).count, 2);
    println!();
    for (agent, truth) in [("initiator", report.initiator()), ("target", report.target())] {
        for (kind, (count, sum)) in known(truth) {
            println!("truth {agent} {kind} {count} {sum}");
        }
    }
    eprintln!("{report}");
}
