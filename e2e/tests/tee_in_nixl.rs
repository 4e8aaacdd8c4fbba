// SPDX-License-Identifier: Apache-2.0

//! Several exporters in NIXL's place for one, some of them bad: the good ones have what happened.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use nixl_telemetry_e2e::{
    Sandbox, Totals, add, count_rows, csv_totals, nixl_command,
    page::{Page, as_metrics},
    read_rows, run_apart, truth,
};
use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_host::Collector;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;
use tempfile::TempDir;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// Those that are good, and one that panics, one that throws and one that never returns; another is not there.
const TEE: &str = "misbehave,throws,hangs,missing,csv,prometheus";

fn bad_plugins() -> Vec<PathBuf> {
    let lines = |name: &str, on_event: &str| {
        let macros = [format!("-DNAME=\"{name}\""), format!("-DON_EVENT={on_event}")];
        let arguments = ["-shared", "-DON_CREATE=", "-DON_END=", &macros[0], &macros[1]];
        let sources = [Path::new("exporters/tee/fixtures/lines.cc")];
        testkit::compile_cpp(&nixl_telemetry_loader::file_name(name), &sources, &arguments)
    };
    let example = ["--package", "nixl-telemetry-sdk", "--example", "telemetry_exporter_misbehave"];
    let misbehave = testkit::artifact(&example, "libtelemetry_exporter_misbehave.so");
    vec![lines("throws", "throw std::runtime_error(\"no disk\")"), lines("hangs", "hang()"), misbehave]
}

/// A run of the driver, and what it leaves behind.
struct Run {
    files: TempDir,
    port: u16,
    variables: BTreeMap<&'static str, String>,
}

impl Run {
    /// One in which plugins are found in these folders, besides the usual ones.
    fn new(folders: &[&Path]) -> Self {
        let bad = bad_plugins();
        let folders = folders.iter().copied().chain(bad.iter().map(|plugin| plugin.parent().unwrap()));
        let path = env::join_paths(folders).unwrap().into_string().unwrap();
        let (files, port) = (tempfile::tempdir().unwrap(), testkit::free_port());
        let (file, port_text) = (files.path().join("{agent}.csv"), port.to_string());
        let variables = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "tee"),
            ("NIXL_TELEMETRY_TEE", TEE),
            ("NIXL_TELEMETRY_TEE_SHUTDOWN_TIMEOUT", "5000"),
            // Of our collector, where there is one.
            ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000"),
            ("NIXL_TELEMETRY_PLUGIN_PATH", path.as_str()),
            ("NIXL_TELEMETRY_MISBEHAVE", "export"),
            ("NIXL_TELEMETRY_CSV_FILE", file.to_str().unwrap()),
            ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y"),
            ("NIXL_TELEMETRY_PROMETHEUS_PORT", port_text.as_str()),
        ];
        let variables = variables.map(|(name, value)| (name, value.to_owned())).into();
        Self { files, port, variables }
    }

    /// Runs it, and looks at the page as long as there is one with so many series of this name; returns the last.
    fn drive(&self, mut command: Command, series: &str, number: usize) -> (Output, Option<Page>) {
        command.envs(&self.variables);
        thread::scope(|scope| {
            let run = scope.spawn(move || command.output().expect("the driver runs"));
            let mut last = None;
            while !run.is_finished() {
                // Towards the end one of two agents is gone already.
                let all = |page: &Page| page.samples(series).len() == number;
                last = Page::get(self.port).filter(all).or(last);
                thread::sleep(Duration::from_millis(20));
            }
            (run.join().expect("the driver runs"), last)
        })
    }

    /// The good ones have what happened, and of each bad one it is said.
    fn check(&self, output: &Output) -> Totals {
        let expected = truth(output);
        assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
        assert_eq!(csv_totals(self.files.path(), expected.keys()), expected);
        let log = String::from_utf8_lossy(&output.stderr);
        for agent in expected.keys() {
            for line in [
                ": exporter missing is off, its events are dropped: no exporter \"missing\"",
                ": exporter throws failed at ",
                ": exporter misbehave failed at ",
                " has ended: misbehave: ",
            ] {
                assert!(log.contains(&format!("tee of agent {agent}{line}")), "{agent}, {line}: {log}");
            }
        }
        assert!(log.contains("misbehaving in export"), "{log}");
        assert_eq!(log.matches("; hangs, which does not end and is left behind: ").count(), 2, "{log}");
        expected
    }
}

