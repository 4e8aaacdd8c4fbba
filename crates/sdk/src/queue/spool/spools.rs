// SPDX-License-Identifier: Apache-2.0

//! Spools from outside: whose they are, what waits in them, and whether somebody writes them.
//!
//! ```no_run
//! use nixl_telemetry_sdk::queue::spools::{self, Contents};
//!
//! for spool in spools::find("/var/lib/telemetry".as_ref())? {
//!     let is_in_use = spool.writer()?.is_some();
//!     println!("{} {} {is_in_use}", spool.sink(), spool.origin());
//!     for path in spool.segments() {
//!         let contents = Contents::read(path)?;
//!         for record in contents.records().flatten() {
//!             println!("{}: {} events from {}", contents.agent(), record.len(), record.sequence());
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is changed but by [`Spool::remove`], and whoever writes meanwhile is not disturbed. Since a process loses a lock with
//! any descriptor of the file that it closes, do not look at a spool in the process that writes it, but through a [`Progress`]
//! that outlives its queue.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use nixl_telemetry_shm::holder;

use super::record::{self, Header, Walk};
use super::takeover::{Home, Part};
use super::trail::{Mark, Position, open, position, read_all};
use crate::batch;
use crate::queue::delivery::{Chunk, OriginId};

pub use super::record::Broken;

/// What one agent left in a directory, or is about to: the files of one sink and one origin.
#[derive(Clone, Debug)]
pub struct Spool {
    home: Home,
    origin: OriginId,
    segments: Vec<PathBuf>,
    damaged: Vec<PathBuf>,
}

/// How far a spool is delivered, now and later.
#[derive(Debug)]
pub struct Progress(Option<File>);

/// A segment as it was when it was read.
pub struct Contents {
    bytes: Vec<u8>,
    header: Header,
}

/// The records of a segment.
#[derive(Clone, Debug)]
pub struct Records<'a>(Walk<'a>);

/// Consecutive events, which the queue got at once.
#[derive(Debug)]
pub struct Record(Chunk);

/// The spools of a directory, by sink and origin.
///
/// # Errors
/// If the directory cannot be read.
pub fn find(directory: &Path) -> io::Result<Vec<Spool>> {
    let homes = Home::all(directory)?.into_iter();
    let spools = homes.flat_map(|(home, origins)| {
        origins.into_iter().map(move |(origin, parts)| {
            let files = parts.into_iter().filter(|part| *part != Part::Lock);
            let (segments, damaged): (Vec<_>, Vec<_>) = files.partition(|part| matches!(part, Part::Segment(_)));
            let paths = |parts: Vec<Part>| parts.into_iter().map(|part| home.path(origin, part)).collect();
            Spool { segments: paths(segments), damaged: paths(damaged), home: home.clone(), origin }
        })
    });
    Ok(spools.collect())
}

impl Spool {
    /// The [name](crate::Sink::NAME) of the sink its events are for, in small letters.
    pub fn sink(&self) -> &str {
        self.home.exporter()
    }

    /// What tells its agent's events from those of every other.
    pub fn origin(&self) -> OriginId {
        self.origin
    }

    /// Its segments when it was found, in order. One that is delivered is removed.
    pub fn segments(&self) -> &[PathBuf] {
        &self.segments
    }

    /// Segments that queues have set aside, in order: a part of each is damaged, and what follows that is not delivered.
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    /// The process that writes or delivers it: 0 for one that cannot be seen from here, `None` if no other process does.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn writer(&self) -> io::Result<Option<u32>> {
        match open(&self.home.lock_path(self.origin)) {
            Ok(file) => holder(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How far it is delivered. It can be asked again and again, also while this process delivers it, if it was made before.
    ///
    /// # Errors
    /// If the file that says so cannot be opened.
    pub fn progress(&self) -> io::Result<Progress> {
        match open(&self.home.lock_path(self.origin)) {
            Ok(file) => Ok(Progress(Some(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Progress(None)),
            Err(error) => Err(error),
        }
    }

    /// Removes it, with everything that waits in it; false, and nothing done, if a living process has it.
    ///
    /// # Errors
    /// If a file cannot be removed. What was removed by then is.
    pub fn remove(&self) -> io::Result<bool> {
        let Some(mark) = Mark::open(self.home.lock_path(self.origin))? else { return Ok(false) };
        // By now nobody changes it, and there may be more of it than there was.
        for (home, origins) in Home::all(self.home.directory())? {
            let parts = origins.get(&self.origin).filter(|_| home.exporter() == self.sink());
            for part in parts.into_iter().flatten().filter(|part| **part != Part::Lock) {
                fs::remove_file(home.path(self.origin, *part))?;
            }
        }
        mark.remove();
        Ok(true)
    }
}

impl Progress {
    /// The number of the first event that is not delivered; 0 if that is not known.
    pub fn next(&self) -> u64 {
        self.position().next
    }

    /// How many events before that one are lost: refused, too old, unreadable, or those a sink panicked over.
    pub fn lost(&self) -> u64 {
        self.position().lost
    }

    fn position(&self) -> Position {
        self.0.as_ref().map(position).unwrap_or_default()
    }
}

impl Contents {
    /// Reads a segment. No link is followed.
    ///
    /// # Errors
    /// If it is no segment of this version, is too large for one, or cannot be read.
    pub fn read(path: &Path) -> Result<Self, Broken> {
        Self::from_bytes(read_all(path)?)
    }

    /// The same of bytes, which nobody needs to have checked.
    ///
    /// # Errors
    /// If they do not begin with the header of a segment of this version.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Broken> {
        let header = record::read_header(&bytes)?;
        Ok(Self { bytes, header })
    }

    /// What tells its agent's events from those of every other.
    pub fn origin(&self) -> OriginId {
        self.header.origin
    }

    /// The name of the agent.
    pub fn agent(&self) -> &str {
        &self.header.agent
    }

    /// The name of the machine it ran on.
    pub fn hostname(&self) -> &str {
        &self.header.hostname
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.header.pid
    }

    /// Size of the file, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: there is a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its records, in order. What is damaged is an error, behind which the next ones come, as far as they can be found.
    pub fn records(&self) -> Records<'_> {
        Records(Walk::new(&self.bytes, &self.header))
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("header", &self.header).field("bytes", &self.bytes.len()).finish()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.next()?;
        Some(record.map(|(chunk, _)| Record(chunk)))
    }
}

impl Record {
    /// The number of its first event. The others follow, without a gap.
    pub fn sequence(&self) -> u64 {
        self.0.first
    }

    /// Number of events, at least 1.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are no events; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the queue got them, in microseconds since the Unix epoch.
    pub fn queued_us(&self) -> u64 {
        self.0.at_us
    }

    /// The events, in the order they were recorded, each with its timestamp.
    pub fn events(&self) -> batch::Iter<'_> {
        self.0.events.iter()
    }
}
