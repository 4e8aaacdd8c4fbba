// SPDX-License-Identifier: Apache-2.0

//! What may be in the way of events, what is said of it, and that they come when it is gone.

use std::{
    any::Any,
    fs::{File, Permissions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::symlink,
};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

/// What is kept as long as the obstacle is to stay.
type Kept = Option<Box<dyn Any>>;

struct Obstacle {
    put: fn(&Path) -> Kept,
    message: &'static str,
    remove: fn(&Path),
    /// Values of events that are there besides.
    others: u64,
}

/// A database of ours with three events.
fn ours(file: &Path) {
    let mut host = open("before", file, &[]);
    host.export(&events(0..3));
    host.close();
}

fn execute(file: &Path, sql: &str) -> Kept {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch(sql).unwrap();
    Some(Box::new(connection))
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

const OBSTACLES: [Obstacle; 14] = [
    Obstacle {
        put: |file| {
            fs::write(file, "A text that is long enough to be taken for something. ".repeat(9)).unwrap();
            None
        },
        message: "file is not a database, expected a database that is whole, or none",
        remove,
        others: 0,
    },
    Obstacle {
        put: |file| execute(file, "CREATE TABLE theirs (x); PRAGMA application_id = 7"),
        message: "belongs to another program: its application_id is 0x7 and it has 1 tables, views and indexes, expected \
                  0x4e49584c, or an empty database",
        remove,
        others: 0,
    },
    Obstacle {
        put: |file| {
            ours(file);
            execute(file, "PRAGMA user_version = 99")
        },
        message: "has schema version 99, expected at most 1: a later release has written it",
        remove: |file| drop(execute(file, "PRAGMA user_version = 1")),
        others: 3,
    },
    Obstacle {
        put: |file| {
            ours(file);
            execute(file, "DROP TABLE events")
        },
        message: "lacks the table events, which its schema has; expected to find it, or no database at all",
        remove,
        others: 0,
    },
    Obstacle {
        put: |file| {
            symlink("elsewhere.db", file).unwrap();
            None
        },
        message: "is a symbolic link, expected the database itself",
        remove,
        others: 0,
    },
    Obstacle {
        put: |file| {
            fs::create_dir(file).unwrap();
            None
        },
        message: "is a directory, a pipe, a socket or a device, expected a database",
        remove: |file| fs::remove_dir(file).unwrap(),
        others: 0,
    },
    Obstacle {
        put: |file| {
            fs::remove_dir(file.parent().unwrap()).unwrap();
            None
        },
        message: "/folder does not exist, expected one that does",
        remove: |file| fs::create_dir(file.parent().unwrap()).unwrap(),
        others: 0,
    },
    Obstacle {
        put: |file| {
            ours(file);
            execute(file, "BEGIN EXCLUSIVE")
        },
        message: "database is locked, expected a turn to write within the time that NIXL_TELEMETRY_SQLITE_BUSY_TIMEOUT says",
        remove: |_| {},
        others: 3,
    },
    Obstacle {
        put: |file| {
            ours(file);
            let folder = File::open(file.parent().unwrap()).unwrap();
            folder.lock().unwrap();
            Some(Box::new(folder))
        },
        message: "its folder is locked by somebody else for more than 50 ms, expected a turn",
        remove: |_| {},
        others: 3,
    },
    Obstacle {
        put: |file| {
            ours(file);
            permit(file, 0o400);
            None
        },
        message: "may only be read, expected a database that can be written",
        remove: |file| permit(file, 0o600),
        others: 3,
    },
    Obstacle {
        put: |file| {
            ours(file);
            permit(file, 0o000);
            None
        },
        message: "unable to open database file",
        remove: |file| permit(file, 0o600),
        others: 3,
    },
    Obstacle {
        put: |file| {
            permit(file.parent().unwrap(), 0o500);
            None
        },
        message: "cannot be created: permission denied, expected a folder that can be written",
        remove: |file| permit(file.parent().unwrap(), 0o700),
        others: 0,
    },
    Obstacle {
        put: |file| {
            ours(file);
            permit(file.parent().unwrap(), 0o500);
            None
        },
        message: "expected that it can be read and written, and files be made beside it whose names end in -wal and -shm",
        remove: |file| permit(file.parent().unwrap(), 0o700),
        others: 3,
    },
    Obstacle {
        put: |file| {
            ours(file);
            let mut bytes = fs::read(file).unwrap();
            bytes[4096..].fill(0xaa);
            fs::write(file, bytes).unwrap();
            None
        },
        message: "database disk image is malformed, expected a database that is whole, or none",
        remove,
        others: 0,
    },
];

#[test]
fn what_is_in_the_way_is_named_once_and_its_end_is_told() {
    for Obstacle { put, message, remove, others } in OBSTACLES {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let file = folder.path().join("folder/events.db");
        let kept = put(&file);
        let before = fs::read(&file).ok();
        let mut child = process("tests::failures::deliver_in_the_end", &file).stderr(Stdio::piped()).spawn().unwrap();
        let (mut log, mut stderr) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
        while !log.contains("tried again") {
            assert!(stderr.read_line(&mut log).unwrap() > 0, "{message}: {log}");
        }
        let expected = format!("queue SQLITE of agent late: {}: ", file.display());
        assert!(log.contains(&expected) && log.contains(message), "{message}: {log}");
        // Nothing is touched that is not ours, nor anything that may only be read.
        assert_eq!(fs::read(&file).ok(), before, "{message}");
        drop(kept);
        remove(&file);
        stderr.read_to_string(&mut log).unwrap();
        assert!(child.wait().unwrap().success(), "{message}: {log}");
        for told in ["tried again", "delivers again"] {
            assert_eq!(log.matches(told).count(), 1, "{message}: {log}");
        }
        let others = (others > 0).then(|| ("before".to_owned(), sum(0..others)));
        let expected = others.into_iter().chain([("late".to_owned(), sum(0..5))]).collect();
        assert_eq!(totals(&file), expected, "{message}");
    }
}

#[test]
#[ignore = "run by what_is_in_the_way_is_named_once_and_its_end_is_told"]
fn deliver_in_the_end() {
    // Root may do what others may not: this process gives that up, before it has another thread.
    let mut capabilities = capabilities(None).unwrap();
    capabilities.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, capabilities).unwrap();
    let mut host = open("late", &told(), &[(BUSY_TIMEOUT.name(), "50")]);
    host.export(&events(0..5));
    host.close();
}

#[test]
fn a_database_that_is_removed_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut hosts = ["a", "b"].map(|agent| open(agent, &file, &[]));
    let mut export =
        |values: std::ops::Range<u64>| hosts.iter_mut().for_each(|host| host.export(&events(values.clone())));
    export(0..1000);
    await_events(&file, 2000);
    // Somebody has it open, and its log and shared memory stay behind.
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM events", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 2000);
    remove(&file);
    export(5000..9000);
    await_events(&file, 8000);
    let expected = ["a", "b"].map(|agent| (agent.to_owned(), sum(5000..9000)));
    assert_eq!(totals(&file), expected.into());
    assert_eq!(count(), 2000);
}

