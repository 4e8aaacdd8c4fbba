// SPDX-License-Identifier: Apache-2.0

//! Any events under any labels: what is read back is what was written.

use std::collections::BTreeMap;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_metrics::encode::{Format, Series, encode};
use nixl_telemetry_metrics::{Account, Buckets, FAMILIES, Labels, Snapshot, Source, exponential};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::read_protobuf::{self, Node};
use crate::read_text::{self, Sample};
use crate::samples;

/// An event of a kind, or of a name.
#[derive(Clone, Debug)]
enum Reading {
    Kind(u32, u64),
    Name(String, u64),
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let value =
        || prop_oneof![(any::<u64>(), 0_u32..64).prop_map(|(raw, shift)| raw >> shift), Just(u64::MAX), 0_u64..4];
    let name = prop_oneof!["[\\\\\"\n,={} a-z\r]{0,8}", "\\PC{0,20}", Just(String::from("same"))];
    vec(
        prop_oneof![
            6 => (0_u32..21, value()).prop_map(|(kind, value)| Reading::Kind(kind, value)),
            1 => (name, value()).prop_map(|(name, value)| Reading::Name(name, value)),
        ],
        0..60,
    )
}

fn fold(readings: &[Reading]) -> Snapshot {
    let events = readings.iter().map(|reading| match reading {
        Reading::Kind(kind, value) => Event::new(Kind::from_code(*kind), *value),
        Reading::Name(name, value) => Event::backend(name, *value),
    });
    samples::snapshot(Buckets::default(), events)
}

/// What must be read, counted anew: sums by kind, last values by kind, sums by name.
type Expected = (BTreeMap<Kind, u64>, BTreeMap<Kind, u64>, BTreeMap<String, u64>);

fn replay(readings: &[Reading]) -> Expected {
    let mut expected = Expected::default();
    for reading in readings {
        match reading {
            Reading::Kind(kind, value) => {
                let kind = Kind::from_code(*kind);
                let sum = expected.0.entry(kind).or_default();
                *sum = sum.wrapping_add(*value);
                expected.1.insert(kind, *value);
            }
            Reading::Name(name, value) => {
                let sum = expected.2.entry(name.clone()).or_default();
                *sum = sum.wrapping_add(*value);
            }
        }
    }
    expected
}

/// Integers of a document by name of the sample and the value of one label.
fn numbers(samples: &[Sample], name: &str, label: &str) -> BTreeMap<String, u64> {
    let of_name = samples.iter().filter(|sample| sample.name == name);
    let pairs = of_name.map(|sample| (sample.label(label).unwrap_or("").to_owned(), sample.value.parse().unwrap()));
    let (count, numbers) = (pairs.clone().count(), pairs.collect::<BTreeMap<_, _>>());
    assert_eq!(numbers.len(), count, "each series of {name} is there once");
    numbers
}

fn check_text(samples: &[Sample], (sums, last, named): &Expected, readings: &[Reading]) {
    for family in &FAMILIES {
        let only =
            |map: &BTreeMap<Kind, u64>, kind| BTreeMap::from([(String::new(), map.get(&kind).copied().unwrap_or(0))]);
        match family.source {
            Source::Counter(kind) => assert_eq!(numbers(samples, family.name, ""), only(sums, kind)),
            Source::Gauge(kind) => assert_eq!(numbers(samples, family.name, ""), only(last, kind)),
            Source::Errors => {
                let found = numbers(samples, family.name, "status");
                assert_eq!(found.len(), 12);
                for (status, sum) in found {
                    let kind = Kind::from_name(&format!("agent_err_{status}")).unwrap();
                    assert_eq!(sum, sums.get(&kind).copied().unwrap_or(0));
                }
            }
            Source::Named => assert_eq!(numbers(samples, family.name, "event"), *named),
            Source::Histogram(kind) => {
                let values = values(readings, kind);
                assert_eq!(numbers(samples, &format!("{}_sum", family.name), ""), only(sums, kind));
                let count = BTreeMap::from([(String::new(), values.len() as u64)]);
                assert_eq!(numbers(samples, &format!("{}_count", family.name), ""), count);
                let buckets = numbers(samples, &format!("{}_bucket", family.name), "le");
                assert_eq!(buckets.len(), 19);
                for (bound, count) in buckets {
                    let bound: f64 = bound.parse().unwrap();
                    assert_eq!(count, values.iter().filter(|value| **value as f64 <= bound).count() as u64, "{bound}");
                }
            }
            Source::AccountCounter(number) | Source::AccountGauge(number) => {
                let expected = number(&Account { events: readings.len() as u64, batches: 1, ..Account::default() });
                assert_eq!(numbers(samples, family.name, ""), BTreeMap::from([(String::new(), expected)]));
            }
            Source::AccountTime(_) => {
                let found = samples.iter().filter(|sample| sample.name == family.name);
                assert_eq!(found.map(|sample| &*sample.value).collect::<Vec<_>>(), ["1798761601.000250"]);
            }
        }
    }
}

/// The values of a kind.
fn values(readings: &[Reading], kind: Kind) -> Vec<u64> {
    let value = |reading: &Reading| match reading {
        Reading::Kind(code, value) if *code == kind.code() => Some(*value),
        _ => None,
    };
    readings.iter().filter_map(value).collect()
}

