// SPDX-License-Identifier: Apache-2.0

//! Workloads on the embedded agents: the report is the truth, and telemetry shows it.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_traffic::local::{LocalEngine, LocalOptions};
use nixl_telemetry_traffic::workload::{Flow, Operation, Place, Report, Sizes, Stop, Truth, Workload, run};

use support::Observer;

struct Observed {
    engine: LocalEngine,
    initiator: Observer,
    target: Observer,
    folder: tempfile::TempDir,
}

impl Observed {
    fn new() -> Self {
        let (initiator, target) = (Observer::new("one"), Observer::new("two"));
        let folder = tempfile::tempdir().unwrap();
        let engine = LocalEngine::new(LocalOptions {
            initiator: "one".to_owned(),
            target: "two".to_owned(),
            initiator_recorder: initiator.recorder(),
            target_recorder: target.recorder(),
            folder: Some(folder.path().to_owned()),
        });
        Self { engine: engine.unwrap(), initiator, target, folder }
    }

    fn run(&self, workload: &Workload) -> Report {
        run(&self.engine, workload, &Stop::new(), &mut |_| ()).unwrap()
    }
}

fn totals(observer: &Observer) -> BTreeMap<Kind, (u64, Option<u64>)> {
    let mut totals = BTreeMap::new();
    for (kind, value) in observer.events() {
        let (count, sum) = totals.entry(kind).or_insert((0, Some(0)));
        *count += 1;
        *sum = sum.map(|sum: u64| sum + value);
    }
    totals
}

fn told(truth: &Truth) -> BTreeMap<Kind, (u64, Option<u64>)> {
    let happened = truth.iter().filter(|(_, tally)| tally.count > 0);
    happened.map(|(kind, tally)| (kind, (tally.count, tally.sum))).collect()
}

/// What the workload says will be transferred.
fn planned(workload: &Workload, matches: impl Fn(Operation, Place) -> bool) -> Flow {
    let transfers = (0..workload.transfers).map(|number| workload.transfer(number));
    let bytes: Vec<_> = transfers.filter(|one| matches(one.operation, one.place)).map(|one| one.bytes).collect();
    Flow { requests: bytes.len() as u64, bytes: bytes.iter().sum() }
}

#[test]
fn telemetry_shows_exactly_what_the_report_says() {
    let observed = Observed::new();
    let workload = Workload {
        transfers: 600,
        sizes: Sizes::Range { min: 1, max: 200_000 },
        seed: 42,
        write_percent: 60,
        file_percent: 25,
        threads: 3,
        provoke_errors: true,
        ..Workload::default()
    };
    let report = observed.run(&workload);

    assert_eq!(report.written, planned(&workload, |operation, _| operation == Operation::Write));
    assert_eq!(report.read, planned(&workload, |operation, _| operation == Operation::Read));
    assert_eq!(report.file, planned(&workload, |_, place| place == Place::File));
    assert_eq!((report.verified, report.corrupt, report.stopped), (600, 0, false));
    assert_eq!(report.agents, ["one", "two"]);

    let (largest, large, threads) = (200_000, 1 << 20, 3);
    let initiator = report.initiator();
    let check = |kind, count, sum| {
        let tally = initiator.tally(kind);
        assert_eq!((tally.count, tally.sum), (count, Some(sum)), "{kind}");
    };
    check(Kind::TX_BYTES, report.written.requests, report.written.bytes);
    check(Kind::RX_BYTES, report.read.requests, report.read.bytes);
    check(Kind::TX_REQUESTS_NUM, report.written.requests, report.written.requests);
    check(Kind::RX_REQUESTS_NUM, report.read.requests, report.read.requests);
    check(Kind::XFER_TIME, 600, report.xfer_us.sum());
    check(Kind::XFER_POST_TIME, 600, report.post_us.sum());
    // A buffer and a file per thread, and what the mistakes need.
    for kind in [Kind::MEMORY_REGISTERED, Kind::MEMORY_DEREGISTERED] {
        check(kind, 5 * threads, threads * (2 * largest + 3 * large));
    }
    for status in Status::ERRORS {
        let times = if status == Status::NoTelemetry { 0 } else { threads };
        check(status.kind().unwrap(), times, times);
    }
    assert_eq!(initiator.errors(), 11 * threads);
    assert_eq!(totals(&observed.initiator), told(initiator));

    let both = (threads, Some(threads * largest));
    let registrations = [(Kind::MEMORY_REGISTERED, both), (Kind::MEMORY_DEREGISTERED, both)];
    assert_eq!(told(report.target()), BTreeMap::from(registrations));
    assert_eq!(totals(&observed.target), told(report.target()));

    assert_eq!((report.request_ns.count(), report.xfer_us.count()), (600, 600));
    assert_eq!(std::fs::read_dir(observed.folder.path()).unwrap().count(), 0, "the files are removed");
}

