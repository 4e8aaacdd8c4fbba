// SPDX-License-Identifier: Apache-2.0

//! Writes NIXL telemetry events as lines of JSON into files: `NIXL_TELEMETRY_EXPORTER=jsonl`.
//!
//! ```json
//! {"timestamp_us":1764000000000042,"agent":"decode-1","event":"agent_tx_bytes","category":"TRANSFER","value":65536,"unit":"bytes"}
//! ```
//!
//! An object an event, in the order they were recorded, as `nixl-telemetry read --format json` prints it and `docs/event.md`
//! describes it. How lines get into a file that others append to, rotate, or fill up, is [`nixl_telemetry_appender`]'s.

#![forbid(unsafe_code)]

mod compress;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod tests;

use nixl_telemetry_appender::{Appender, Destination, Form, Format, Lines};
use nixl_telemetry_event::json::Writer;
use nixl_telemetry_sdk::{Agent, Batch, Describe, Error, Exporter, PathTemplate, Setting, Settings, export_plugin};

use crate::compress::Compress;

static FILE: Setting<PathTemplate> = Setting::required(
    "NIXL_TELEMETRY_JSONL_FILE",
    "File the lines are appended to; {agent}, {hostname} and {pid} are replaced, other bytes than letters, digits, -, _ \
     and . in them written as %XX.",
);
static MAX_SIZE: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_JSONL_MAX_SIZE",
    "0",
    "Size at which the file is rotated to FILE.1, FILE.1 to FILE.2 and so on; 0 never rotates.",
)
.unit("bytes");
static MAX_FILES: Setting<u32> = Setting::new(
    "NIXL_TELEMETRY_JSONL_MAX_FILES",
    "5",
    "Rotated files that are kept besides the current one; with 0 a full file is deleted.",
);
static COMPRESS: Setting<Compress> = Setting::new(
    "NIXL_TELEMETRY_JSONL_COMPRESS",
    "none",
    "How rotated files are compressed: none, gzip (FILE.1 to FILE.1.gz) or zstd (FILE.1 to FILE.1.zst).",
);

/// The exporter of one agent.
struct Jsonl(Appender<Json>);

impl Exporter for Jsonl {
    const SETTINGS: &'static [&'static dyn Describe] = &[&FILE, &MAX_SIZE, &MAX_FILES, &COMPRESS];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let mut destination = Destination::from_settings(settings, &FILE, &MAX_SIZE, &MAX_FILES)?;
        if let Some(compression) = settings.get(&COMPRESS)?.value.compression() {
            destination = destination.compressed(compression);
        }
        Ok(Self(Appender::open(agent, Json, destination)?))
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        self.0.export(batch)
    }
}

/// Events as objects, one a line.
struct Json;

impl Format for Json {
    type Lines = Objects;

    fn lines(&self, agent: &Agent) -> Objects {
        Objects { writer: Writer::new(agent.name()), text: Vec::new() }
    }

    fn form(&self) -> Form {
        Form::lines()
    }
}

/// The objects of one agent.
struct Objects {
    writer: Writer,
    text: Vec<u8>,
}

impl Lines for Objects {
    fn encode(&mut self, batch: &Batch<'_>) -> &[u8] {
        self.text.clear();
        for event in batch.iter() {
            self.writer.write(&event, &mut self.text);
            self.text.push(b'\n');
        }
        &self.text
    }
}

export_plugin!("jsonl", Jsonl);