fn check_protobuf(families: &[Node], (sums, last, named): &Expected, readings: &[Reading]) {
    let metrics = |name: &str| {
        let mut of_name = families.iter().filter(|family| family.one("name").text() == name);
        let metrics: Vec<&Node> = of_name.next().into_iter().flat_map(|family| family.all("metric")).collect();
        assert!(of_name.next().is_none());
        metrics
    };
    let sum = |kind| sums.get(&kind).copied().unwrap_or(0);
    for family in &FAMILIES {
        let metrics = metrics(family.name);
        match family.source {
            Source::Counter(kind) => {
                assert_eq!(metrics.len(), 1);
                assert_eq!(metrics[0].one("counter").one("value").double(), sum(kind) as f64);
            }
            Source::Gauge(kind) => {
                assert_eq!(metrics.len(), 1);
                let expected = last.get(&kind).copied().unwrap_or(0);
                assert_eq!(metrics[0].one("gauge").one("value").double(), expected as f64);
            }
            Source::Errors => {
                let found = by_last_label(&metrics);
                assert_eq!(found.len(), 12);
                for (status, value) in found {
                    let kind = Kind::from_name(&format!("agent_err_{status}")).unwrap();
                    assert_eq!(value, sum(kind) as f64);
                }
            }
            Source::Named => {
                let expected = named.iter().map(|(name, sum)| (name.clone(), *sum as f64)).collect();
                assert_eq!(by_last_label(&metrics), expected);
            }
            Source::Histogram(kind) => check_histogram(metrics[0].one("histogram"), &values(readings, kind), sum(kind)),
            Source::AccountCounter(_) | Source::AccountGauge(_) | Source::AccountTime(_) => {
                assert_eq!(metrics.len(), 1)
            }
        }
    }
}

/// The values of counters, by the label that the family adds.
fn by_last_label(metrics: &[&Node]) -> BTreeMap<String, f64> {
    let pair = |metric: &&Node| {
        let label = metric.all("label").last().unwrap().one("value").text().to_owned();
        (label, metric.one("counter").one("value").double())
    };
    let found: BTreeMap<_, _> = metrics.iter().map(pair).collect();
    assert_eq!(found.len(), metrics.len(), "each is there once");
    found
}

fn check_histogram(histogram: &Node, values: &[u64], sum: u64) {
    assert_eq!(histogram.one("sample_count").uint(), values.len() as u64);
    assert_eq!(histogram.one("sample_sum").double(), sum as f64);
    assert_eq!(histogram.all("bucket").count(), 19);
    for bucket in histogram.all("bucket") {
        let bound = bucket.one("upper_bound").double();
        let below = values.iter().filter(|value| **value as f64 <= bound).count() as u64;
        assert_eq!(bucket.one("cumulative_count").uint(), below, "{bound}");
    }
    assert_eq!(histogram.one("schema").sint(), 3);
    assert_eq!(histogram.one("zero_count").uint(), values.iter().filter(|value| **value == 0).count() as u64);
    let mut deltas = histogram.all("positive_delta").map(Node::sint);
    let (mut bucket, mut count, mut found) = (0, 0, BTreeMap::new());
    for span in histogram.all("positive_span") {
        bucket += span.one("offset").sint();
        for _ in 0..span.one("length").uint() {
            count += deltas.next().expect("a number for each bucket");
            if count > 0 {
                found.insert(usize::try_from(bucket).unwrap(), count.cast_unsigned());
            }
            bucket += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    assert!(histogram.all("positive_span").next().is_some(), "a native histogram has a span");
    let mut expected: BTreeMap<usize, u64> = BTreeMap::new();
    for value in values.iter().filter(|value| **value > 0) {
        *expected.entry(exponential::bucket(*value)).or_default() += 1;
    }
    assert_eq!(found, expected);
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(
        readings in readings(),
        agent in prop_oneof!["[\\\\\"\n,={} a-z\r]{0,12}", "\\PC{0,20}"],
        in_order: bool,
    ) {
        let snapshot = fold(&readings);
        let expected = replay(&readings);
        let pairs = samples::pairs([("hostname", "vm"), ("agent_name", &agent), ("zone", "1")]);
        let labels = if in_order { Labels::in_order(pairs) } else { Labels::sorted(pairs) }.unwrap();
        let document = |format| {
            let mut out = Vec::new();
            encode(format, &[Series { labels: &labels, snapshot: &snapshot }], &mut out);
            out
        };

        let text = read_text::samples(&document(Format::Text));
        let unknown = text.iter().filter(|sample| labels.pairs().iter().any(|(name, value)| sample.label(name) != Some(value)));
        prop_assert_eq!(unknown.count(), 0);
        // What families add is where it belongs; `event`, which NIXL does not have, beside where `status` would be.
        for sample in &text {
            let names: Vec<&str> = sample.labels.iter().map(|(name, _)| name.as_str()).collect();
            let le = names.last() == Some(&"le");
            let others = &names[..names.len() - usize::from(le)];
            prop_assert!(in_order || others.contains(&"event") || others.is_sorted(), "{:?}", names);
            prop_assert!(others.len() == 3 || !in_order || ["event", "status"].contains(&others[3]), "{:?}", names);
        }
        check_text(&text, &expected, &readings);

        let open = document(Format::OpenMetrics);
        prop_assert!(open.ends_with(b"\n# EOF\n"));
        let open = read_text::samples(&open[..open.len() - "# EOF\n".len()]);
        let (created, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|sample| sample.name.ends_with("_created"));
        prop_assert!(created.iter().all(|sample| sample.value == "1798761600.000000"));
        let total = rest.iter().filter(|sample| sample.name.ends_with("_total")).count();
        // Two counters are of an unknown type, and two histograms know when they began as well.
        prop_assert_eq!(created.len(), total);
        check_text(&rest, &expected, &readings);

        let families = read_protobuf::families(&document(Format::Protobuf));
        for metric in families.iter().flat_map(|family| family.all("metric")) {
            let pairs = metric.all("label").map(|label| (label.one("name").text(), label.one("value").text()));
            prop_assert!(labels.pairs().iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(pairs.take(3)));
        }
        check_protobuf(&families, &expected, &readings);
    }
}
