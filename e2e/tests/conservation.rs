// SPDX-License-Identifier: Apache-2.0

//! However fast two threads record, and whatever gives way: what was recorded is exported, told of by totals, or counted as
//! dropped.

use std::collections::BTreeMap;

use nixl_telemetry_e2e::{count_rows, nixl_command};
use nixl_telemetry_testkit as testkit;
use serde::Deserialize;

const POLICIES: [&str; 3] = ["drop_newest", "drop_oldest", "block:5"];
/// How long each of the thirteen runs records, in milliseconds; csv writes a gigabyte in ten seconds and more.
const DURATION: &str = "NIXL_TELEMETRY_TEST_RECORD_MS";

/// What the recording program prints.
#[derive(Debug, Deserialize)]
struct Run {
    recorded: Sums,
    counts: Counts,
    /// How often somebody looked whether the counts balance, and what they were when they did not.
    looks: u64,
    unbalanced: Vec<String>,
    metrics: Seen,
    slow: Seen,
}

/// By kind: how many events, and the sum of their values.
type Sums = BTreeMap<String, (u64, Sum)>;

/// A sum of 64-bit numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
struct Sum(u128);

impl TryFrom<String> for Sum {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[derive(Debug, Deserialize)]
struct Counts {
    produced: u64,
    waiting: u64,
    queue_full: u64,
    closed: u64,
    shutdown_timeout: u64,
    exporters: BTreeMap<String, Fates>,
    drops: Vec<(String, String, u64)>,
}

#[derive(Debug, Deserialize)]
struct Fates {
    reports: u64,
    totals: u64,
    exported: u64,
    aggregated: u64,
    failed: u64,
    unsupported: u64,
    unavailable: u64,
    shutdown_timeout: u64,
    pending: u64,
}

#[derive(Debug, Deserialize)]
struct Seen {
    events: Sums,
    totals: Sums,
    in_buckets: u64,
}

fn events(sums: &Sums) -> u64 {
    sums.values().map(|(count, _)| count).sum()
}

/// Records with these sinks and settings; the law holds at every moment, and what was counted is what was recorded.
fn run(sinks: &[&str], variables: &[(&str, &str)]) -> Run {
    let program = "nixl-telemetry-e2e-record";
    let arguments = ["--release", "--package", "nixl-telemetry-e2e", "--bin", program];
    let output = nixl_command(&testkit::artifact(&arguments, program))
        .arg(std::env::var(DURATION).as_deref().unwrap_or("800"))
        .args(sinks)
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let run: Run = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!("{sinks:?} {variables:?}: {:?}", run.counts);
    assert!(run.unbalanced.is_empty() && run.looks > 10, "{:?}", run.unbalanced);
    let counts = &run.counts;
    assert_eq!(counts.produced, events(&run.recorded));
    assert_eq!(counts.waiting, 0);
    for fates in counts.exporters.values() {
        let Fates { exported, aggregated, failed, unsupported, unavailable, shutdown_timeout, .. } = fates;
        let dropped = failed + unsupported + unavailable + shutdown_timeout;
        let dropped = dropped + counts.queue_full - fates.totals + counts.closed + counts.shutdown_timeout;
        assert_eq!(fates.pending, 0);
        assert_eq!(exported - fates.reports + aggregated + dropped, counts.produced);
    }
    run
}

/// What takes totals knows all that was recorded, exactly.
fn metrics_are_exact(run: &Run) {
    let Seen { events: single, totals, in_buckets } = &run.metrics;
    let mut all = single.clone();
    for (kind, (count, sum)) in totals {
        let known = all.entry(kind.clone()).or_default();
        *known = (known.0 + count, Sum(known.1.0 + sum.0));
    }
    assert_eq!(all, run.recorded);
    assert_eq!(*in_buckets, single.get("agent_xfer_time").map_or(0, |(count, _)| *count));
    let fates = &run.counts.exporters["metrics"];
    assert_eq!((fates.exported, fates.aggregated), (events(single), events(totals)));
    assert_eq!((fates.aggregated, fates.reports), (run.counts.queue_full, 0));
}

#[test]
fn with_csv() {
    for policy in POLICIES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.csv");
        let run = run(
            &["metrics"],
            &[
                ("NIXL_TELEMETRY_OVERFLOW", policy),
                ("NIXL_TELEMETRY_EXPORTER", "csv"),
                ("NIXL_TELEMETRY_CSV_FILE", file.to_str().unwrap()),
                // Short rows: there are tens of millions.
                ("NIXL_TELEMETRY_CSV_COLUMNS", "value"),
                ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000"),
            ],
        );
        metrics_are_exact(&run);
        let fates = &run.counts.exporters["csv"];
        assert_eq!(fates.exported, count_rows(&file));
        let dropped = run.counts.queue_full - fates.totals;
        let drops = (dropped > 0).then(|| ("staging".to_owned(), "queue_full".to_owned(), dropped));
        assert_eq!(run.counts.drops, drops.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn with_nop() {
    for policy in POLICIES {
        let run = run(&[], &[("NIXL_TELEMETRY_OVERFLOW", policy), ("NIXL_TELEMETRY_EXPORTER", "NOP")]);
        assert_eq!(run.counts.drops, []);
        let fates = &run.counts.exporters["NOP"];
        assert_eq!(fates.exported + fates.aggregated, run.counts.produced);
    }
}

#[test]
fn with_metrics() {
    for policy in POLICIES {
        let run =
            run(&["metrics"], &[("NIXL_TELEMETRY_OVERFLOW", policy), ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000")]);
        assert_eq!(run.counts.drops, []);
        metrics_are_exact(&run);
    }
}

/// Far more is recorded than it takes, and there is little room.
#[test]
fn with_a_slow_sink() {
    for policy in POLICIES {
        let run = run(
            &["slow", "metrics"],
            &[
                ("NIXL_TELEMETRY_OVERFLOW", policy),
                ("NIXL_TELEMETRY_EXPORTER", "NOP"),
                ("NIXL_TELEMETRY_BUFFER_SIZE", "32768"),
                ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000"),
            ],
        );
        metrics_are_exact(&run);
        let Run { counts, slow, .. } = &run;
        assert!(counts.queue_full > 0, "it was not slow enough");
        assert_eq!(counts.drops, [("staging".to_owned(), "queue_full".to_owned(), counts.queue_full)]);
        // It is told of every event that it does not get.
        let (reports, reported) = slow.events["agent_telemetry_events_dropped"];
        assert_eq!((reports, reported.0), (counts.exporters["slow"].reports, counts.queue_full.into()));
        assert_eq!(events(&slow.events) - reports + counts.queue_full, counts.produced);
        assert_eq!(counts.exporters["NOP"].aggregated, counts.queue_full);
    }
}

/// What has no time at the end is counted, too.
#[test]
fn without_time_at_the_end() {
    let run = run(&["slow", "metrics"], &[("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "100")]);
    assert!(run.counts.shutdown_timeout > 0, "there was time for all");
}
