// SPDX-License-Identifier: Apache-2.0

//! Writes NIXL telemetry events into Parquet files: `NIXL_TELEMETRY_EXPORTER=parquet`.
//!
//! ```text
//! queue ──▶ delivery ──▶ rows ──▶ file without a name ──▶ its name
//!                         │           ▲
//!                         └── chunk ──┘ a row group after the other, a column after the other
//! ```
//!
//! A delivery of the queue becomes one file (one a day, if files are kept apart by date), and is settled only when that file has
//! its name: so what is in the spool is gone from there once it is in a file that can be read. What is delivered again finds by
//! the names of the files what of it is there.

#![forbid(unsafe_code)]

mod chunk;
mod directory;
mod rows;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use nixl_telemetry_sdk::queue::{Delivery, Failed, Queued, Sink};
use nixl_telemetry_sdk::{Agent, Describe, Error, Settings, export_plugin};

use crate::directory::{Directory, day_of};
use crate::table::Writer;

/// The files of one agent.
struct Parquet {
    directory: Directory,
    writer: Writer,
    /// What processes that were killed have left was looked for.
    is_tidy: bool,
}

impl Sink for Parquet {
    const NAME: &'static str = "PARQUET";
    const SETTINGS: &'static [&'static dyn Describe] = settings::ALL;
    // A batch is a file: large ones are what readers are fast with.
    const BATCH_SIZE: &'static str = "1000000";
    const BATCH_TIMEOUT: &'static str = "60000";
    // Twice what half of the room has to hold.
    const QUEUE_SIZE: &'static str = "4000000";
    const QUEUE_BYTES: &'static str = "134217728";

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let directory = Directory::open(settings, agent)?;
        Ok(Self { directory, writer: Writer::new(settings)?, is_tidy: false })
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        if !self.is_tidy {
            self.directory.tidy();
            self.is_tidy = true;
        }
        for day in self.directory.days(batch) {
            let folder = self.directory.folder(batch.agent(), day)?;
            let there = if batch.is_repeated() { folder.numbers(batch)? } else { Vec::new() };
            let is_missing = |number: u64| !there.iter().any(|numbers| numbers.contains(&number));
            let is_of_day = |timestamp_us| day.is_none_or(|day| day == day_of(timestamp_us));
            let rows = (batch.sequence()..)
                .zip(batch)
                .filter(|(number, event)| is_of_day(event.timestamp_us().unwrap_or(0)) && is_missing(*number));
            folder.write(batch, rows, &mut self.writer)?;
        }
        Ok(())
    }
}

export_plugin!("parquet", Queued<Parquet>);
