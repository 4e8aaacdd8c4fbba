// SPDX-License-Identifier: Apache-2.0

//! Whoever has written a document once writes the next one without allocating.

use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_metrics::encode::{Encoder, Format, Series};
use nixl_telemetry_metrics::{Buckets, Labels, Live, Snapshot, Tally};

#[test]
fn a_second_document_allocates_nothing() {
    let buckets = Arc::new(Buckets::parse("0.5,10,2500,1e6,1.25e17").unwrap());
    let (mut publisher, live) = Live::new(Arc::clone(&buckets), 1_798_761_600_000_000);
    let mut tally = Tally::new(Arc::clone(&buckets));
    for shift in 0..64 {
        tally.fold(&Event::new(Kind::XFER_TIME, 1 << shift));
        tally.fold(&Event::new(Kind::TX_BYTES, u64::MAX >> shift));
    }
    tally.fold(&Event::backend("says \"hi\\\"\n", 8));
    publisher.publish(&mut tally, 1_798_761_601_000_250);
    let labels = Labels::sorted([("agent_name".to_owned(), "a \"b\"".to_owned())]).unwrap();
    let mut snapshot = Snapshot::new(buckets);
    live.read(&mut snapshot);

    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let mut out = Vec::new();
        let mut write = || {
            out.clear();
            let mut encoder = Encoder::new(format, &mut out);
            encoder.counter("scrapes_total", "Looks \\ at it", None, &labels, 3);
            encoder.summary("latencies", "How long it took", &labels, &[(0.5, 10), (0.99, 20)], 30, 2);
            encoder.families(&[Series { labels: &labels, snapshot: &snapshot }; 20]);
            encoder.finish();
        };
        write();
        assert_eq!(allocation_counter::measure(&mut write).count_total, 0, "{format:?}");
        assert!(out.len() > 20_000);
    }
}
