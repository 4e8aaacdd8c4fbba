// SPDX-License-Identifier: Apache-2.0

//! The files of one origin.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nixl_telemetry_shm::{NewFile, lock};
use rustix::fs::OFlags;

use super::record::{self, Broken, MOST_BYTES, PREFIX, halves};
use super::takeover::{Claim, DAMAGED, Home};
use crate::queue::delivery::{Chunk, Source};
use crate::queue::settings::Fsync;

/// The segments of one origin, in order, and the lock that says that its process lives.
#[derive(Debug)]
pub(in crate::queue) struct Trail {
    home: Home,
    source: Arc<Source>,
    mark: Mark,
    segments: VecDeque<Segment>,
    /// The last segment, while it is written.
    writer: Option<File>,
    most: Most,
    fsync: Fsync,
    header_bytes: u64,
    is_recovered: bool,
    /// Held for as long as the lock, and dropped after it.
    _claim: Claim,
}

/// When a segment is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) bytes: u64,
    /// That wait in it: those that have been delivered do not count.
    pub(super) events: u64,
}

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// The events that have not been delivered.
    pub(super) events: Range<u64>,
    /// The bytes they are in; up to the end of the last whole record.
    pub(super) bytes: Range<u64>,
    /// Behind these bytes is what cannot be read.
    pub(super) is_damaged: bool,
}

/// The file that is locked by who delivers a trail, and says how far that is.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of the first event that has not been delivered. 0 if there is none: then everything comes again.
    pub(super) next: u64,
    /// How many events before that are lost.
    pub(super) lost: u64,
}

/// Where in a spool the next events are.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Place {
    pub(in crate::queue) source: Arc<Source>,
    pub(in crate::queue) path: PathBuf,
    /// The number of the first event.
    pub(in crate::queue) first: u64,
    /// It was left by another process.
    pub(in crate::queue) is_recovered: bool,
    bytes: Range<u64>,
}

impl Trail {
    /// An empty one, of which there is the lock.
    pub(super) fn create(home: &Home, source: Arc<Source>, most: Most, fsync: Fsync) -> io::Result<Self> {
        let claim = Claim::of(source.origin).ok_or(io::ErrorKind::WouldBlock)?;
        let mark = Mark::create(home.lock_path(source.origin))?.ok_or(io::ErrorKind::WouldBlock)?;
        let header_bytes = record::header(&source, 0).len() as u64;
        Ok(Self {
            home: home.clone(),
            source,
            mark,
            segments: VecDeque::new(),
            writer: None,
            most,
            fsync,
            header_bytes,
            is_recovered: false,
            _claim: claim,
        })
    }

    /// What a process left behind.
    pub(super) fn recovered(
        home: &Home,
        source: Source,
        mark: Mark,
        segments: VecDeque<Segment>,
        claim: Claim,
    ) -> Self {
        Self {
            home: home.clone(),
            source: Arc::new(source),
            mark,
            segments,
            writer: None,
            most: Most { bytes: 0, events: 0 },
            fsync: Fsync::Never,
            header_bytes: 0,
            is_recovered: true,
            _claim: claim,
        }
    }

