// SPDX-License-Identifier: Apache-2.0

//! The README's queries, run on the same events, answer what the README says.

use super::*;

const README: &str = include_str!("../../README.md");
/// 2027-01-01 09:00:00 UTC.
const START_US: u64 = 1_798_794_000_000_000;

/// Three minutes of one agent: transfers that get slower, and errors in the last.
fn three_minutes(bytes: Kind, offset_us: u64, errors: &[Kind]) -> Vec<Event<'static>> {
    let transfers = (0..300).flat_map(|number| {
        let at = START_US + offset_us + number * 600_000;
        let time = 100 + offset_us + number * number * 7919 % 1000 + number;
        [
            Event::new(bytes, 65_536 * (1 + number % 4) * (1 + number / 50)).at(at),
            Event::new(Kind::XFER_TIME, time).at(at),
            Event::new(Kind::XFER_POST_TIME, 10 + number % 7).at(at),
        ]
    });
    let errors = (0..).zip(errors).map(|(number, kind)| Event::new(*kind, 1).at(START_US + 170_000_000 + number));
    transfers.chain(errors).collect()
}

#[test]
fn they_answer_what_the_readme_says() {
    let Some(database) = Database::shared("queries") else { return };
    let mut prefill = database.open("prefill-0", &[]);
    prefill.export(&three_minutes(Kind::TX_BYTES, 0, &[Kind::ERR_BACKEND, Kind::ERR_CANCELED, Kind::ERR_BACKEND]));
    prefill.close();
    let mut decode = database.open("decode-0", &[]);
    decode.export(&three_minutes(Kind::RX_BYTES, 250, &[Kind::ERR_NOT_FOUND]));
    decode.close();
    let mut examples = 0;
    for example in README.split("```sql\n").skip(1) {
        let (sql, rest) = example.split_once("```").unwrap();
        let Some(rest) = rest.trim_start().strip_prefix("```text\n") else { continue };
        let (answer, _) = rest.split_once("```").unwrap();
        let output =
            database.server.psql_command(&database.name).env("PGTZ", "UTC").args(["-c", sql]).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let lines = |text: &str| text.trim().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&output), lines(answer), "{sql} answers\n{output}");
        examples += 1;
    }
    assert_eq!(examples, 6);
}
