// SPDX-License-Identifier: Apache-2.0

//! Files as others read them, DuckDB and pyarrow, whatever happens to those who write them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::{Category, Event, Exporter as _, Kind, Settings, markdown_table, testing::TestHost};
use nixl_telemetry_shm::lock;
use nixl_telemetry_testkit as testkit;
use serde_json::{Value, json};

use super::*;

mod killed;
mod queries;

type Host = TestHost<Queued<Parquet>>;

/// 2025-11-24T16:00:00Z.
const T: u64 = 1_764_000_000_000_000;
/// From there to the next midnight, 8 hours.
const TO_MIDNIGHT: u64 = 8 * 3600 * 1_000_000;

fn settings(directory: &Path, more: &[(&str, &str)]) -> Settings {
    let own = [("DIR", directory.to_str().unwrap()), ("SHUTDOWN_TIMEOUT", "60000"), ("RETRY_INITIAL_INTERVAL", "10")];
    let named = own.iter().chain(more).map(|(name, value)| (format!("NIXL_TELEMETRY_PARQUET_{name}"), *value));
    Settings::from_pairs(named)
}

/// All files below a folder, by their path in it.
fn files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        if path.is_dir() {
            files.extend(self::files(&path).iter().map(|inner| format!("{name}/{inner}")));
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}

/// A file's name without what is different each time.
fn without_origin(name: &str) -> String {
    let is_origin = |part: &str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split('.').filter(|part| !is_origin(part)).collect::<Vec<_>>().join(".")
}

