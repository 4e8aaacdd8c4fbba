// SPDX-License-Identifier: Apache-2.0

//! Real NIXL, every release that has a C API.
//!
//! A process can hold one NIXL, so there is a test per release, and each starts this program again, once, to run the
//! tests of the module `scenario` on that release.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells a process started by `check` which release is its own: the folder of the unpacked wheel.
const RELEASE: &str = "NIXL_TELEMETRY_TEST_RELEASE";
/// Tells it how UCX is to move bytes: `memory`, where most transfers are complete when posted, or `loopback`, where they
/// are not.
const TRANSPORT: &str = "NIXL_TELEMETRY_TEST_TRANSPORT";

#[test]
fn release_0_10_1() {
    // Its UCX does not reach itself over the loopback interface alone.
    check("0.10.1", &["memory"]);
}

#[test]
fn release_1_0_1() {
    check("1.0.1", &["memory", "loopback"]);
}

#[test]
fn release_1_1_0() {
    check("1.1.0", &["memory", "loopback"]);
}

#[test]
fn release_1_2_0() {
    check("1.2.0", &["memory", "loopback"]);
}

#[test]
fn release_1_3_2() {
    check("1.3.2", &["memory", "loopback"]);
}

#[test]
fn release_1_4_1() {
    check("1.4.1", &["memory", "loopback"]);
}

#[test]
fn release_1_5_1() {
    check("1.5.1", &["memory", "loopback"]);
}

/// 0.9.0 has no C API, and the error says so.
#[test]
fn release_0_9_0() {
    let Some(folder) = wheel("0.9.0") else { return };
    let found = nixl_telemetry_nixl::find(Some(&folder)).unwrap();
    assert_eq!(found.version().as_deref(), Some("nixl_cu12 0.9.0"));
    let message = found.capi().unwrap_err().to_string();
    assert!(
        message.ends_with(
            " has no C API to drive it by: expected 0.10.1 or newer, with libnixl_capi.so beside libnixl.so"
        ),
        "{message}"
    );
    assert!(message.contains(&found.folder().display().to_string()), "{message}");
}

/// Runs every scenario on one release, once over each transport.
#[track_caller]
fn check(version: &str, transports: &[&str]) {
    let Some(folder) = wheel(version) else { return };
    for transport in transports {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--test-threads=1", "scenario::"])
            .env(RELEASE, &folder)
            .env(TRANSPORT, transport)
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let passed = format!("test result: ok. {} passed", scenario::COUNT);
        assert!(
            output.status.success() && text.contains(&passed),
            "NIXL {version} over {transport}: {}, expected `{passed}`\n{text}",
            output.status
        );
    }
}

/// The unpacked wheel of a release, or `None`, with a line that says so, where it was not installed.
///
/// # Panics
///
/// If it is not installed and the environment says `CI=true`, where everything has to run.
#[track_caller]
fn wheel(version: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("NIXL_TELEMETRY_WHEELS") {
        Some(root) if !root.is_empty() => PathBuf::from(root),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.nixl"),
    };
    let folder = root.join(version);
    if folder.is_dir() {
        return Some(folder);
    }
    let message = format!("NIXL {version} is not in {}; get it with `cargo xtask wheels {version}`", root.display());
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{message}");
    // Past the capture of libtest: a test that did not run should not look like one that passed.
    let _ = writeln!(std::io::stderr(), "skipped: {message}");
    None
}

mod scenario {
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::path::{Path, PathBuf};
    use std::thread;
    use std::time::Duration;

    use nixl_telemetry_nixl::{
        Agent, AgentConfig, Backend, CapiStatus, Error, Found, Library, LibraryError, Operation, Progress, Region,
        Slice, ThreadSync, Transfer, UCX_LOOPBACK, UCX_MEMORY, find,
    };

    /// How many there are, so that a release on which none ran does not pass.
    pub(crate) const COUNT: usize = 13;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn found() -> Found {
        let folder = std::env::var_os(super::RELEASE).expect("started by one of the tests release_*");
        find(Some(&PathBuf::from(folder))).unwrap()
    }

    fn nixl() -> Library {
        Library::open(&found().capi().unwrap()).unwrap()
    }

    fn agent(name: &str) -> Agent {
        let config = AgentConfig { capture_telemetry: true, ..AgentConfig::default() };
        nixl().agent(name, &config).unwrap()
    }

