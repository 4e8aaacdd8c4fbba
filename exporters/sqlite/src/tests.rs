// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nixl_telemetry_sdk::{Category, Event, Exporter as _, Kind, markdown_table, testing::TestHost};
use nixl_telemetry_testkit as testkit;
use rusqlite::{Connection, types::FromSql};

use super::*;
mod failures;
mod limits;
mod processes;
mod queries;

use crate::settings::{BUSY_TIMEOUT, FILE, MAX_AGE, MAX_SIZE, MODE, SYNCHRONOUS};

pub(super) type Host = TestHost<Queued<Sqlite>>;

/// A queue that waits for nothing but its sink.
pub(super) const FAST: [(&str, &str); 4] = [
    ("NIXL_TELEMETRY_SQLITE_BATCH_TIMEOUT", "0"),
    ("NIXL_TELEMETRY_SQLITE_RETRY_INITIAL_INTERVAL", "20"),
    ("NIXL_TELEMETRY_SQLITE_RETRY_MAX_INTERVAL", "20"),
    ("NIXL_TELEMETRY_SQLITE_SHUTDOWN_TIMEOUT", "60000"),
];

pub(super) fn settings(file: &Path, more: &[(&str, &str)]) -> Settings {
    let file = [(FILE.name(), file.to_str().unwrap())];
    Settings::from_pairs(FAST.into_iter().chain(file).chain(more.iter().copied()))
}

pub(super) fn open(agent: &str, file: &Path, more: &[(&str, &str)]) -> Host {
    Host::open(agent, &settings(file, more)).unwrap()
}

/// These values, each a microsecond after the one before.
pub(super) fn events(values: std::ops::Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::TX_BYTES, value).at(1_764_000_000_000_000 + value)).collect()
}

/// One value out of a database, by a connection that changes nothing.
pub(super) fn ask<T: FromSql>(file: &Path, sql: &str) -> rusqlite::Result<T> {
    let connection = Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.query_row(sql, (), |row| row.get(0))
}

/// Waits until the database has so many events.
pub(super) fn await_events(file: &Path, count: i64) {
    until(&format!("{count} events in {}", file.display()), || ask(file, "SELECT count(*) FROM events") == Ok(count));
}

