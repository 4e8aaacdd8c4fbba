// SPDX-License-Identifier: Apache-2.0

//! Our prometheus_mp and NIXL's own in one directory: whoever serves shows what all have counted, and somebody serves,
//! whoever is killed.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nixl_telemetry_e2e::{
    Sandbox, nixl_command,
    page::{Page, as_metrics},
    run_apart, truth,
};
use nixl_telemetry_host::{Collector, Direction, Transfer};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;

const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");
const FILE: &str = "libtelemetry_exporter_prometheus_mp.so";
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
/// The agent of a rank.
const RANK: &str = "agent";
/// Bytes of one transfer of a rank.
const BYTES: u64 = 1000;

/// Whose exporter a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Nixls,
}

/// A directory, and a port.
struct Run {
    release: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

/// A process with an agent, which does what it is told.
struct Rank {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Run {
    fn new(test: &str) -> Option<Self> {
        let release = testkit::require(test, testkit::nixl_release("1.5.1"))?;
        Some(Self { release, folder: tempfile::tempdir().unwrap(), port: testkit::free_port() })
    }

    fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("NIXL_TELEMETRY_ENABLE", "y".to_owned()),
            ("NIXL_TELEMETRY_MULTIPROC_DIR", self.folder.path().to_str().unwrap().to_owned()),
            ("NIXL_TELEMETRY_PROMETHEUS_PORT", self.port.to_string()),
            ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y".to_owned()),
            // Who is gone is to be seen, however busy the machine is.
            ("NIXL_TELEMETRY_MP_STALE_TTL", "3600".to_owned()),
        ]
    }

