// SPDX-License-Identifier: Apache-2.0

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nixl_telemetry_metrics::encode::{Format, Series, encode};
use nixl_telemetry_sdk::metrics::{Buckets, Named, Tally};
use nixl_telemetry_sdk::{Event, Kind, Total};
use proptest::prelude::*;

use super::*;

/// What NIXL's exporter left behind after it was fed [`EVENTS`].
const STORES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/stores");
const EVENTS: &str = include_str!("../../../../crates/metrics/tests/golden/nixl/events.txt");

/// An agent as in the golden stores.
pub(crate) fn identity(agent: &str, pid: u32, rank: &str) -> Identity {
    Identity {
        agent: agent.into(),
        hostname: "vm".into(),
        pid,
        instance: 0,
        rank: rank.into(),
        labels: Vec::new(),
        buckets: Arc::default(),
        created_us: 77,
    }
}

pub(crate) fn golden_stores() -> Vec<PathBuf> {
    let mut stores: Vec<_> = fs::read_dir(STORES).unwrap().map(|entry| entry.unwrap().path()).collect();
    stores.sort();
    stores
}

fn golden_events() -> Vec<Event<'static>> {
    let parse = |line: &str| {
        let (kind, value) = line.split_once(' ')?;
        Some(Event::new(Kind::from_code(kind.parse().ok()?), value.parse().ok()?))
    };
    EVENTS.lines().map(|line| parse(line).unwrap()).collect()
}

pub(crate) fn tally(events: &[Event<'_>]) -> Tally {
    let mut tally = Tally::new(Arc::new(Buckets::default()));
    events.iter().for_each(|event| tally.fold(event));
    tally
}

/// A reader of all there is.
fn exact() -> Reader {
    let mut reader = Reader::new();
    reader.set_detail(Detail::Exponential);
    reader
}

fn read(path: &Path) -> Result<Store, Unreadable> {
    let mut store = None;
    exact().read(&File::open(path).unwrap(), true, &mut store)?;
    Ok(store.unwrap())
}

#[test]
fn nixl_s_part_is_nixl_s_to_the_last_bit() {
    for (golden, (agent, pid, rank)) in golden_stores().iter().zip([("agentA", 30214, "3"), ("agentB", 30215, "5")]) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path(), identity(agent, pid, rank)).unwrap();
        // In batches of seven: where they end makes no difference.
        let mut tally = tally(&[]);
        for events in golden_events().chunks(7) {
            events.iter().for_each(|event| tally.fold(event));
            writer.publish(&mut tally, Moment { monotonic_ns: 5, unix_us: 6 });
        }
        let (mut ours, golden) = (fs::read(writer.path()).unwrap(), fs::read(golden).unwrap());
        assert_eq!(&ours[24..32], 5_u64.to_le_bytes());
        ours[24..32].copy_from_slice(&golden[24..32]);
        let different: Vec<_> = (0..golden.len()).filter(|at| ours[*at] != golden[*at]).collect();
        assert_eq!((golden.len(), different), (6800, vec![]));
        let name = writer.path().file_name().unwrap().to_str().unwrap();
        assert!(
            is_store_name(name.as_bytes()) && name.starts_with(&format!("nixl.{pid}.")) && name.ends_with(".0.mmap")
        );
        assert_eq!(fs::metadata(writer.path()).unwrap().mode() & 0o7777, 0o600);
    }
}

