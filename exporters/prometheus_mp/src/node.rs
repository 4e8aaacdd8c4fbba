// SPDX-License-Identifier: Apache-2.0

//! The ranks of a node as one: their sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use nixl_telemetry_sdk::metrics::{Account, Buckets, Exponential, Histogram, Labels, Named, Snapshot, exponential};

/// The sums over all ranks of each host, by the host's name, which is the only label.
///
/// Last values have no sum, and are all 0. Where ranks have histograms of different bounds, the sum has the bounds that
/// all of them have: at these it is exact. Exponential buckets are there if all ranks have them.
pub(crate) fn sums<'a>(ranks: impl Iterator<Item = (&'a Labels, &'a Snapshot)>) -> Vec<(Labels, Snapshot)> {
    let mut hosts: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for (labels, snapshot) in ranks {
        hosts.entry(labels.get("hostname").unwrap_or_default()).or_default().push(snapshot);
    }
    let labels = |host: &str| {
        let label = (!host.is_empty()).then(|| ("hostname".to_owned(), host.to_owned()));
        Labels::in_order(label).expect("one label of a valid name")
    };
    hosts.into_iter().map(|(host, ranks)| (labels(host), sum(&ranks))).collect()
}

fn sum(ranks: &[&Snapshot]) -> Snapshot {
    let mut sum = Snapshot::new(Arc::new(Buckets::default()));
    sum.created_us = ranks.iter().map(|rank| rank.created_us).min().unwrap_or(0);
    for rank in ranks {
        add_all(&mut sum.counters, &rank.counters);
        add_account(&mut sum.account, &rank.account);
        rank.named.iter().for_each(|named| add_named(&mut sum.named, named));
    }
    for (at, histogram) in sum.histograms.iter_mut().enumerate() {
        let parts: Vec<&Histogram> = ranks.iter().map(|rank| &rank.histograms[at]).collect();
        *histogram = sum_of_histograms(&parts);
    }
    sum
}

fn sum_of_histograms(parts: &[&Histogram]) -> Histogram {
    let buckets = Arc::new(common_buckets(parts));
    let mut classic: Box<[u64]> = vec![0; buckets.count()].into();
    for part in parts {
        // What lies below a bound lies below the first common one that is not less.
        let places =
            part.buckets.bounds().iter().map(|bound| buckets.bounds().partition_point(|common| common < bound));
        for (place, count) in places.chain([buckets.bounds().len()]).zip(&part.classic) {
            classic[place] = classic[place].wrapping_add(*count);
        }
    }
    let sum = parts.iter().fold(0, |sum: u64, part| sum.wrapping_add(part.sum));
    Histogram { buckets, classic, sum, exponential: sum_of_exponentials(parts) }
}

/// The bounds that all have.
fn common_buckets(parts: &[&Histogram]) -> Buckets {
    let [first, rest @ ..] = parts else { return Buckets::default() };
    let is_common = |bound: &f64| rest.iter().all(|part| part.buckets.bounds().contains(bound));
    let bounds: Box<[f64]> = first.buckets.bounds().iter().copied().filter(is_common).collect();
    Buckets::new(bounds).expect("bounds in their order")
}

fn sum_of_exponentials(parts: &[&Histogram]) -> Option<Exponential> {
    let mut sum = Exponential { zeros: 0, counts: Box::new([0; exponential::BUCKETS]) };
    for part in parts {
        let part = part.exponential.as_ref()?;
        sum.zeros = sum.zeros.wrapping_add(part.zeros);
        add_all(&mut sum.counts[..], &part.counts[..]);
    }
    Some(sum)
}

fn add_all(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
}

fn add_account(sum: &mut Account, account: &Account) {
    for (sum, count) in [
        (&mut sum.events, account.events),
        (&mut sum.aggregated, account.aggregated),
        (&mut sum.dropped, account.dropped),
        (&mut sum.failed, account.failed),
        (&mut sum.queued, account.queued),
        (&mut sum.batches, account.batches),
    ] {
        *sum = sum.wrapping_add(count);
    }
    sum.last_success_us = sum.last_success_us.max(account.last_success_us);
}

fn add_named(sums: &mut Vec<Named>, named: &Named) {
    match sums.iter_mut().find(|sum| sum.name == named.name) {
        Some(sum) => {
            sum.events = sum.events.wrapping_add(named.events);
            sum.sum = sum.sum.wrapping_add(named.sum);
        }
        None => sums.push(named.clone()),
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::metrics::{Live, Tally};
    use nixl_telemetry_sdk::{Event, Kind};

    use super::*;

    fn rank(host: &str, pid: u32, bounds: &[f64], times: &[u64]) -> (Labels, Snapshot) {
        let pairs = [("hostname", host.to_owned()), ("pid", pid.to_string())];
        let labels = Labels::in_order(pairs.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let buckets = Arc::new(Buckets::new(bounds).unwrap());
        let (mut publisher, live) = Live::new(Arc::clone(&buckets), u64::from(pid));
        let mut tally = Tally::new(Arc::clone(&buckets));
        times.iter().for_each(|time| tally.fold(&Event::new(Kind::XFER_TIME, *time)));
        tally.fold(&Event::backend("retries", 2));
        publisher.publish(&mut tally, u64::from(pid));
        let mut snapshot = Snapshot::new(buckets);
        live.read(&mut snapshot);
        (labels, snapshot)
    }

    #[test]
    fn ranks_of_a_host_are_summed() {
        let mut ranks = [
            rank("b", 1, &[10.0, 100.0], &[10, 11, 101]),
            rank("b", 2, &[10.0, 50.0, 100.0], &[1, 12, 60, 1000]),
            rank("a", 3, &[5.0], &[6]),
        ];
        ranks[2].1.histograms[0].exponential = None;
        let sums = sums(ranks.iter().map(|(labels, snapshot)| (labels, snapshot)));
        assert_eq!(
            sums.iter().map(|(labels, _)| labels.before()).collect::<Vec<_>>(),
            ["hostname=\"a\"", "hostname=\"b\""]
        );
        let [(_, a), (_, b)] = &sums[..] else { panic!("two hosts") };
        assert_eq!((a.counter(Kind::XFER_TIME), a.created_us, a.gauge(Kind::XFER_TIME)), (6, 3, 0));
        assert!(a.histograms[0].exponential.is_none());
        assert_eq!((b.counter(Kind::XFER_TIME), b.created_us), (122 + 1073, 1));
        let histogram = &b.histograms[0];
        assert_eq!((histogram.buckets.bounds(), &*histogram.classic), (&[10.0, 100.0][..], &[2, 3, 2][..]));
        assert_eq!((histogram.count(), histogram.sum), (7, 122 + 1073));
        assert_eq!(histogram.exponential.as_ref().unwrap().counts.iter().sum::<u64>(), 7);
        assert_eq!(b.named, [Named { name: "retries".into(), events: 2, sum: 4 }]);
        assert_eq!((b.account.events, b.account.batches, b.account.last_success_us), (9, 2, 2));
    }

    #[test]
    fn without_a_common_bound_there_is_one_bucket() {
        let ranks = [rank("a", 1, &[10.0], &[1, 20]), rank("a", 2, &[11.0], &[30])];
        let sums = sums(ranks.iter().map(|(labels, snapshot)| (labels, snapshot)));
        assert_eq!((&*sums[0].1.histograms[0].classic, sums[0].1.histograms[0].sum), (&[3][..], 51));
        assert!(super::sums(std::iter::empty()).is_empty());
    }
}
