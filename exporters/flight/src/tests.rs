// SPDX-License-Identifier: Apache-2.0

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nixl_telemetry_ring::{Batch as Read, DumpName, Mode, Reader, Reason};
use nixl_telemetry_sdk::{Kind, markdown_table, testing::TestHost};

use super::*;

const START_US: u64 = 1_764_000_000_000_000;

/// A directory, and what is set besides it.
struct Scene {
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = (DIR.name(), folder.path().to_str().unwrap().to_owned());
        let others = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Self { settings: [directory].into_iter().chain(others).collect(), folder }
    }

    fn try_open(&self) -> Result<TestHost<Flight>, String> {
        TestHost::open("a/b", &Settings::from_pairs(self.settings.iter().map(|(name, value)| (*name, value))))
            .map_err(|error| error.to_string())
    }

    fn open(&self) -> TestHost<Flight> {
        self.try_open().unwrap()
    }

    fn live(&self) -> PathBuf {
        self.folder.path().join("a%2Fb")
    }

    fn dumps(&self) -> PathBuf {
        self.folder.path().join("dumps")
    }

    /// The dumps, oldest first: why, and the values in them.
    fn dumped(&self) -> Vec<(Reason, Vec<u64>)> {
        let names = DumpName::all(&self.dumps()).unwrap();
        assert!(names.iter().all(|name| name.recorder == "a%2Fb"), "{names:?}");
        names.into_iter().map(|name| (name.reason, values(&self.dumps().join(name.to_string())))).collect()
    }
}

/// The values in a ring, of events each of which has its time.
fn values(path: &Path) -> Vec<u64> {
    let mut read = Read::new();
    Reader::open(path, Mode::Peek).unwrap().read(&mut read).unwrap();
    read.events()
        .map(|event| {
            assert_eq!(event.timestamp_us(), Some(START_US + event.value()));
            event.value()
        })
        .collect()
}

fn traffic(values: std::ops::Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::TX_BYTES, value).at(START_US + value)).collect()
}

fn errors(values: std::ops::Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::ERR_BACKEND, value).at(START_US + value)).collect()
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Flight::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/flight/README.md lacks this table:\n{table}");
}

