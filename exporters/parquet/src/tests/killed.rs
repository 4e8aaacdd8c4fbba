// SPDX-License-Identifier: Apache-2.0

//! Processes that are killed at any moment: every file that has its name is whole, and with a spool every event is in one of
//! them, once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::*;

const KILLS: u64 = 20;

#[test]
fn a_kill_breaks_no_file_and_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [data, spool] = ["data", "spool"].map(|name| folder.path().join(name));
    fs::create_dir(&data).unwrap();
    let mut least = Vec::new();
    for run in 0..KILLS {
        let mut child = apart("tests::killed::write_until_killed")
            .env("TEST_DATA", &data)
            .env("TEST_SPOOL", &spool)
            .env("TEST_RUN", run.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says how many events the exporter has taken. At a moment of its own each time: while a batch is put together,
        // while a file is written, or when it has its name.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let taken = |line: std::io::Result<String>| line.unwrap().strip_prefix("taken ")?.parse::<u64>().ok();
        let mut last = lines.by_ref().filter_map(taken).find(|taken| *taken > 500 * (run % 7)).unwrap();
        thread::sleep(Duration::from_micros(1700 * (run % 11)));
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(taken).last().unwrap_or(last);
        least.push(last);
    }
    // Who comes last delivers what they have left.
    let more = [("SPOOL_DIR", spool.to_str().unwrap()), ("PARTITION", "date"), ("BATCH_TIMEOUT", "1")];
    let mut host = Host::open("a", &settings(&data, &more)).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, KILLS * RUN).at(T)]);
    until(|| files(&spool).iter().filter(|name| name.ends_with(".segment")).count() <= 1);
    assert_eq!(host.close().exported, 1);
    assert_eq!(files(&spool), [""; 0]);
    let strange: Vec<_> = files(&data).into_iter().filter(|name| !name.ends_with(".parquet")).collect();
    assert_eq!(strange, [""; 0]);

    let sql = format!(
        "SELECT count(*), count(DISTINCT value), min(value % {RUN}), max(value % {RUN}), count(DISTINCT origin) FROM $
         GROUP BY value // {RUN} ORDER BY value // {RUN}"
    );
    let Some(rows) = query("parquet after kills", &data, &sql) else { return };
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len() as u64, KILLS + 1);
    for (row, least) in rows.iter().zip(least) {
        let number = |at: usize| row[at].as_u64().unwrap();
        let events = number(0);
        assert!(events >= least, "{least} events were taken, {row} are there");
        assert_eq!([number(1), number(2), number(3), number(4)], [events, 0, events - 1, 1], "{row}");
    }
}

/// More than a run has events.
const RUN: u64 = 1 << 32;

#[test]
#[ignore = "run by a_kill_breaks_no_file_and_loses_and_doubles_nothing"]
fn write_until_killed() {
    let [data, spool, run] = ["TEST_DATA", "TEST_SPOOL", "TEST_RUN"].map(|name| std::env::var(name).unwrap());
    let more = [("SPOOL_DIR", spool.as_str()), ("PARTITION", "date"), ("BATCH_SIZE", "2000"), ("BATCH_TIMEOUT", "5")];
    let mut host = Host::open("a", &settings(Path::new(&data), &more)).unwrap();
    let mut value = run.parse::<u64>().unwrap() * RUN;
    let first = value;
    loop {
        let events: Vec<_> = (value..value + 100)
            .map(|value| Event::new(Kind::TX_BYTES, value).at(T + TO_MIDNIGHT / 100 * (value % 200)))
            .collect();
        host.export(&events);
        value += 100;
        writeln!(std::io::stdout(), "taken {}", value - first).unwrap();
    }
}
