// SPDX-License-Identifier: Apache-2.0

//! Collectors to test, and sinks that misbehave.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::{env, process::Command, thread};

use nixl_telemetry_event::Event;
use nixl_telemetry_host::{Builder, Collector, Counts, Exported, RecordedEvent, RecordingSink, Sink};
use nixl_telemetry_settings::Settings;

/// Longer than anything in these tests takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// An interval after which no test waits.
pub(crate) const NEVER: (&str, &str) = ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000");

/// A builder with telemetry on and these variables.
pub(crate) fn builder(variables: &[(&str, &str)]) -> Builder {
    let enable = ("NIXL_TELEMETRY_ENABLE", "true");
    Collector::builder("agent").settings(Settings::from_pairs([enable].iter().chain(variables).copied()))
}

/// A collector that keeps its events.
pub(crate) fn recording(variables: &[(&str, &str)]) -> (Collector, RecordingSink) {
    let sink = RecordingSink::new();
    let built = builder(variables).sink("kept", Box::new(sink.clone())).build();
    (built.unwrap().expect("telemetry is on"), sink)
}

/// The events as numbers: kind and value.
pub(crate) fn pairs(events: &[RecordedEvent]) -> Vec<(u32, u64)> {
    events.iter().map(|event| (event.kind.map_or(u32::MAX, |kind| kind.code()), event.value)).collect()
}

/// Asserts that the law holds with nothing left pending.
#[track_caller]
pub(crate) fn check_settled(counts: &Counts) {
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!(counts.waiting, 0);
    for exporter in &counts.exporters {
        assert_eq!(exporter.pending, 0, "{counts:?}");
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A sink that is stuck in every batch until it is told to go on.
pub(crate) struct Stuck {
    entered: Sender<usize>,
    go_on: Receiver<()>,
}

/// Of a [`Stuck`] sink: the lengths of the batches it got, and the way to let it go on. Dropping it lets it go on
/// for good.
pub(crate) struct Stick {
    pub(crate) entered: Receiver<usize>,
    pub(crate) go_on: Sender<()>,
}

impl Stuck {
    pub(crate) fn new() -> (Self, Stick) {
        let ((entered, enters), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        (Self { entered, go_on: goes_on }, Stick { entered: enters, go_on })
    }
}

impl Sink for Stuck {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        // Nobody may be listening or talking any more, which is fine.
        let _ = self.entered.send(batch.len());
        let _ = self.go_on.recv();
        Exported::all(batch)
    }
}

/// A sink that does as the closure does.
pub(crate) struct Does<F>(pub(crate) F);

impl<F: FnMut(&[Event<'_>]) -> Exported + Send> Sink for Does<F> {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        (self.0)(batch)
    }
}

const INSIDE: &str = "HOST_TEST_INSIDE";

/// What `body` writes to standard error, line by line without what differs between two runs. It runs in a process of
/// its own, as the test of this name, with these variables. `None` there.
pub(crate) fn log_of(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<Vec<String>> {
    if env::var(INSIDE).as_deref() == Ok(test) {
        body();
        return None;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, test).env("HOME", "/nonexistent");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{test}: {}\n{out}\n{err}", output.status);
    // W1123 10:36:19.824418    7911 file.rs:551] message
    let lines = err.lines().filter_map(|line| {
        let (head, message) = line.split_once("] ")?;
        let file = head.rsplit(' ').next()?.split(':').next()?;
        Some(format!("{} {file} {message}", &head[..1]))
    });
    Some(lines.collect())
}