    /// Events that have not been delivered.
    pub(in crate::queue) fn events(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes.end).sum()
    }

    /// What a new segment takes before it has any event.
    pub(super) fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    pub(super) fn front(&self) -> Option<Place> {
        let Segment { path, events, bytes, .. } = self.segments.front().filter(|segment| segment.len() > 0)?;
        let (source, path, bytes) = (Arc::clone(&self.source), path.clone(), bytes.clone());
        Some(Place { source, path, first: events.start, is_recovered: self.is_recovered, bytes })
    }

    /// Writes records of these events.
    pub(super) fn append(&mut self, records: &[u8], events: Range<u64>) -> io::Result<()> {
        let is_next = self.segments.back().is_some_and(|last| {
            last.events.end == events.start
                && last.bytes.end + records.len() as u64 <= self.most.bytes
                && events.end - last.events.start <= self.most.events
        });
        if !is_next {
            self.end_segment()?;
        }
        if self.writer.is_none() {
            self.begin_segment(events.start)?;
        }
        let (Some(writer), Some(segment)) = (&self.writer, self.segments.back_mut()) else { return Ok(()) };
        let offset = segment.bytes.end;
        let mut written = writer.write_all_at(records, offset);
        if self.fsync == Fsync::Batch {
            written = written.and_then(|()| writer.sync_data());
        }
        if let Err(error) = written {
            // What is there of it is cut off; whoever finds the file does so too, should this fail.
            let _ = writer.set_len(offset);
            self.writer = None;
            // The next one may have its name.
            if let Some(empty) = self.segments.pop_back_if(|segment| segment.len() == 0) {
                empty.remove();
            }
            return Err(error);
        }
        segment.bytes.end += records.len() as u64;
        segment.events.end = events.end;
        Ok(())
    }

    /// What is in front has been settled up to this byte and this event; so many of them are lost.
    pub(super) fn advance(&mut self, offset: u64, next: u64, lost: u64) {
        let Some(segment) = self.segments.front_mut() else { return };
        segment.bytes.start = offset;
        segment.events.start = next;
        self.mark.advance(next, lost);
        self.drop_delivered();
    }

    /// Gives up the file in front, which is damaged, and tells how many events that costs. It is set aside, since what is
    /// behind it is delivered now: sinks that keep the highest number would never take what comes out of order.
    pub(super) fn give_up_front(&mut self) -> u64 {
        if self.segments.len() == 1 {
            self.writer = None;
        }
        let Some(segment) = self.segments.pop_front() else { return 0 };
        self.mark.advance(segment.events.end, segment.len());
        set_aside(&segment.path);
        segment.len()
    }

    /// Whether somebody has removed the file in front, and not only its directory is away for now.
    pub(super) fn is_front_gone(&self) -> bool {
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
        let is_away =
            |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let is_unlinked = || self.mark.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        self.segments.front().is_some_and(|segment| is_away(&segment.path))
            && (is_there(&self.mark.path) || is_unlinked())
    }

    /// Removes the first segment that comes after `pinned` others.
    pub(super) fn displace(&mut self, pinned: usize) -> Option<u64> {
        let segment = self.segments.remove(pinned)?;
        if pinned == self.segments.len() {
            self.writer = None;
        }
        segment.remove();
        Some(segment.len())
    }

    /// Removes the segment that is being written if all of it is delivered.
    pub(super) fn reclaim(&mut self) -> bool {
        if self.segments.is_empty() || self.events() > 0 {
            return false;
        }
        self.writer = None;
        self.drop_delivered();
        true
    }

    /// Writes no more, and removes everything if all is delivered.
    pub(super) fn close(&mut self) {
        // There is nobody left whom its failure could tell anything.
        let _ = self.end_segment();
        if self.events() == 0 {
            self.drop_delivered();
            self.mark.remove();
        }
    }

    fn begin_segment(&mut self, first: u64) -> io::Result<()> {
        let path = self.home.segment_path(self.source.origin, first);
        let (new, header) = (NewFile::create(&path)?, record::header(&self.source, first));
        new.file().write_all_at(&header, 0)?;
        self.writer = Some(new.publish()?);
        let len = header.len() as u64;
        self.segments.push_back(Segment { path, events: first..first, bytes: len..len, is_damaged: false });
        if self.fsync != Fsync::Never {
            // So that the name outlives the machine too.
            File::open(self.home.directory())?.sync_all()?;
        }
        Ok(())
    }

    fn end_segment(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let synced = if self.fsync == Fsync::Never { Ok(()) } else { writer.sync_data() };
        self.drop_delivered();
        synced
    }

    /// Removes what is delivered and no longer written, from the front.
    fn drop_delivered(&mut self) {
        while let Some(segment) = self.segments.front() {
            let is_written = self.segments.len() == 1 && self.writer.is_some();
            if segment.len() > 0 || is_written {
                return;
            }
            segment.remove();
            self.segments.pop_front();
        }
    }
}

impl Segment {
    fn len(&self) -> u64 {
        self.events.end - self.events.start
    }

    /// Removes the file, or sets it aside if there is more in it than can be read.
    pub(super) fn remove(&self) {
        // Fails if somebody has removed it already. Otherwise it is found again, and the mark says that it is delivered.
        if self.is_damaged { set_aside(&self.path) } else { drop(fs::remove_file(&self.path)) }
    }
}