/// The same, with the old database in another process, whose locks are its own.
#[test]
fn a_database_that_is_removed_while_a_process_reads_it_is_begun_anew() {
    let test = "sqlite removed while sqlite3 reads";
    let Some(program) = testkit::require(test, testkit::command("sqlite3", "sqlite3")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut host = open("a", &file, &[]);
    host.export(&events(0..1000));
    await_events(&file, 1000);
    let mut reader = Command::new(program).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut asks, mut answers) = (reader.stdin.take().unwrap(), BufReader::new(reader.stdout.take().unwrap()));
    let mut count = |sql: &str| {
        writeln!(asks, "{sql}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer
    };
    assert_eq!(count("BEGIN; SELECT count(*) FROM events;"), "1000\n");
    remove(&file);
    host.export(&events(5000..9000));
    await_events(&file, 4000);
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(5000..9000))]));
    // As it would be found after a crash of all of them: without the memory they share.
    let crashed = folder.path().join("crashed.db");
    for ending in ["", "-wal"] {
        fs::copy(format!("{}{ending}", file.display()), format!("{}{ending}", crashed.display())).unwrap();
    }
    assert_eq!(totals(&crashed), BTreeMap::from([("a".to_owned(), sum(5000..9000))]));
    assert_eq!(count("SELECT count(*) FROM events;"), "1000\n");
    drop(asks);
    assert!(reader.wait().unwrap().success());
    host.export(&events(0..1));
    host.close();
    assert_eq!(totals(&file)["a"].0, 4001);
}