pub(super) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "{what}: it never comes");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Count and sum of the values of each agent. What the blocks say of the events is right.
pub(super) fn totals(file: &Path) -> BTreeMap<String, (u64, u64)> {
    assert_eq!(ask::<String>(file, "PRAGMA integrity_check").unwrap(), "ok");
    let strays = "SELECT count(*) FROM events WHERE (SELECT count(*) FROM blocks WHERE id BETWEEN first_id AND last_id \
                  AND timestamp_us BETWEEN first_us AND last_us) <> 1";
    assert_eq!(ask::<i64>(file, strays).unwrap(), 0);
    assert_eq!(
        ask::<i64>(file, "SELECT count(*) - count(DISTINCT origin || ' ' || sequence) FROM telemetry").unwrap(),
        0
    );
    let connection = Connection::open(file).unwrap();
    let mut statement = connection.prepare("SELECT agent, count(*), sum(value) FROM telemetry GROUP BY agent").unwrap();
    let rows = statement.query_map((), |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok((row.get(0)?, (number(1)?, number(2)?)))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What these values come to.
pub(super) fn sum(values: std::ops::Range<u64>) -> (u64, u64) {
    (values.end - values.start, values.sum())
}

/// What the command `sqlite3` says, if this machine has it.
pub(super) fn sqlite3(test: &str, file: &Path, arguments: &[&str]) -> Option<String> {
    let program = testkit::require(test, testkit::command("sqlite3", "sqlite3"))?;
    let output = Command::new(program).arg("-batch").arg(file).args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A process that runs an ignored test of this program, on this database.
pub(super) fn process(test: &str, file: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    command.env("TEST_FILE", file).env("NIXL_LOG_LEVEL", "INFO").stdout(Stdio::null());
    command
}

/// The file it was told.
pub(super) fn told() -> PathBuf {
    env::var_os("TEST_FILE").expect("set by `process`").into()
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Queued::<Sqlite>::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/sqlite/README.md lacks this table:\n{table}");
}

#[test]
fn bad_settings_are_named() {
    let table: [(&[(&str, &str)], &str); 6] = [
        (&[], "NIXL_TELEMETRY_SQLITE_FILE is not set"),
        (&[(MODE.name(), "400")], "NIXL_TELEMETRY_SQLITE_MODE is \"400\" (environment): expected permissions"),
        (&[(SYNCHRONOUS.name(), "extra")], "SYNCHRONOUS is \"extra\" (environment): expected one of off, normal, full"),
        (
            &[(BUSY_TIMEOUT.name(), "60001")],
            "BUSY_TIMEOUT is \"60001\" (environment): expected milliseconds as a number",
        ),
        (&[(MAX_AGE.name(), "1h")], "NIXL_TELEMETRY_SQLITE_MAX_AGE is \"1h\" (environment): expected milliseconds"),
        (&[(MAX_SIZE.name(), "1")], "MAX_SIZE is \"1\" (environment): expected 0 or a number from 8388608"),
    ];
    for (pairs, message) in table {
        let file = [(FILE.name(), "/x")].into_iter().filter(|_| !pairs.is_empty());
        let settings = Settings::from_pairs(file.chain(pairs.iter().copied()));
        let error = Host::open("a", &settings).err().expect("it does not open").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn events_of_every_sort_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let known = Kind::ALL.into_iter().chain([31, 32, u32::MAX].map(Kind::from_code));
    let named = (0..10).map(|code| Event::named(Category::from_code(code), "a \"name\"\n\t\\é'", 1 << 40));
    let sorts: Vec<_> = known.map(|kind| Event::new(kind, u64::MAX)).chain(named).map(|event| event.at(7)).collect();
    let mut host = open("it's \"b\"\n", &file, &[]);
    host.export(&sorts);
    host.export(&[
        Event::new(Kind::TX_BYTES, 65536).at(1_764_000_000_000_042),
        Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 5).at(1_764_000_000_999_999),
        Event::backend("ucx\n1", 0).at(u64::MAX),
    ]);
    host.close();
    assert_eq!(totals(&file).keys().collect::<Vec<_>>(), ["it's \"b\"\n"]);
    assert_eq!(ask::<i64>(&file, "SELECT count(*) FROM kinds").unwrap(), 35);
    let sums = "SELECT count(*) || ' ' || sum(value) FROM telemetry";
    let expected = format!("37 {}", -24 + 10 * (1_i64 << 40) + 65536 + 5);
    assert_eq!(ask::<String>(&file, sums).unwrap(), expected);

    // By programs that know nothing of us.
    let test = "sqlite asked by sqlite3";
    let Some(seen) = sqlite3(test, &file, &[sums, "PRAGMA integrity_check"]) else { return };
    assert_eq!(seen, format!("{}\nok\n", expected));
    let last = "SELECT timestamp_us, datetime, event, category, value, unit, sequence, length(origin) FROM telemetry \
                ORDER BY sequence DESC LIMIT 4";
    let seen = sqlite3(test, &file, &["-json", last]).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&seen).unwrap();
    let row = |timestamp_us: i64, datetime, event, category, value: i64, unit, sequence| {
        serde_json::json!({
            "timestamp_us": timestamp_us, "datetime": datetime, "event": event, "category": category, "value": value,
            "unit": unit, "sequence": sequence, "length(origin)": 32,
        })
    };
    let none = None::<&str>;
    let (transfer, bytes) = (Some("TRANSFER"), Some("bytes"));
    let expected = [
        row(-1, none, "ucx\n1", Some("BACKEND"), 0, none, 36),
        row(
            1_764_000_000_999_999,
            Some("2025-11-24 16:00:00.999999"),
            "agent_telemetry_events_dropped",
            none,
            5,
            Some("events"),
            35,
        ),
        row(1_764_000_000_000_042, Some("2025-11-24 16:00:00.000042"), "agent_tx_bytes", transfer, 65536, bytes, 34),
        row(7, Some("1970-01-01 00:00:00.000007"), "a \"name\"\n\t\\é'", Some("BAD_CATEGORY"), 1 << 40, none, 33),
    ];
    assert_eq!(rows, serde_json::Value::from(expected.to_vec()));
}

#[test]
fn pythons_sqlite_reads_the_same() {
    let test = "sqlite asked by Python";
    let Some(python) = testkit::require(test, testkit::command("python3", "python3")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let mut host = open("a", &file, &[]);
    host.export(&events(0..10_000));
    host.close();
    let program = "import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute('SELECT agent, count(*), sum(value), max(sequence) FROM telemetry').fetchall())";
    let output = Command::new(python).args(["-c", program]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[('a', 10000, 49995000, 9999)]\n", "{output:?}");
}

#[test]
fn permissions_are_those_that_were_set() {
    for (more, mode) in [(&[][..], 0o600), (&[(MODE.name(), "640")][..], 0o640)] {
        let folder = tempfile::tempdir().unwrap();
        let mut host = open("a", &folder.path().join("events.db"), more);
        host.export(&events(0..1));
        await_events(&folder.path().join("events.db"), 1);
        for name in ["events.db", "events.db-wal", "events.db-shm"] {
            let permissions = fs::metadata(folder.path().join(name)).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o7777, mode, "{name}");
        }
        host.close();
        // The last to close it puts all into one file.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn agents_may_have_databases_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for agent in ["a", "b/c"] {
        let mut host = open(agent, &folder.path().join("{agent}-{pid}.db"), &[]);
        host.export(&events(0..7));
        host.close();
    }
    for (agent, name) in [("a", "a"), ("b/c", "b%2Fc")] {
        let file = folder.path().join(format!("{name}-{}.db", std::process::id()));
        assert_eq!(totals(&file), BTreeMap::from([(agent.to_owned(), sum(0..7))]));
    }
}
