// SPDX-License-Identifier: Apache-2.0

//! For exporters that write lines: appends batches to a file that several agents, threads and processes share.
//!
//! A batch leaves in whole lines through one append, so that nobody's lines are mixed with somebody else's; a batch for
//! which there is no room leaves nothing behind. Rotation is by size, and safe among processes too.
//!
//! With a host that exports again what a killed process had under way, every line is there once nevertheless: where a
//! batch begins is noted before it is written, and a batch that is repeated is compared with what stands there.
//!
//! An exporter brings a [`Format`], how its lines are made, and three settings, of which a [`Destination`] is made; an
//! [`Appender`] does the rest.

#![forbid(unsafe_code)]

mod codec;
mod destination;
mod file;
mod note;

use nixl_telemetry_sdk::{Agent, Batch, Error};

use crate::file::LineFile;
pub use crate::{
    codec::{Codec, Compression},
    destination::Destination,
    file::{Form, Place},
    note::Note,
};

/// How the lines of a file are made.
pub trait Format: Send + 'static {
    /// What makes the lines of one agent.
    type Lines: Lines;

    /// What makes the lines of this agent.
    fn lines(&self, agent: &Agent) -> Self::Lines;

    /// What the lines look like.
    fn form(&self) -> Form;
}

/// Makes the lines of one agent.
pub trait Lines: Send + 'static {
    /// The lines of a batch, of which each ends with a line feed. The same events make the same lines.
    fn encode(&mut self, batch: &Batch<'_>) -> &[u8];
}

/// Appends the batches of one agent to its file.
pub struct Appender<F: Format> {
    lines: F::Lines,
    file: LineFile,
    /// For the lines of another process.
    format: F,
    destination: Destination,
}

impl<F: Format> Appender<F> {
    /// Opens or creates the file of this agent, and writes the header into an empty one.
    ///
    /// # Errors
    /// If the path is no place for a file, or the file has another header: lines of two sorts are not mixed. The setting and
    /// the path are named.
    pub fn open(agent: &Agent, format: F, destination: Destination) -> Result<Self, Error> {
        let file = destination.open_own(agent, format.form())?;
        Ok(Self { lines: format.lines(agent), file, format, destination })
    }

    /// Appends a batch: all of its lines, or, if it is repeated, those that are missing.
    ///
    /// # Errors
    /// If there is no room or the file cannot be written; what stood in it before is untouched.
    pub fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        if batch.is_repeated()
            && let Some(noted) = batch.memo().and_then(|memo| memo.recall()).and_then(Note::from_numbers)
        {
            return self.complete(batch, noted);
        }
        let pid = batch.agent().pid();
        let note = |place: Place| write_down(batch, Note { place, before: 0, pid });
        Ok(self.file.append(self.lines.encode(batch), &note)?)
    }

    /// Appends what is missing of a batch another process was about to append, as that process would have.
    fn complete(&mut self, batch: &Batch<'_>, noted: Note) -> Result<(), Error> {
        let (own, agent) = (batch.agent(), batch.agent().in_process(noted.pid));
        let mut lines = self.format.lines(&agent);
        let mut other;
        let file = if self.destination.path(&agent) == self.destination.path(own) {
            &mut self.file
        } else {
            other = self.destination.open(&agent, self.format.form())?;
            &mut other
        };
        let lines = lines.encode(batch);
        // More than there is: these are other lines than then, by other settings, and none of them is anywhere.
        let before = usize::try_from(noted.before).ok().filter(|before| *before <= lines.len()).unwrap_or(0);
        let note = |there: usize, place| {
            let before = (before + there) as u64;
            write_down(batch, Note { place, before, ..noted });
        };
        Ok(file.complete(&lines[before..], noted.place, &note)?)
    }
}

fn write_down(batch: &Batch<'_>, note: Note) {
    if let Some(memo) = batch.memo() {
        memo.set(note.to_numbers());
    }
}
