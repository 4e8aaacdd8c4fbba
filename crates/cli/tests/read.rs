// SPDX-License-Identifier: Apache-2.0

//! `read`: what ring files hold, of every release, and what is said about those that cannot be read.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nixl_telemetry_event::{Category, Event, Generation, Kind, Status};
use nixl_telemetry_ring::{HEADER_SIZE, Header, Options, Writer};
use nixl_telemetry_testkit::workspace_root;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use support::{command, contents, ran, run, text};

const RELEASES: [&str; 7] = ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"];

/// A ring file that a release has left, or what is in it.
fn golden(release: &str, file: &str) -> PathBuf {
    workspace_root().join("crates/event/tests/golden/ring").join(release).join(file)
}

/// A ring of 64 slots that holds these events.
fn ring(directory: &Path, agent: &str, generation: Generation, events: &[Event<'_>]) -> PathBuf {
    let options = Options { capacity: 64, generation, ..Options::default() };
    let mut writer = Writer::create(directory, agent, options).unwrap();
    assert_eq!(writer.push(events).written, events.len() as u64);
    writer.path().to_owned()
}

fn unread(path: &Path) -> u64 {
    Header::decode(fs::read(path).unwrap().first_chunk::<HEADER_SIZE>().unwrap()).unread()
}

#[test]
fn json_is_what_seven_releases_wrote() {
    let mut events = 0;
    for (release, agent) in RELEASES.iter().flat_map(|release| [(release, "agentA"), (release, "agentB")]) {
        let expected: Value =
            serde_json::from_slice(&fs::read(golden(release, &format!("{agent}.json"))).unwrap()).unwrap();
        let expected: Vec<_> =
            expected["events"].as_array().unwrap().iter().map(|event| object(agent, event)).collect();
        let ran = run(&["read", "--format", "json", text(&golden(release, &format!("{agent}.ring")))]).ends(0);
        let found: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, expected, "{release} {agent}");
        assert_eq!(ran.err, "");
        events += found.len();
    }
    assert_eq!(events, 7 * 18);
}

/// The object that is printed for an event of the description beside a ring.
fn object(agent: &str, event: &Value) -> Value {
    // The file has the release's own name for an error, which is printed as the name of today.
    let name = event["name"].as_str().unwrap();
    let kind = Status::error_from_name(name).map_or_else(|| Kind::from_name(name), Status::kind).unwrap();
    let category = match event["category"].as_u64() {
        Some(code) => Category::from_code(u32::try_from(code).unwrap()),
        None => kind.category().unwrap(),
    };
    let mut object = json!({
        "agent": format!("{agent}.ring"),
        "event": kind.name(),
        "category": category.short_name(),
        "value": event["value"],
        "unit": kind.unit().unwrap().as_str(),
    });
    if let Some(time) = event.get("timestamp_us") {
        object["timestamp_us"] = time.clone();
    }
    object
}

#[test]
fn text_is_for_people() {
    let ran = run(&["read", text(&golden("1.0.1", "agentA.ring")), text(&golden("1.5.1", "agentB.ring"))]).ends(0);
    // In the order of their paths; the second file has no times.
    let expected = "\
2026-11-22T08:44:19.003240Z  agentA.ring  agent_memory_registered        4.00 KiB
2026-11-22T08:44:19.011675Z  agentA.ring  agent_xfer_post_time             207 us
2026-11-22T08:44:19.011676Z  agentA.ring  agent_xfer_time                 1.97 ms
2026-11-22T08:44:19.011676Z  agentA.ring  agent_rx_bytes                 4.00 KiB
2026-11-22T08:44:19.011676Z  agentA.ring  agent_rx_requests_num                 1
2026-11-22T08:44:19.012007Z  agentA.ring  agent_xfer_post_time             190 us
2026-11-22T08:44:19.012007Z  agentA.ring  agent_xfer_time                  190 us
2026-11-22T08:44:19.012007Z  agentA.ring  agent_tx_bytes                 4.00 KiB
2026-11-22T08:44:19.012007Z  agentA.ring  agent_tx_requests_num                 1
2026-11-22T08:44:19.012056Z  agentA.ring  agent_xfer_post_time               3 us
2026-11-22T08:44:19.012056Z  agentA.ring  agent_xfer_time                    3 us
2026-11-22T08:44:19.012056Z  agentA.ring  agent_tx_bytes                 4.00 KiB
2026-11-22T08:44:19.012056Z  agentA.ring  agent_tx_requests_num                 1
2026-11-22T08:44:19.012087Z  agentA.ring  agent_err_not_found                   1
2026-11-22T08:44:19.012348Z  agentA.ring  agent_err_not_found                   1
2026-11-22T08:44:19.012452Z  agentA.ring  agent_memory_deregistered      4.00 KiB
                          -  agentB.ring  agent_memory_registered        4.00 KiB
                          -  agentB.ring  agent_memory_deregistered      4.00 KiB
";
    assert_eq!(ran.out, expected);
    assert_eq!(ran.err, "");
}