#[test]
fn the_file_is_a_ring_of_nixls_first_version() {
    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_EVENTS", "16"), ("NIXL_TELEMETRY_FLIGHT_MODE", "640")]);
    let mut host = scene.open();
    host.export(&[
        Event::new(Kind::XFER_TIME, 0x0102_0304_0506_0708).at(START_US),
        Event::new(Kind::ERR_NOT_FOUND, 1).at(START_US + 1),
        Event::backend("ucx_rndv", u64::MAX).at(u64::MAX),
    ]);
    // Before the agent is gone.
    let bytes = fs::read(scene.live()).unwrap();
    assert_eq!(bytes.len(), 40 + 16 * 56);
    let mut expected = Vec::new();
    for word in [3_u64, 0, 1 | 1 << 32, 16, 15] {
        expected.extend(word.to_le_bytes());
    }
    assert_eq!(bytes[..40], expected);
    let rows: [(u64, u32, &[u8], u64); 3] = [
        (START_US, 5, b"agent_xfer_time", 0x0102_0304_0506_0708),
        (START_US + 1, 4, b"NIXL_ERR_NOT_FOUND", 1),
        (u64::MAX, 3, b"ucx_rndv", u64::MAX),
    ];
    for (slot, (time, category, name, value)) in bytes[40..].chunks_exact(56).zip(rows) {
        assert_eq!(slot[..8], time.to_le_bytes());
        assert_eq!(slot[8..12], category.to_le_bytes());
        assert_eq!(slot[12..12 + name.len()], *name);
        assert!(slot[12 + name.len()..44].iter().all(|byte| *byte == 0), "the name ends, and nothing follows it");
        assert_eq!(slot[48..], value.to_le_bytes());
    }
    assert_eq!(fs::metadata(scene.live()).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(host.close().exported, 3);
    assert_eq!(fs::read(scene.live()).unwrap(), bytes, "the end changes nothing");
}

#[test]
fn the_last_events_are_kept_with_their_times() {
    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_EVENTS", "100")]);
    let mut host = scene.open();
    let mut written = 0;
    for more in [100, 27, 1, 1, 1000, 5000, 3] {
        host.export(&traffic(written..written + more));
        written += more;
        let kept = values(&scene.live());
        let least = if written < 128 { written } else { 111 };
        assert!((least..128).contains(&(kept.len() as u64)), "{} of {written}", kept.len());
        assert_eq!(kept, Vec::from_iter(written - kept.len() as u64..written));
    }
    assert_eq!(host.close().exported, written);
    // An event to which its host gives no time has that of its batch.
    let mut host = scene.open();
    host.export(&[Event::new(Kind::TX_BYTES, 1)]);
    let mut read = Read::new();
    Reader::open(scene.live(), Mode::Peek).unwrap().read(&mut read).unwrap();
    assert!(read.events().next().unwrap().timestamp_us() > Some(START_US));
}

#[test]
fn errors_at_the_rate_make_a_dump_that_ends_with_them() {
    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_EVENTS", "32")]);
    let mut host = scene.open();
    host.export(&traffic(0..100));
    host.export(&errors(100..109));
    assert_eq!(scene.dumped(), []);
    host.export(&[errors(109..111), traffic(111..120)].concat());
    let [(Reason::Errors, values)] = &scene.dumped()[..] else { panic!("{:?}", scene.dumped()) };
    assert!(values.len() >= 27, "{values:?}");
    assert_eq!(*values, Vec::from_iter(110 - values.len() as u64..110));
    // It is hot.
    host.export(&errors(120..200));
    assert_eq!(scene.dumped().len(), 1);
    assert_eq!(host.close().exported, 200);
    assert_eq!(fs::metadata(scene.dumps()).unwrap().permissions().mode() & 0o7777, 0o700);

    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_ERRORS", "off")]);
    let mut host = scene.open();
    host.export(&errors(0..1000));
    host.close();
    assert_eq!(scene.dumped(), []);
}

#[test]
fn the_last_dumps_are_kept_and_those_somebody_asked_for() {
    let scene = Scene::new(&[
        ("NIXL_TELEMETRY_FLIGHT_ERRORS", "1/1s"),
        ("NIXL_TELEMETRY_FLIGHT_COOLDOWN", "0"),
        ("NIXL_TELEMETRY_FLIGHT_MAX_DUMPS", "3"),
    ]);
    let others = ["a%2Fb.20200101T000000.000Z.request.ring", "a.20200101T000000.000Z.errors.ring", "x"];
    fs::create_dir(scene.dumps()).unwrap();
    for name in others {
        fs::write(scene.dumps().join(name), "").unwrap();
    }
    let mut host = scene.open();
    host.export(&errors(0..5));
    host.close();
    for name in others {
        fs::remove_file(scene.dumps().join(name)).unwrap();
    }
    let dumped = |last: u64| (Reason::Errors, Vec::from_iter(0..last));
    assert_eq!(scene.dumped(), [dumped(3), dumped(4), dumped(5)]);

    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_ERRORS", "1/1s"), ("NIXL_TELEMETRY_FLIGHT_MAX_DUMPS", "0")]);
    for _ in 0..2 {
        let mut host = scene.open();
        host.export(&errors(0..5));
        host.close();
    }
    assert!(!scene.dumps().exists());
}

#[test]
fn what_an_earlier_run_left_is_dumped_before_the_next_begins() {
    let scene = Scene::new(&[]);
    let mut host = scene.open();
    host.export(&traffic(0..5));
    // A second one of that name has a file of its own, as long as the first lives.
    let mut second = scene.open();
    second.export(&traffic(7..9));
    assert_eq!(values(&scene.folder.path().join("a%2Fb.2")), [7, 8]);
    second.close();
    assert_eq!(scene.dumped(), []);
    host.close();
    assert_eq!(values(&scene.live()), [0, 1, 2, 3, 4]);

    let host = scene.open();
    assert_eq!(scene.dumped(), [(Reason::Previous, vec![0, 1, 2, 3, 4])]);
    assert_eq!(values(&scene.live()), [0; 0]);
    host.close();
    // There is nothing now.
    scene.open().close();
    assert_eq!(scene.dumped().len(), 1);
}

#[test]
fn a_dump_that_cannot_be_made_costs_no_event() {
    let scene = Scene::new(&[("NIXL_TELEMETRY_FLIGHT_ERRORS", "1/1s")]);
    fs::write(scene.dumps(), "in the way").unwrap();
    for _ in 0..2 {
        let mut host = scene.open();
        host.export(&errors(0..5));
        assert_eq!(host.close().exported, 5);
        assert_eq!(values(&scene.live()), [0, 1, 2, 3, 4]);
    }
    assert_eq!(fs::read(scene.dumps()).unwrap(), b"in the way");
}

#[test]
fn a_file_that_was_removed_or_cut_is_begun_anew() {
    let scene = Scene::new(&[]);
    let mut host = scene.open();
    host.export(&traffic(0..5));
    fs::remove_file(scene.live()).unwrap();
    host.export(&traffic(5..7));
    assert_eq!(values(&scene.live()), [5, 6]);
    fs::File::options().write(true).open(scene.live()).unwrap().set_len(100).unwrap();
    host.export(&traffic(7..9));
    assert_eq!(values(&scene.live()), [7, 8]);
    // A directory that is gone costs the events, until it is there again.
    fs::remove_dir_all(scene.folder.path()).unwrap();
    host.export(&traffic(9..12));
    fs::create_dir(scene.folder.path()).unwrap();
    host.export(&traffic(12..13));
    assert_eq!(values(&scene.live()), [12]);
    let counts = host.close();
    assert_eq!((counts.taken, counts.exported, counts.failed), (13, 10, 3));
}

#[test]
fn bad_settings_are_named() {
    let problem = |settings: &[(&'static str, &str)]| Scene::new(settings).try_open().err().expect("it does not open");
    let table = [
        ("NIXL_TELEMETRY_FLIGHT_EVENTS", "15", "a number from 16 to 1073741824"),
        ("NIXL_TELEMETRY_FLIGHT_MODE", "400", "permissions in octal digits with which the owner may read and write"),
        ("NIXL_TELEMETRY_FLIGHT_ERRORS", "10", "off, or a number of errors from 1 to 65536"),
        ("NIXL_TELEMETRY_FLIGHT_COOLDOWN", "1s", "milliseconds as a decimal"),
        ("NIXL_TELEMETRY_FLIGHT_MAX_DUMPS", "-1", "a decimal"),
    ];
    for (name, value, expected) in table {
        let error = problem(&[(name, value)]);
        assert!(error.starts_with(&format!("{name} is {value:?} (environment): expected {expected}")), "{error}");
    }
    let error = TestHost::<Flight>::open("a", &Settings::empty()).err().unwrap().to_string();
    assert!(error.starts_with("NIXL_TELEMETRY_FLIGHT_DIR is not set"), "{error}");

    let scene = Scene::new(&[]);
    fs::write(scene.live(), "somebody's notes, which are longer than a header").unwrap();
    let problem = scene.try_open().err().unwrap();
    assert!(problem.starts_with(&format!("NIXL_TELEMETRY_FLIGHT_DIR: {}: is there already", scene.live().display())));
    assert!(fs::read_to_string(scene.live()).unwrap().starts_with("somebody's"));
    fs::remove_dir_all(scene.folder.path()).unwrap();
    let problem = scene.try_open().err().unwrap();
    assert!(problem.ends_with("/a%2Fb: no such file or directory"), "{problem}");
}
