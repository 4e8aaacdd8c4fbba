// SPDX-License-Identifier: Apache-2.0

//! How fast events come into the table, beside `\copy` of the same rows, ready in a file.
//!
//! `cargo test --release -p telemetry-exporter-postgres speed -- --ignored --nocapture`

use std::time::Instant;

use super::*;

const EVENTS: u64 = 4_000_000;
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
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let mut host = database.open("a", &[("QUEUE_OVERFLOW", "block:60000"), ("SHUTDOWN_TIMEOUT", "600000")]);
        let (begin, mut left) = (Instant::now(), EVENTS);
        while left > 0 {
            let events = left.min(4096);
            host.export(&batch[..usize::try_from(events).unwrap()]);
            left -= events;
        }
        host.close();
        let ours = begin.elapsed();
        assert_eq!(database.psql("SELECT count(*) FROM nixl_events"), EVENTS.to_string());
        if round == 0 {
            database.psql(&format!("\\copy nixl_events TO '{}' (FORMAT csv)", file.display()));
        }
        database.psql("TRUNCATE nixl_events");
        let begin = Instant::now();
        database.psql(&format!("\\copy nixl_events FROM '{}' (FORMAT csv)", file.display()));
        let copy = begin.elapsed();
        database.psql("TRUNCATE nixl_events");
        let rate = |time: std::time::Duration| EVENTS as f64 / time.as_secs_f64();
        println!("{:.0} events/s, \\copy {:.0} rows/s, {:.2}", rate(ours), rate(copy), rate(ours) / rate(copy));
        rates.push((rate(ours), rate(copy), rate(ours) / rate(copy)));
    }
    let median = |of: fn(&(f64, f64, f64)) -> f64| {
        let mut numbers: Vec<f64> = rates.iter().map(of).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[ROUNDS / 2]
    };
    println!("medians: {:.0}, {:.0}, {:.2}", median(|rate| rate.0), median(|rate| rate.1), median(|rate| rate.2));
}