#[test]
fn a_database_that_is_moved_away_has_everything_up_to_then() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("events.db"), folder.path().join("moved.db"));
    let mut host = open("a", &file, &[]);
    host.export(&events(0..1000));
    await_events(&file, 1000);
    fs::rename(&file, &moved).unwrap();
    host.export(&events(1000..1100));
    await_events(&file, 100);
    host.close();
    assert_eq!(totals(&moved), BTreeMap::from([("a".to_owned(), sum(0..1000))]));
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(1000..1100))]));
}

/// Nothing is delivered any more that could notice it.
#[test]
fn a_database_that_is_moved_away_before_the_end_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("events.db"), folder.path().join("moved.db"));
    let mut host = open("a", &file, &[]);
    host.export(&events(0..1000));
    await_events(&file, 1000);
    fs::rename(&file, &moved).unwrap();
    host.close();
    assert_eq!(names(folder.path()), ["moved.db"]);
    assert_eq!(totals(&moved), BTreeMap::from([("a".to_owned(), sum(0..1000))]));
}

/// A database with a reader of its first event, which keeps a thousand more in its log.
fn read_at_first(file: &Path, host: &mut Host) -> Connection {
    host.export(&events(0..1));
    await_events(file, 1);
    let reader = Connection::open(file).unwrap();
    reader.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); BEGIN; SELECT * FROM events").unwrap();
    host.export(&events(1..1000));
    await_events(file, 1000);
    reader
}

#[test]
fn a_database_that_is_moved_away_while_somebody_reads_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("events.db"), folder.path().join("moved.db"));
    let mut child = process("tests::failures::move_away_and_go_on", &file);
    let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut log, mut stderr) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
    while !log.contains("tried again") {
        assert!(stderr.read_line(&mut log).unwrap() > 0, "{log}");
    }
    drop(child.stdin.take());
    stderr.read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    for told in ["frames of its log cannot come into it while somebody reads what was before them", "delivers again"] {
        assert_eq!(log.matches(told).count(), 1, "{log}");
    }
    assert_eq!(names(folder.path()), ["events.db", "moved.db"]);
    assert_eq!(totals(&moved), BTreeMap::from([("a".to_owned(), sum(0..1000))]));
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(1000..1010))]));
}

#[test]
#[ignore = "run by a_database_that_is_moved_away_while_somebody_reads_is_waited_for"]
fn move_away_and_go_on() {
    let file = told();
    // Until it is patient no longer, that is long.
    let long = ["INITIAL", "MAX"].map(|which| format!("NIXL_TELEMETRY_SQLITE_RETRY_{which}_INTERVAL"));
    let mut host = open("a", &file, &long.each_ref().map(|name| (name.as_str(), "5000")));
    let reader = read_at_first(&file, &mut host);
    fs::rename(&file, file.with_file_name("moved.db")).unwrap();
    host.export(&events(1000..1010));
    // Until somebody has seen it fail.
    let _ = std::io::stdin().lines().count();
    drop(reader);
    host.close();
}

