// SPDX-License-Identifier: Apache-2.0

//! What one sink does is no other sink's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use nixl_telemetry_event::Event;
use nixl_telemetry_host::{Exported, Nop, RecordingSink, Sink};

use crate::common::{Does, LONG, NEVER, builder, check_settled, log_of, pairs};

#[test]
fn every_sink_gets_everything() {
    let sinks = [RecordingSink::new(), RecordingSink::new(), RecordingSink::new()];
    let named = sinks.iter().zip(["a", "b", "c"]);
    let builder = named.fold(builder(&[NEVER]), |builder, (sink, name)| builder.sink(name, Box::new(sink.clone())));
    let collector = builder.build().unwrap().unwrap();
    (0..10).for_each(|value| collector.recorder().memory_registered(value));
    let counts = collector.close();
    check_settled(&counts);
    for (sink, exporter) in sinks.iter().zip(&counts.exporters) {
        assert_eq!(pairs(&sink.events()), (0..10).map(|value| (4, value)).collect::<Vec<_>>());
        assert_eq!(exporter.exported, 10);
    }
    assert_eq!(counts.exporters.iter().map(|exporter| exporter.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

/// Panics at its second batch, and again when it is dropped.
struct Panics(u64);

impl Sink for Panics {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        self.0 += 1;
        assert!(self.0 < 2, "batch {} is too much", self.0);
        Exported::all(batch)
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("and its end as well");
    }
}

#[test]
fn a_panic_costs_the_sink_and_nobody_else() {
    let log = log_of("isolation::a_panic_costs_the_sink_and_nobody_else", &[], || {
        let kept = RecordingSink::new();
        let builder = builder(&[NEVER]).sink("panics", Box::new(Panics(0))).sink("kept", Box::new(kept.clone()));
        let collector = builder.build().unwrap().unwrap();
        for value in 0..4 {
            collector.recorder().memory_registered(value);
            assert!(collector.flush(LONG));
        }
        let counts = collector.close();
        check_settled(&counts);
        assert_eq!(counts.drops(), [("panics", "failed", 1), ("panics", "unavailable", 2)]);
        let panics = counts.exporter("panics").unwrap();
        assert_eq!((panics.exported, panics.problem.as_deref()), (1, Some("panicked: batch 2 is too much")));
        assert_eq!(kept.events().len(), 4);
    });
    if let Some(log) = log {
        let lines: Vec<_> = log.iter().filter(|line| line.contains("outlet.rs")).map(String::as_str).collect();
        let expected = [
            "E outlet.rs agent agent: exporter panics panicked: batch 2 is too much; its events are dropped from now on",
            "E outlet.rs agent agent: exporter panics panicked at its end: and its end as well",
        ];
        assert_eq!(lines, expected);
    }
}

/// Asserts the four counts of a sink that says `done` of a batch of ten events.
fn check_outcome(done: Exported, exported: u64, failed: u64, unsupported: u64) {
    let said = done.clone();
    let sink = Does(move |_: &[Event<'_>]| said.clone());
    let collector = builder(&[NEVER]).sink("sink", Box::new(sink)).build().unwrap().unwrap();
    (0..10).for_each(|value| collector.recorder().memory_registered(value));
    let counts = collector.close();
    check_settled(&counts);
    let sink = counts.exporter("sink").unwrap();
    assert_eq!((sink.exported, sink.failed, sink.unsupported), (exported, failed, unsupported), "{done:?}");
}

#[test]
fn sinks_that_cannot_count_spoil_no_account() {
    let done = |accepted, failed, unsupported| Exported { accepted, failed, unsupported, ..Exported::default() };
    check_outcome(done(10, 0, 0), 10, 0, 0);
    check_outcome(done(5, 3, 2), 5, 3, 2);
    check_outcome(done(0, 0, 0), 0, 10, 0);
    check_outcome(done(7, 0, 0), 7, 3, 0);
    check_outcome(done(u64::MAX, u64::MAX, u64::MAX), 10, 0, 0);
    check_outcome(done(4, u64::MAX, u64::MAX), 4, 0, 6);
}

#[test]
fn a_failure_is_logged_with_its_reason() {
    let log = log_of("isolation::a_failure_is_logged_with_its_reason", &[], || {
        let failure =
            Exported { accepted: 1, failed: 1, first_failure: Some("disk full".into()), ..Exported::default() };
        let sink = Does(move |_: &[Event<'_>]| failure.clone());
        let collector = builder(&[NEVER]).sink("disk", Box::new(sink)).sink("fine", Box::new(Nop)).build();
        let collector = collector.unwrap().unwrap();
        collector.recorder().memory_registered(1);
        collector.recorder().memory_registered(2);
        check_settled(&collector.close());
    });
    if let Some(log) = log {
        assert_eq!(log, ["W outlet.rs agent agent: exporter disk failed at 1 of 2 events: disk full"]);
    }
}

#[test]
fn collectors_do_not_wait_for_each_other() {
    let (barrier, batches) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU64::new(0)));
    let collectors = [(); 2].map(|()| {
        let (barrier, batches) = (Arc::clone(&barrier), Arc::clone(&batches));
        // Each sink gets on only while the other is in a batch, too.
        let sink = Does(move |batch: &[Event<'_>]| {
            barrier.wait();
            batches.fetch_add(1, Ordering::Relaxed);
            Exported::all(batch)
        });
        builder(&[NEVER]).sink("meets", Box::new(sink)).build().unwrap().unwrap()
    });
    for collector in &collectors {
        collector.recorder().memory_registered(1);
    }
    std::thread::scope(|scope| {
        for collector in &collectors {
            scope.spawn(|| assert!(collector.flush(LONG)));
        }
    });
    assert_eq!(batches.load(Ordering::Relaxed), 2);
}
