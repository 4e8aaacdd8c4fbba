// SPDX-License-Identifier: Apache-2.0

//! `stats`: sums and percentiles, exact where they have to be.

mod support;

use std::path::Path;

use nixl_telemetry_event::{Event, Generation, Kind};
use nixl_telemetry_ring::{Options, Writer};
use serde_json::{Value, json};
use support::{run, text};

fn ring(directory: &Path, agent: &str, capacity: u64, generation: Generation, events: &[Event<'_>]) {
    let mut writer = Writer::create(directory, agent, Options { capacity, generation, ..Options::default() }).unwrap();
    assert_eq!(writer.push(events).written, events.len() as u64);
}

/// A thousand transfers, the n-th of which took n microseconds, and some trouble.
fn transfers() -> Vec<Event<'static>> {
    let mut events: Vec<_> =
        (1..=1000).flat_map(|n| [Event::new(Kind::XFER_TIME, n), Event::new(Kind::TX_BYTES, 4096)]).collect();
    events.extend([Kind::ERR_NOT_FOUND, Kind::ERR_BACKEND, Kind::ERR_NOT_FOUND].map(|kind| Event::new(kind, 1)));
    events.push(Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 1500));
    events
}

#[test]
fn text_is_a_table() {
    let directory = tempfile::tempdir().unwrap();
    ring(directory.path(), "prefill-0", 4096, Generation::V1_5, &transfers());
    ring(directory.path(), "quiet", 64, Generation::V1_5, &[]);
    ring(directory.path(), "stuck", 4, Generation::V1_5, &[Event::new(Kind::from_code(77), 5); 3]);
    let ran = run(&["stats", text(directory.path())]).ends(0);
    let expected = "\
prefill-0  DIR/prefill-0
  ring version 4, 2,004 of 4,095 events (48%)
  event                           count       sum      mean     p50     p90     p99       max
  agent_tx_bytes                  1,000  3.91 MiB  4.00 KiB                          4.00 KiB
  agent_xfer_time                 1,000    500 ms    500 us  501 us  903 us  991 us   1.00 ms
  agent_err_backend                   1         1       1.0                                 1
  agent_err_not_found                 2         2       1.0                                 1
  agent_telemetry_events_dropped      1     1,500      1500                             1,500
  errors: 1 backend, 2 not_found
  dropped by NIXL's collector: 1,500 events

quiet  DIR/quiet
  ring version 4, 0 of 63 events (0%)

stuck  DIR/stuck
  ring version 4, 3 of 3 events, full: NIXL drops new events until some are taken out
  event             count  sum  mean  p50  p90  p99  max
  unknown_event_77      3   15   5.0                   5
";
    assert_eq!(ran.out.replace(text(directory.path()), "DIR"), expected);
    assert_eq!(ran.err, "");
}

#[test]
fn json_is_exact() {
    let directory = tempfile::tempdir().unwrap();
    let events = [
        Event::new(Kind::TX_BYTES, u64::MAX).at(2000),
        Event::new(Kind::TX_BYTES, 7).at(1000),
        Event::new(Kind::TX_BYTES, 9).at(3000),
        Event::new(Kind::XFER_POST_TIME, u64::MAX).at(2500),
        Event::backend("ucx \"x\"", 1).at(2500),
    ];
    ring(directory.path(), "a/b", 8, Generation::V0_9, &events);
    let ran = run(&["stats", "--json", text(directory.path())]).ends(0);
    let max = u64::MAX;
    let expected = json!({
        "agent": "a/b",
        "file": text(&directory.path().join("a%2Fb")),
        "version": 1,
        "capacity": 8,
        "unread": 5,
        "full": false,
        "lost": 0,
        "first_timestamp_us": 1000,
        "last_timestamp_us": 3000,
        "events": [
            {
                "event": "agent_tx_bytes", "category": "TRANSFER", "unit": "bytes",
                "count": 3, "sum": "18446744073709551631", "min": 7, "max": max, "last": 9,
            },
            {
                "event": "agent_xfer_post_time", "category": "PERFORMANCE", "unit": "microseconds",
                "count": 1, "sum": max, "min": max, "max": max, "last": max, "p50": max, "p90": max, "p99": max,
            },
            { "event": "ucx \"x\"", "category": "BACKEND", "count": 1, "sum": 1, "min": 1, "max": 1, "last": 1 },
        ],
        "errors": {},
        "dropped": 0,
    });
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), expected);
    assert_eq!(ran.out.matches('\n').count(), 1);
}

#[test]
fn events_and_agents_are_chosen() {
    let directory = tempfile::tempdir().unwrap();
    for agent in ["prefill-0", "decode-0"] {
        ring(directory.path(), agent, 4096, Generation::V1_5, &transfers());
    }
    let arguments =
        ["stats", "--json", "--agent", "prefill-?", "--event", "*_time,agent_err_*", text(directory.path())];
    let ran = run(&arguments).ends(0);
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(object["agent"], "prefill-0");
    let events: Vec<_> =
        object["events"].as_array().unwrap().iter().map(|event| (&event["event"], &event["sum"])).collect();
    let expected = [
        (&json!("agent_xfer_time"), &json!(500_500)),
        (&json!("agent_err_backend"), &json!(1)),
        (&json!("agent_err_not_found"), &json!(2)),
    ];
    assert_eq!(events, expected);
    assert_eq!(object["errors"], json!({ "backend": 1, "not_found": 2 }));
    assert_eq!(object["dropped"], 0);
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    ring(directory.path(), "a", 8, Generation::V1_5, &[Event::new(Kind::TX_BYTES, 3)]);
    let absent = directory.path().join("absent");
    let ran = run(&["stats", "--json", text(&absent), text(directory.path())]).ends(1);
    assert_eq!(ran.err, format!("error: cannot read {}: no such file or directory\n", text(&absent)));
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&object["agent"], &object["unread"]), (&json!("a"), &json!(1)));
}