#[test]
fn csv_has_a_header_and_a_row_an_event() {
    let ran = run(&["read", "--format", "csv", text(&golden("1.0.1", "agentB.ring"))]).ends(0);
    let expected = "\
timestamp_us,agent,event,category,value,unit
1795337059003977,agentB.ring,agent_memory_registered,MEMORY,4096,bytes
1795337059012456,agentB.ring,agent_memory_deregistered,MEMORY,4096,bytes
";
    assert_eq!(ran.out, expected);

    let directory = tempfile::tempdir().unwrap();
    let events = [Event::backend("a \"b\", c", 7).at(1), Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 2).at(3)];
    ring(directory.path(), "x,y", Generation::V0_9, &events);
    let ran = run(&["read", "--format", "csv", text(directory.path())]).ends(0);
    let expected = "\
timestamp_us,agent,event,category,value,unit
1,\"x,y\",\"a \"\"b\"\", c\",BACKEND,7,
3,\"x,y\",agent_telemetry_events_dropped,,2,events
";
    assert_eq!(ran.out, expected);
}

#[test]
fn looking_changes_nothing_and_consuming_takes_out_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let events = [Event::new(Kind::TX_BYTES, 10), Event::new(Kind::ERR_BACKEND, 1)];
    let paths = ["prefill-0", "decode-0"].map(|agent| ring(directory.path(), agent, Generation::V1_5, &events));
    let before = contents(directory.path());

    let ran = run(&["read", "--format", "json", text(directory.path())]).ends(0);
    assert_eq!(ran.out.lines().count(), 4);
    assert_eq!(contents(directory.path()), before);

    let ran = run(&["read", "--consume", "--agent", "prefill-*", "--event", "agent_err_*", text(directory.path())]);
    let ran = ran.ends(0);
    assert_eq!(ran.out, "-  prefill-0  agent_err_backend                     1\n");
    assert_eq!(paths.each_ref().map(|path| unread(path)), [0, 2]);

    let ran = run(&["read", text(&paths[0])]).ends(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
}

#[test]
fn what_cannot_be_written_is_not_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = ring(directory.path(), "a", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 10); 3]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = command(&["read", "--consume", text(&path)]);
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    ran(child.wait_with_output().unwrap()).ends(1).complains(&["cannot write to standard output: No space left"]);
    assert_eq!(unread(&path), 3);
}

#[test]
fn since_leaves_out_older_events_and_those_without_a_time() {
    let directory = tempfile::tempdir().unwrap();
    // 2025-11-24 16:00:00 UTC, and one microsecond less.
    let events =
        [1_763_999_999_999_999, 1_764_000_000_000_000, u64::MAX].map(|time| Event::new(Kind::TX_BYTES, 1).at(time));
    ring(directory.path(), "timed", Generation::V0_9, &events);
    ring(directory.path(), "other", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 1); 2]);
    for since in ["2025-11-24 16:00", "2025-11-24T17:00:00+01:00"] {
        let ran = run(&["read", "--format", "csv", "--since", since, text(directory.path())]).ends(0);
        let times: Vec<_> = ran.out.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(times, ["1764000000000000", "18446744073709551615"]);
        let expected = "warning: --since leaves out 2 events without a time: only files of ring version 1 have times\n";
        assert_eq!(ran.err, expected);
    }
    run(&["read", "--since", "yesterday", "."]).ends(2).complains(&["\"yesterday\": expected 90s, 10m, 2h or 1d ago"]);
}

#[test]
fn a_full_ring_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = ring(directory.path(), "a", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 1); 63]);
    let name = text(&path);
    let ran = run(&["read", "--format", "json", name]).ends(0);
    assert_eq!(ran.out.lines().count(), 63);
    let remedy = "is full: NIXL drops new events until somebody takes some out, as --consume does";
    assert_eq!(ran.err, format!("warning: {name} {remedy}\n"));
    let ran = run(&["read", "--format", "json", "--consume", name]).ends(0);
    assert_eq!(ran.out.lines().count(), 63);
    assert_eq!(ran.err, format!("warning: {name} was full: NIXL dropped the events that came while it was\n"));
    assert_eq!(unread(&path), 0);
}

const SOUND: Header = Header { write_pos: 1, read_pos: 0, version: 4, expected_version: 4, capacity: 64, mask: 63 };

/// The bytes of a file with this header, and so many of slots.
fn bytes(header: Header, slots: usize) -> Vec<u8> {
    [header.encode().as_slice(), &vec![0; slots]].concat()
}

