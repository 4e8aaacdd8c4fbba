// SPDX-License-Identifier: Apache-2.0

//! The queries of the README, run on events that are always the same, print what stands there.

use super::*;

/// Three agents during three minutes, and what went wrong.
fn write(directory: &Path) {
    let mut random = 1_u64;
    for (agent, bytes) in [("decode-0", 1 << 20), ("decode-1", 1 << 20), ("prefill-0", 1 << 22)] {
        let mut host = Host::open(agent, &settings(directory, &[("PARTITION", "date,agent")])).unwrap();
        for transfer in 0..3000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (some, rare) = (random >> 40, (random >> 33).is_multiple_of(100));
            let (at, time) = (T + 60_000 * transfer, 200 + some % 400 + if rare { some % 20_000 } else { 0 });
            let sent = if agent == "prefill-0" { Kind::TX_BYTES } else { Kind::RX_BYTES };
            let mut events = vec![
                Event::new(sent, bytes).at(at),
                Event::new(Kind::XFER_TIME, time).at(at),
                Event::new(Kind::XFER_POST_TIME, 5 + some % 20).at(at),
            ];
            if rare && some.is_multiple_of(3) {
                let error = if some.is_multiple_of(2) { Kind::ERR_BACKEND } else { Kind::ERR_REMOTE_DISCONNECT };
                events.push(Event::new(error, 1).at(at));
            }
            host.export(&events);
        }
        host.close();
    }
}

#[test]
fn the_readme_has_what_they_print() {
    const SCRIPT: &str = "import duckdb, json, os, sys
os.chdir(sys.argv[1])
duckdb.sql(\"SET TimeZone='UTC'\")
print(json.dumps([str(duckdb.sql(sql)) for sql in sys.argv[2:]]))";
    let (_, section) = include_str!("../../README.md").split_once("\n## Queries\n").expect("a section");
    let blocks = |kind: &str| {
        let start = format!("```{kind}\n");
        section.split(&start).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (queries, outputs) = (blocks("sql"), blocks("text"));
    assert!(queries.len() == outputs.len() && queries.len() > 4, "{} and {}", queries.len(), outputs.len());
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("telemetry");
    fs::create_dir(&directory).unwrap();
    write(&directory);
    let arguments: Vec<_> =
        [folder.path().to_str().unwrap()].into_iter().chain(queries.iter().map(String::as_str)).collect();
    let Some(printed) = ask("parquet queries", SCRIPT, &arguments) else { return };
    for ((query, expected), printed) in queries.iter().zip(&outputs).zip(printed.as_array().unwrap()) {
        let printed = printed.as_str().unwrap();
        assert_eq!(printed.trim_end(), expected.trim_end(), "{query}prints\n{printed}");
    }
}
