// SPDX-License-Identifier: Apache-2.0

//! How fast events come into the table, beside `\copy` of the same rows, ready in a file.
//!
//! `cargo test --release -p telemetry-exporter-postgres speed -- --ignored --nocapture`

use std::time::Instant;

use super::*;

const EVENTS: u64 = 2_000_000;
const ROUNDS: usize = 5;

#[test]
#[ignore = "measures, and takes a minute"]
fn speed() {
    let Some(server) = require("speed", Server::start()) else { return };
    let database = Database::on(Arc::new(server), "speed");
    let batch: Vec<_> = (0..4096)
        .map(|number| {
            let kind = [Kind::TX_BYTES, Kind::TX_REQUESTS_NUM, Kind::XFER_TIME, Kind::XFER_POST_TIME][number % 4];
            Event::new(kind, 65_536 + number as u64).at(1_764_000_000_000_000 + number as u64)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    let exporting = |batch_size| {
        let more = [("QUEUE_OVERFLOW", "block:60000"), ("SHUTDOWN_TIMEOUT", "600000"), ("BATCH_SIZE", batch_size)];
        let mut host = database.open("a", &more);
        let (begin, mut left) = (Instant::now(), EVENTS);
        while left > 0 {
            let events = left.min(4096);
            host.export(&batch[..usize::try_from(events).unwrap()]);
            left -= events;
        }
        host.close();
        let time = begin.elapsed();
        assert_eq!(database.psql("SELECT count(*) FROM nixl_events"), EVENTS.to_string());
        time
    };
    exporting("65536");
    database.psql(&format!("\\copy nixl_events TO '{}' (FORMAT csv)", file.display()));
    let bytes = database.psql("SELECT pg_relation_size('nixl_events')");
    println!("{:.1} bytes an event", bytes.parse::<f64>().unwrap() / EVENTS as f64);
    let copying = || {
        let begin = Instant::now();
        database.psql(&format!("\\copy nixl_events FROM '{}' (FORMAT csv)", file.display()));
        begin.elapsed()
    };
    // In turn, since the machine is not the same from one minute to the next.
    let what = ["\\copy", "8192", "65536", "262144"];
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (what, rates) in what.iter().zip(&mut rates) {
            database.psql("TRUNCATE nixl_events");
            let time = if *what == "\\copy" { copying() } else { exporting(what) };
            rates.push(EVENTS as f64 / time.as_secs_f64());
        }
    }
    for (what, rates) in what.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        println!("{what}: {:.0} to {:.0}, median {:.0} events/s", rates[0], rates[ROUNDS - 1], rates[ROUNDS / 2]);
    }
}
