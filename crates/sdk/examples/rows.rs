// SPDX-License-Identifier: Apache-2.0

//! An exporter with a queue that appends rows to a file, each once, for the tests of spools: `origin number agent value`.
//!
//! It is down while there is a file of that name with `.down` behind it, and refuses everything while there is one with `.full`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use nixl_telemetry_sdk::queue::{Delivery, Failed, OriginId, Queued, Sink};
use nixl_telemetry_sdk::{Agent, Describe, Error, Setting, Settings, export_plugin};

static FILE: Setting<PathBuf> = Setting::required("NIXL_TELEMETRY_ROWS_FILE", "File the rows are appended to.");

struct Rows {
    path: PathBuf,
    /// For each origin, the number of the row after the last.
    next: BTreeMap<OriginId, u64>,
}

impl Rows {
    /// What the file has of an origin. What a process that was killed had not written to its end is cut off.
    fn written(&self, origin: OriginId) -> io::Result<u64> {
        let text = fs::read_to_string(&self.path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        File::options().write(true).open(&self.path)?.set_len(whole as u64)?;
        let origin = origin.to_string();
        let own = text[..whole].lines().filter_map(|row| row.strip_prefix(&origin)?.split(' ').nth(1)?.parse().ok());
        Ok(own.max().map_or(0, |last: u64| last + 1))
    }
}

impl Sink for Rows {
    const NAME: &'static str = "ROWS";
    const SETTINGS: &'static [&'static dyn Describe] = &[&FILE];

    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        Ok(Self { path: settings.get(&FILE)?.value, next: BTreeMap::new() })
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        if self.path.with_added_extension("down").exists() {
            return Err(Failed::retry("the file of rows is down"));
        }
        if self.path.with_added_extension("full").exists() {
            return Err(Failed::refused("the file of rows is full"));
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        let (origin, agent) = (batch.origin(), batch.agent().name());
        let next = match self.next.get(&origin) {
            Some(next) => *next,
            None => self.written(origin)?,
        };
        let mut rows = String::new();
        for (number, event) in (batch.sequence()..).zip(batch).filter(|(number, _)| *number >= next) {
            writeln!(rows, "{origin} {number} {agent} {}", event.value())?;
        }
        file.write_all(rows.as_bytes())?;
        self.next.insert(origin, batch.sequence() + batch.len() as u64);
        Ok(())
    }
}

export_plugin!("rows", Queued<Rows>);
