// SPDX-License-Identifier: Apache-2.0

use std::mem;
use std::path::{Path, PathBuf};

use nixl_telemetry_event::unescape_file_name;

use crate::{Batch, Mode, ReadError, Reader};

/// The ring file of a path: whatever file is there, one after another.
///
/// NIXL begins the file of an agent's name anew whenever an agent of that name starts; others may remove it, or replace
/// it. A follower reads what is left of one, and goes on with the next.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    agent: String,
    mode: Mode,
    reader: Option<Reader>,
    /// What was read of this path has come to its end, and what comes next is another: told with the first batch of that, even
    /// if it cannot be read at first.
    has_ended: bool,
}

/// What a follower found.
#[derive(Debug)]
pub enum Polled {
    /// Events, or word of events that were lost.
    Events,
    /// Nothing new.
    Quiet,
    /// There is no such file, or none any more.
    Gone,
    /// The file cannot be read, for now or for good.
    Unreadable(ReadError),
}

impl Follower {
    /// A follower of this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>, mode: Mode) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Self { agent: unescape_file_name(&name), path, mode, reader: None, has_ended: false }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the agent, after which the file is named.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// The file that is being read, if there is one.
    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    /// Reads what is new.
    pub fn poll(&mut self, batch: &mut Batch) -> Polled {
        let Some(reader) = &mut self.reader else { return self.next_file(batch) };
        match reader.read(batch) {
            Ok(()) if is_news(batch) => Polled::Events,
            Ok(()) if reader.is_current() => Polled::Quiet,
            Ok(()) => match reader.read(batch) {
                // Written last, before the path was taken from it.
                Ok(()) if is_news(batch) => Polled::Events,
                // What it held was read; the next one may be there already. As long as it is not, its writer may go on.
                _ => {
                    self.has_ended = true;
                    self.next_file(batch)
                }
            },
            // The next writer may have given it another shape, or be about to.
            Err(error) => {
                (self.reader, self.has_ended) = (None, true);
                match self.next_file(batch) {
                    Polled::Gone if !error.is_absent() => Polled::Unreadable(error),
                    polled => polled,
                }
            }
        }
    }

    /// Takes what was read out of the file; see [`Reader::commit`].
    ///
    /// # Errors
    /// If the file cannot be read or written.
    ///
    /// # Panics
    /// In [`Mode::Peek`].
    pub fn commit(&mut self) -> Result<bool, ReadError> {
        self.reader.as_mut().map_or(Ok(true), Reader::commit)
    }

    fn next_file(&mut self, batch: &mut Batch) -> Polled {
        match Reader::open(&self.path, self.mode).and_then(|mut reader| reader.read(batch).map(|()| reader)) {
            Ok(reader) => {
                self.reader = Some(reader);
                batch.restarted |= mem::take(&mut self.has_ended);
                if is_news(batch) { Polled::Events } else { Polled::Quiet }
            }
            Err(error) if error.is_absent() => Polled::Gone,
            Err(error) => Polled::Unreadable(error),
        }
    }
}

fn is_news(batch: &Batch) -> bool {
    !batch.is_empty() || batch.lost().is_some() || batch.restarted()
}