/// Waits until a condition holds, but not forever.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it does not become so");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a Python program prints, as JSON.
fn ask(test: &str, script: &str, arguments: &[&str]) -> Option<Value> {
    let python = testkit::require(test, testkit::python(&["pyarrow==26.0.1", "duckdb==2.0.1"]))?;
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The rows of a query of DuckDB's, in which `$` stands for all files below a folder. Every one of them is read.
fn query(test: &str, folder: &Path, sql: &str) -> Option<Value> {
    const SCRIPT: &str = "import duckdb, json, sys
duckdb.sql(\"SET TimeZone='UTC'\")
print(json.dumps([list(row) for row in duckdb.sql(sys.argv[1]).fetchall()]))";
    let all = format!("read_parquet('{}/**/*.parquet', hive_partitioning = true)", folder.display());
    ask(test, SCRIPT, &[&sql.replace('$', &all)])
}

/// A test of this file in a process of its own.
fn apart(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    command
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Queued::<Parquet>::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/parquet/README.md lacks this table:\n{table}");
}

#[test]
fn events_of_every_sort_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let known = Kind::ALL.into_iter().chain([Kind::from_code(21), Kind::from_code(u32::MAX)]);
    let named = (0..10).map(|code| Event::named(Category::from_code(code), "a \"name\"\n\t\\é", 0));
    let odd =
        [Event::backend("", u64::MAX), Event::backend("agent_tx_bytes", 1), Event::backend("ucx_retries", 1 << 63)];
    let events: Vec<_> =
        known.map(|kind| Event::new(kind, u64::MAX)).chain(named).chain(odd).map(|event| event.at(T)).collect();
    let agent = "a \"b\"/é\n";
    // Among them row groups that have no category and no unit.
    let mut host = Host::open(agent, &settings(folder.path(), &[("ROW_GROUP_SIZE", "1")])).unwrap();
    host.export(&events);
    let counts = host.close();
    assert_eq!((counts.taken, counts.exported), (36, 36));

    let [file] = &files(folder.path())[..] else { panic!("one file") };
    let expected = "20251124T160000Z.a%20%22b%22%2F%C3%A9%0A.000000000000-000000000035.parquet";
    assert_eq!(without_origin(file), expected);
    assert_eq!(fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o7777, 0o600);

    let test = "parquet read by DuckDB";
    let sql = "SELECT epoch_us(timestamp), agent, hostname, pid, event, category, value, unit, sequence, filename LIKE
               '%.' || origin || '.%' FROM $ ORDER BY sequence";
    let Some(rows) = query(test, folder.path(), sql) else { return };
    let process = Agent::new("");
    let row = |(number, event): (u64, &Event<'_>)| {
        let (event, category, unit) =
            (event.name().to_string(), event.category().map(Category::short_name), event.unit());
        let unit = unit.map(|unit| unit.to_string());
        let value = events[usize::try_from(number).unwrap()].value();
        json!([T, agent, process.hostname(), process.pid(), event, category, value, unit, number, true])
    };
    assert_eq!(rows, (0..).zip(&events).map(row).collect::<Value>());
}

/// Schema, metadata, encodings and statistics, as pyarrow tells them.
#[test]
fn a_file_says_what_it_is() {
    const SCRIPT: &str = "import json, sys, pyarrow.parquet as parquet
file = parquet.ParquetFile(sys.argv[1])
metadata, group = file.metadata, file.metadata.row_group(1)
columns = [group.column(number) for number in range(group.num_columns)]
table = file.read()
print(json.dumps({
    'columns': [[field.name, str(field.type), field.nullable] for field in file.schema_arrow],
    'created_by': metadata.created_by,
    'metadata': {key.decode(): value.decode() for key, value in metadata.metadata.items()},
    'rows': [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)],
    'encodings': {column.path_in_schema: sorted(column.encodings) for column in columns},
    'compression': sorted({column.compression for column in columns}),
    'statistics': {column.path_in_schema: [str(column.statistics.min), str(column.statistics.max),
        column.statistics.null_count] for column in columns if column.path_in_schema not in ('hostname', 'pid', 'origin')},
    'unsigned': [str(bound) for bound in (lambda value: (value.min, value.max))(metadata.row_group(0).column(6).statistics)],
    'last': [table[name][-1].as_py() for name in ('event', 'category', 'unit')],
    'sum': str(sum(table['value'].to_pylist())),
}))";
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::open("decode-1", &settings(folder.path(), &[("ROW_GROUP_SIZE", "4")])).unwrap();
    let kinds = [Kind::RX_BYTES, Kind::TX_BYTES, Kind::TELEMETRY_EVENTS_DROPPED];
    let event = |(at, kind): (u64, &Kind)| Event::new(*kind, (8 - at) << 60).at(T + at);
    let events: Vec<_> = (0..9).zip(kinds.iter().cycle()).map(event).collect();
    host.export(&events);
    host.close();
    let [file] = &files(folder.path())[..] else { panic!("one file") };
    let file = folder.path().join(file);
    let Some(told) = ask("parquet read by pyarrow", SCRIPT, &[file.to_str().unwrap()]) else { return };
    let (texts, plain, rising) = (["PLAIN", "RLE", "RLE_DICTIONARY"], ["PLAIN", "RLE"], ["DELTA_BINARY_PACKED", "RLE"]);
    let string = |name: &str, nullable: bool| json!([name, "string", nullable]);
    assert_eq!(
        told,
        json!({
            "columns": [
                ["timestamp", "timestamp[us, tz=UTC]", false],
                string("agent", false),
                string("hostname", false),
                ["pid", "int32", false],
                string("event", false),
                string("category", true),
                ["value", "uint64", false],
                string("unit", true),
                string("origin", false),
                ["sequence", "uint64", false],
            ],
            "created_by": "nixl-telemetry version 0.1.0",
            "metadata": { "nixl_telemetry.schema": "1" },
            "rows": [4, 4, 1],
            "encodings": {
                "timestamp": rising, "agent": texts, "hostname": texts, "pid": texts, "event": texts,
                "category": texts, "value": plain, "unit": texts, "origin": texts, "sequence": rising,
            },
            "compression": ["ZSTD"],
            "statistics": {
                "timestamp": ["2025-11-24 16:00:00.000004+00:00", "2025-11-24 16:00:00.000007+00:00", 0],
                "agent": ["decode-1", "decode-1", 0],
                "event": ["agent_rx_bytes", "agent_tx_bytes", 0],
                "category": ["TRANSFER", "TRANSFER", 1],
                "value": ["1152921504606846976", "4611686018427387904", 0],
                "unit": ["bytes", "events", 0],
                "sequence": ["4", "7", 0],
            },
            "unsigned": ["5764607523034234880", "9223372036854775808"],
            // In a row group of its own, all of whose categories are null.
            "last": ["agent_telemetry_events_dropped", null, "events"],
            "sum": (36_u128 << 60).to_string(),
        })
    );
}

