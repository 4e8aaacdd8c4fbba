// SPDX-License-Identifier: Apache-2.0

//! What the README asks a database, and what it says is answered.

use super::*;

/// 2025-11-24 16:00:00 UTC.
const START_US: u64 = 1_764_000_000_000_000;

/// A transfer, as NIXL tells of it.
fn transfer(at_us: u64, bytes: (Kind, u64), microseconds: u64) -> [Event<'static>; 4] {
    let requests = if bytes.0 == Kind::TX_BYTES { Kind::TX_REQUESTS_NUM } else { Kind::RX_REQUESTS_NUM };
    [(Kind::XFER_POST_TIME, microseconds / 10), (Kind::XFER_TIME, microseconds), bytes, (requests, 1)]
        .map(|(kind, value)| Event::new(kind, value).at(at_us))
}

/// Three minutes of two agents: one writes more and more, the other reads, slowly now and then.
fn three_minutes(file: &Path) {
    let (mut writer, mut reader) = (open("prefill-0", file, &[]), open("decode-1", file, &[]));
    for step in 0..180 {
        let at_us = START_US + step * 1_000_000 + 42;
        writer.export(&transfer(at_us, (Kind::TX_BYTES, 1_048_576 * (1 + step / 60)), 200 + step));
        if step % 3 == 0 {
            let slow = if step % 50 == 0 { 9000 + step } else { 0 };
            reader.export(&transfer(at_us, (Kind::RX_BYTES, 1_572_864), 100 + step % 7 + slow));
        }
        if step % 45 == 7 {
            writer.export(&[Event::new(Kind::ERR_BACKEND, 1).at(at_us)]);
        }
        if step % 100 == 8 {
            reader.export(&[Event::new(Kind::ERR_NOT_FOUND, 1).at(at_us), Event::new(Kind::ERR_BACKEND, 1).at(at_us)]);
        }
    }
    writer.close();
    reader.close();
}

#[test]
fn the_readmes_queries_have_the_answers_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("telemetry.db");
    three_minutes(&file);
    let parts: Vec<_> = include_str!("../../README.md").split("```").skip(1).step_by(2).collect();
    let mut queries = 0;
    for pair in parts.windows(2) {
        let [Some(query), Some(shown)] = [pair[0].strip_prefix("sql\n"), pair[1].strip_prefix("text\n")] else {
            continue;
        };
        let Some(answer) = sqlite3("sqlite's README", &file, &["-box", query]) else { return };
        assert_eq!(answer, shown, "{query}\n{answer}");
        queries += 1;
    }
    assert_eq!(queries, 6);
}

/// Or else the blocks would save nothing.
#[test]
fn a_time_is_found_by_its_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("telemetry.db");
    three_minutes(&file);
    let query = include_str!("../../README.md").split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let connection = Connection::open(&file).unwrap();
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
    let plan: Vec<String> = statement.query_map((), |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let at = |step: &str| plan.iter().position(|line| line.starts_with(step)).unwrap_or_else(|| panic!("{plan:?}"));
    let blocks = at("SEARCH blocks USING INDEX blocks_by_time (last_us>?)");
    assert!(blocks < at("SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{plan:?}");
}