#[test]
fn nixl_s_stores_are_read() {
    let store = read(&golden_stores()[0]).unwrap();
    assert_eq!(
        store.labels.before(),
        r#"hostname="vm",agent_name="agentA",pid="30214",agent_instance="0",local_rank="3""#
    );
    let snapshot = store.snapshot;
    assert_eq!(snapshot.counter(Kind::TX_BYTES), 25_779_441_693);
    assert_eq!((snapshot.counter(Kind::ERR_NOT_FOUND), snapshot.gauge(Kind::RX_BYTES)), (3, 1));
    let times = snapshot.histogram(Kind::XFER_TIME).unwrap();
    assert_eq!((times.count(), times.sum, times.exponential.is_none()), (40, 240_255_395, true));
    assert_eq!((snapshot.created_us, snapshot.account.events), (0, 0));
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let labels = vec![("pod".into(), "a\n\"b\"".into()), ("zone".into(), "é".into())];
    let mut writer = Writer::create(folder.path(), Identity { labels, ..identity("a", 7, "") }).unwrap();
    let store = read(writer.path()).unwrap();
    assert_eq!(store.labels.get("pod"), Some("a\n\"b\""));
    assert_eq!(
        store.labels.before(),
        r#"hostname="vm",agent_name="a",pid="7",agent_instance="0",pod="a\n\"b\"",zone="é""#
    );
    assert_eq!((store.snapshot.created_us, store.snapshot.account.batches), (77, 0));

    let long = "x".repeat(Named::LONGEST);
    let mut sums = tally(&[
        Event::new(Kind::XFER_TIME, 0),
        Event::new(Kind::XFER_TIME, 1000),
        Event::backend("retries", 2),
        Event::backend("retries", 3),
        Event::backend(&long, 1),
    ]);
    sums.fold_total(&Total { kind: Kind::TX_BYTES, count: 3, sum: 300 });
    writer.publish(&mut sums, Moment { monotonic_ns: 5, unix_us: 6 });
    assert!(sums.is_empty());
    let many: Vec<String> = (0..100).map(|i| format!("name_{i}")).collect();
    for names in many.chunks(50) {
        names.iter().for_each(|name| sums.fold(&Event::backend(name, 1)));
        writer.publish(&mut sums, Moment { monotonic_ns: 7, unix_us: 8 });
    }
    let Store { snapshot, heartbeat_ns, .. } = read(writer.path()).unwrap();
    assert_eq!((snapshot.counter(Kind::TX_BYTES), snapshot.gauge(Kind::XFER_TIME), heartbeat_ns), (300, 1000, 7));
    let exponential = snapshot.histograms[0].exponential.as_ref().unwrap();
    assert_eq!((exponential.zeros, exponential.counts[80], snapshot.histograms[0].sum), (1, 1, 1000));
    assert_eq!(snapshot.named.len(), Named::MOST);
    assert_eq!(snapshot.named[0], Named { name: "retries".into(), events: 2, sum: 5 });
    assert_eq!(&*snapshot.named[1].name, long);
    let account = snapshot.account;
    assert_eq!((account.events, account.aggregated, account.batches, account.last_success_us), (105, 3, 3, 8));
    assert_eq!(account.dropped, 102 - 64);
}

#[test]
fn a_store_that_has_not_changed_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let file = File::options().read(true).write(true).open(writer.path()).unwrap();
    let (mut reader, mut store) = (exact(), None);
    reader.read(&file, true, &mut store).unwrap();
    // A change that is no batch goes unnoticed, until there is one.
    file.write_all_at(&9_u64.to_le_bytes(), 752).unwrap();
    reader.read(&file, true, &mut store).unwrap();
    assert_eq!(store.as_ref().unwrap().snapshot.counter(Kind::TX_BYTES), 0);
    writer.publish(&mut tally(&[Event::new(Kind::TX_BYTES, 1)]), Moment::now());
    reader.read(&file, true, &mut store).unwrap();
    assert_eq!(store.unwrap().snapshot.counter(Kind::TX_BYTES), 10);
}

#[test]
fn exponential_histograms_are_read_when_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    writer.publish(&mut tally(&[Event::new(Kind::XFER_TIME, 1000)]), Moment::now());
    let file = File::open(writer.path()).unwrap();
    let (mut reader, mut store) = (Reader::new(), None);
    for (detail, expected) in [(Detail::Classic, 0), (Detail::Exponential, 1), (Detail::Classic, 1)] {
        reader.set_detail(detail);
        reader.read(&file, true, &mut store).unwrap();
        let histogram = &store.as_ref().unwrap().snapshot.histograms[0];
        assert_eq!(
            (histogram.count(), histogram.exponential.as_ref().unwrap().counts[80]),
            (1, expected),
            "{detail:?}"
        );
    }
}

#[test]
fn half_a_batch_is_shown_of_the_dead_alone() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let file = File::options().read(true).write(true).open(writer.path()).unwrap();
    let (mut reader, mut store) = (exact(), None);
    reader.read(&file, true, &mut store).unwrap();
    file.write_all_at(&1_u64.to_le_bytes(), 6808).unwrap();
    file.write_all_at(&9_u64.to_le_bytes(), 752).unwrap();
    let counter = |store: &Option<Store>| store.as_ref().unwrap().snapshot.counter(Kind::TX_BYTES);
    reader.read(&file, true, &mut store).unwrap();
    assert_eq!(counter(&store), 0);
    reader.read(&file, false, &mut store).unwrap();
    assert_eq!(counter(&store), 9);
}

