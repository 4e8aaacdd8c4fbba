// SPDX-License-Identifier: Apache-2.0

//! Ring files between releases and this project: NIXL's readers read what our collector writes, and `tail` follows what NIXL
//! writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nixl_telemetry_e2e::{Totals, add, nixl_command, truth};
use nixl_telemetry_event::{Generation, Kind, Status};
use nixl_telemetry_host::Collector;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;

const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// Events that are recorded: kinds by name, and the sum of their values.
type Sums = BTreeMap<String, u128>;

/// Writes a ring with an event of every sort and a few hundred transfers, as our collector does, and says what is in it.
fn write(directory: &Path, generation: Generation) -> Sums {
    let settings = Settings::from_pairs([
        ("NIXL_TELEMETRY_ENABLE", "y"),
        ("NIXL_TELEMETRY_EXPORTER", "BUFFER"),
        ("NIXL_TELEMETRY_DIR", directory.to_str().unwrap()),
    ]);
    let collector = Collector::builder("agent")
        .settings(settings)
        .generation(generation)
        .build()
        .unwrap()
        .expect("telemetry is on");
    let recorder = collector.recorder();
    let mut sums = Sums::new();
    let mut add = |kind: Kind, value: u64| {
        // Where events carry names, an error's is that of its status.
        let has_names = matches!(generation, Generation::V0_9 | Generation::V1_1);
        let name = kind.status().filter(|_| has_names).map_or(kind.name().unwrap(), Status::name);
        *sums.entry(name.to_owned()).or_default() += u128::from(value);
    };
    recorder.memory_registered(u64::MAX);
    add(Kind::MEMORY_REGISTERED, u64::MAX);
    for status in Status::ERRORS {
        recorder.error(status);
        add(status.kind().unwrap(), 1);
    }
    recorder.memory_deregistered(4096);
    add(Kind::MEMORY_DEREGISTERED, 4096);
    for value in 0..500 {
        let is_even = value % 2 == 0;
        recorder.memory_registered(value);
        add(Kind::MEMORY_REGISTERED, value);
        if is_even {
            recorder.error(Status::NotFound);
            add(Kind::ERR_NOT_FOUND, 1);
        }
    }
    let counts = collector.close();
    assert!(counts.drops().is_empty(), "{counts:?}");
    sums
}