/// What a page shows, but for how many there were: NIXL's own says so only if it is asked to.
fn sums(page: Option<Page>) -> BTreeMap<String, BTreeMap<String, u64>> {
    without_times(page.expect("there was a page").totals())
}

fn without_times(mut totals: BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, BTreeMap<String, u64>> {
    totals.values_mut().for_each(|events| events.retain(|name, _| !name.ends_with(", times")));
    totals
}

fn the_good_ones_have_what_happened(version: &str, is_prometheus_ours: bool) {
    let test = format!("tee in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("tee"));
    sandbox.add_plugin(&testkit::plugin("csv"));
    if is_prometheus_ours {
        sandbox.replace_plugin(&testkit::plugin("prometheus"));
    }
    let run = Run::new(&[]);
    let mut command = nixl_command(Path::new(DRIVER));
    command.arg(sandbox.path()).args([TRANSFERS.to_string(), LINGER_MS.to_string()]);
    let (output, page) = run.drive(command, "agent_tx_bytes_total", 2);
    let mut expected = without_times(as_metrics(&run.check(&output)));
    if version == "1.2.0" && !is_prometheus_ours {
        // It shows no errors; NIXL has done so from 1.4 on.
        expected.values_mut().for_each(|events| events.retain(|name, _| !name.starts_with("agent_err_")));
    }
    assert_eq!(sums(page), expected, "{test}");
}

/// 0.9.0 has no C API: its Python binding registers memory. Its exporter is of the first plugin API, and its events have names.
#[test]
fn nixl_0_9_0_registers_through_python() {
    let Some(release) = testkit::require("tee in NIXL 0.9.0", testkit::nixl_release("0.9.0")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("tee"));
    sandbox.add_plugin(&testkit::plugin("csv"));
    let run = Run::new(&[]);
    let stubs = release.parent().unwrap().join("stubs");
    let mut command = nixl_command(Path::new("python3"));
    command
        .arg(testkit::workspace_root().join("e2e/python_agent.py"))
        .args(["--name", "agentA", "--register", "4096", "--register", "70000", "--linger", "1.5"])
        .env("PYTHONPATH", format!("{}:{}", sandbox.path().display(), stubs.display()));
    let (output, page) = run.drive(command, "agent_memory_registered", 1);
    assert!(output.status.success(), "{output:?}");
    let agent = "agentA".to_owned();
    let mut expected = Totals::new();
    for bytes in [4096, 70000] {
        add(&mut expected, &agent, "agent_memory_registered", bytes);
        add(&mut expected, &agent, "agent_memory_deregistered", bytes);
    }
    assert_eq!(csv_totals(run.files.path(), [&agent]), expected);
    let page = page.expect("there was a page");
    // NIXL 0.9 shows the last.
    let [(labels, value)] = &page.samples("agent_memory_registered")[..] else { panic!("{}", page.text()) };
    assert_eq!((labels["agent_name"], *value), ("agentA", "70000"));
}

#[test]
fn nixl_1_0_1() {
    the_good_ones_have_what_happened("1.0.1", true);
}

#[test]
fn nixl_1_2_0_with_its_own_prometheus() {
    the_good_ones_have_what_happened("1.2.0", false);
}

#[test]
fn nixl_1_3_2() {
    the_good_ones_have_what_happened("1.3.2", true);
}

#[test]
fn nixl_1_5_1() {
    the_good_ones_have_what_happened("1.5.1", true);
}

#[test]
fn nixl_1_5_1_with_its_own_prometheus() {
    the_good_ones_have_what_happened("1.5.1", false);
}

/// A plugin in C++ that says nothing of what it is made for gets the events of the NIXL it is in.
fn a_stripped_plugin_has_what_happened(version: &str, macros: &[&str]) {
    let test = format!("a stripped plugin behind tee in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("tee"));
    let arguments =
        ["-shared", "-s", "-fvisibility=hidden", "-DNAME=\"lines\"", "-DON_CREATE=", "-DON_EVENT=", "-DON_END="];
    let sources = [Path::new("exporters/tee/fixtures/lines.cc")];
    let file = nixl_telemetry_loader::file_name("lines");
    let plugin = testkit::compile_cpp(&file, &sources, &[&arguments, macros].concat());
    let inspection = nixl_telemetry_loader::inspect(&plugin).unwrap();
    assert_eq!((inspection.form(), inspection.slots), (None, None));
    sandbox.add_plugin(&plugin);

    let files = tempfile::tempdir().unwrap();
    let variables = [
        ("NIXL_TELEMETRY_ENABLE", "y"),
        ("NIXL_TELEMETRY_EXPORTER", "tee"),
        ("NIXL_TELEMETRY_TEE", "lines"),
        ("LINES_DIR", files.path().to_str().unwrap()),
    ];
    let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables);
    let expected = truth(&output);
    let mut found = Totals::new();
    for agent in expected.keys() {
        let text = fs::read_to_string(files.path().join(format!("{agent}.lines"))).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.pop(), Some("end"), "{test}");
        for line in lines {
            let (what, value) = line.split_once(' ').unwrap();
            let (code, error) = (what.parse().ok(), Status::error_from_name(what).and_then(Status::kind));
            // NIXL 1.1 has names, for errors those of their statuses.
            let event = code.map(Kind::from_code).or(error).map_or(what.to_owned(), |kind| kind.to_string());
            add(&mut found, agent, &event, value.parse().unwrap());
        }
    }
    assert_eq!(found, expected, "{test}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_stripped_plugin_in_nixl_1_1_0() {
    a_stripped_plugin_has_what_happened("1.1.0", &["-DFOR_1_1"]);
}

#[test]
fn a_stripped_plugin_in_nixl_1_2_0() {
    a_stripped_plugin_has_what_happened("1.2.0", &["-DFOR_1_2"]);
}

#[test]
fn a_stripped_plugin_that_writes_at_the_end_of_batches_in_nixl_1_5_1() {
    a_stripped_plugin_has_what_happened("1.5.1", &["-DAT_BATCH_END"]);
}

/// A file of another name is a tee nevertheless, which opening itself again and again would fill the memory.
#[test]
fn a_tee_in_a_tee_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(testkit::plugin("tee"), folder.path().join(nixl_telemetry_loader::file_name("fanout"))).unwrap();
    let log = run_in_our_collector("one_event", "fanout,csv", "8192", folder.path());
    assert_eq!(
        log.matches("it is a tee, which would open itself again: expected another exporter").count(),
        1,
        "{log}"
    );
    assert_eq!(count_rows(&folder.path().join("events.csv")), 1);
}

/// With our collector in the process, which finds tee somewhere else, and tee NIXL's plugins where NIXL does.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let Some(release) = testkit::require("tee preloaded", testkit::nixl_release("1.5.1")) else { return };
    let folder = tempfile::tempdir().unwrap();
    for exporter in ["tee", "csv"] {
        let plugin = testkit::plugin(exporter);
        fs::copy(&plugin, folder.path().join(plugin.file_name().unwrap())).unwrap();
    }
    let run = Run::new(&[folder.path()]);
    let mut command = nixl_command(Path::new(DRIVER));
    command.arg(release).args([TRANSFERS.to_string(), LINGER_MS.to_string()]).env("LD_PRELOAD", testkit::preload());
    let (output, page) = run.drive(command, "agent_tx_bytes_total", 2);
    let expected = run.check(&output);
    assert_eq!(sums(page), without_times(as_metrics(&expected)));
}