#[test]
fn batches_are_read_as_a_whole() {
    const BATCHES: u64 = 5000;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let file = File::open(writer.path()).unwrap();
    let reading = std::thread::spawn(move || {
        let (mut reader, mut store) = (exact(), None);
        let mut changes = 0;
        let mut last = 0;
        while last < BATCHES {
            if let Err(error) = reader.read(&file, true, &mut store) {
                assert!(matches!(error, Unreadable::Busy), "{error}");
                continue;
            }
            let snapshot = &store.as_ref().unwrap().snapshot;
            let requests = snapshot.counter(Kind::TX_REQUESTS_NUM);
            assert_eq!(snapshot.counter(Kind::TX_BYTES), 3 * requests);
            assert_eq!(snapshot.histograms[0].count(), requests);
            let exponential = snapshot.histograms[0].exponential.as_ref().unwrap();
            assert_eq!(exponential.counts.iter().sum::<u64>(), requests);
            assert!(requests >= last);
            changes += u64::from(requests > last);
            last = requests;
        }
        changes
    });
    let batch = [(Kind::TX_BYTES, 3), (Kind::TX_REQUESTS_NUM, 1), (Kind::XFER_TIME, 12)];
    let mut tally = Tally::new(Arc::default());
    for _ in 0..BATCHES {
        batch.iter().for_each(|(kind, value)| tally.fold(&Event::new(*kind, *value)));
        writer.publish(&mut tally, Moment::now());
    }
    assert!(reading.join().unwrap() > 0);
}

#[test]
fn what_is_removed_goes_on_and_what_is_cut_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let path = writer.path().to_owned();
    let add = |writer: &mut Writer| {
        writer.publish(&mut tally(&[Event::new(Kind::TX_BYTES, 1), Event::backend("x", 1)]), Moment::now());
    };
    let counted = || read(&path).map(|store| (store.snapshot.counter(Kind::TX_BYTES), store.snapshot.named[0].sum));
    add(&mut writer);
    fs::remove_file(&path).unwrap();
    add(&mut writer);
    assert_eq!(counted().unwrap(), (2, 2));
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(matches!(counted(), Err(Unreadable::TooSmall)));
    add(&mut writer);
    assert_eq!(counted().unwrap(), (1, 1));
    // Without a place for it, it counts in memory.
    fs::remove_dir_all(folder.path()).unwrap();
    add(&mut writer);
    assert!(!path.exists());
    fs::create_dir(folder.path()).unwrap();
    add(&mut writer);
    assert_eq!(counted().unwrap(), (3, 3));
    // The file that is there is locked.
    let file = File::open(&path).unwrap();
    assert!(rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err());
}

#[test]
fn a_file_whose_size_changes_while_it_is_read_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let path = folder.path().join("copy");
    fs::copy(writer.path(), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let file = File::open(&path).unwrap();
    let (mut reader, mut store, mut results) = (exact(), None, [0, 0]);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            for length in (0..2000).map(|i| i * 7919 % whole.len()) {
                file.set_len(length as u64).unwrap();
                file.write_all_at(&whole, 0).unwrap();
            }
        });
        while !changing.is_finished() || results[0] == 0 {
            results[usize::from(reader.read(&file, true, &mut store).is_err())] += 1;
            // Read anew each time.
            store = None;
        }
    });
    assert!(results[0] > 0, "{results:?}");
}

#[test]
fn names_that_are_too_long_are_cut_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let long = "é".repeat(200);
    let identity = Identity { hostname: long.clone(), ..identity(&long, 7, &long) };
    let labels = read(Writer::create(folder.path(), identity).unwrap().path()).unwrap().labels;
    let lengths = ["agent_name", "hostname", "local_rank"].map(|name| labels.get(name).unwrap().len());
    assert_eq!(lengths, [254, 126, 62]);
}

