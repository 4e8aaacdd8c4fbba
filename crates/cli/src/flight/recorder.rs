// SPDX-License-Identifier: Apache-2.0

//! Recorders and dumps, looked at from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nixl_telemetry_event::{Layout, unescape_file_name};
use nixl_telemetry_ring::{Batch, DumpName, Mode, ReadError, Reader};

use crate::common::human;
use crate::rings::selection::Agents;

/// The folder of the dumps, unless somebody says another.
pub(crate) const DUMPS: &str = "dumps";

/// Which recorders of a directory are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Directory of recorders: what NIXL_TELEMETRY_FLIGHT_DIR was
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    agents: Agents,
}

impl Which {
    /// Whether the recorder of this file name is meant.
    pub(crate) fn wants(&self, recorder: &str) -> bool {
        self.agents.wants(&unescape_file_name(recorder))
    }

    /// The recorders that are meant, by name, and what is wrong with others.
    pub(crate) fn recorders(&self) -> anyhow::Result<(Vec<Recorder>, Vec<String>)> {
        let context = || format!("cannot read {}", self.directory.display());
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if !is_file || name.starts_with('.') || DumpName::parse(&name).is_some() || !self.wants(&name) {
                continue;
            }
            match Recorder::open(name, entry.path()) {
                Ok(recorder) => found.extend(recorder),
                Err(error) if error.is_foreign() || error.is_absent() => {}
                Err(error) => problems.push(format!("{}: {error}", entry.path().display())),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        problems.sort();
        Ok((found, problems))
    }
}

/// A recorder's file.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Its file's name.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) state: State,
    pub(crate) contents: Contents,
}

/// Whether somebody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// This process, 0 for one that cannot be seen from here.
    Alive(u32),
    /// Nobody any more.
    Ended,
    /// It cannot be told.
    Unknown,
}

/// What a ring holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) events: u64,
    /// Times of the first and the last, in microseconds since the Unix epoch.
    pub(crate) span: Option<(u64, u64)>,
    /// Slots of the file.
    pub(crate) slots: u64,
    /// Size of the file.
    pub(crate) bytes: u64,
}

impl Recorder {
    /// Looks at a file; `None` for a ring of another sort.
    fn open(name: String, path: PathBuf) -> Result<Option<Self>, ReadError> {
        let mut reader = Reader::open(&path, Mode::Peek)?;
        if reader.shape().layout != Layout::L56 {
            return Ok(None);
        }
        let state = match reader.holder() {
            Ok(Some(process)) => State::Alive(process),
            Ok(None) => State::Ended,
            Err(_) => State::Unknown,
        };
        Ok(Some(Self { name, path, state, contents: Contents::read(&mut reader)? }))
    }

    /// The name of its agent; of a second one of that name, with `.2` behind it.
    pub(crate) fn agent(&self) -> String {
        unescape_file_name(&self.name)
    }
}

impl Contents {
    /// Looks at a dump.
    pub(crate) fn of(path: &Path) -> Result<Self, ReadError> {
        Self::read(&mut Reader::open(path, Mode::Peek)?)
    }

    /// What is there now: whoever goes on writing is not followed.
    fn read(reader: &mut Reader) -> Result<Self, ReadError> {
        let (held, shape) = (reader.header()?.unread(), reader.shape());
        let mut this = Self { events: held, span: None, slots: shape.capacity, bytes: shape.size() };
        let (mut batch, mut seen) = (Batch::new(), 0);
        while seen < held {
            reader.read(&mut batch)?;
            if batch.is_empty() {
                break;
            }
            seen += batch.len() as u64;
            let mut times = batch.events().map(|event| event.timestamp_us().unwrap_or_default());
            if let Some(first) = times.next() {
                let last = times.last().unwrap_or(first);
                this.span = Some((this.span.map_or(first, |(first, _)| first), last));
            }
        }
        Ok(this)
    }

    /// The times of the first and the last event, for people.
    pub(crate) fn span_text(&self) -> [String; 2] {
        match self.span {
            Some((first, last)) => {
                [first, last].map(|time| human::moment(SystemTime::UNIX_EPOCH + Duration::from_micros(time)))
            }
            None => [(); 2].map(|()| "-".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_chosen_by_their_names() {
        let which = |agent: &[&str]| Which { directory: PathBuf::new(), agents: Agents::of(agent) };
        assert!(which(&[]).wants("anything"));
        let some = which(&["prefill-*", "a/b"]);
        for (recorder, wanted) in [("prefill-0", true), ("prefill-0.2", true), ("a%2Fb", true), ("decode", false)] {
            assert_eq!(some.wants(recorder), wanted, "{recorder}");
        }
    }

    #[test]
    fn a_span_is_two_moments() {
        let span = Some((1_764_000_000_000_000, 1_764_000_061_999_999));
        let contents = Contents { span, ..Contents::default() };
        assert_eq!(contents.span_text(), ["2025-11-24 16:00:00 UTC", "2025-11-24 16:01:01 UTC"]);
        assert_eq!(Contents::default().span_text(), ["-", "-"]);
    }
}