    /// Starts a process in our host, whose agent has made this many transfers.
    fn start(&self, whose: Whose, transfers: u64) -> Rank {
        let plugins = match whose {
            Whose::Ours => testkit::plugin("prometheus_mp").parent().unwrap().to_owned(),
            Whose::Nixls => self.release.join(".nixl_cu12.mesonpy.libs/plugins"),
        };
        let mut child = nixl_command(&env::current_exe().unwrap())
            .args(["--exact", "rank", "--nocapture", "--include-ignored"])
            .envs(self.variables())
            .env("RANK_PLUGINS", plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut rank = Rank { child, input, output };
        rank.transfer(transfers);
        rank
    }

    /// Waits for a page that is as it should be.
    fn wait_until(&self, is_so: impl Fn(&Page) -> bool) -> Page {
        let start = Instant::now();
        loop {
            if let Some(page) = Page::get(self.port).filter(&is_so) {
                return page;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", Page::get(self.port));
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the page shows that these processes have made so many transfers, and no others have a rank.
    fn wait_for(&self, expected: &[(u32, u64)]) {
        let expected = expected.iter().map(|(pid, transfers)| (*pid, transfers * BYTES)).collect();
        self.wait_until(|page| bytes_by_process(page) == expected);
    }
}

/// `agent_tx_bytes_total` of all ranks, by process; that one is there twice is a failure.
fn bytes_by_process(page: &Page) -> BTreeMap<u32, u64> {
    let mut processes = BTreeMap::new();
    let samples = page.samples("agent_tx_bytes_total");
    for (labels, value) in samples.into_iter().filter(|(labels, _)| labels["agent_name"] == RANK) {
        assert_eq!(processes.insert(labels["pid"].parse().unwrap(), value.parse().unwrap()), None, "{page:?}");
    }
    processes
}

/// What the page says of the agents that are no ranks of ours.
fn totals(page: &Page) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut totals = page.totals();
    totals.remove(RANK);
    totals
}

impl Rank {
    /// Has the agent make more transfers, and waits until the exporter has them.
    fn transfer(&mut self, transfers: u64) {
        writeln!(self.input, "{transfers}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the process has ended");
            if line.trim_end().ends_with("done") {
                return;
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as it should.
    fn end(mut self) {
        writeln!(self.input, "end").unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success() && rest.contains("test result: ok. 1 passed"), "{rest}");
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        // Nothing is left of a test that fails; of one that has ended neither works.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process of a [`Rank`].
#[test]
#[ignore = "run by the tests below"]
fn rank() {
    let collector = Collector::builder(RANK)
        .settings(Settings::from_process())
        .search_path(SearchPath::new([env::var("RANK_PLUGINS").unwrap()]))
        .exporter("prometheus_mp")
        .build()
        .unwrap()
        .expect("telemetry is on");
    let recorder = collector.recorder();
    for line in std::io::stdin().lines() {
        let Ok(transfers) = line.unwrap().parse::<u64>() else { break };
        for _ in 0..transfers {
            recorder.transfer(Transfer {
                direction: Direction::Write,
                bytes: BYTES,
                post_time_us: 3,
                transfer_time_us: 40,
            });
        }
        assert!(collector.flush(Duration::from_secs(60)));
        println!("done");
    }
    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty(), "{counts:?}");
}

/// The owner is killed, and whoever is left has everything on show again.
fn owner_is_killed(test: &str, owner: Whose, other: Whose) {
    let Some(run) = Run::new(test) else { return };
    let mut one = run.start(owner, 3);
    run.wait_for(&[(one.pid(), 3)]);
    let mut two = run.start(other, 5);
    run.wait_for(&[(one.pid(), 3), (two.pid(), 5)]);
    one.kill();
    let (start, mut transfers) = (Instant::now(), 5);
    // NIXL's own stands for election only when it has events.
    while other == Whose::Nixls && Page::get(run.port).is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody serves");
        two.transfer(1);
        transfers += 1;
    }
    run.wait_for(&[(one.pid(), 3), (two.pid(), transfers)]);
    eprintln!("{test}: all ranks are visible again after {:?}", start.elapsed());
    two.end();
    assert!(Page::get(run.port).is_none(), "closed with its last process");
}

#[test]
fn ours_takes_over_from_ours() {
    let test = "our prometheus_mp after our owner is killed";
    owner_is_killed(test, Whose::Ours, Whose::Ours);
}

#[test]
fn ours_takes_over_from_nixl_s() {
    let test = "our prometheus_mp after NIXL's owner is killed";
    owner_is_killed(test, Whose::Nixls, Whose::Ours);
}

#[test]
fn nixl_s_takes_over_from_ours() {
    let test = "NIXL's prometheus_mp after our owner is killed";
    owner_is_killed(test, Whose::Ours, Whose::Nixls);
}

/// All count on while they are looked at; one is killed, the owner ends as it should, and a new one comes.
#[test]
fn ranks_come_and_go() {
    let Some(run) = Run::new("prometheus_mp while ranks come and go") else { return };
    let mut ranks = [(Whose::Nixls, 1), (Whose::Ours, 2), (Whose::Ours, 3)].map(|(whose, n)| run.start(whose, n));
    let pids = ranks.each_ref().map(Rank::pid);
    for round in 1..=5 {
        ranks.iter_mut().for_each(|rank| rank.transfer(10));
        run.wait_for(&[0, 1, 2].map(|i| (pids[i], i as u64 + 1 + 10 * round)));
    }
    let [nixls, mut ours, another] = ranks;
    ours.kill();
    nixls.end();
    let late = run.start(Whose::Nixls, 4);
    // What those have counted that are gone is still there.
    run.wait_for(&[(pids[0], 51), (pids[1], 52), (pids[2], 53), (late.pid(), 4)]);
    another.end();
    late.end();
}

/// A pair of agents in a NIXL, with one exporter, and the numbers another one shows.
fn in_nixl(version: &str, writes: Whose, serves: Whose) {
    let test = format!("prometheus_mp: {writes:?} in NIXL {version} writes, {serves:?} serves");
    let Some(run) = Run::new(&test) else { return };
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let sandbox = Sandbox::new(&release);
    if writes == Whose::Ours {
        replace_plugin(&sandbox);
    }
    let owner = run.start(serves, 3);
    run.wait_for(&[(owner.pid(), 3)]);
    let variables = run.variables();
    let mut variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.extend([("NIXL_TELEMETRY_EXPORTER", "prometheus_mp"), ("LOCAL_RANK", "7")]);
    let output = sandbox.drive(Path::new(DRIVER), 300, LINGER_MS, &variables);
    let page = Page::get(run.port).expect("the owner serves");
    assert_eq!(totals(&page), as_metrics(&truth(&output)), "{test}");
    // Each transfer is in the histogram.
    let initiator = |name: &str| -> Vec<u64> {
        let samples = page.samples(name).into_iter();
        let own = samples.filter(|(labels, _)| labels["agent_name"] == "initiator" && labels["local_rank"] == "7");
        own.map(|(_, value)| value.parse().unwrap()).collect()
    };
    assert_eq!(initiator("agent_xfer_time_us_count"), [300]);
    assert_eq!(initiator("agent_xfer_time_us_sum"), initiator("agent_xfer_time_total"));
    owner.end();
}

/// A real NIXL serves with its own exporter, and is killed.
#[test]
fn ours_takes_over_from_a_nixl_that_is_killed() {
    let Some(run) = Run::new("our prometheus_mp after a NIXL 1.5.1 is killed") else { return };
    let mut nixl = nixl_command(Path::new(DRIVER))
        .arg(&run.release)
        .args(["50", "600000"])
        .envs(run.variables())
        .env("NIXL_TELEMETRY_EXPORTER", "prometheus_mp")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Both agents deregister, in the end, what they have registered.
    let is_done = |page: &Page| {
        let value = |name: &str, agent: &str| -> Option<u64> {
            let mut samples = page.samples(name).into_iter();
            samples.find(|(labels, _)| labels["agent_name"] == agent).map(|(_, value)| value.parse().unwrap())
        };
        let is_clean = |agent| {
            let registered = value("agent_memory_registered_total", agent);
            registered > Some(0) && registered == value("agent_memory_deregistered_total", agent)
        };
        value("agent_xfer_time_us_count", "initiator") == Some(50) && is_clean("initiator") && is_clean("target")
    };
    let before = run.wait_until(is_done);
    let ours = run.start(Whose::Ours, 5);
    nixl.kill().unwrap();
    nixl.wait().unwrap();
    let after = run.wait_until(|page| bytes_by_process(page) == [(ours.pid(), 5 * BYTES)].into());
    // What the process had counted that was killed is as it was.
    assert_eq!(totals(&after), totals(&before));
    ours.end();
}

/// Puts ours in the place of NIXL's own, if it has one: what is linked to the release is not to be written to.
fn replace_plugin(sandbox: &Sandbox) {
    let own = sandbox.plugins().join(FILE);
    if own.exists() {
        fs::remove_file(own).unwrap();
    }
    sandbox.add_plugin(&testkit::plugin("prometheus_mp"));
}

#[test]
fn nixl_s_owner_shows_what_ours_has_written() {
    in_nixl("1.5.1", Whose::Ours, Whose::Nixls);
}

#[test]
fn our_owner_shows_what_nixl_s_has_written() {
    in_nixl("1.5.1", Whose::Nixls, Whose::Ours);
}

#[test]
fn our_owner_shows_what_ours_has_written() {
    in_nixl("1.5.1", Whose::Ours, Whose::Ours);
}

/// Releases that have no such exporter themselves.
#[test]
fn ours_writes_in_earlier_releases() {
    for version in ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1"] {
        in_nixl(version, Whose::Ours, Whose::Ours);
    }
}

#[test]
fn ranks_that_disagree_about_the_port_are_told() {
    let Some(run) = Run::new("our prometheus_mp with two ports") else { return };
    let one = run.start(Whose::Ours, 1);
    run.wait_for(&[(one.pid(), 1)]);
    let other = Run { port: testkit::free_port(), ..run };
    let mut variables: Vec<_> = other.variables().iter().map(|(name, value)| (*name, PathBuf::from(value))).collect();
    variables.push(("RANK_PLUGINS", testkit::plugin("prometheus_mp").parent().unwrap().to_owned()));
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_path())).collect();
    let log = run_apart("rank", &variables);
    assert_eq!(
        log.matches("each shows all ranks, so that who scrapes both counts everything twice").count(),
        1,
        "{log}"
    );
    one.end();
}

/// What NIXL's own kills the agent for costs events with ours.
#[test]
fn bad_settings_cost_events_and_not_the_agent() {
    let Some(run) = Run::new("prometheus_mp with bad settings in NIXL") else { return };
    let sandbox = Sandbox::new(&run.release);
    replace_plugin(&sandbox);
    let file = run.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let many: Vec<String> = (1..=33).map(|bound| bound.to_string()).collect();
    for (name, value, message) in [
        (
            "NIXL_TELEMETRY_MULTIPROC_DIR",
            "",
            "NIXL_TELEMETRY_MULTIPROC_DIR is \"\" (environment): expected a directory",
        ),
        ("NIXL_TELEMETRY_MULTIPROC_DIR", file.to_str().unwrap(), "file: File exists"),
        (
            "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US",
            &many.join(","),
            "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US has 33 bounds: expected at most 32",
        ),
    ] {
        let mut variables: Vec<_> = vec![("NIXL_TELEMETRY_EXPORTER", "prometheus_mp")];
        let base = run.variables();
        variables.extend(base.iter().map(|(name, value)| (*name, value.as_str())));
        variables.push((name, value));
        let output = sandbox.drive(Path::new(DRIVER), 20, 0, &variables);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && log.contains(message), "{name}={value}: {log}");
    }
}