/// Runs an ignored test below with these exporters behind a tee in our collector, and returns what it logged.
fn run_in_our_collector(test: &str, tee: &str, queue_size: &str, folder: &Path) -> String {
    for (exporter, name) in [("tee", "tee"), ("csv", "csv"), ("prometheus", "prometheus"), ("prometheus", "sums")] {
        fs::copy(testkit::plugin(exporter), folder.join(nixl_telemetry_loader::file_name(name))).unwrap();
    }
    let (file, port) = (folder.join("events.csv"), testkit::free_port().to_string());
    let variables = [
        ("NIXL_TELEMETRY_PLUGIN_PATH", folder),
        ("NIXL_TELEMETRY_TEE", Path::new(tee)),
        ("NIXL_TELEMETRY_TEE_QUEUE_SIZE", Path::new(queue_size)),
        ("NIXL_TELEMETRY_TEE_QUEUE_BYTES", Path::new("1073741824")),
        ("NIXL_TELEMETRY_TEE_SHUTDOWN_TIMEOUT", Path::new("5000")),
        ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", Path::new("60000")),
        ("NIXL_TELEMETRY_CSV_FILE", &file),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", Path::new("y")),
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", Path::new(&port)),
    ];
    run_apart(test, &variables)
}

fn our_collector(buffer_size: &str) -> Collector {
    let settings = Settings::from_process()
        .with_override("NIXL_TELEMETRY_ENABLE", "y")
        .with_override("NIXL_TELEMETRY_EXPORTER", "tee")
        .with_override("NIXL_TELEMETRY_BUFFER_SIZE", buffer_size)
        // No flush but those that a test asks for.
        .with_override("NIXL_TELEMETRY_RUN_INTERVAL", "3600000");
    Collector::builder("agentA").settings(settings).build().unwrap().expect("telemetry is on")
}

