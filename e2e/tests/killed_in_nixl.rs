// SPDX-License-Identifier: Apache-2.0

//! What the collector in a real NIXL has in its journals outlives the process: killed at any moment, every event is in the
//! file once after recovery.
//!
//! `NIXL_TELEMETRY_TEST_KILLS` says how often, `NIXL_TELEMETRY_TEST_SEED` repeats the moments, as far as a machine can.

use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::BuildHasher as _,
    os::unix::{fs::DirBuilderExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nixl_telemetry_e2e::{
    count_rows, nixl_command, read_rows,
    strand::{MEMORY, Strand, Truth},
};
use nixl_telemetry_event::Kind;
use nixl_telemetry_host::journals;
use nixl_telemetry_testkit as testkit;

const KILLS: &str = "NIXL_TELEMETRY_TEST_KILLS";
const SEED: &str = "NIXL_TELEMETRY_TEST_SEED";
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_micros(200);

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While its agents transfer.
    Traffic,
    /// As soon as a file is seen to grow, so that it is often in the middle of an export.
    Export,
    /// On its way there.
    Start,
    /// While its agents deregister, export the last and are destroyed.
    End,
}

/// Random numbers that can be had again.
struct Random(u64);

impl Random {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// So many milliseconds at most.
    fn milliseconds(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.next() % (1000 * most))
    }
}

/// The files of one process. They are kept if the test fails.
struct Place {
    folder: tempfile::TempDir,
    journals: PathBuf,
    truth: Truth,
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("see {}", self.folder.path().display());
        }
    }
}

/// A process that does not survive the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen over all kills.
#[derive(Debug, Default)]
struct Seen {
    killed: u64,
    rows: u64,
    recovered: u64,
    /// Rows of batches that were under way and that the file had already.
    repeated: u64,
    /// Processes with such a batch.
    in_doubt: u64,
}

#[test]
fn what_is_recorded_outlives_a_kill() {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (kills, seed) = (number(KILLS, 200), number(SEED, RandomState::new().hash_one(())));
    let releases = ["1.5.1", "1.4.1"].map(testkit::nixl_release);
    let [newest, older] = releases.map(|release| testkit::require("kills in NIXL", release));
    let (Some(newest), Some(older)) = (newest, older) else { return };

    let (mut random, mut seen, start) = (Random(seed), Seen::default(), Instant::now());
    // With short intervals the flush thread is at work more often, with long ones there is more that waits.
    let intervals = ["100", "0", "10", "100", "1", "1000", "0"];
    for (kill, interval) in (0..kills).zip(intervals.into_iter().cycle()) {
        // Each comes on each release.
        let release = if kill % 5 == 4 { &older } else { &newest };
        let moment = match kill % 12 {
            3 => Moment::Start,
            7 => Moment::End,
            odd if odd % 2 == 1 => Moment::Export,
            _ => Moment::Traffic,
        };
        eprintln!("seed {seed}: kill {kill}, {moment:?}, interval {interval} ms");
        kill_one(release, moment, interval, &mut random, &mut seen);
    }
    eprintln!("{seen:?} in {:.1?}", start.elapsed());
}

