// SPDX-License-Identifier: Apache-2.0

//! Any snapshot under any labels, in each format: what is written can be read, line by line or field by field, and says
//! the same.

#![no_main]

// How the tests of the crate read documents.
#[allow(dead_code, reason = "they ask more of what is read")]
#[path = "../../crates/metrics/tests/encode/read_protobuf.rs"]
mod read_protobuf;
#[allow(dead_code, reason = "they ask more of what is read")]
#[path = "../../crates/metrics/tests/encode/read_text.rs"]
mod read_text;

use std::collections::BTreeSet;
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nixl_telemetry_event::Kind;
use nixl_telemetry_metrics::encode::{Format, Series, encode};
use nixl_telemetry_metrics::{Account, Buckets, Labels, Named, Snapshot};

use crate::read_text::Sample;

fuzz_target!(|bytes: &[u8]| {
    // What ends too early is no case.
    if let Ok((labels, snapshot)) = case(&mut Unstructured::new(bytes)) {
        check(&labels, &snapshot);
    }
});

fn case(bytes: &mut Unstructured<'_>) -> Result<(Labels, Snapshot)> {
    let pairs: Vec<(String, String)> = bytes.arbitrary()?;
    let labels = if bytes.arbitrary()? { Labels::sorted(pairs) } else { Labels::in_order(pairs) };
    // Names that cannot be are refused; a value always can.
    let value: String = bytes.arbitrary()?;
    let labels = labels.or_else(|_| Labels::sorted([("agent_name".to_owned(), value)])).expect("a label");

    let mut bounds: Vec<f64> = bytes.arbitrary()?;
    bounds.retain(|bound| bound.is_finite() && *bound > 0.0);
    bounds.sort_by(f64::total_cmp);
    let mut snapshot = Snapshot::new(Arc::new(Buckets::new(bounds).unwrap_or_default()));
    snapshot.created_us = bytes.arbitrary()?;
    for number in snapshot.counters.iter_mut().chain(&mut snapshot.gauges) {
        *number = bytes.arbitrary()?;
    }
    for histogram in &mut snapshot.histograms {
        histogram.sum = bytes.arbitrary()?;
        for count in &mut histogram.classic {
            *count = bytes.arbitrary()?;
        }
        let exponential = histogram.exponential.as_mut().expect("a new snapshot has them");
        exponential.zeros = bytes.arbitrary()?;
        for (bucket, count) in bytes.arbitrary::<Vec<(u16, u64)>>()? {
            exponential.counts[usize::from(bucket) % exponential.counts.len()] = count;
        }
    }
    let names: BTreeSet<String> = bytes.arbitrary()?;
    for name in names {
        snapshot.named.push(Named { name: name.into(), events: 1, sum: bytes.arbitrary()? });
    }
    let last_success_us = bytes.arbitrary()?;
    snapshot.account = Account { queued: bytes.arbitrary()?, last_success_us, ..Account::default() };
    Ok((labels, snapshot))
}

fn check(labels: &Labels, snapshot: &Snapshot) {
    let document = |format| {
        let mut out = Vec::new();
        encode(format, &[Series { labels, snapshot }], &mut out);
        out
    };
    let text = document(Format::Text);
    let families = read_text::families(&text);
    check_samples(&read_text::samples(&text), labels, snapshot);

    let open = document(Format::OpenMetrics);
    let open = read_text::samples(open.strip_suffix(b"# EOF\n").expect("it ends"));
    let (created, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|sample| sample.name.ends_with("_created"));
    assert_eq!(created.is_empty(), snapshot.created_us == 0);
    check_samples(&rest, labels, snapshot);

    let fields = read_protobuf::families(&document(Format::Protobuf));
    assert!(fields.iter().map(|family| family.one("name").text()).eq(order(&text)));
    assert_eq!(fields.len(), families.len());
    for histogram in fields.iter().flat_map(|family| family.all("metric")).flat_map(|metric| metric.all("histogram")) {
        let written: u64 = histogram.all("positive_span").map(|span| span.one("length").uint()).sum();
        assert_eq!(written, histogram.all("positive_delta").count() as u64);
    }
}

/// The names of families in a document of text.
fn order(text: &[u8]) -> impl Iterator<Item = &str> {
    let lines = std::str::from_utf8(text).expect("UTF-8").split('\n');
    lines.filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
}

fn check_samples(samples: &[Sample], labels: &Labels, snapshot: &Snapshot) {
    for sample in samples {
        assert!(labels.pairs().iter().all(|pair| sample.labels.contains(pair)), "{sample:?}");
    }
    let value = |name: &str, label: (&str, &str)| {
        let mut found = samples
            .iter()
            .filter(|sample| sample.name == name && (label.0.is_empty() || sample.label(label.0) == Some(label.1)));
        let value = found.next().expect("a series").value.parse().expect("an integer");
        assert!(found.next().is_none());
        value
    };
    assert_eq!(snapshot.counter(Kind::TX_BYTES), value("agent_tx_bytes_total", ("", "")));
    assert_eq!(snapshot.gauge(Kind::XFER_TIME), value("agent_xfer_time", ("", "")));
    assert_eq!(snapshot.counter(Kind::ERR_BACKEND), value("agent_errors_total", ("status", "backend")));
    assert_eq!(snapshot.histograms[0].count(), value("agent_xfer_time_us_bucket", ("le", "+Inf")));
    for named in &snapshot.named {
        assert_eq!(named.sum, value("agent_backend_events_total", ("event", &named.name)));
    }
}
