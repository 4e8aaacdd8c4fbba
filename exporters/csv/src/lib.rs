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

#![forbid(unsafe_code)]

mod columns;
mod file;
mod rows;

use std::num::NonZero;

use nixl_telemetry_sdk::{Agent, Batch, Describe, Error, Exporter, PathTemplate, Setting, Settings, export_plugin};

use crate::{
    columns::Columns,
    file::{CsvFile, Rotation},
    rows::Rows,
};

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

/// The exporter of one agent: how rows are made, and where they go.
struct Csv {
    rows: Rows,
    file: CsvFile,
}

impl Exporter for Csv {
    const SETTINGS: &'static [&'static dyn Describe] = &[&FILE, &COLUMNS, &MAX_SIZE, &MAX_FILES];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let path = settings.get(&FILE)?.value.resolve(agent);
        let columns = settings.get(&COLUMNS)?.value;
        let rotation = NonZero::new(settings.get(&MAX_SIZE)?.value)
            .map(|max_size| Ok::<_, Error>(Rotation { max_size, keep: settings.get(&MAX_FILES)?.value }))
            .transpose()?;
        let rows = Rows::new(&columns, agent);
        let file = CsvFile::open(path, rows.header(), rotation).map_err(|error| format!("{}: {error}", FILE.name()))?;
        Ok(Self { rows, file })
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        Ok(self.file.append(self.rows.encode(batch))?)
    }
}

export_plugin!("csv", Csv);
