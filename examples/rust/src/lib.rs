// SPDX-License-Identifier: Apache-2.0

//! The CSV exporter of NIXL's plugin guide, in Rust: the twin of `examples/cpp-v1` and `examples/cpp-v2`, and what
//! `docs/writing-an-exporter.md` explains piece by piece.

#![forbid(unsafe_code)]

use std::{fs::File, io::Write, path::PathBuf};

use nixl_telemetry_sdk::{Agent, Batch, Describe, Error, Exporter, Setting, Settings, export_plugin};

static FILE: Setting<PathBuf> = Setting::required("NIXL_TELEMETRY_CSV_FILE", "File the rows are appended to.");

struct Csv(File);

impl Exporter for Csv {
    const SETTINGS: &'static [&'static dyn Describe] = &[&FILE];

    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        let path = settings.get(&FILE)?.value;
        let file = File::options().append(true).create(true).open(&path);
        let mut file = file.map_err(|error| format!("{} is {}: {error}", FILE.name(), path.display()))?;
        if file.metadata()?.len() == 0 {
            file.write_all(b"timestamp_us,category,event_name,value\n")?;
        }
        Ok(Csv(file))
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let mut rows = String::new();
        for event in batch {
            let timestamp = event.timestamp_us().unwrap_or_default();
            let category = event.category().map_or(String::new(), |category| category.code().to_string());
            rows += &format!("{timestamp},{category},{},{}\n", event.name(), event.value());
        }
        Ok(self.0.write_all(rows.as_bytes())?)
    }
}

export_plugin!("csv_rust", Csv);

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Event, Kind, testing::TestHost};

    use super::*;

    #[test]
    fn events_become_rows() {
        let path = std::env::temp_dir().join(format!("csv-rust-{}", std::process::id()));
        let settings = Settings::from_pairs([("NIXL_TELEMETRY_CSV_FILE", &path)]);
        let mut host = TestHost::<Csv>::open("agentA", &settings).unwrap();
        host.export(&[Event::new(Kind::TX_BYTES, 4096).at(7), Event::backend("ucx_retries", 2).at(8)]);
        let counts = host.close();

        assert_eq!((counts.taken, counts.exported), (2, 2));
        let rows = "timestamp_us,category,event_name,value\n7,1,agent_tx_bytes,4096\n8,3,ucx_retries,2\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), rows);
        std::fs::remove_file(&path).unwrap();
    }
}