#[test]
fn settings_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (good, file) = (folder.path(), folder.path().join("file"));
    fs::write(&file, "").unwrap();
    let check = |agent: &str, directory: &Path, more: (&str, &str), message: &str| {
        let error = Host::open(agent, &settings(directory, &[more])).err().expect("it does not open").to_string();
        assert!(error.contains("NIXL_TELEMETRY_PARQUET_") && error.contains(message), "{error}");
    };
    check("a", &file, ("MODE", "600"), "is no directory: expected one");
    check("a", &good.join("none"), ("MODE", "600"), "No such file or directory (os error 2): expected a directory");
    check("a", good, ("MODE", "444"), "expected permissions in octal digits with which the owner may read and write");
    check("a", good, ("PARTITION", "hour"), "\"hour\" (environment): expected none, date, agent or date,agent");
    check("a", good, ("COMPRESSION", "lz4"), "expected none, zstd, or zstd:LEVEL with a level from 1 to 22");
    check("a", good, ("ROW_GROUP_SIZE", "0"), "expected a number from 1 to 16777216");
    let error = Host::open("a", &Settings::empty()).err().expect("it does not open").to_string();
    assert!(error.contains("NIXL_TELEMETRY_PARQUET_DIR is not set"), "{error}");
}

#[test]
fn many_rows_are_what_they_were() {
    for (compression, rows) in [("none", "1000"), ("zstd", "122880"), ("zstd:9", "7")] {
        let folder = tempfile::tempdir().unwrap();
        let more = [("COMPRESSION", compression), ("ROW_GROUP_SIZE", rows), ("BATCH_SIZE", "6000")];
        let mut host = Host::open("a", &settings(folder.path(), &more)).unwrap();
        // More names than fit into eight bits, and some that come once.
        let names: Vec<String> = (0..300).map(|number| format!("ucx_{number}")).collect();
        for batch in 0..5_u64 {
            let event = |at: u64| {
                let value = 4000 * batch + at;
                let name = &names[usize::try_from(value % 300).unwrap()];
                let event =
                    if at.is_multiple_of(2) { Event::backend(name, value) } else { Event::new(Kind::XFER_TIME, value) };
                event.at(T + value / 3)
            };
            host.export(&(0..4000).map(event).collect::<Vec<_>>());
        }
        assert_eq!(host.close().exported, 20_000);
        let sql = "SELECT count(*), count(DISTINCT sequence), max(sequence), count(DISTINCT event),
                          count(*) FILTER (value = sequence AND epoch_us(timestamp) = 1764000000000000 + value // 3
                              AND event = if(value % 2 = 0, 'ucx_' || value % 300, 'agent_xfer_time')
                              AND category = if(value % 2 = 0, 'BACKEND', 'PERFORMANCE')
                              AND unit IS NOT DISTINCT FROM if(value % 2 = 0, NULL, 'microseconds')) FROM $";
        let Some(found) = query("parquet of many rows", folder.path(), sql) else { return };
        assert_eq!(found, json!([[20_000, 20_000, 19_999, 151, 20_000]]), "{compression} {rows}");
    }
}

#[test]
fn a_batch_that_crosses_midnight_is_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let more = [("PARTITION", "date,agent"), ("MODE", "640")];
    let mut host = Host::open("decode/1", &settings(folder.path(), &more)).unwrap();
    // Not in order: several threads record.
    let times = [-2, 1, -1, 0, 2_i64].map(|second| (T + TO_MIDNIGHT).checked_add_signed(second * 1_000_000).unwrap());
    host.export(&times.map(|time| Event::new(Kind::TX_BYTES, time).at(time)));
    assert_eq!(host.close().exported, 5);
    assert_eq!(
        files(folder.path()).iter().map(|name| without_origin(name)).collect::<Vec<_>>(),
        [
            "date=2025-11-24/agent=decode%2F1/20251124T235958Z.decode%2F1.000000000000-000000000002.parquet",
            "date=2025-11-25/agent=decode%2F1/20251125T000001Z.decode%2F1.000000000001-000000000004.parquet",
        ]
    );
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("date=2025-11-24/agent=decode%2F1"), mode(&files(folder.path())[0])), (0o750, 0o640));
    let sum = |at: &[usize]| at.iter().map(|at| times[*at]).sum::<u64>();
    let expected = json!([["2025-11-24", "decode/1", 2, sum(&[0, 2])], ["2025-11-25", "decode/1", 3, sum(&[1, 3, 4])]]);
    let sql = "SELECT date::VARCHAR, agent, count(*), sum(value)::UBIGINT FROM $ GROUP BY ALL ORDER BY ALL";
    let Some(rows) = query("parquet by date", folder.path(), sql) else { return };
    assert_eq!(rows, expected);
    // In other words the same.
    const SCRIPT: &str = "import json, sys, pyarrow.dataset as dataset
