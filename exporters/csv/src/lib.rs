// SPDX-License-Identifier: Apache-2.0

//! Writes NIXL telemetry events into CSV files: `NIXL_TELEMETRY_EXPORTER=csv`.
//!
//! ```text
//! timestamp_us,category,event_name,value
//! 1764000000000042,1,agent_tx_bytes,65536
//! ```
//!
//! A row an event, in the order they were recorded. A batch leaves in whole lines through one append, so that several
//! agents, threads and processes may share a file without mixing their lines; a batch for which there is no room
//! leaves nothing behind. Rotation is by size, and safe among processes too.
//!
//! With a host that exports again what a killed process had under way, every row is there once nevertheless: where a
//! batch begins is noted before it is written, and a batch that is repeated is compared with what stands there.

#![forbid(unsafe_code)]

mod columns;
#[cfg(test)]
mod exactly_once;
mod rows;

use nixl_telemetry_appender::{Appender, Destination};
use nixl_telemetry_sdk::{Agent, Batch, Describe, Error, Exporter, PathTemplate, Setting, Settings, export_plugin};

use crate::columns::Columns;

static FILE: Setting<PathTemplate> = Setting::required(
    "NIXL_TELEMETRY_CSV_FILE",
    "File the rows are appended to; {agent}, {hostname} and {pid} are replaced, other bytes than letters, digits, -, _ \
     and . in them written as %XX.",
);
static COLUMNS: Setting<Columns> = Setting::new(
    "NIXL_TELEMETRY_CSV_COLUMNS",
    "timestamp_us,category,event_name,value",
    "Columns in order, out of timestamp_us, category, category_name, event_name, value, unit, agent_name, hostname and \
     pid.",
);
static MAX_SIZE: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_CSV_MAX_SIZE",
    "0",
    "Size at which the file is rotated to FILE.1, FILE.1 to FILE.2 and so on; 0 never rotates.",
)
.unit("bytes");
static MAX_FILES: Setting<u32> = Setting::new(
    "NIXL_TELEMETRY_CSV_MAX_FILES",
    "5",
    "Rotated files that are kept besides the current one; with 0 a full file is deleted.",
);

/// The exporter of one agent.
struct Csv(Appender<Columns>);

impl Exporter for Csv {
    const SETTINGS: &'static [&'static dyn Describe] = &[&FILE, &COLUMNS, &MAX_SIZE, &MAX_FILES];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let destination = Destination::from_settings(settings, &FILE, &MAX_SIZE, &MAX_FILES)?;
        let columns = settings.get(&COLUMNS)?.value;
        Ok(Self(Appender::open(agent, columns, destination)?))
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        self.0.export(batch)
    }
}

export_plugin!("csv", Csv);

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Event, Kind, markdown_table, testing::TestHost};

    use super::*;

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let table = markdown_table(Csv::SETTINGS);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table), "exporters/csv/README.md lacks this table:\n{table}");
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn two_agents_share_a_rotating_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.csv");
        let settings = settings(&[
            ("NIXL_TELEMETRY_CSV_FILE", file.to_str().unwrap()),
            ("NIXL_TELEMETRY_CSV_COLUMNS", "agent_name,value"),
            ("NIXL_TELEMETRY_CSV_MAX_SIZE", "40"),
            ("NIXL_TELEMETRY_CSV_MAX_FILES", "1"),
        ]);
        let mut hosts = ["a", "b"].map(|agent| TestHost::<Csv>::open(agent, &settings).unwrap());
        for value in 0..5 {
            for host in &mut hosts {
                host.export(&[Event::new(Kind::TX_BYTES, 1000 + value)]);
            }
        }
        for host in hosts {
            let counts = host.close();
            assert_eq!((counts.taken, counts.exported), (5, 5));
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        // Three rows fit a file: the tenth is alone, the three before it are kept, the rest was deleted.
        assert_eq!(read("events.csv"), "agent_name,value\nb,1004\n");
        assert_eq!(read("events.csv.1"), "agent_name,value\na,1003\nb,1003\na,1004\n");
        assert!(!folder.path().join("events.csv.2").exists());
    }

    #[test]
    fn bad_settings_are_named() {
        let table: [(&[(&str, &str)], &str); 4] = [
            (&[], "NIXL_TELEMETRY_CSV_FILE is not set"),
            (&[("NIXL_TELEMETRY_CSV_FILE", "/")], "NIXL_TELEMETRY_CSV_FILE: /: is a directory, expected a file"),
            (
                &[("NIXL_TELEMETRY_CSV_FILE", "/dev/null"), ("NIXL_TELEMETRY_CSV_MAX_SIZE", "1M")],
                "NIXL_TELEMETRY_CSV_MAX_SIZE is \"1M\" (environment)",
            ),
            (
                &[("NIXL_TELEMETRY_CSV_FILE", "/dev/null"), ("NIXL_TELEMETRY_CSV_COLUMNS", "x")],
                "NIXL_TELEMETRY_CSV_COLUMNS is \"x\" (environment)",
            ),
        ];
        for (pairs, message) in table {
            let error = TestHost::<Csv>::open("a", &settings(pairs)).err().expect("it does not open").to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