    fn ucx(agent: &Agent) -> Backend {
        let parameters = match std::env::var(super::TRANSPORT).unwrap().as_str() {
            "memory" => UCX_MEMORY,
            "loopback" => UCX_LOOPBACK,
            other => panic!("no transport is called {other}"),
        };
        agent.backend("UCX", parameters).unwrap()
    }

    /// Memory of this length in two agents, the first of which knows the second.
    fn pair(length: usize) -> (Region, Region) {
        let source = ucx(&agent("initiator")).register(length).unwrap();
        let sink = ucx(&agent("target")).register(length).unwrap();
        let initiator = source.backend().agent();
        assert_eq!(initiator.load(&metadata(&sink)).unwrap(), "target");
        initiator.connect("target").unwrap();
        (source, sink)
    }

    fn metadata(region: &Region) -> nixl_telemetry_nixl::Metadata {
        region.backend().agent().metadata().unwrap()
    }

    fn prepare(operation: Operation, local: &[Slice], remote: &[Slice]) -> Transfer {
        local[0].agent().transfer(operation, local, remote).unwrap()
    }

    fn run(transfer: &mut Transfer) {
        transfer.post().unwrap();
        transfer.wait(PATIENCE).unwrap();
    }

    /// Bytes of which no two neighbouring blocks are equal.
    fn pattern(length: usize, seed: usize) -> Vec<u8> {
        (0..=250u8).cycle().skip(seed).take(length).collect()
    }

    fn content(region: &Region) -> Vec<u8> {
        region.read(0..region.len()).unwrap()
    }

