// SPDX-License-Identifier: Apache-2.0

//! The CSV exporter of NIXL's plugin guide, in Rust: the twin of `examples/cpp-v1` and `examples/cpp-v2`.

#![forbid(unsafe_code)]

use std::{fs::File, io::Write as _, path::PathBuf};

use nixl_telemetry_sdk::{Agent, Batch, Category, Describe, Error, Exporter, Setting, Settings, export_plugin};

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
        for event in batch.iter() {
            let timestamp = event.timestamp_us().unwrap_or_default();
            let category = event.category().map_or(String::new(), |category: Category| category.code().to_string());
            rows += &format!("{timestamp},{category},{},{}\n", event.name(), event.value());
        }
        Ok(self.0.write_all(rows.as_bytes())?)
    }
}

export_plugin!("csv_rust", Csv);