fn kill_one(release: &Path, moment: Moment, interval: &str, random: &mut Random, seen: &mut Seen) {
    let place = Place::new();
    let start = Instant::now();
    let mut victim = place.start(release, interval);
    let is_killed = place.kill(&mut victim, moment, random);
    if is_killed {
        seen.killed += 1;
    } else {
        assert!(matches!(moment, Moment::End));
    }
    let left = journals(&place.journals).unwrap().len();
    if matches!(moment, Moment::Traffic | Moment::Export) {
        assert_eq!(left, 2, "each agent has a journal");
    }

    let lines = || ["initiator", "target"].map(|agent| count_rows(&place.csv(agent)));
    let before = lines().iter().sum::<u64>();
    let recovered = place.recover();
    assert_eq!(recovered.len(), left);
    assert_eq!(fs::read_dir(&place.journals).unwrap().count(), 0, "nothing is left where the journals were");
    let after = lines();
    let rows = place.check();

    let exported: u64 = recovered.iter().map(|journal| journal["exported"][0]["exported"].as_u64().unwrap()).sum();
    let repeated = before + exported - rows;
    seen.rows += rows;
    seen.recovered += exported;
    seen.repeated += repeated;
    seen.in_doubt += u64::from(repeated > 0);
    assert_eq!(place.recover(), Vec::<serde_json::Value>::new());
    assert_eq!(lines(), after);
    eprintln!(
        "  killed {is_killed}, {left} journals, {rows} rows: {before} before, {exported} recovered, {repeated} of them \
         there already; {:.1?}",
        start.elapsed()
    );
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journals = folder.path().join("journals");
        fs::DirBuilder::new().mode(0o700).create(&journals).unwrap();
        let truth = Truth::create(&folder.path().join("truth")).unwrap();
        Self { folder, journals, truth }
    }

    fn csv(&self, agent: &str) -> PathBuf {
        self.folder.path().join(format!("{agent}.csv"))
    }

    /// A program, in an environment in which csv writes into the files of this place.
    fn command(&self, package: &str, program: &str) -> Command {
        let arguments = ["--release", "--package", package, "--bin", program];
        let mut command = nixl_command(&testkit::artifact(&arguments, program));
        command
            .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
            .env("NIXL_TELEMETRY_CSV_FILE", self.csv("{agent}"));
        command
    }

    fn start(&self, release: &Path, interval: &str) -> Victim {
        let victim = self
            .command("nixl-telemetry-e2e", "nixl-telemetry-e2e-victim")
            .args([release, &self.folder.path().join("truth")])
            .env("LD_PRELOAD", testkit::preload())
            .env("NIXL_TELEMETRY_ENABLE", "y")
            .env("NIXL_TELEMETRY_EXPORTER", "csv")
            .env("NIXL_TELEMETRY_JOURNAL_DIR", &self.journals)
            .env("NIXL_TELEMETRY_RUN_INTERVAL", interval)
            // Mistakes are made on purpose.
            .env("NIXL_LOG_LEVEL", "FATAL")
            .stderr(Stdio::null())
            .spawn();
        Victim(victim.unwrap())
    }

    /// Kills a process; false if it ended before, as it should.
    fn kill(&self, victim: &mut Victim, moment: Moment, random: &mut Random) -> bool {
        match moment {
            Moment::Start => thread::sleep(random.milliseconds(500)),
            Moment::Traffic => {
                self.wait_for_traffic(victim);
                thread::sleep(random.milliseconds(150));
            }
            Moment::Export => {
                self.wait_for_traffic(victim);
                thread::sleep(random.milliseconds(100));
                let length = || fs::metadata(self.csv("initiator")).map_or(0, |file| file.len());
                let (start, before) = (Instant::now(), length());
                while length() == before {
                    assert!(start.elapsed() < LONG, "nothing is exported");
                }
                let (start, patience) = (Instant::now(), random.milliseconds(100) / 2000);
                while start.elapsed() < patience {}
            }
            Moment::End => {
                self.wait_for_traffic(victim);
                thread::sleep(random.milliseconds(50));
                self.truth.stop();
                thread::sleep(random.milliseconds(30));
            }
        }
        victim.0.kill().unwrap();
        let status = victim.0.wait().unwrap();
        assert!(status.signal() == Some(libc::SIGKILL) || status.success(), "{status}");
        !status.success()
    }

    fn wait_for_traffic(&self, victim: &mut Victim) {
        let start = Instant::now();
        while [Strand::Write, Strand::Read].iter().any(|strand| self.truth.steps(*strand).0 == 0) {
            assert_eq!(victim.0.try_wait().unwrap(), None, "it ends before it is killed");
            assert!(start.elapsed() < LONG, "there is no traffic");
            thread::sleep(POLL);
        }
    }

    /// Exports what is in the journals, into the same files; what became of each.
    fn recover(&self) -> Vec<serde_json::Value> {
        let mut command = self.command("nixl-telemetry-cli", "nixl-telemetry");
        let output = command.args(["recover", "--json"]).arg(&self.journals).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let journals: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for journal in &journals {
            let [csv] = journal["exported"].as_array().unwrap().as_slice() else { panic!("{journal}") };
            let count = |object: &serde_json::Value, name: &str| object[name].as_u64().unwrap();
            assert_eq!(count(csv, "exported") + count(csv, "exported_before"), count(journal, "events"), "{journal}");
            let amiss =
                [count(csv, "failed"), count(csv, "pending"), count(csv, "unsupported"), count(journal, "dropped")];
            assert_eq!((amiss, &journal["damage"]), ([0; 4], &serde_json::json!([])), "{journal}");
        }
        journals
    }

    /// Every step that was done is in the files once, and in its place; one that had begun may be. The number of rows.
    fn check(&self) -> u64 {
        let (mut rows, mut steps) = (0, Strand::ALL.map(|_| 0));
        for agent in ["initiator", "target"] {
            if !self.csv(agent).exists() {
                continue;
            }
            let mut group = Vec::new();
            read_rows(&self.csv(agent), |row| {
                rows += 1;
                let kind = Kind::from_name(row.event).unwrap_or_else(|| panic!("{row:?}"));
                group.push((kind, row.value));
                if let Some(strand) = strand_of(agent, kind, row.value) {
                    let step = &mut steps[strand as usize];
                    *step += 1;
                    check_step(strand, *step, &group);
                    group.clear();
                }
            });
            assert!(group.is_empty(), "{agent} ends with {group:?}");
        }
        for strand in Strand::ALL {
            let ((done, begun), found) = (self.truth.steps(strand), steps[strand as usize]);
            assert!((done..=begun).contains(&found), "{strand:?}: {found} steps of {done} to {begun}");
        }
        rows
    }
}

/// The strand whose step ends with this event; `None` if the step goes on.
fn strand_of(agent: &str, kind: Kind, value: u64) -> Option<Strand> {
    match kind {
        Kind::TX_REQUESTS_NUM => Some(Strand::Write),
        Kind::RX_REQUESTS_NUM => Some(Strand::Read),
        Kind::ERR_NOT_FOUND => Some(Strand::Mistake),
        Kind::MEMORY_REGISTERED | Kind::MEMORY_DEREGISTERED => Some(match agent {
            "initiator" => Strand::InitiatorMemory,
            _ if value >= MEMORY => Strand::TargetMemory,
            _ => Strand::Register,
        }),
        _ => None,
    }
}

fn check_step(strand: Strand, step: u64, found: &[(Kind, u64)]) {
    let expected = strand.events(step);
    let is_same = found.len() == expected.len()
        && found
            .iter()
            .zip(&expected)
            .all(|(found, expected)| found.0 == expected.0 && expected.1.is_none_or(|value| found.1 == value));
    assert!(is_same, "{strand:?}, step {step} is {found:?}: expected {expected:?}");
    if let [(Kind::XFER_POST_TIME, post), (Kind::XFER_TIME, transfer), ..] = found {
        assert!(post <= transfer, "{strand:?}, step {step}: {found:?}");
    }
}