/// Our collector tells of events it had no room for by exact totals: behind a tee, too.
#[test]
fn sums_are_exact_behind_a_tee() {
    let folder = tempfile::tempdir().unwrap();
    // Room for all of them in the queues, however seldom their threads have their turn.
    run_in_our_collector("more_than_there_is_room_for", "prometheus,csv", "4000000", folder.path());
    // csv takes none: the rows that there are, and the number of those that there are not.
    let (mut rows, mut dropped) = (0, 0);
    read_rows(&folder.path().join("events.csv"), |row| match row.event {
        "agent_tx_bytes" => rows += 1,
        "agent_telemetry_events_dropped" => dropped += row.value,
        other => panic!("{other}"),
    });
    assert!(rows + dropped == 1_000_000 && dropped > 0, "{rows} + {dropped}");
}

#[test]
#[ignore = "run by sums_are_exact_behind_a_tee"]
fn more_than_there_is_room_for() {
    let collector = our_collector("64");
    let recorder = collector.recorder();
    for value in 1..=1_000_000 {
        recorder.event(Kind::TX_BYTES, value);
    }
    assert!(collector.flush(Duration::from_secs(60)));
    let port = env::var("NIXL_TELEMETRY_PROMETHEUS_PORT").unwrap().parse().unwrap();
    let start = Instant::now();
    let sum = || Page::get(port).and_then(|page| page.totals().get("agentA")?.get("agent_tx_bytes").copied());
    while sum() != Some(500_000_500_000) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", sum());
        thread::sleep(Duration::from_millis(10));
    }
    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty() && counts.exporters[0].aggregated > 0, "{counts:?}");
}

/// The queue of one is full, and the other has everything.
#[test]
fn a_full_queue_costs_the_one_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = bad_plugins();
    let hangs = plugins.iter().find(|plugin| plugin.ends_with("libtelemetry_exporter_hangs.so")).unwrap();
    fs::copy(hangs, folder.path().join("libtelemetry_exporter_hangs.so")).unwrap();
    let log = run_in_our_collector("one_batch_after_another", "hangs,csv", "8192", folder.path());
    let full =
        "exporter hangs has no room for more than 8192 events (NIXL_TELEMETRY_TEE_QUEUE_SIZE): new events are dropped";
    assert_eq!(log.matches(full).count(), 1, "{log}");
    let ending = "hangs, which does not end and is left behind: 20000 taken = 0 exported + 19000 dropped + 1000 waiting; \
                  csv: 20000 taken = 20000 exported";
    assert!(log.contains(ending), "{log}");
    assert_eq!(count_rows(&folder.path().join("events.csv")), 20_000);
}

#[test]
#[ignore = "run by a_full_queue_costs_the_one_whose_it_is"]
fn one_batch_after_another() {
    let collector = our_collector("4096");
    let recorder = collector.recorder();
    let file = env::var("NIXL_TELEMETRY_CSV_FILE").unwrap();
    for batch in 1..=20 {
        for value in 0..1000 {
            recorder.event(Kind::TX_BYTES, value);
        }
        assert!(collector.flush(Duration::from_secs(60)));
        let start = Instant::now();
        while count_rows(Path::new(&file)) < 1000 * batch {
            assert!(start.elapsed() < Duration::from_secs(60), "batch {batch}");
            thread::sleep(Duration::from_millis(1));
        }
    }
    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty(), "{counts:?}");
}

/// An exporter that takes totals shows sums, whatever it is called.
#[test]
fn a_rate_for_sums_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = run_in_our_collector("one_event", "sums@1/10,csv@1/10", "8192", folder.path());
    let problem =
        "exporter sums is off, its events are dropped: it shows sums, which would be wrong of one of 10 transfers";
    assert!(log.contains(problem), "{log}");
    assert_eq!(count_rows(&folder.path().join("events.csv")), 1);
}

#[test]
#[ignore = "run by a_rate_for_sums_is_refused and a_tee_in_a_tee_is_refused"]
fn one_event() {
    let collector = our_collector("4096");
    collector.recorder().event(Kind::MEMORY_REGISTERED, 1);
    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty(), "{counts:?}");
}