/// Gives a file a name under which no queue looks for it.
pub(super) fn set_aside(path: &Path) {
    // If it fails, the file is found again, and the mark says up to where it is delivered.
    let _ = fs::rename(path, path.with_added_extension(DAMAGED));
}

impl Mark {
    /// A new one, locked; `None` if there is one of this name.
    pub(super) fn create(path: PathBuf) -> io::Result<Option<Self>> {
        let new = NewFile::create(&path)?;
        if !lock(new.file())? {
            return Ok(None);
        }
        match new.publish() {
            Ok(file) => Ok(Some(Self { path, file })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One that was found, locked by now; `None` if another process has it, or has removed it.
    pub(super) fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let file = match open_with(File::options().read(true).write(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(error),
        };
        let is_ours = lock(&file)? && file.metadata()?.nlink() > 0;
        Ok(is_ours.then_some(Self { path, file }))
    }

    pub(super) fn read(&self) -> Position {
        position(&self.file)
    }

    /// The next event is this one; of those before, so many more are lost.
    fn advance(&self, next: u64, lost: u64) {
        let lost = self.read().lost.saturating_add(lost);
        // If it fails, events come twice, and are said to be repeated.
        let _ = self.file.write_all_at([next, !next, lost, !lost].map(u64::to_le_bytes).as_flattened(), 0);
    }

    /// Removes the file; the lock is kept until the end.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Place {
    /// Consecutive chunks from here, at least one and otherwise of at most so many events, and where they end.
    pub(in crate::queue) fn read(&self, most_events: usize) -> Result<(Vec<Chunk>, u64), Broken> {
        let file = open(&self.path)?;
        let (mut chunks, mut events) = (Vec::<Chunk>::new(), 0);
        let (mut offset, mut next, mut bytes) = (self.bytes.start, self.first, Vec::new());
        while offset < self.bytes.end {
            let chunk = match read_record(&file, offset..self.bytes.end, &mut bytes) {
                Ok(chunk) if chunk.first == next => chunk,
                // What is sound in front of it is delivered first.
                _ if !chunks.is_empty() => break,
                Ok(_) => return Err(Broken::Record(offset)),
                Err(error) => return Err(error),
            };
            events += chunk.len();
            if !chunks.is_empty() && events > most_events as u64 {
                break;
            }
            next = chunk.end();
            offset += bytes.len() as u64;
            chunks.push(chunk);
        }
        if chunks.is_empty() { Err(Broken::Record(offset)) } else { Ok((chunks, offset)) }
    }
}

/// Reads the record that begins at the first of these bytes; its bytes are left in `bytes`.
fn read_record(file: &File, place: Range<u64>, bytes: &mut Vec<u8>) -> Result<Chunk, Broken> {
    let damaged = || Broken::Record(place.start);
    // A file that ends early is not what was written, and will not be another time.
    let read = |bytes: &mut [u8]| match file.read_exact_at(bytes, place.start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged()),
        read => Ok(read?),
    };
    let mut prefix = [0; PREFIX];
    read(&mut prefix)?;
    let [len, _] = halves(&prefix);
    let len = PREFIX as u64 + u64::from(len);
    if len > place.end - place.start {
        return Err(damaged());
    }
    bytes.resize(usize::try_from(len).map_err(|_| damaged())?, 0);
    read(bytes)?;
    record::read(bytes).map(|(chunk, _)| chunk).ok_or_else(damaged)
}

/// What a mark's file says.
pub(super) fn position(file: &File) -> Position {
    let number = |offset| {
        let mut bytes = [[0; 8]; 2];
        file.read_exact_at(bytes.as_flattened_mut(), offset).ok()?;
        let [number, check] = bytes.map(u64::from_le_bytes);
        (number == !check).then_some(number)
    };
    Position { next: number(0).unwrap_or(0), lost: number(16).unwrap_or(0) }
}

/// Opens a file for reading, if it is a regular one. No link is followed.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// All bytes of a segment.
pub(super) fn read_all(path: &Path) -> Result<Vec<u8>, Broken> {
    let (file, mut bytes) = (open(path)?, Vec::new());
    let size = file.metadata()?.len();
    if size > MOST_BYTES {
        return Err(Broken::Size(size));
    }
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // A pipe would wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    Ok(file)
}