#[test]
fn what_is_wrong_with_a_file_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("capacity", bytes(Header { capacity: 0, ..SOUND }, 1024), "has 0 slots: expected a power of two"),
        (
            "huge",
            bytes(Header { capacity: 1 << 62, mask: (1 << 62) - 1, ..SOUND }, 1024),
            "has 1064 bytes: expected more than there can be for 4611686018427387904 slots of version 4",
        ),
        ("husk", bytes(Header { version: 0, ..SOUND }, 1024), "has version 0: its writer did not finish making it"),
        ("mask", bytes(Header { mask: 62, ..SOUND }, 1024), "has the mask 62 for 64 slots: expected 63"),
        (
            "position",
            bytes(Header { write_pos: 64, ..SOUND }, 1024),
            "has the write position 64: expected less than 64",
        ),
        ("shrunk", bytes(SOUND, 1000), "has 1040 bytes: expected 1064 for 64 slots of version 4"),
    ];
    let foreign = [
        ("empty", Vec::new(), "has 0 bytes: expected a ring of at least 40"),
        ("short", vec![0; 39], "has 39 bytes: expected a ring of at least 40"),
        ("version", bytes(Header { version: 9, ..SOUND }, 1024), "has version 9: expected a ring of version 1 to 4"),
        (
            "versions",
            bytes(Header { expected_version: 3, ..SOUND }, 1024),
            "has version 4 in one place and 3 in another: expected the same",
        ),
    ];
    for (name, bytes, _) in files.iter().chain(&foreign) {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    ring(directory.path(), "sound", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 4096)]);
    symlink("sound", directory.path().join("link")).unwrap();

    // Each by its name: one line, and the sound one is read all the same.
    let path = |name: &str| text(&directory.path().join(name)).to_owned();
    let odd = [("pipe", "is a pipe: expected a ring file"), ("/dev/null", "is a device: expected a ring file")];
    let wrong = files.iter().chain(&foreign).map(|(name, _, what)| (*name, *what)).chain(odd);
    for (name, what) in wrong {
        let ran = run(&["read", &path(name), &path("sound")]).ends(1);
        assert_eq!(ran.out, "-  sound  agent_tx_bytes                 4.00 KiB\n", "{name}");
        assert_eq!(ran.err, format!("error: {} {what}\n", path(name)));
    }
    let ran = run(&["read", &path("absent")]).ends(1);
    assert_eq!(ran.err, format!("error: cannot read {}: no such file or directory\n", path("absent")));
    let ran = run(&["read", &path("link")]).ends(0);
    assert_eq!(ran.out, "-  link  agent_tx_bytes                 4.00 KiB\n");

    // In a directory, those that are no rings at all are passed over.
    let ran = run(&["read", text(directory.path())]).ends(1);
    assert_eq!(ran.out.lines().count(), 2);
    let expected: String = files.iter().map(|(name, _, what)| format!("error: {} {what}\n", path(name))).collect();
    assert_eq!(ran.err, expected);
}

#[test]
fn a_directory_without_rings_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let name = text(directory.path());
    let ends_with = |expected: &str, arguments: &[&str]| {
        let ran = run(&[&["read", name], arguments].concat()).ends(0);
        assert_eq!((ran.out.as_str(), ran.err), ("", format!("warning: {name} {expected}\n")));
    };
    ends_with("has no ring files", &[]);
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    ends_with("has no ring files, but another file", &[]);
    fs::write(directory.path().join("picture"), [7; 100]).unwrap();
    ends_with("has no ring files, but 2 other files", &[]);
    ring(directory.path(), "a", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 1)]);
    ends_with("has no ring files of such agents", &["--agent", "b*"]);
}

#[test]
fn what_one_may_not_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody else's either: a root that runs this becomes somebody for it.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let path = ring(directory.path(), "a", Generation::V1_5, &[Event::new(Kind::TX_BYTES, 1)]);
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let program = directory.path().join("nixl-telemetry");
    support::copy_command(&program);
    let mut command = support::command_of(&program, &["read", text(&path)]);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    // A child that another test starts at this moment may have the copy open for a moment longer.
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            output => break output.unwrap(),
        }
    };
    let ran = ran(output).ends(1);
    assert_eq!(ran.err, format!("error: cannot read {}: permission denied\n", text(&path)));
}

#[test]
fn whoever_has_had_enough_closes_the_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { capacity: 1 << 16, ..Options::default() };
    let mut writer = Writer::create(directory.path(), "a", options).unwrap();
    assert_eq!(writer.push(&vec![Event::new(Kind::TX_BYTES, 1); 60_000]).refused, 0);
    for consume in [None, Some("--consume")] {
        let arguments: Vec<_> =
            ["read", "--format", "json", text(directory.path())].into_iter().chain(consume).collect();
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert!(line.starts_with(r#"{"agent":"a","event":"agent_tx_bytes""#), "{line}");
        drop(out);
        let ran = ran(child.wait_with_output().unwrap()).ends(0);
        assert_eq!(ran.err, "");
    }
    assert_eq!(writer.unread(), 60_000);
}
