// SPDX-License-Identifier: Apache-2.0

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_sdk::{Event, Kind, markdown_table, testing::TestHost};
use nixl_telemetry_testkit as testkit;
use tempfile::TempDir;

use super::*;
use crate::feeder::Feeder;
use crate::queue::{Limits, Queue};
use crate::settings::ENABLED_METRICS;

/// An exporter in C++ of this name, which does besides what the macros say; its file.
fn lines(name: &str, macros: &[&str]) -> PathBuf {
    let name_macro = format!("-DNAME=\"{name}\"");
    let macros = ["ON_CREATE", "ON_EVENT", "ON_END"].map(|place| {
        let set = macros.iter().find(|set| set.starts_with(place));
        format!("-D{}", set.map_or_else(|| format!("{place}="), ToString::to_string))
    });
    let arguments: Vec<&str> = ["-shared", &name_macro].into_iter().chain(macros.iter().map(String::as_str)).collect();
    let file = nixl_telemetry_loader::file_name(name);
    testkit::compile_cpp(&file, &[Path::new("exporters/tee/fixtures/lines.cc")], &arguments)
}

/// A tee of these exporters for an agent whose name is a file in a folder of its own.
struct Bench {
    folder: TempDir,
    path: String,
}

impl Bench {
    fn new(plugins: &[PathBuf]) -> Self {
        let directories = plugins.iter().map(|plugin| plugin.parent().unwrap());
        let path = env::join_paths(directories).unwrap().into_string().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), path }
    }

    fn agent(&self) -> String {
        self.folder.path().join("agent").to_str().unwrap().to_owned()
    }

    fn open(&self, tee: &str, more: &[(&str, &str)]) -> Result<TestHost<Tee>, Error> {
        let settings = [(TEE.name(), tee), ("NIXL_TELEMETRY_PLUGIN_PATH", &self.path)];
        TestHost::open(&self.agent(), &Settings::from_pairs(settings.iter().chain(more).copied()))
    }

    /// The lines an exporter has written.
    fn lines(&self, exporter: &str) -> Vec<String> {
        let text = fs::read_to_string(format!("{}.{exporter}", self.agent())).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// The four events of a transfer, of this number of bytes.
fn transfer(bytes: u64) -> [Event<'static>; 4] {
    [(Kind::XFER_POST_TIME, 3), (Kind::XFER_TIME, 5), (Kind::TX_BYTES, bytes), (Kind::TX_REQUESTS_NUM, 1)]
        .map(|(kind, value)| Event::new(kind, value))
}

/// What an exporter writes that gets all of these, and ends.
fn written(events: &[Event<'_>]) -> Vec<String> {
    let lines = events.iter().map(|event| format!("{} {}", event.kind().unwrap().code(), event.value()));
    lines.chain(["end".to_owned()]).collect()
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(&markdown_table(Tee::SETTINGS)), "{}", markdown_table(Tee::SETTINGS));
    for setting in [&QUEUE_SIZE as &dyn Describe, &QUEUE_BYTES, &OPEN_TIMEOUT, &SHUTDOWN_TIMEOUT, &ENABLED_METRICS] {
        setting.inspect(&Settings::empty()).unwrap();
    }
}

#[test]
fn each_gets_what_is_for_it() {
    let bench = Bench::new(&["all", "errors", "few"].map(|name| lines(name, &[])));
    let mut host = bench.open("all,errors:agent_err_*+agent_memory_registered,few@1/10", &[]).unwrap();
    let mut events = Vec::new();
    for batch in 0..10 {
        let mut some: Vec<_> = (0..10).flat_map(|number| transfer(10 * batch + number)).collect();
        some.extend([Event::new(Kind::MEMORY_REGISTERED, 4096), Event::new(Kind::ERR_NOT_FOUND, batch)]);
        host.export(&some);
        events.extend(some);
    }
    let counts = host.close();
    assert_eq!((counts.taken, counts.exported), (420, 420));
    assert_eq!(bench.lines("all"), written(&events));
    let errors = |event: &&Event<'_>| matches!(event.kind(), Some(Kind::MEMORY_REGISTERED | Kind::ERR_NOT_FOUND));
    assert_eq!(bench.lines("errors"), written(&events.iter().filter(errors).copied().collect::<Vec<_>>()));

    // Of ten transfers in a row one, whole, and all that is none.
    let few = bench.lines("few");
    let of =
        |kind: &str| few.iter().filter_map(|line| line.strip_prefix(kind)?.trim().parse().ok()).collect::<Vec<u64>>();
    let bytes = of("0 ");
    assert_eq!(bytes.iter().map(|bytes| bytes / 10).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!([of("7 "), of("6 "), of("2 ")].map(|all| all.len()), [10; 3]);
    assert_eq!((of("4 ").len(), of("11 "), few.len()), (10, (0..10).collect(), 4 * 10 + 20 + 1));
}

#[test]
fn none_costs_another_anything() {
    let plugins = [
        lines("well", &[]),
        lines("throws", &["ON_EVENT=throw std::runtime_error(\"no disk\")"]),
        lines("throws_at_first", &["ON_CREATE=throw std::runtime_error(\"no queue\")"]),
        lines("taken", &["ON_CREATE=throw nixlTelemetryBindFailed(\"9090\")"]),
        lines("hangs", &["ON_EVENT=hang()"]),
        lines("hangs_at_first", &["ON_CREATE=hang()"]),
        lines("hangs_at_last", &["ON_END=hang()"]),
        lines("well_too", &[]),
    ];
    let bench = Bench::new(&plugins);
    let tee = "throws,throws_at_first,taken,hangs,hangs_at_first,hangs_at_last,missing,well,well_too";
    let mut host = bench.open(tee, &[(OPEN_TIMEOUT.name(), "200"), (SHUTDOWN_TIMEOUT.name(), "5000")]).unwrap();
    let events: Vec<_> = (0..2000).flat_map(transfer).collect();
    for batch in events.chunks(100) {
        host.export(batch);
    }
    // Not bounded by the machine's speed but by the condition: what is well has everything.
    for exporter in ["well", "well_too"] {
        let start = Instant::now();
        // The last lines of a stream are written when it ends.
        while bench.lines(exporter).len() < 7000 {
            assert!(start.elapsed() < Duration::from_secs(60), "{exporter}");
            thread::sleep(Duration::from_millis(1));
        }
    }
    let counts = host.close();
    assert_eq!((counts.taken, counts.exported, counts.failed), (8000, 8000, 0));
    for exporter in ["well", "well_too"] {
        assert_eq!(bench.lines(exporter), written(&events), "{exporter}");
    }
    assert_eq!(bench.lines("throws"), ["end"]);
    assert_eq!(bench.lines("hangs"), [""; 0]);
}

#[test]
fn what_comes_before_an_exporter_is_open_waits() {
    let bench = Bench::new(&[lines("late", &["ON_CREATE=await(params.agentName + \".go\")"])]);
    let mut host = bench.open("late", &[(OPEN_TIMEOUT.name(), "0")]).unwrap();
    let events: Vec<_> = (0..100).flat_map(transfer).collect();
    host.export(&events);
    assert!(!Path::new(&format!("{}.late", bench.agent())).exists());
    fs::write(format!("{}.go", bench.agent()), "").unwrap();
    host.close();
    assert_eq!(bench.lines("late"), written(&events));
}

#[test]
fn what_opens_after_its_agent_has_ended_makes_nothing() {
    let bench = Bench::new(&[lines("late", &[])]);
    for has_ended in [true, false] {
        let context = Context {
            agent: bench.agent(),
            max_events: 4096,
            generation: None,
            search_path: SearchPath::new(env::split_paths(&bench.path)),
            reports_drops: true,
            limits: Limits { events: 10, bytes: 1000 },
        };
        let (queue, opened) = (Arc::new(Queue::new(context.limits)), Arc::new(OnceLock::new()));
        if has_ended {
            queue.close();
        }
        let list = Settings::from_pairs([(TEE.name(), "late")]).get(&TEE).unwrap().value;
        let item = list.0.into_iter().next().unwrap();
        Feeder::new(item, Arc::new(context), queue, Arc::clone(&opened)).run();
        assert_eq!(Path::new(&format!("{}.late", bench.agent())).exists(), !has_ended);
        let refusal = opened.get().unwrap().clone().err();
        let expected = "its agent has ended before it was open";
        assert_eq!(
            has_ended,
            matches!(&refusal, Some(Refusal::Broken(cause)) if cause.ends_with(expected)),
            "{refusal:?}"
        );
    }
}

#[test]
fn where_all_are_needed_one_that_is_missing_is_an_error() {
    let throws = lines("throws", &["ON_CREATE=throw std::runtime_error(\"no queue\")"]);
    let (taken, hangs) =
        (lines("taken", &["ON_CREATE=throw nixlTelemetryBindFailed(\"9090\")"]), lines("hangs", &["ON_CREATE=hang()"]));
    let place = throws.display().to_string();
    let bench = Bench::new(&[lines("well", &[]), throws, taken, hangs]);
    let fail = |tee: &str, timeout: &str| {
        bench.open(tee, &[("NIXL_TELEMETRY_ON_ERROR", "fail"), (OPEN_TIMEOUT.name(), timeout)])
    };
    let error = |tee: &str, timeout: &str| fail(tee, timeout).err().unwrap().to_string();
    assert_eq!(error("well,throws", "60000"), format!("exporter throws: {place}: the plugin threw: no queue"));
    assert_eq!(error("hangs,well", "100"), "exporter hangs: it did not open within 100ms");
    let missing = error("well,missing", "60000");
    assert!(
        missing.starts_with("exporter missing: no exporter \"missing\": libtelemetry_exporter_missing.so"),
        "{missing}"
    );
    // Somebody else serves the address: no mistake.
    assert!(fail("well,taken", "60000").is_ok() && fail("taken", "60000").is_ok());

    let none = bench.open("throws,missing", &[]).err().unwrap();
    assert_eq!(none.to_string(), "none of its exporters could be opened");
}

#[test]
fn who_takes_no_totals_is_told_how_many_events_there_were() {
    let bench = Bench::new(&["all", "errors", "silent"].map(|name| lines(name, &[])));
    let tee = "all,errors:agent_err_*+agent_telemetry_*,silent:agent_tx_bytes";
    let totals = [(Kind::TX_BYTES, 7), (Kind::ERR_BACKEND, 2)].map(|(kind, count)| Total { kind, count, sum: 9 });
    let mut host = bench.open(tee, &[]).unwrap();
    host.export_batch(&[Event::new(Kind::TX_BYTES, 5)], &totals, None);
    let counts = host.close();
    assert_eq!((counts.exported, counts.aggregated), (1, 9));
    assert_eq!(bench.lines("all"), ["0 5", "20 9", "end"]);
    assert_eq!(bench.lines("errors"), ["20 2", "end"]);
    assert_eq!(bench.lines("silent"), ["0 5", "end"]);

    // Where the host would not say how many it dropped, neither does the tee.
    let mut host = bench.open("all", &[(ENABLED_METRICS.name(), "agent_tx_*")]).unwrap();
    host.export_batch(&[], &totals, None);
    host.close();
    assert_eq!(bench.lines("all"), ["end"]);
}
