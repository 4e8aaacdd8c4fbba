// SPDX-License-Identifier: Apache-2.0

//! Metrics to write.

use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_metrics::encode::{Encoder, Format, Series};
use nixl_telemetry_metrics::{Account, Buckets, Labels, Live, Snapshot, Tally};

/// What these events add up to, counting from the first second of 2027, and delivered in the next.
pub(crate) fn snapshot<'a>(buckets: Buckets, events: impl IntoIterator<Item = Event<'a>>) -> Snapshot {
    let buckets = Arc::new(buckets);
    let (mut publisher, live) = Live::new(Arc::clone(&buckets), 1_798_761_600_000_000);
    let mut tally = Tally::new(Arc::clone(&buckets));
    for event in events {
        tally.fold(&event);
    }
    publisher.publish(&mut tally, 1_798_761_601_000_250);
    let mut snapshot = Snapshot::new(buckets);
    live.read(&mut snapshot);
    snapshot
}

pub(crate) fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> [(String, String); N] {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// A document with all that there is: an agent that has done much, one that has done nothing, and families of a server.
pub(crate) fn document(format: Format) -> Vec<u8> {
    let mut busy = snapshot(
        Buckets::parse("0.5,10,2.5e3,1e6,1e17").unwrap(),
        [
            Event::new(Kind::TX_BYTES, u64::MAX - 1),
            Event::new(Kind::RX_BYTES, 10_000_000_000_000_001),
            Event::new(Kind::MEMORY_REGISTERED, 4096),
            Event::new(Kind::ERR_NOT_FOUND, 1),
            Event::new(Kind::ERR_NOT_FOUND, 1),
            Event::new(Kind::ERR_NO_TELEMETRY, 1),
            Event::backend("ucx_retries", 7),
            Event::backend("says \"hi\\\"\n", 8),
        ]
        .into_iter()
        .chain([0, 1, 2, 9, 11, 12, 12, 300, 310, 5_000_000, 1 << 60].map(|time| Event::new(Kind::XFER_TIME, time)))
        .chain([3; 5].map(|time| Event::new(Kind::XFER_POST_TIME, time))),
    );
    busy.account = Account {
        events: 24,
        aggregated: 6,
        dropped: 1,
        failed: 2,
        queued: 3,
        batches: 4,
        last_success_us: 1_798_761_601_000_250,
    };
    let mut idle = snapshot(Buckets::parse("0.5,10,2.5e3,1e6,1e17").unwrap(), []);
    // One whose exporter cannot tell, and has delivered nothing.
    (idle.created_us, idle.account) = (0, Account::default());
    let busy_labels =
        Labels::sorted(pairs([("hostname", "vm"), ("agent_name", "busy"), ("zone", "a\\b\"c\nd")])).unwrap();
    let idle_labels = Labels::sorted(pairs([("hostname", "vm"), ("agent_name", "idle"), ("zone", "é")])).unwrap();
    let (none, host) = (Labels::sorted([]).unwrap(), Labels::sorted(pairs([("hostname", "vm")])).unwrap());

    let mut out = Vec::new();
    let mut encoder = Encoder::new(format, &mut out);
    encoder.counter(
        "exposer_transferred_bytes_total",
        "Transferred bytes to metrics services",
        Some("bytes"),
        &none,
        1000,
    );
    encoder.counter("exposer_scrapes_total", "Number of times metrics were scraped", None, &none, 3);
    let quantiles = [(0.5, 100), (0.9, 200), (0.99, 4_000_000_000)];
    let help = "Latencies of serving scrape requests, in microseconds";
    encoder.summary("exposer_request_latencies", help, &none, &quantiles, 4_000_000_300, 3);
    encoder.gauge("nixl_telemetry_exporter_agents", "Agents of \"this\"\nhost, C:\\", None, &host, 2);
    encoder.families(&[
        Series { labels: &busy_labels, snapshot: &busy },
        Series { labels: &idle_labels, snapshot: &idle },
    ]);
    encoder.finish();
    out
}
