// SPDX-License-Identifier: Apache-2.0

//! Several processes on one database, processes that are killed, and what comes twice.

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
};

use super::*;

const SPOOL: &str = "NIXL_TELEMETRY_SQLITE_SPOOL_DIR";
const BLOCK: (&str, &str) = ("NIXL_TELEMETRY_SQLITE_QUEUE_OVERFLOW", "block:60000");

/// A folder that a queue takes for a spool.
fn spool(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn four_processes_share_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let writers = ["a", "b", "c", "d"]
        .map(|agent| process("tests::processes::write_many", &file).env("TEST_AGENT", agent).spawn().unwrap());
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let expected = ["a", "b", "c", "d"].map(|agent| (agent.to_owned(), sum(0..30_000)));
    assert_eq!(totals(&file), expected.into());
    assert_eq!(ask::<i64>(&file, "SELECT sum(next_sequence) FROM agents").unwrap(), 120_000);
}

#[test]
#[ignore = "run by four_processes_share_a_database"]
fn write_many() {
    let agent = env::var("TEST_AGENT").unwrap();
    let mut host = open(&agent, &told(), &[BLOCK, ("NIXL_TELEMETRY_SQLITE_BATCH_SIZE", "500")]);
    for batch in 0..300 {
        host.export(&events(100 * batch..100 * (batch + 1)));
    }
    host.close();
}

/// Each process is killed somewhere; the next finds in the spool what it has left.
#[test]
fn nothing_is_lost_and_nothing_is_twice_whenever_a_process_is_killed() {
    const ROUNDS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let (file, spool) = (folder.path().join("events.db"), spool(folder.path().join("spool")));
    let exported: Vec<u64> = (0..ROUNDS)
        .map(|round| {
            let mut command = process("tests::processes::export_until_killed", &file);
            command.env("TEST_SPOOL", &spool).env("TEST_FIRST", (round * FAR).to_string());
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let number = |line: String| line.strip_prefix("exported ")?.parse::<u64>().ok();
            let times = usize::try_from(1 + round * 3).unwrap();
            let seen = lines.by_ref().filter_map(number).take(times).last().unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
            // What it managed to say before.
            lines.filter_map(number).last().unwrap_or(seen)
        })
        .collect();
    open("last", &file, &[(SPOOL, spool.to_str().unwrap())]).close();

    let seen = totals(&file);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["victim"]);
    for (round, exported) in (0..).zip(exported) {
        let first = (round * FAR).cast_signed();
        let sql = format!(
            "SELECT count(*) || ' ' || count(DISTINCT value) || ' ' || ifnull(max(value) - {first} + 1, 0) FROM events \
             WHERE value BETWEEN {first} AND {}",
            first + FAR.cast_signed() - 1
        );
        let counts: String = ask(&file, &sql).unwrap();
        let counts: Vec<u64> = counts.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "round {round}: {counts:?}");
        // The last batch may be there, though nobody was told that it was exported.
        assert!((exported..=exported + TOGETHER).contains(&counts[0]), "round {round}: {exported}, {counts:?}");
    }
}

/// Between the first values of two processes.
const FAR: u64 = 1 << 32;
/// Events of a batch.
const TOGETHER: u64 = 50;

#[test]
#[ignore = "run by nothing_is_lost_and_nothing_is_twice_whenever_a_process_is_killed"]
fn export_until_killed() {
    let (spool, first) = (env::var("TEST_SPOOL").unwrap(), env::var("TEST_FIRST").unwrap().parse::<u64>().unwrap());
    let more = [BLOCK, (SPOOL, &spool), ("NIXL_TELEMETRY_SQLITE_BATCH_SIZE", "70")];
    let mut host = open("victim", &told(), &more);
    for done in (0..).step_by(50) {
        host.export(&events(first + done..first + done + TOGETHER));
        // Past the test harness, which would keep it.
        writeln!(std::io::stdout(), "exported {}", done + TOGETHER).unwrap();
    }
}

#[test]
fn what_is_delivered_again_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (file, first) = (folder.path().join("events.db"), spool(folder.path().join("spool")));
    open("before", &file, &[]).close();
    let mut host = open("before", &file, &[]);
    host.export(&events(0..1));
    host.close();

    // The database is locked until the process ends, and all stays in the spool.
    let lock = Connection::open(&file).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // No attempt is worth waiting for at the end.
    let impatient = [
        ("NIXL_TELEMETRY_SQLITE_RETRY_INITIAL_INTERVAL", "600000"),
        ("NIXL_TELEMETRY_SQLITE_RETRY_MAX_INTERVAL", "600000"),
        (BUSY_TIMEOUT.name(), "10"),
        (SPOOL, first.to_str().unwrap()),
    ];
    let mut host = open("a", &file, &impatient);
    host.export(&events(0..100));
    host.close();
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(totals(&file).keys().collect::<Vec<_>>(), ["before"]);

    // As often as it comes.
    let copies = [0, 1, 2].map(|number| folder.path().join(format!("copy-{number}")));
    for copy in &copies {
        assert!(Command::new("cp").arg("-a").arg(&first).arg(copy).status().unwrap().success());
    }
    let expected = BTreeMap::from([("a".to_owned(), sum(0..100)), ("before".to_owned(), sum(0..1))]);
    for copy in &copies[..2] {
        open("later", &file, &[(SPOOL, copy.to_str().unwrap())]).close();
        assert_eq!(totals(&file), expected);
    }
    // As if a process had delivered the first 40 only.
    let writer = Connection::open(&file).unwrap();
    let partly = "DELETE FROM events WHERE sequence >= 40; UPDATE agents SET next_sequence = 40 WHERE agent = 'a'";
    writer.execute_batch(partly).unwrap();
    let more = [(SPOOL, copies[2].to_str().unwrap()), ("NIXL_TELEMETRY_SQLITE_BATCH_SIZE", "7")];
    open("later", &file, &more).close();
    assert_eq!(totals(&file), expected);
}
