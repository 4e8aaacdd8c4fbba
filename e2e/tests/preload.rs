// SPDX-License-Identifier: Apache-2.0

//! Our collector inside unmodified releases of NIXL: nothing of what happened is missing, and what is not as it should be is
//! left to NIXL.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use nixl_telemetry_e2e::{Totals, add, add_ring, csv_totals, nixl_command, run_apart, truth};
use nixl_telemetry_event::Generation;
use nixl_telemetry_testkit as testkit;
use object::{Object as _, ObjectSymbol as _, read::elf::ElfFile64};

const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// The driver on a release, its agents destroyed as soon as they are done, with our collector and both our directories.
fn command(release: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = nixl_command(Path::new(DRIVER));
    command
        .arg(release)
        .args(arguments)
        .env("LD_PRELOAD", testkit::preload())
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
        .env("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000")
        .envs(variables.iter().copied());
    command
}

fn drive(release: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(release, arguments, variables).output().expect("the driver runs")
}

/// All that happened is in the files, and telemetry is on exactly where this release has it on. The driver's agents ask
/// for telemetry in their configuration.
fn holds_what_happened(version: &str, asking_is_enough: bool) {
    let Some(release) = testkit::require(&format!("preload in NIXL {version}"), testkit::nixl_release(version)) else {
        return;
    };
    for (enable, on) in [(Some("y"), true), (Some("n"), false), (None, asking_is_enough)] {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("{agent}.csv");
        let mut variables =
            vec![("NIXL_TELEMETRY_EXPORTER", "csv"), ("NIXL_TELEMETRY_CSV_FILE", files.to_str().unwrap())];
        variables.extend(enable.map(|enable| ("NIXL_TELEMETRY_ENABLE", enable)));
        let output = drive(&release, &["300", "0"], &variables);
        if on {
            let expected = truth(&output);
            assert_eq!(expected["initiator"]["agent_xfer_time"].0, 300);
            assert_eq!(csv_totals(folder.path(), expected.keys()), expected, "NIXL {version}");
        } else {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "NIXL {version}, {enable:?}");
        }
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("stays in charge") && !log.contains("exporter"), "{log}");
    }
}

#[test]
fn nixl_0_10_1() {
    holds_what_happened("0.10.1", false);
}

#[test]
fn nixl_1_0_1() {
    holds_what_happened("1.0.1", false);
}

#[test]
fn nixl_1_1_0() {
    holds_what_happened("1.1.0", false);
}

#[test]
fn nixl_1_2_0() {
    holds_what_happened("1.2.0", false);
}

#[test]
fn nixl_1_3_2() {
    holds_what_happened("1.3.2", false);
}

#[test]
fn nixl_1_4_1() {
    holds_what_happened("1.4.1", true);
}

#[test]
fn nixl_1_5_1() {
    holds_what_happened("1.5.1", true);
}