#[test]
fn a_second_run_on_the_same_agents_adds_to_the_first() {
    let observed = Observed::new();
    let workload = Workload { transfers: 20, provoke_errors: true, ..Workload::default() };
    let (first, second) = (observed.run(&workload), observed.run(&workload));
    assert_eq!(first.written, second.written);
    let twice = totals(&observed.initiator);
    assert_eq!(twice[&Kind::TX_BYTES], (2 * first.written.requests, Some(2 * first.written.bytes)));
    assert_eq!(twice[&Kind::ERR_UNKNOWN], (2, Some(2)));
}

#[test]
fn totals_do_not_depend_on_threads_or_telemetry() {
    let workload = Workload { transfers: 90, write_percent: 70, file_percent: 10, ..Workload::default() };
    let reports = [1, 2, 5].map(|threads| {
        let engine = LocalEngine::new(LocalOptions::default()).unwrap();
        run(&engine, &Workload { threads, ..workload.clone() }, &Stop::new(), &mut |_| ()).unwrap()
    });
    for report in &reports {
        assert_eq!((report.written, report.read, report.file), (reports[0].written, reports[0].read, reports[0].file));
        // Without telemetry the durations are unknown, and only they.
        assert_eq!(report.initiator().tally(Kind::XFER_TIME).count, 90);
        assert_eq!(report.initiator().tally(Kind::XFER_TIME).sum, None);
        assert_eq!(report.initiator().tally(Kind::TX_BYTES).sum, Some(report.written.bytes));
        assert_eq!((report.xfer_us.count(), report.request_ns.count(), report.verified), (0, 90, 90));
    }
}

#[test]
fn without_verification_nothing_is_said_about_contents() {
    let observed = Observed::new();
    let report = observed.run(&Workload { transfers: 30, file_percent: 50, verify: false, ..Workload::default() });
    assert_eq!((report.verified, report.corrupt), (0, 0));
    assert_eq!(report.written.requests + report.read.requests, 30);
    assert_eq!(totals(&observed.initiator), told(report.initiator()));
}

#[test]
fn a_stopped_run_reports_what_it_did() {
    let observed = Observed::new();
    let workload = Workload { transfers: u64::MAX, threads: 2, ..Workload::default() };
    let (stop, mut calls) = (Stop::new(), 0);
    let report = run(&observed.engine, &workload, &stop, &mut |progress| {
        calls += 1;
        assert_eq!(progress.total, u64::MAX);
        if progress.done > 0 {
            stop.stop();
        }
    })
    .unwrap();
    assert!(report.stopped && calls >= 2);
    assert_eq!(report.verified, report.written.requests + report.read.requests);
    assert_eq!(totals(&observed.initiator), told(report.initiator()));
}

#[test]
fn progress_ends_with_everything_done() {
    let observed = Observed::new();
    let workload = Workload { transfers: 50, ..Workload::default() };
    let mut seen = Vec::new();
    let report = run(&observed.engine, &workload, &Stop::new(), &mut |progress| seen.push(*progress)).unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.total, last.bytes), (50, 50, report.written.bytes + report.read.bytes));
    assert!(seen.is_sorted_by_key(|progress| progress.done));
}

#[test]
fn the_rate_is_not_exceeded() {
    let observed = Observed::new();
    let max_rate = NonZeroU32::new(1000);
    let workload =
        Workload { transfers: 101, sizes: Sizes::List(vec![64]), threads: 2, max_rate, ..Workload::default() };
    let start = Instant::now();
    observed.run(&workload);
    // Thread 0 has 51 transfers, 2 ms apart.
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    let observed = Observed::new();
    let (initiator_recorder, folder) = (observed.initiator.recorder(), Some("/nonexistent".into()));
    let engine = LocalEngine::new(LocalOptions { initiator_recorder, folder, ..LocalOptions::default() }).unwrap();
    let workload = Workload { file_percent: 100, ..Workload::default() };
    let error = run(&engine, &workload, &Stop::new(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("cannot create /nonexistent/nixl-telemetry-traffic."), "{error}");
    for (workload, message) in [
        (Workload { threads: 0, ..Workload::default() }, "threads is 0, expected at least 1"),
        (
            Workload { sizes: Sizes::List(vec![u64::MAX]), ..Workload::default() },
            "sizes is 18446744073709551615, expected bytes that fit into memory",
        ),
    ] {
        let error = run(&engine, &workload, &Stop::new(), &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(observed.initiator.events().iter().filter(|(kind, _)| kind.status().is_some()).count(), 0);
}

#[test]
fn the_report_prints_as_a_table() {
    let engine = LocalEngine::new(LocalOptions::default()).unwrap();
    let workload = Workload { transfers: 3, sizes: Sizes::List(vec![512]), write_percent: 100, ..Workload::default() };
    let text = run(&engine, &workload, &Stop::new(), &mut |_| ()).unwrap().to_string();
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "written 3 transfers 1536 bytes",
        "read 0 transfers 0 bytes",
        "contents 3 intact 0 corrupt",
        "telemetry \"initiator\" has to show",
        "agent_tx_bytes 3 events 1536 sum",
        "agent_xfer_time 3 events ? sum",
        "agent_memory_deregistered 1 events 512 sum",
        "telemetry \"target\" has to show",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} in {text}");
    }
}