/// Readers that do not come to an end: the log of what was moved away is kept, and goes with it by hand.
#[test]
fn a_log_that_cannot_come_into_its_database_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("events.db"), folder.path().join("moved.db"));
    let mut host = open("a", &file, &[(BUSY_TIMEOUT.name(), "10")]);
    let reader = read_at_first(&file, &mut host);
    fs::rename(&file, &moved).unwrap();
    host.export(&events(1000..1010));
    await_events(&file, 10);
    host.close();
    drop(reader);
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(1000..1010))]));
    let names = names(folder.path());
    let [_, log, _] = &names[..] else { panic!("{names:?}") };
    assert!(log.starts_with("events.db-wal."), "{log}");
    assert_eq!(ask::<i64>(&moved, "SELECT count(*) FROM events").unwrap(), 1);
    fs::rename(folder.path().join(log), folder.path().join("moved.db-wal")).unwrap();
    assert_eq!(totals(&moved), BTreeMap::from([("a".to_owned(), sum(0..1000))]));
}

/// As a process leaves it that is killed, when somebody removes the database alone.
#[test]
fn a_log_without_a_database_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let log = folder.path().join("events.db-wal");
    fs::write(&log, "Something of somebody.").unwrap();
    let mut host = open("a", &file, &[]);
    host.export(&events(0..10));
    host.close();
    assert_eq!(totals(&file), BTreeMap::from([("a".to_owned(), sum(0..10))]));
    let names = names(folder.path());
    assert!(names.len() == 2 && names[1].starts_with("events.db-wal."), "{names:?}");
    assert_eq!(fs::read_to_string(folder.path().join(&names[1])).unwrap(), "Something of somebody.");
}

/// Two processes have a database, and another comes in its place: whoever notices it first shares nothing with the other.
#[test]
fn a_database_that_is_replaced_is_left_by_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("events.db"), folder.path().join("other.db"));
    ours(&other);
    let mut child = process("tests::failures::write_when_told", &file);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut asks = child.stdin.take().unwrap();
    let mut host = open("a", &file, &[]);
    host.export(&events(0..1000));
    writeln!(asks, "go on").unwrap();
    await_events(&file, 1010);
    fs::rename(&other, &file).unwrap();
    host.export(&events(1000..1500));
    await_events(&file, 503);
    writeln!(asks, "go on").unwrap();
    await_events(&file, 513);
    host.export(&events(1500..1510));
    await_events(&file, 523);
    host.close();
    drop(asks);
    assert!(child.wait().unwrap().success());
    let expected = [("a", sum(1000..1510)), ("b", sum(10..20)), ("before", sum(0..3))];
    assert_eq!(totals(&file), expected.map(|(agent, total)| (agent.to_owned(), total)).into());
    assert_eq!(names(folder.path()), ["events.db"]);
}

#[test]
#[ignore = "run by a_database_that_is_replaced_is_left_by_one_after_the_other"]
fn write_when_told() {
    let mut host = open("b", &told(), &[]);
    for (first, _) in (0..).step_by(10).zip(std::io::stdin().lines()) {
        host.export(&events(first..first + 10));
    }
    host.close();
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// As files of a former release are found.
#[test]
fn a_database_of_version_1_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    execute(&file, include_str!("../../golden/1.sql"));
    let mut host = open("new", &file, &[]);
    host.export(&events(0..10));
    host.close();
    let expected = [("decode-1", (2, 65632)), ("new", sum(0..10)), ("prefill-0", (1, 1))];
    assert_eq!(totals(&file), expected.map(|(agent, total)| (agent.to_owned(), total)).into());
    assert_eq!(
        ask::<String>(&file, "SELECT group_concat(id) FROM events").unwrap(),
        "1,2,7,8,9,10,11,12,13,14,15,16,17"
    );
}