/// 0.9.0 has no C API: its Python binding registers memory, and leaves at once.
#[test]
fn nixl_0_9_0_registers_through_python() {
    let Some(release) = testkit::require("preload in NIXL 0.9.0", testkit::nixl_release("0.9.0")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let stubs = release.parent().unwrap().join("stubs");
    let output = nixl_command(Path::new("python3"))
        .arg(testkit::workspace_root().join("e2e/python_agent.py"))
        .args(["--name", "agentA", "--register", "4096", "--register", "70000", "--linger", "0"])
        .env("PYTHONPATH", format!("{}:{}", release.display(), stubs.display()))
        .env("LD_PRELOAD", testkit::preload())
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "csv")
        .env("NIXL_TELEMETRY_CSV_FILE", folder.path().join("{agent}.csv"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut expected = Totals::new();
    for bytes in [4096, 70000] {
        add(&mut expected, "agentA", "agent_memory_registered", bytes);
        add(&mut expected, "agentA", "agent_memory_deregistered", bytes);
    }
    assert_eq!(csv_totals(folder.path(), expected.keys()), expected);
}

/// NIXL's own exporter, from NIXL's own directory, beside ours.
#[test]
fn prometheus_of_nixl_works_as_well() {
    let Some(release) = testkit::require("preload with prometheus", testkit::nixl_release("1.5.1")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("{agent}.csv");
    let port = testkit::free_port();
    let variables = [
        ("NIXL_TELEMETRY_ENABLE", "y"),
        ("NIXL_TELEMETRY_EXPORTER", "csv,prometheus"),
        ("NIXL_TELEMETRY_CSV_FILE", files.to_str().unwrap()),
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", &port.to_string()),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y"),
    ];
    let mut driver = command(&release, &["300", "3000"], &variables);
    let mut driver = driver.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut requests = 0.0;
    while requests < 300.0 && driver.try_wait().unwrap().is_none() {
        std::thread::yield_now();
        let metrics = scrape(port).unwrap_or_default();
        let series = metrics.lines().filter(|line| {
            line.starts_with("agent_tx_requests_num_total{") || line.starts_with("agent_rx_requests_num_total{")
        });
        requests = series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    }
    let expected = truth(&driver.wait_with_output().unwrap());
    assert_eq!(requests, 300.0);
    assert_eq!(csv_totals(folder.path(), expected.keys()), expected);
}

fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    Some(response)
}

/// The ring is that of the release, and has all that happened.
#[test]
fn the_ring_is_that_of_the_release() {
    let releases = [
        ("0.10.1", Generation::V0_9),
        ("1.0.1", Generation::V0_9),
        ("1.1.0", Generation::V1_1),
        ("1.2.0", Generation::V1_2),
        ("1.3.2", Generation::V1_3),
        ("1.4.1", Generation::V1_4),
        ("1.5.1", Generation::V1_5),
    ];
    for (version, generation) in releases {
        let Some(release) = testkit::require("preload with a ring", testkit::nixl_release(version)) else { return };
        let rings = tempfile::tempdir().unwrap();
        let variables = [("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_DIR", rings.path().to_str().unwrap())];
        // Destroyed at once: NIXL's own would have lost everything.
        let output = drive(&release, &["300", "0"], &variables);
        let expected = truth(&output);
        let mut seen = Totals::new();
        for agent in expected.keys() {
            let path = rings.path().join(agent);
            add_ring(&mut seen, agent, &path, generation.layout());
            let version = i32::from_le_bytes(*fs::read(&path).unwrap()[16..].first_chunk().unwrap());
            assert_eq!(version, generation.ring_version());
        }
        assert_eq!(seen, expected, "NIXL {version}");
    }
}

/// By default an exporter that cannot be had costs events; with `fail`, the agent, in the way NIXL refuses one.
#[test]
fn a_missing_exporter_costs_what_was_asked_for() {
    for version in ["0.10.1", "1.3.2", "1.4.1", "1.5.1"] {
        let Some(release) = testkit::require("preload without exporter", testkit::nixl_release(version)) else {
            return;
        };
        let base = [("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_EXPORTER", "nowhere")];
        let output = drive(&release, &["20", "0"], &base);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "NIXL {version}: {log}");
        assert!(log.contains("NIXL_TELEMETRY_EXPORTER names \"nowhere\""), "{log}");

        let output = drive(&release, &["20", "0"], &[&base[..], &[("NIXL_TELEMETRY_ON_ERROR", "fail")]].concat());
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "NIXL {version}, {:?}: {log}", output.status.signal());
        assert!(log.contains("nixl_capi_create_configured_agent failed"), "NIXL {version}: {log}");
    }
}

/// Two copies of a NIXL of no known release: each keeps its own collector, and each is told of once.
#[test]
fn an_unknown_nixl_keeps_its_collector() {
    let copy = |name| {
        let source = [Path::new("e2e/tests/fake_collector.cc")];
        testkit::compile_cpp(name, &source, &["-shared"])
    };
    let (first, second) = (copy("libnixl.so.first"), copy("libnixl.so.second"));
    let variables = [("LD_PRELOAD", testkit::preload()), ("FIRST", first), ("SECOND", second)];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_path())).collect();
    let log = run_apart("agents_of_unknown_nixls", &variables);
    assert_eq!(log.matches("its own telemetry collector stays in charge").count(), 2, "{log}");
    for name in ["first", "second"] {
        assert!(log.contains(&format!("libnixl.so.{name} lacks _ZN13nixlTelemetry")), "{log}");
    }
}