table = dataset.dataset(sys.argv[1], partitioning='hive').to_table()
totals = table.group_by(['date', 'agent']).aggregate([('value', 'count'), ('value', 'sum')])
print(json.dumps(sorted(list(row.values()) for row in totals.to_pylist())))";
    let Some(rows) = ask("parquet by date", SCRIPT, &[folder.path().to_str().unwrap()]) else { return };
    assert_eq!(rows, expected);
}

/// Also those of clocks that are wrong: each lies in the folder of its day, as far as that has four digits for the year.
#[test]
fn a_row_is_in_the_folder_of_its_day() {
    let folder = tempfile::tempdir().unwrap();
    let (late, early) = (2_932_897 * 3 * TO_MIDNIGHT - 1, 0_u64.wrapping_sub(719_162 * 3 * TO_MIDNIGHT));
    let times = [0, T, late, early, u64::MAX];
    let agent = "long".repeat(100);
    let mut host = Host::open(&agent, &settings(folder.path(), &[("PARTITION", "date,agent")])).unwrap();
    host.export(&times.map(|time| Event::new(Kind::TX_BYTES, time).at(time)));
    // Those that no folder is named after.
    host.export(&[1 << 62, 3 << 62].map(|time| Event::new(Kind::RX_BYTES, time).at(time)));
    assert_eq!(host.close().exported, 7);
    let sql = "SELECT date::VARCHAR, event, count(*), count(*) FILTER (timestamp::DATE::VARCHAR = date::VARCHAR),
                      count(*) FILTER (epoch_us(timestamp)::HUGEINT + if(timestamp < '1970-01-01', 2::HUGEINT ** 64, 0)
                          = value), min(length(agent)) FROM $ GROUP BY ALL ORDER BY ALL";
    let Some(rows) = query("parquet of odd times", folder.path(), sql) else { return };
    let of = |date: &str, event: &str, same_day: u32| json!([date, event, 1, same_day, 1, 249]);
    let sent = ["0001-01-01", "1969-12-31", "1970-01-01", "2025-11-24", "9999-12-31"]
        .map(|date| of(date, "agent_tx_bytes", 1));
    let beyond = ["0001-01-01", "9999-12-31"].map(|date| of(date, "agent_rx_bytes", 0));
    let mut expected: Vec<_> = sent.into_iter().chain(beyond).collect();
    expected.sort_by_key(Value::to_string);
    assert_eq!(rows, json!(expected));
}

#[test]
fn what_is_there_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    // The second of the two files cannot be made.
    let obstacle = folder.path().join("date=2025-11-25");
    fs::write(&obstacle, "").unwrap();
    let more = [("PARTITION", "date"), ("BATCH_TIMEOUT", "1")];
    let mut host = Host::open("a", &settings(folder.path(), &more)).unwrap();
    let event = |at: u64| Event::new(Kind::TX_BYTES, at).at(T + at * TO_MIDNIGHT / 10);
    host.export(&(0..20).map(event).collect::<Vec<_>>());
    until(|| files(folder.path()).len() == 2);
    let first = files(folder.path());
    thread::sleep(Duration::from_millis(50));
    assert_eq!(files(folder.path()), first, "attempts that fail leave nothing");
    fs::remove_file(&obstacle).unwrap();
    until(|| folder.path().join("date=2025-11-25").is_dir());
    assert_eq!(host.close().exported, 20);
    let names: Vec<_> = files(folder.path()).iter().map(|name| without_origin(name)).collect();
    assert_eq!(
        names,
        [
            "date=2025-11-24/20251124T160000Z.a.000000000000-000000000009.parquet",
            "date=2025-11-25/20251125T000000Z.a.000000000010-000000000019.parquet",
        ]
    );
    let Some(rows) = query("parquet written in part", folder.path(), "SELECT count(*), sum(value)::INT FROM $") else {
        return;
    };
    assert_eq!(rows, json!([[20, 190]]));
}

