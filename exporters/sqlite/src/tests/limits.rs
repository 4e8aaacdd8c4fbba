// SPDX-License-Identifier: Apache-2.0

//! What bounds a database: age, size, and a log that readers keep from being emptied.

use super::*;

const LIMIT: u64 = 8 << 20;
const SIZE: (&str, &str) = (MAX_SIZE.name(), "8388608");
const BLOCK: (&str, &str) = ("NIXL_TELEMETRY_SQLITE_QUEUE_OVERFLOW", "block:60000");
/// What is tested here is the same, and disks are slow.
const OFF: (&str, &str) = (SYNCHRONOUS.name(), "off");

fn size(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

fn log_size(file: &Path) -> u64 {
    size(&file.with_extension("db-wal"))
}

/// A database of more than LIMIT, and how many events it has.
fn fill(file: &Path) -> u64 {
    let count = 330_000;
    let mut host = open("a", file, &[BLOCK, OFF]);
    host.export(&events(0..count));
    host.close();
    assert!(size(file) > LIMIT, "{}", size(file));
    count
}

#[test]
fn a_database_that_is_too_large_becomes_smaller_in_steps_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut next = fill(&file);
    let count = || ask::<i64>(&file, "SELECT count(*) FROM events").unwrap();
    while size(&file) > LIMIT {
        let before = count();
        let mut host = open("a", &file, &[SIZE, OFF]);
        host.export(&events(next..next + 1));
        host.close();
        next += 1;
        assert!(before - count() <= 16384 + 2, "{before}");
    }
    assert!(count() > 180_000, "{}", count());
    let mut host = open("b", &file, &[SIZE, BLOCK, OFF]);
    for _ in 0..5 {
        host.export(&events(next..next + 30_000));
        next += 30_000;
        until("the last value", || {
            ask(&file, "SELECT value FROM events ORDER BY id DESC LIMIT 1") == Ok(next.cast_signed() - 1)
        });
        assert!(size(&file) <= LIMIT, "{}", size(&file));
    }
    host.close();
    assert!(size(&file) <= LIMIT, "{}", size(&file));
    // The newest are there, without a gap.
    let (kept, first) = (count(), ask::<i64>(&file, "SELECT min(value) FROM events").unwrap());
    assert_eq!(kept, next.cast_signed() - first);
    assert!(kept > 180_000, "{kept}");
    assert_eq!(totals(&file).len(), 2);
}

#[test]
fn what_is_too_old_goes_and_the_file_becomes_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    fill(&file);
    let now_us = nixl_telemetry_sdk::now_us();
    let mut value = 0;
    let age = (MAX_AGE.name(), "3600000");
    while size(&file) > LIMIT {
        let mut host = open("a", &file, &[age, OFF]);
        host.export(&[Event::new(Kind::RX_BYTES, value).at(now_us)]);
        host.close();
        value += 1;
    }
    let old = format!("SELECT count(*) FROM events WHERE timestamp_us < {now_us}");
    until("the last of the old", || {
        let mut host = open("a", &file, &[age, OFF]);
        host.export(&[Event::new(Kind::RX_BYTES, value).at(now_us)]);
        host.close();
        value += 1;
        ask(&file, &old) == Ok(0)
    });
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(0..value))]));
}

/// Or else what somebody remembers by its id would be something else one day.
#[test]
fn ids_go_on_when_everything_has_become_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut host = open("a", &file, &[]);
    host.export(&events(0..100));
    host.close();
    for (round, value) in [(1, 7), (2, 8)] {
        let mut host = open("b", &file, &[(MAX_AGE.name(), "3600000")]);
        host.export(&events(value..value + 1));
        host.close();
        let ids: String = ask(&file, "SELECT group_concat(id || ' ' || value) FROM events").unwrap();
        assert_eq!(ids, format!("{} {value}", 100 + round));
        assert_eq!(ask::<i64>(&file, "SELECT count(*) FROM blocks").unwrap(), 1);
    }
}

/// A reader that stays keeps the log from being emptied: no more than the limit is written into it, and what waits comes when
/// it is gone.
#[test]
fn the_log_is_bounded_while_somebody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut host = open("a", &file, &[SIZE, OFF]);
    host.export(&events(0..1));
    await_events(&file, 1);
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM events").unwrap();
    host.export(&events(1..450_000));
    until("a long log", || log_size(&file) > LIMIT);
    // Meanwhile it goes on trying, and so do others, which end without success.
    for _ in 0..3 {
        let mut other = open("b", &file, &[SIZE, OFF, ("NIXL_TELEMETRY_SQLITE_SHUTDOWN_TIMEOUT", "1000")]);
        other.export(&events(0..1));
        other.close();
    }
    assert!(log_size(&file) < LIMIT + (2 << 20), "{}", log_size(&file));
    reader.execute_batch("COMMIT").unwrap();
    host.close();
    assert_eq!(ask::<i64>(&file, "SELECT max(value) FROM events").unwrap(), 449_999);
    totals(&file);
}

/// Two who read by turns, so that there always is one: the log is emptied between them, and nothing is held up.
#[test]
fn readers_by_turns_do_not_keep_the_log_from_being_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut host = open("a", &file, &[SIZE, OFF]);
    host.export(&events(0..1));
    await_events(&file, 1);
    host.export(&events(1..450_000));
    let readers = [0, 1].map(|_| Connection::open(&file).unwrap());
    let begin = |reader: &Connection| {
        reader.execute_batch("BEGIN").unwrap();
        reader.query_row("SELECT value FROM events ORDER BY id DESC LIMIT 1", (), |row| row.get::<_, i64>(0)).unwrap()
    };
    begin(&readers[0]);
    for turn in 1.. {
        let last = begin(&readers[turn % 2]);
        readers[(turn - 1) % 2].execute_batch("COMMIT").unwrap();
        assert!(log_size(&file) < LIMIT + (2 << 20), "{}", log_size(&file));
        if last == 449_999 {
            break;
        }
    }
    drop(readers);
    host.close();
    totals(&file);
}