#[test]
#[ignore = "run by an_unknown_nixl_keeps_its_collector"]
fn agents_of_unknown_nixls() {
    for variable in ["FIRST", "SECOND", "FIRST"] {
        // SAFETY: the fixture was built by the test above, has no initialisers of its own, and the function's signature.
        let calls = unsafe {
            let nixl = Library::open(Some(std::env::var_os(variable).unwrap()), RTLD_NOW | RTLD_LOCAL).unwrap();
            let run: Symbol<unsafe extern "C" fn() -> u64> = nixl.get(b"run_agent").unwrap();
            run()
        };
        assert_eq!(calls, 111);
    }
}

/// Programs that use no NIXL: no output, no thread.
#[test]
fn other_programs_notice_nothing() {
    let threads = "import os; assert len(os.listdir('/proc/self/task')) == 1";
    for (program, arguments) in [("/bin/true", &[][..]), ("python3", &["-c", threads])] {
        let output = nixl_command(Path::new(program))
            .args(arguments)
            .env("LD_PRELOAD", testkit::preload())
            .env("NIXL_TELEMETRY_ENABLE", "y")
            .env("NIXL_TELEMETRY_EXPORTER", "csv")
            .env("NIXL_LOG_LEVEL", "TRACE")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

/// NIXL's collector, all of it, and nothing else.
#[test]
fn it_exports_the_collector() {
    const S: &str = "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
    const D: &str = "NSt6chrono8durationIlSt5ratioILl1ELl1000000EEEE";
    let mut expected: Vec<String> = [
        format!("6createE{S}"),
        format!("C1E{S}"),
        format!("C1E{S}RSt13unordered_mapIS5_P17nixlBackendEngineSt4hashIS5_ESt8equal_toIS5_ESaISt4pairIS6_SA_EEE"),
        format!("C1E{S}S7_"),
        "D1Ev".to_owned(),
        format!("11addPostTimeE{D}"),
        format!("11addXferTimeE{D}bm"),
        format!("12addXferStatsE{D}bmS4_"),
        "16updateErrorCountE13nixl_status_t".to_owned(),
        "22updateMemoryRegisteredEm".to_owned(),
        "24updateMemoryDeregisteredEm".to_owned(),
        "10updateDataE27nixl_telemetry_event_type_tm".to_owned(),
        "10updateDataE27nixl_telemetry_event_type_t25nixl_telemetry_category_tm".to_owned(),
        format!("10updateDataE{S}25nixl_telemetry_category_tm"),
        "13updateTxBytesEm".to_owned(),
        "13updateRxBytesEm".to_owned(),
        "19updateTxRequestsNumEj".to_owned(),
        "19updateRxRequestsNumEj".to_owned(),
        "18flushPendingEventsEv".to_owned(),
        "15startExportTaskEv".to_owned(),
    ]
    .map(|member| format!("_ZN13nixlTelemetry{member}"))
    .into();
    // The ways out of a process that call nobody.
    expected.extend(["_exit", "_Exit", "quick_exit"].map(str::to_owned));
    expected.sort();
    let bytes = fs::read(testkit::preload()).unwrap();
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
    let defined = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    let mut exported: Vec<_> = defined.map(|symbol| symbol.name().unwrap().to_owned()).collect();
    exported.sort();
    assert_eq!(exported, expected);
    let inspection = nixl_telemetry_loader::inspect(testkit::preload()).unwrap();
    let allowed = ["libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
    assert!(inspection.needed.iter().all(|library| allowed.contains(&library.as_str())), "{:?}", inspection.needed);
}