    #[track_caller]
    fn refused(function: &str, error: Error) -> CapiStatus {
        match error {
            Error::Call { function: by, status } if by == function => status,
            other => panic!("expected {function} to be refused, got: {other}"),
        }
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn bytes_go_there_and_back_and_are_measured() {
        const LENGTH: usize = 3 * 1024 * 1024 + 5;
        let (source, sink) = pair(LENGTH);
        let (ours, theirs) = (pattern(LENGTH, 1), pattern(LENGTH, 100));
        let mut before = 0;
        for (operation, moved) in [(Operation::Write, &ours), (Operation::Read, &theirs)] {
            source.write(0, &ours).unwrap();
            sink.write(0, &theirs).unwrap();
            let mut transfer = prepare(operation, &[source.whole()], &[sink.whole()]);
            run(&mut transfer);
            assert!(content(&source) == *moved, "{operation:?}: the initiator has other bytes");
            assert!(content(&sink) == *moved, "{operation:?}: the target has other bytes");

            let measured = transfer.telemetry().unwrap();
            assert_eq!(measured.bytes, LENGTH as u64);
            assert_eq!(measured.descriptors, 1);
            assert!(measured.post_us <= measured.xfer_us, "{measured:?}");
            assert!(measured.start_us > before, "{measured:?} does not start after {before}");
            before = measured.start_us + measured.xfer_us;
        }
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn slices_move_their_bytes_and_no_others() {
        let (source, sink) = pair(4096);
        source.write(0, &pattern(4096, 0)).unwrap();
        let ranges = [(0..100), (1001..2000), (4095..4096)];
        let of = |region: &Region| ranges.clone().map(|range| region.slice(range).unwrap());
        let mut transfer = prepare(Operation::Write, &of(&source), &of(&sink));
        run(&mut transfer);
        let mut expected = vec![0; 4096];
        for range in ranges {
            expected[range.clone()].copy_from_slice(&pattern(4096, 0)[range]);
        }
        assert!(content(&sink) == expected);
        let measured = transfer.telemetry().unwrap();
        assert_eq!((measured.bytes, measured.descriptors), (100 + 999 + 1, 3));
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn a_transfer_can_be_posted_again_once_it_is_over() {
        let (source, sink) = pair(1024);
        let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
        assert!(matches!(transfer.status(), Err(Error::NotRunning)));
        for round in 1..=50 {
            source.fill(round);
            let posted = transfer.post().unwrap();
            if posted == Progress::Running {
                assert!(matches!(transfer.post(), Err(Error::StillRunning)));
            }
            transfer.wait(PATIENCE).unwrap();
            assert_eq!(transfer.status().unwrap(), Progress::Complete);
            assert_eq!(content(&sink), [round; 1024]);
        }
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn an_agent_is_unknown_before_loading_and_after_invalidating() {
        let source = ucx(&agent("initiator")).register(64).unwrap();
        let sink = ucx(&agent("target")).register(64).unwrap();
        let initiator = source.backend().agent();
        let attempt = || initiator.transfer(Operation::Write, &[source.whole()], &[sink.whole()]).map(drop);

        refused("create_xfer_req", attempt().unwrap_err());
        refused("agent_make_connection", initiator.connect("target").unwrap_err());
        refused("invalidate_remote_md", initiator.invalidate("target").unwrap_err());
        initiator.load(&metadata(&sink)).unwrap();
        initiator.connect("target").unwrap();
        attempt().unwrap();
        initiator.invalidate("target").unwrap();
        refused("create_xfer_req", attempt().unwrap_err());
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn posting_to_an_agent_forgotten_meanwhile_fails_and_leaves_everything_usable() {
        let (source, sink) = pair(64);
        let initiator = source.backend().agent();
        let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
        initiator.invalidate("target").unwrap();
        refused("post_xfer_req", transfer.post().unwrap_err());
        assert!(matches!(transfer.status(), Err(Error::NotRunning)));
        drop(transfer);

        // Loading makes the name known again, but no old request good again.
        initiator.load(&metadata(&sink)).unwrap();
        let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
        initiator.invalidate("target").unwrap();
        initiator.load(&metadata(&sink)).unwrap();
        assert!(matches!(transfer.post(), Err(Error::Stale)));

        source.fill(3);
        run(&mut prepare(Operation::Write, &[source.whole()], &[sink.whole()]));
        assert_eq!(content(&sink), [3; 64]);
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn a_transfer_keeps_alive_all_it_needs() {
        for drop_transfer_last in [true, false] {
            let (source, sink) = pair(4096);
            source.fill(9);
            let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
            drop(source);
            if drop_transfer_last {
                drop(sink);
                run(&mut transfer);
                assert_eq!(transfer.telemetry().unwrap().bytes, 4096);
            } else {
                run(&mut transfer);
                drop(transfer);
                assert_eq!(content(&sink), [9; 4096]);
            }
        }
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn dropping_a_running_transfer_waits_for_it() {
        const LENGTH: usize = 16 * 1024 * 1024;
        let (source, sink) = pair(LENGTH);
        source.fill(0x5A);
        let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
        if transfer.post().unwrap() == Progress::Running {
            let invalidated = source.backend().agent().invalidate("target");
            assert!(matches!(invalidated, Err(Error::StillRunning)));
        }
        drop(transfer);
        source.backend().agent().invalidate("target").unwrap();
        assert!(content(&sink) == [0x5A; 4096].repeat(LENGTH / 4096));
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn one_agent_serves_several_threads() {
        for thread_sync in [ThreadSync::Strict, ThreadSync::ReadWrite] {
            let config = AgentConfig { thread_sync, ..AgentConfig::default() };
            let initiator = ucx(&nixl().agent("initiator", &config).unwrap());
            let target = ucx(&nixl().agent("target", &config).unwrap());
            let regions: Vec<(Region, Region)> =
                (0..4).map(|_| (initiator.register(8192).unwrap(), target.register(8192).unwrap())).collect();
            initiator.agent().load(&target.agent().metadata().unwrap()).unwrap();
            thread::scope(|scope| {
                for (index, (source, sink)) in regions.iter().enumerate() {
                    scope.spawn(move || {
                        for round in 0..50 {
                            let bytes = pattern(8192, index * 50 + round);
                            source.write(0, &bytes).unwrap();
                            run(&mut prepare(Operation::Write, &[source.whole()], &[sink.whole()]));
                            assert!(content(sink) == bytes, "{thread_sync:?}, round {round}");
                        }
                    });
                }
            });
        }
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn without_telemetry_there_is_no_measurement() {
        let plain = |name| nixl().agent(name, &AgentConfig::default()).unwrap();
        let source = ucx(&plain("initiator")).register(64).unwrap();
        let sink = ucx(&plain("target")).register(64).unwrap();
        source.backend().agent().load(&metadata(&sink)).unwrap();
        let mut transfer = prepare(Operation::Write, &[source.whole()], &[sink.whole()]);
        run(&mut transfer);
        let status = refused("get_xfer_telemetry", transfer.telemetry().unwrap_err());
        assert_eq!(status, CapiStatus::NoTelemetry);
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn files_are_written_and_read_through_posix() {
        let agent = agent("local");
        let posix = agent.backend("POSIX", &[]).unwrap();
        let memory = posix.register(10_000).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let file = posix.register_file(file, 20_000).unwrap();
        let there = file.slice(5_000..15_000).unwrap();

        memory.write(0, &pattern(10_000, 7)).unwrap();
        let mut transfer = prepare(Operation::Write, &[memory.whole()], std::slice::from_ref(&there));
        run(&mut transfer);
        assert_eq!(transfer.telemetry().unwrap().bytes, 10_000);
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written.len(), 15_000);
        assert!(written[..5_000].iter().all(|&byte| byte == 0));
        assert!(written[5_000..] == pattern(10_000, 7));

        memory.fill(0);
        run(&mut prepare(Operation::Read, &[memory.whole()], &[there]));
        assert!(content(&memory) == pattern(10_000, 7));
        let mut rest = Vec::new();
        file.file().read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), 15_000);
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn what_cannot_be_is_refused_before_nixl_sees_it() {
        #[track_caller]
        fn slices(local: &[Slice], remote: &[Slice], agent: &Agent, expected: &str) {
            match agent.transfer(Operation::Write, local, remote) {
                Err(Error::Slices(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("expected `{expected}`, got {other:?}"),
            }
        }
        let (source, sink) = pair(64);
        let (here, there) = (source.backend().agent(), sink.backend().agent());
        let (all, theirs, half) = (source.whole(), sink.whole(), source.slice(0..32).unwrap());
        slices(&[], &[], here, "at least one");
        slices(&[all.clone(), all.clone()], std::slice::from_ref(&theirs), here, "same number");
        slices(&[half], std::slice::from_ref(&theirs), here, "same length");
        slices(std::slice::from_ref(&all), std::slice::from_ref(&theirs), there, "of the agent");
        slices(&[all.clone(), all.clone()], &[theirs, all], here, "of one agent");

        assert!(matches!(source.slice(0..65), Err(Error::Range { end: 65, length: 64, .. })));
        assert!(matches!(source.slice(5..5), Err(Error::Empty)));
        assert!(matches!(source.write(60, &[0; 5]), Err(Error::Range { .. })));
        assert!(matches!(source.backend().register(0), Err(Error::Empty)));
        assert!(matches!(nixl().agent("a\0b", &AgentConfig::default()), Err(Error::Nul(_))));
        let error = nixl().agent("", &AgentConfig::default()).unwrap_err();
        refused("create_configured_agent", error);
        refused("create_backend", here.backend("NONESUCH", &[]).unwrap_err());
        refused("create_backend", here.backend("UCX", UCX_MEMORY).unwrap_err());
        let names = here.available_backends().unwrap();
        assert!(names.iter().any(|name| name == "UCX"), "{names:?}");
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn ucx_listens_on_loopback_or_not_at_all() {
        let (source, _sink) = pair(64);
        assert_eq!(source.backend().plugin(), "UCX");
        let loopback = std::env::var(super::TRANSPORT).unwrap() == "loopback";
        let listening = listening();
        assert_eq!(!listening.is_empty(), loopback, "{listening:?}");
        assert!(listening.iter().all(|address| address.starts_with("0100007F:")), "{listening:?}");
    }

    /// Local addresses, in the kernel's spelling, of the TCP sockets on which this process listens.
    fn listening() -> Vec<String> {
        let sockets: Vec<String> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
        let lines = tables.into_iter().filter_map(|table| std::fs::read_to_string(table).ok()).collect::<String>();
        lines
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields[3] == "0A" && sockets.iter().any(|socket| socket == fields[9]))
            .map(|fields| fields[1].to_owned())
            .collect()
    }

    #[test]
    #[ignore = "run by the tests release_*, in a process of its own"]
    fn one_nixl_per_process() {
        let found = found();
        let nixl = Library::open(&found.capi().unwrap()).unwrap();
        let roundabout = found.plugins().join("..").join("libnixl_capi.so");
        assert_eq!(Library::open(&roundabout).unwrap().path(), nixl.path());
        let wanted = Path::new("/nowhere/libnixl_capi.so");
        assert!(matches!(Library::open(wanted), Err(LibraryError::Another { .. })));
    }
}