/// NIXL's C++ reader of a release, fed with our ring of that release: it shows every event and its value.
fn is_read_by_their_reader(version: &str, generation: Generation) {
    let Some(release) = testkit::require("NIXL's reader", testkit::nixl_release(version)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let expected = write(folder.path(), generation);
    let mut child = testkit::nixl_reader(&release, folder.path())
        .arg(folder.path().join("agent"))
        // A pipe that nobody empties would stop it.
        .stdout(fs::File::create(folder.path().join("out")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It goes on until it is told to end.
    let ring = folder.path().join("agent");
    let unread = || {
        let bytes = fs::read(&ring).unwrap();
        bytes[..8] != bytes[8..16]
    };
    let start = std::time::Instant::now();
    while unread() {
        assert!(start.elapsed().as_secs() < 60, "NIXL {version}: its reader takes nothing out");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: a signal to a child that nobody has waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    assert!(child.wait().unwrap().success(), "NIXL {version}");
    let (mut sums, mut name, mut total) = (Sums::new(), String::new(), None);
    for line in fs::read_to_string(folder.path().join("out")).unwrap().lines() {
        if let Some(text) = line.strip_prefix("Event name: ") {
            name = text.to_owned();
        } else if let Some(value) = line.strip_prefix("Value: ") {
            *sums.entry(name.clone()).or_default() += value.trim().parse::<u128>().unwrap();
        } else if let Some(text) = line.strip_prefix("Total events read: ") {
            total = Some(text.to_owned());
        }
    }
    assert_eq!(sums, expected, "NIXL {version}");
    assert_eq!(total.as_deref(), Some("764"), "NIXL {version}");
}

#[test]
fn cpp_readers_of_releases_read_our_rings() {
    // Those of 1.2.0 and 1.3.2 crash at once, on their own files as well.
    let releases = [
        ("0.10.1", Generation::V0_9),
        ("1.0.1", Generation::V0_9),
        ("1.1.0", Generation::V1_1),
        ("1.4.1", Generation::V1_4),
        ("1.5.1", Generation::V1_5),
    ];
    for (version, generation) in releases {
        is_read_by_their_reader(version, generation);
    }
}

/// The logic of NIXL's Python reader: mapped, looked at through ctypes, taken out one by one.
#[test]
fn a_python_reader_reads_our_ring() {
    let folder = tempfile::tempdir().unwrap();
    let expected = write(folder.path(), Generation::V1_5);
    let output = Command::new("python3")
        .arg(testkit::workspace_root().join("bench/ring_reader.py"))
        .arg("--until-empty")
        .arg("--telemetry_path")
        .arg(folder.path().join("agent"))
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "764\n");
    let (mut sums, mut name) = (Sums::new(), String::new());
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        if let Some((_, text)) = line.split_once(" Event: ") {
            name = text.to_owned();
        } else if let Some((_, value)) = line.split_once(" Value: ") {
            *sums.entry(name.clone()).or_default() += value.parse::<u128>().unwrap();
        }
    }
    assert_eq!(sums, expected);
}

/// What `tail` prints of rings that a release writes while it watches, by agents and events: numbers and sums.
struct Tail {
    child: std::process::Child,
    out: std::path::PathBuf,
}

impl Tail {
    fn start(rings: &Path, out: std::path::PathBuf, options: &[&str]) -> Self {
        let command = testkit::artifact(&["--package", "nixl-telemetry-cli"], "nixl-telemetry");
        let child = Command::new(command)
            .args(["tail", "--format", "json"])
            .args(options)
            .arg(rings)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(out.with_extension("err")).unwrap())
            .spawn()
            .unwrap();
        Self { child, out }
    }

    /// Ends it, and says what it printed, and what it said beside that.
    fn end(mut self) -> (Totals, String) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: a signal to a child that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        assert_eq!(self.child.wait().unwrap().code(), Some(130));
        let mut totals = Totals::new();
        for line in fs::read_to_string(&self.out).unwrap().lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| event[name].as_str().unwrap();
            add(&mut totals, text("agent"), text("event"), event["value"].as_u64().unwrap());
        }
        (totals, fs::read_to_string(self.out.with_extension("err")).unwrap())
    }
}

/// An unmodified NIXL writes its rings, one `tail` takes everything out and two look on: all three see all that happened.
fn is_followed_while_it_runs(version: &str) {
    let Some(release) = testkit::require("tail of live rings", testkit::nixl_release(version)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rings = folder.path().join("rings");
    fs::create_dir(&rings).unwrap();
    let tail = |name: &str, options: &[&str]| Tail::start(&rings, folder.path().join(name), options);
    let tails = [tail("consumer", &["--consume"]), tail("one", &[]), tail("other", &[])];
    let output = nixl_command(Path::new(DRIVER))
        .arg(&release)
        // So that the first events come when all three have found the rings.
        .env("NIXL_TELEMETRY_RUN_INTERVAL", "1000")
        .args(["300", "3000"])
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_DIR", &rings)
        .output()
        .expect("the driver runs");
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, 300, "NIXL {version}");
    for tail in tails {
        let (seen, said) = tail.end();
        assert_eq!(seen, expected, "NIXL {version}: {said}");
        assert!(!said.contains("lost"), "NIXL {version}: {said}");
    }
}

#[test]
fn rings_of_seven_releases_are_followed_while_they_run() {
    for version in ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"] {
        is_followed_while_it_runs(version);
    }
}

/// A ring that nobody empties takes no more events, and who looks is told; what NIXL writes of that itself, it drops as well.
#[test]
fn a_ring_that_nobody_empties_is_told_of() {
    let Some(release) = testkit::require("tail of a full ring", testkit::nixl_release("1.5.1")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rings = folder.path().join("rings");
    fs::create_dir(&rings).unwrap();
    let tail = Tail::start(&rings, folder.path().join("out"), &[]);
    let output = nixl_command(Path::new(DRIVER))
        .arg(&release)
        .args(["300", "600"])
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_DIR", &rings)
        .env("NIXL_TELEMETRY_BUFFER_SIZE", "64")
        .output()
        .expect("the driver runs");
    let (seen, said) = tail.end();
    let count = |totals: &Totals| totals["initiator"].values().map(|(count, _)| count).sum::<u64>();
    assert_eq!(count(&seen), 63);
    assert!(count(&truth(&output)) > 1200);
    assert!(said.contains("initiator") && said.contains("full") && said.contains("--consume"), "{said}");
}