/// The process has died after it had written one of two files.
#[test]
fn what_another_process_has_written_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let [data, spool] = ["data", "spool"].map(|name| folder.path().join(name));
    let obstacle = data.join("date=2025-11-25");
    fs::create_dir(&data).unwrap();
    fs::write(&obstacle, "").unwrap();
    let mut child =
        apart("tests::write_half_and_die").env("TEST_DATA", &data).env("TEST_SPOOL", &spool).spawn().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(files(&data).len(), 2);
    fs::remove_file(&obstacle).unwrap();
    let more = [("PARTITION", "date"), ("SPOOL_DIR", spool.to_str().unwrap())];
    let host = Host::open("another", &settings(&data, &more)).unwrap();
    until(|| obstacle.is_dir() && files(&data).len() == 2);
    host.close();
    let sql = "SELECT agent, pid, date::VARCHAR, count(*), sum(value)::INT FROM $ GROUP BY ALL ORDER BY ALL";
    let Some(rows) = query("parquet written by two processes", &data, sql) else { return };
    assert_eq!(rows, json!([["a", child.id(), "2025-11-24", 10, 45], ["a", child.id(), "2025-11-25", 10, 145]]));
}

#[test]
#[ignore = "run by what_another_process_has_written_is_not_written_again"]
fn write_half_and_die() {
    let [data, spool] = ["TEST_DATA", "TEST_SPOOL"].map(|name| std::env::var(name).unwrap());
    let more = [("PARTITION", "date"), ("BATCH_TIMEOUT", "1"), ("SPOOL_DIR", spool.as_str())];
    let mut host = Host::open("a", &settings(Path::new(&data), &more)).unwrap();
    host.export(&(0..20).map(|at| Event::new(Kind::TX_BYTES, at).at(T + at * TO_MIDNIGHT / 10)).collect::<Vec<_>>());
    until(|| files(Path::new(&data)).len() == 2);
    std::process::abort();
}

#[test]
fn a_directory_that_was_gone_is_written_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    fs::create_dir(&directory).unwrap();
    let more = [("PARTITION", "agent"), ("BATCH_TIMEOUT", "1")];
    let mut host = Host::open("a", &settings(&directory, &more)).unwrap();
    fs::remove_dir(&directory).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 1).at(T)]);
    thread::sleep(Duration::from_millis(50));
    assert!(!directory.exists(), "it is not made anew");
    // A link in the place of a folder is not followed.
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join("agent=a")).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(files(&elsewhere), [""; 0]);
    fs::remove_file(directory.join("agent=a")).unwrap();
    until(|| directory.join("agent=a").is_dir() && files(&directory).len() == 1);
    assert_eq!(host.close().exported, 1);
}

#[test]
fn a_directory_that_may_not_be_written_is_told_of_once() {
    let output = apart("tests::write_where_nobody_can").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("/sys/")).collect();
    assert!(lines.len() == 1 && lines[0].contains(": expected a directory that can be written, with room"), "{log}");
    assert!(log.contains("1 events are lost: 1 at the end"), "{log}");
}

#[test]
#[ignore = "run by a_directory_that_may_not_be_written_is_told_of_once"]
fn write_where_nobody_can() {
    let more = [("BATCH_TIMEOUT", "1"), ("SHUTDOWN_TIMEOUT", "4000")];
    let mut host = Host::open("a", &settings(Path::new("/sys"), &more)).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 1)]);
    host.close();
}

/// No byte is written beyond a limit, as on a full disk; what waits is in the spool, and is written by the next process.
#[test]
fn a_full_disk_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (data, spool) = (folder.path().join("data"), folder.path().join("spool"));
    fs::create_dir(&data).unwrap();
    let test = apart("tests::write_more_than_fits");
    let mut limited = Command::new("sh");
    // 100 KiB, in blocks of 512 bytes, and what would be a signal is an error.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"])
        .arg(test.get_program())
        .args(test.get_args());
    let output = limited.env("TEST_DATA", &data).env("TEST_SPOOL", &spool).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("File too large (os error 27): expected a directory that can be written, with room"), "{log}");
    assert_eq!(files(&data), [""; 0]);

    let more = [("SPOOL_DIR", spool.to_str().unwrap()), ("BATCH_TIMEOUT", "1")];
    let host = Host::open("a", &settings(&data, &more)).unwrap();
    until(|| !files(&data).is_empty());
    host.close();
    let sql = "SELECT count(*), count(DISTINCT sequence), sum(value)::INT FROM $";
    let Some(rows) = query("parquet after a full disk", &data, sql) else { return };
    assert_eq!(rows, json!([[3000, 3000, 4_498_500]]));
}