#[test]
fn whatever_is_in_a_file_is_shown_or_refused() {
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let golden = fs::read(&golden_stores()[0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let check = |change: Change<'_>| {
        let mut bytes = golden.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        read(&path).map_err(|error| error.to_string())
    };
    fn put(at: usize, value: u64) -> impl Fn(&mut Vec<u8>) {
        move |bytes| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes())
    }
    let schema = "expected schema 1, 21 slots and at most 32 bounds";
    let table: [(Change<'_>, &str); 11] = [
        (&|bytes| bytes.clear(), "is too small"),
        (&|bytes| bytes.truncate(6799), "is too small for a store: expected 6800 bytes or more"),
        (&put(0, 0), "is not complete"),
        (&put(0, 1), "is no store: expected NIXLMPS1 at its beginning"),
        (&put(8, 2 | 21 << 32), schema),
        (&put(8, 1 | 22 << 32), schema),
        (&put(40, 33), schema),
        (&put(40, u64::MAX), schema),
        (&put(496, f64::NAN.to_bits()), "bound 1 is \"NaN\": expected a finite number above 0"),
        (&put(504, 10_f64.to_bits()), "bound 2 is \"10\": expected a number above the one before it"),
        (&put(496, (-1_f64).to_bits()), "bound 1 is \"-1\""),
    ];
    for (change, message) in table {
        let error = check(change).err().unwrap();
        assert!(error.contains(message), "{error}");
    }
    // Names without end, and no UTF-8.
    let store = check(&|bytes| bytes[48..496].fill(b'\\')).unwrap();
    assert_eq!(store.labels.get("agent_name").unwrap().len(), 256);
    assert!(store.labels.before().contains(&"\\\\".repeat(256)));
    let store = check(&|bytes| bytes[48..51].copy_from_slice(b"\xff\n\"")).unwrap();
    assert!(store.labels.before().contains("agent_name=\"\u{fffd}\\n\\\"ntA\""));
    let store = check(&|bytes| bytes[48..496].fill(0)).unwrap();
    assert_eq!(store.labels.before(), r#"pid="30214",agent_instance="0""#);
    // Counts of anything, and no bounds at all.
    let store = check(&|bytes| bytes[752..].fill(0xff)).unwrap();
    assert_eq!(store.snapshot.counter(Kind::TX_BYTES), u64::MAX);
    assert_eq!(check(&put(40, 0)).unwrap().snapshot.histograms[0].classic.len(), 1);
    // What follows NIXL's part may be anything, too.
    let store = check(&|bytes| bytes.resize(30_000, 0xff)).unwrap();
    assert!(store.snapshot.histograms[0].exponential.is_none());
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(
        is_golden: bool,
        changes in proptest::collection::vec((0_usize..26_000, proptest::collection::vec(any::<u8>(), 1..300)), 0..20),
        length in 0_usize..40_000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
        let path = if is_golden { golden_stores().swap_remove(0) } else { writer.path().to_owned() };
        let mut bytes = fs::read(path).unwrap();
        for (at, change) in changes {
            // What is checked first is left alone: the rest is what may surprise.
            bytes.iter_mut().skip(at.max(48)).zip(change).for_each(|(byte, changed)| *byte = changed);
        }
        bytes.resize(length.max(6700), 0);
        let path = folder.path().join("x");
        fs::write(&path, bytes).unwrap();
        if let Ok(Store { labels, snapshot, .. }) = read(&path) {
            for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
                let mut document = Vec::new();
                encode(format, &[Series { labels: &labels, snapshot: &snapshot }], &mut document);
                prop_assert!(document.len() > 1000);
                if format != Format::Protobuf {
                    let text = String::from_utf8(document).unwrap();
                    let is_line = |line: &str| ["#", "agent_", "nixl_"].iter().any(|begin| line.starts_with(begin));
                    prop_assert!(text.lines().all(is_line), "{}", text);
                }
            }
        }
    }
}

#[test]
fn a_tail_may_hold_anything() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), identity("a", 7, "")).unwrap();
    let whole = fs::read(writer.path()).unwrap();
    let path = folder.path().join("x");
    for (at, bytes) in [
        (6864, [0xff; 8].as_slice()),
        (6872, b"le\0x\0"),
        (6872, b"pid\0x\0"),
        (6872, b"no value"),
        (6872, &[0xff; 1024]),
        (7896, &[0xff; 9728]),
        (17624, &[0xff; 8224]),
    ] {
        let mut store = whole.clone();
        store[at..at + bytes.len()].copy_from_slice(bytes);
        for length in [store.len(), 7896, 7897, 7895, 20_000] {
            fs::write(&path, &store[..length]).unwrap();
            let store = read(&path).unwrap();
            assert_eq!(store.labels.get("agent_name"), Some("a"));
            assert_eq!(store.snapshot.histograms[0].exponential.is_some(), length >= 7896);
        }
    }
}
