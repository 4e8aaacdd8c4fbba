// SPDX-License-Identifier: Apache-2.0

//! Events on standard output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nixl_telemetry_event::json;
use nixl_telemetry_ring::{Batch, Follower};

use crate::common::human;
use crate::common::terminal::Unprintable;
use crate::rings::csv;
use crate::rings::output::Output;
use crate::rings::reading::Reading;
use crate::rings::text::{self, Time};

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Text,
    /// One object a line
    Json,
    /// A header, and one row an event
    Csv,
}

/// Writes those events that a call asks for.
#[derive(Debug)]
pub(crate) struct Printer<'a> {
    reading: &'a Reading,
    agents: BTreeMap<PathBuf, Form>,
    text: text::Writer,
    output: Output,
    left_out: u64,
}

/// How the events of one agent are written.
#[derive(Debug)]
pub(crate) enum Form {
    Text { agent: String },
    Json(json::Writer),
    Csv(csv::Writer),
}

impl<'a> Printer<'a> {
    /// A printer, which begins with the header, if the format has one.
    pub(crate) fn new(reading: &'a Reading) -> Result<Self, Unprintable> {
        let (agents, text, output) = (BTreeMap::new(), text::Writer::new(), Output::new());
        let mut this = Self { reading, agents, text, output, left_out: 0 };
        if reading.format == Format::Csv {
            this.output.line(|out| out.extend_from_slice(csv::HEADER.as_bytes()))?;
            this.output.flush()?;
        }
        Ok(this)
    }

    /// Writes the events of a batch; when it returns, they are out. Those from the one numbered `old` on were found at the
    /// moment `now`; about the others that says nothing.
    pub(crate) fn print(
        &mut self,
        from: &Follower,
        batch: &Batch,
        old: usize,
        now: Option<u64>,
    ) -> Result<(), Unprintable> {
        let Reading { selection, since, format, .. } = self.reading;
        let form = match self.agents.get_mut(from.path()) {
            Some(form) => form,
            None => self.agents.entry(from.path().to_owned()).or_insert(Form::new(*format, from.agent())),
        };
        let wants_every_event = selection.wants_every_event();
        for (i, event) in batch.events().enumerate() {
            if !wants_every_event && !selection.wants(&event) {
                continue;
            }
            let found = now.filter(|_| i >= old);
            if let Some(since) = since {
                match event.timestamp_us().or(found) {
                    Some(time) if since.includes(time) => {}
                    Some(_) => continue,
                    None => {
                        self.left_out += 1;
                        continue;
                    }
                }
            }
            let text = &mut self.text;
            self.output.line(|out| match form {
                Form::Json(writer) => writer.write(&event, out),
                Form::Csv(writer) => writer.write(&event, out),
                Form::Text { agent } => {
                    let time = event.timestamp_us().map(Time::Recorded).or(found.map(Time::Found));
                    text.write(agent, &event, time.unwrap_or(Time::Unknown), out);
                }
            })?;
        }
        self.output.flush()
    }

    /// The file of this path is there no more.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.agents.remove(path);
    }

    /// How many events were left out because their time is not known, since this was asked last.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

impl Form {
    pub(crate) fn new(format: Format, agent: &str) -> Self {
        match format {
            Format::Text => Self::Text { agent: human::line(agent) },
            Format::Json => Self::Json(json::Writer::new(agent)),
            Format::Csv => Self::Csv(csv::Writer::new(agent)),
        }
    }
}
