// SPDX-License-Identifier: Apache-2.0

//! Dumps: what a ring holds, copied into a ring file of its own that nobody writes any more.
//!
//! The copy has the slots as they lay in the ring, oldest first, from its first slot on, in the smallest ring that has room
//! for them. It has its name only when it is complete. Its directory is made if it is not there, for its owner alone.
//!
//! * [`Writer::dump`](crate::Writer::dump): of one's own ring;
//! * [`Left::dump`]: of the ring a writer is about to take over, which somebody who is dead has left;
//! * [`dump()`]: of anybody's, from outside, while its writer goes on: nothing of it is touched.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nixl_telemetry_shm::NewFile;

use crate::header::HEADER_SIZE;
use crate::reader::read_slots;
use crate::{Batch, DumpName, Header, Lost, Mode, ReadError, Reader, Reason, Shape};

/// Where a dump goes, and as what.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory.
    pub directory: &'a Path,
    /// What made somebody want it.
    pub reason: Reason,
    /// Permissions of the file.
    pub mode: u32,
}

/// A dump that was made.
#[derive(Debug)]
pub struct Dumped {
    /// Its file.
    pub path: PathBuf,
    /// Events in it.
    pub events: u64,
    /// Events that were overwritten before they could be copied: the oldest.
    pub lost: Lost,
    /// Size of the file in bytes.
    pub size: u64,
}

/// Why there is no dump. Names no file; whoever reports it does.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The ring cannot be read.
    #[error(transparent)]
    Ring(ReadError),
    /// The dump cannot be written.
    #[error("the dump cannot be written: {}", crate::error::describe(.0))]
    Dump(#[from] io::Error),
}

/// Copies what the ring at `path` holds and nobody has consumed. Changes nothing there, and waits for nobody.
///
/// # Errors
/// If the ring cannot be read, or the dump not be written.
pub fn dump(path: &Path, place: &Place<'_>) -> Result<Dumped, DumpError> {
    let mut reader = Reader::open(path, Mode::Peek).map_err(DumpError::Ring)?;
    // What is written meanwhile may come along, but is not waited for.
    let held = reader.header().map_err(DumpError::Ring)?.unread();
    let mut copy = Copy::new(path, place, reader.shape())?;
    let (mut batch, mut lost, mut seen) = (Batch::new(), Lost::default(), 0);
    loop {
        reader.read(&mut batch).map_err(DumpError::Ring)?;
        // The writer has come round, or begun anew: what follows does not follow on what was copied.
        if copy.events > 0 && (batch.restarted() || batch.lost().is_some()) {
            break;
        }
        copy.push(batch.bytes().0)?;
        lost.add(batch.lost());
        seen += batch.len() as u64 + batch.lost().events;
        if batch.is_empty() || seen >= held {
            break;
        }
    }
    Ok(Dumped { lost, ..copy.finish()? })
}

/// A ring that a writer is about to begin anew, or to replace, with events that nobody has consumed. Who wrote it is dead.
#[derive(Debug)]
pub struct Left<'a> {
    still: Still<'a>,
    path: &'a Path,
}

impl<'a> Left<'a> {
    pub(crate) fn new(path: &'a Path, file: &'a File, shape: Shape, header: &Header) -> Option<Self> {
        let still = Still { file, shape, from: header.read_pos, events: header.unread() };
        (still.events > 0).then_some(Self { still, path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Copies its events.
    ///
    /// # Errors
    /// If the file cannot be read, or the dump not be written.
    pub fn dump(&self, place: &Place<'_>) -> Result<Dumped, DumpError> {
        self.still.dump(self.path, place)
    }
}

/// Slots that nobody writes meanwhile.
#[derive(Debug)]
pub(crate) struct Still<'a> {
    pub(crate) file: &'a File,
    pub(crate) shape: Shape,
    pub(crate) from: u64,
    pub(crate) events: u64,
}

impl Still<'_> {
    pub(crate) fn dump(&self, path: &Path, place: &Place<'_>) -> Result<Dumped, DumpError> {
        /// Slots at a time: 448 KiB of the largest.
        const AT_ONCE: u64 = 8192;
        let Self { file, shape, from, events } = *self;
        let mut copy = Copy::new(path, place, shape)?;
        let mut slots = Vec::new();
        while copy.events < events {
            slots.clear();
            let at = from.wrapping_add(copy.events) & (shape.capacity - 1);
            read_slots(file, shape, at, (events - copy.events).min(AT_ONCE), &mut slots).map_err(DumpError::Ring)?;
            copy.push(&slots)?;
        }
        Ok(copy.finish()?)
    }
}

/// A dump that is being made.
struct Copy {
    file: NewFile,
    path: PathBuf,
    source: Shape,
    events: u64,
}

impl Copy {
    fn new(ring: &Path, place: &Place<'_>, source: Shape) -> io::Result<Self> {
        make_directory(place.directory)?;
        let path = free_path(ring, place)?;
        let file = NewFile::create(&path)?;
        file.file().set_permissions(Permissions::from_mode(place.mode))?;
        Ok(Self { file, path, source, events: 0 })
    }

    fn push(&mut self, slots: &[u8]) -> io::Result<()> {
        let size = self.source.layout.size() as u64;
        self.file.file().write_all_at(slots, HEADER_SIZE as u64 + self.events * size)?;
        self.events += slots.len() as u64 / size;
        Ok(())
    }

    fn finish(self) -> io::Result<Dumped> {
        let Self { file, path, source, events } = self;
        let shape = Shape { capacity: (events + 1).next_power_of_two().max(2), ..source };
        // Slots that are not written take no room.
        file.file().set_len(shape.size())?;
        file.file().write_all_at(&Header { write_pos: events, ..shape.header() }.encode(), 0)?;
        file.publish()?;
        Ok(Dumped { path, events, lost: Lost::default(), size: shape.size() })
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// A name of now, or of the next millisecond after the last dump of this ring, so that the order of names is that of dumps:
/// whoever keeps the newest must not find an old name that was removed given to a new dump.
fn free_path(ring: &Path, place: &Place<'_>) -> io::Result<PathBuf> {
    /// What is further ahead than that is of a clock that was wrong.
    const AHEAD: Duration = Duration::from_secs(1);
    let recorder = ring.file_name().unwrap_or_default().to_string_lossy();
    let now = SystemTime::now();
    let limit = DumpName::new(&recorder, now + AHEAD, place.reason).time;
    let dumps = DumpName::all(place.directory)?.into_iter().filter(|name| name.recorder == recorder);
    let last = dumps.map(|name| name.time).rfind(|time| *time < limit);
    let mut time = now;
    loop {
        let name = DumpName::new(&recorder, time, place.reason);
        let path = place.directory.join(name.to_string());
        if last.as_ref().is_none_or(|last| name.time > *last) && fs::symlink_metadata(&path).is_err() {
            return Ok(path);
        }
        time += Duration::from_millis(1);
    }
}