#[test]
#[ignore = "run by a_full_disk_leaves_no_file"]
fn write_more_than_fits() {
    let [data, spool] = ["TEST_DATA", "TEST_SPOOL"].map(|name| std::env::var(name).unwrap());
    // What is in the spool is smaller than what becomes of it: there is a dictionary for each row.
    let more = [
        ("SPOOL_DIR", spool.as_str()),
        ("ROW_GROUP_SIZE", "1"),
        // No attempt is worth waiting for at the end.
        ("RETRY_INITIAL_INTERVAL", "600000"),
        ("RETRY_MAX_INTERVAL", "600000"),
    ];
    let mut host = Host::open("a", &settings(Path::new(&data), &more)).unwrap();
    host.export(&(0..3000).map(|value| Event::new(Kind::TX_BYTES, value).at(T)).collect::<Vec<_>>());
    assert_eq!(host.close().exported, 3000);
}

#[test]
fn two_processes_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let children = [(); 2].map(|()| apart("tests::write_some").env("TEST_DATA", folder.path()).spawn().unwrap());
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let sql = "SELECT agent, count(*), sum(value)::INT, count(DISTINCT pid), count(DISTINCT (origin, sequence)) FROM $
               GROUP BY ALL ORDER BY ALL";
    let Some(rows) = query("parquet of two processes", folder.path(), sql) else { return };
    let of = |agent: &str| json!([agent, 6000, 8_997_000, 2, 6000]);
    assert_eq!(rows, json!([of("a"), of("b")]));
    assert_eq!(files(folder.path()).len(), 2 * 2 * 30);
}

#[test]
#[ignore = "run by two_processes_share_a_directory"]
fn write_some() {
    let directory = PathBuf::from(std::env::var_os("TEST_DATA").unwrap());
    thread::scope(|scope| {
        for agent in ["a", "b"] {
            let settings = settings(&directory, &[("BATCH_SIZE", "100")]);
            scope.spawn(move || {
                let mut host = Host::open(agent, &settings).unwrap();
                for batch in 0..30 {
                    let events: Vec<_> = (0..100).map(|at| Event::new(Kind::TX_BYTES, 100 * batch + at)).collect();
                    host.export(&events);
                }
                assert_eq!(host.close().exported, 3000);
            });
        }
    });
}

/// Where the file system has no files without a name.
#[test]
fn what_was_left_half_written_goes() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("date=2025-11-24/agent=a");
    fs::create_dir_all(&inner).unwrap();
    let name = |agent: &str, pid: u32| {
        format!(".20251124T160000Z.{agent}.{}.000000000000-000000000009.parquet.{pid}.staging", "0".repeat(32))
    };
    // In containers, who comes next has the number of who was before.
    let (mine, dead) = (std::process::id(), 1 << 30);
    let locked = inner.join(name("a", 5));
    let kept = [
        locked.clone(),
        folder.path().join(name("b", dead)),
        folder.path().join(name("a", dead).replace("parquet", "csv")),
        folder.path().join(name("a", dead).trim_start_matches('.')),
    ];
    let gone = [folder.path().join(name("a", dead)), inner.join(name("a", dead)), inner.join(name("a", mine))];
    for file in kept.iter().chain(&gone) {
        fs::write(file, "half").unwrap();
    }
    let mut holder =
        apart("tests::hold_a_lock").env("TEST_FILE", &locked).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let file = fs::File::open(&locked).unwrap();
    until(|| nixl_telemetry_shm::holder(&file).unwrap().is_some());
    let mut host = Host::open("a", &settings(folder.path(), &[])).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 1)]);
    assert_eq!(host.close().exported, 1);
    let is_there = |files: &[PathBuf]| files.iter().map(|file| file.exists()).collect::<Vec<_>>();
    assert_eq!((is_there(&kept), is_there(&gone)), (vec![true; 4], vec![false; 3]));
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

#[test]
#[ignore = "run by what_was_left_half_written_goes"]
fn hold_a_lock() {
    let file = fs::File::options().write(true).open(std::env::var_os("TEST_FILE").unwrap()).unwrap();
    assert!(lock(&file).unwrap());
    std::io::read_to_string(std::io::stdin()).unwrap();
}
