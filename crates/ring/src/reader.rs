// SPDX-License-Identifier: Apache-2.0

//! One file, read.
//!
//! A writer writes and others consume meanwhile, and nobody waits for us. What is shown is right all the same:
//!
//! **With numbers.** Our writer numbers its slots, and writes a slot's number before the rest of it. A slot is copied; if
//! nobody has consumed it afterwards, or its number is the same, nobody had begun to write it anew, and the copy is whole. What is missing is
//! what is between two numbers.
//!
//! **Without numbers**, in files of NIXL's. Whoever comes round to the events we copy has to pass the slot before them, of
//! which we know what was in it: as long as it is the same after the copy, nobody has. Only if the event there is repeated to
//! the last bit is that not noticed. How often the writer went round nobody can tell: then we know at least how much is lost.
//!
//! **A file begun anew** has its positions at 0 again. With numbers, it has others, further on than there was time for.
//! Without them: the file's times have changed, and either the positions are ones no writer can have got to, or what should be
//! new events lies there as it lay before. The times alone say little: who consumes changes them as well. What is between the
//! new positions is read, and nothing else of the file is believed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::fs::{self, CWD, OFlags, openat};

use crate::header::{Bytes, HEADER_SIZE, READ_POS};
use crate::{Batch, Header, Lost, Malformed, ReadError, Shape, stamp};

/// What reading does to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the file is opened for reading only.
    Peek,
    /// [`Reader::commit`] takes out what was read, which makes room for the writer. One reader of a file may do so.
    Consume,
}

/// Slots read at once at most: 4 MiB of the largest.
const AT_ONCE: u64 = 1 << 16;

/// Slots remembered to tell whether they have been written since. Neighbours, so that times are among them.
const AHEAD: u64 = 8;

/// Between two reads, a time in which a good part of all numbers may have been used.
const LONG: Duration = Duration::from_secs(1);

/// A ring file that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    mode: Mode,
    shape: Shape,
    /// The position of the next event to read.
    next: u64,
    /// The slot before it, as it was at the last read.
    behind: Vec<u8>,
    /// The slots from it on, as they were at the last read; only of a file without stamps.
    ahead: Vec<u8>,
    /// The number of the next event, in a file with stamps.
    number: Option<u32>,
    /// Header, and time of the last change, when the file was looked at last.
    last: (Header, (i64, i64)),
    /// The moment before that.
    looked: Instant,
    /// What is copied a second time.
    again: Vec<u8>,
}

impl Reader {
    /// Opens a file and goes to the oldest event that nobody has consumed.
    ///
    /// # Errors
    /// If it cannot be opened, is no file, or no sound ring. A symbolic link is followed: who writes must not, who reads
    /// may.
    pub fn open(path: impl Into<PathBuf>, mode: Mode) -> Result<Self, ReadError> {
        let path = path.into();
        let access = if mode == Mode::Consume { OFlags::RDWR } else { OFlags::RDONLY };
        // A pipe without a writer must not keep us waiting.
        let file = openat(CWD, &path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, fs::Mode::empty());
        let file: File = file.map_err(|error| describe_directory(&path, error.into()))?.into();
        let metadata = file.metadata()?;
        if let Some(what) = no_file(&metadata) {
            return Err(ReadError::NoFile { what });
        }
        let size = metadata.len();
        if size < HEADER_SIZE as u64 {
            return Err(Malformed::Short { size }.into());
        }
        let looked = Instant::now();
        let header = read_header(&file)?;
        let shape = Shape::of(&header, size)?;
        let last = (header, changed(&metadata));
        let (behind, ahead, again) = Default::default();
        let mut reader =
            Self { path, file, mode, shape, next: header.read_pos, behind, ahead, number: None, last, looked, again };
        reader.check_events(&header)?;
        let header = reader.go_to_unread()?;
        reader.number = reader.first_number(&header)?;
        if mode == Mode::Peek {
            reader.remember_ahead()?;
        }
        Ok(reader)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its slots are.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The header as it is now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn header(&self) -> Result<Header, ReadError> {
        read_header(&self.file)
    }

    /// The process whose writer has this file, 0 for one that cannot be seen from here; `None` if no process has it. Only
    /// this crate's writers tell.
    ///
    /// # Errors
    /// If it cannot be told: the file system has no locks.
    pub fn holder(&self) -> io::Result<Option<u32>> {
        nixl_telemetry_shm::holder(&self.file)
    }

    /// Whether the path names this file still.
    pub fn is_current(&self) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => identity(named) == identity(open),
            _ => false,
        }
    }

    /// Reads what was written since the last time, or a good part of it: all, if the batch is empty after a call and tells of
    /// nothing that was lost.
    ///
    /// In [`Mode::Consume`] the same events come again until they are [committed](Self::commit).
    ///
    /// # Errors
    /// If the file cannot be read, or is no sound ring of the same shape any more: whoever follows it opens it again.
    pub fn read(&mut self, batch: &mut Batch) -> Result<(), ReadError> {
        batch.clear(self.shape.layout);
        let looked = std::mem::replace(&mut self.looked, Instant::now());
        let (header, change) = self.sound_header()?;
        let may_be_new = change != self.last.1;
        let before = std::mem::replace(&mut self.last, (header, change)).0;
        if self.mode == Mode::Consume {
            let is_moved = header.read_pos != before.read_pos;
            // Where nothing was consumed yet, nobody else has: a writer has begun the file anew.
            batch.restarted = is_moved && header.read_pos == 0;
            batch.contended = is_moved && !batch.restarted;
            let header = self.go_to_unread()?;
            return self.read_plainly(&header, batch);
        }
        if let Some(number) = self.number
            && let Some(newest) = self.newest_number(header.write_pos)?
        {
            return self.read_numbered(&header, (number, newest), (may_be_new, looked.elapsed()), batch);
        }
        self.number = None;
        let header = match self.movement(&before, &header, may_be_new)? {
            Movement::On => header,
            Movement::Around { lost } => {
                batch.lost = Lost { events: lost, or_more: true };
                self.go_to_unread()?
            }
            Movement::Anew => self.begin_anew(batch)?,
        };
        self.read_plainly(&header, batch)
    }

    /// Goes to the beginning of a file that was begun anew.
    fn begin_anew(&mut self, batch: &mut Batch) -> Result<Header, ReadError> {
        batch.restarted = true;
        let header = self.go_to_unread()?;
        self.number = self.first_number(&header)?;
        Ok(header)
    }

    /// Reads slots whose numbers are known: the next one's, and the last one's, whose event may not be whole yet.
    fn read_numbered(
        &mut self,
        header: &Header,
        (number, newest): (u32, u32),
        (may_be_new, during): (bool, Duration),
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let ahead = self.distance(header.write_pos);
        let written = u64::from(newest.wrapping_add(1).wrapping_sub(number));
        // What was written and not published yet may have been read already, when the writer came round in between.
        let read_before = u64::from(number.wrapping_sub(newest).wrapping_sub(1));
        if read_before > 0 && read_before < self.shape.capacity && read_before + ahead == self.shape.capacity {
            return Ok(());
        }
        // Where to read from, how many, and the number of the first.
        let (mut from, mut count, mut first) = (self.next, ahead, number);
        if written != ahead {
            // No writer writes two events a nanosecond. After a short while, that is next to nothing of what the numbers can
            // be; after a long one, the file's times have to be the same as well.
            let is_possible = written > ahead
                && u128::from(written - ahead) <= during.as_nanos() * 2
                && (during < LONG || !may_be_new && written <= u64::from(u32::MAX / 2));
            if !(is_possible && self.is_all_of_one_writer(newest, header.write_pos)?) {
                let header = &self.begin_anew(batch)?;
                return match self.number {
                    // Nothing is lost before the first of a new file.
                    Some(first) => self.copy_numbered(self.next, self.distance(header.write_pos), first, first, batch),
                    None => self.read_plainly(header, batch),
                };
            }
            // The last one may be in the making, and is left for the next time then. It is not if the write position is behind
            // it now: no writer gets around without moving that.
            fence(Ordering::SeqCst);
            let in_the_making = u64::from(read_header(&self.file)?.write_pos != header.write_pos);
            count = header.unread().saturating_sub(in_the_making);
            first = newest.wrapping_add(1).wrapping_sub(low(count + in_the_making));
            from = header.write_pos.wrapping_sub(count + in_the_making) & self.mask();
        }
        self.copy_numbered(from, count, first, number, batch)
    }

    /// Copies slots from the one with the number `first` on, and keeps those that are whole. `expected` is the number of the
    /// event that would have come next.
    fn copy_numbered(
        &mut self,
        from: u64,
        count: u64,
        first: u32,
        expected: u32,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let (size, count) = (self.shape.layout.size(), count.min(AT_ONCE));
        let offset = self.shape.stamp().expect("numbers are in stamps");
        self.copy(from, count, &mut batch.bytes)?;
        // The copy first, then what tells whether it is whole.
        fence(Ordering::SeqCst);
        let doubtful = count.min(self.consumed_since(first)?);
        let again = self.copy_again(from, doubtful)?;
        let after = first.wrapping_add(low(count));
        let stamp = |slot| stamp::of(slot, offset);
        let kept = follow(again.chunks_exact(size).rev().map(stamp), first.wrapping_add(low(doubtful)));
        let whole = follow(batch.bytes.chunks_exact(size).rev().map(stamp), after);
        let whole = whole.min(batch.len() - again.len() / size + kept);
        self.again = again;
        batch.bytes.drain(..batch.bytes.len() - whole * size);
        let lost = after.wrapping_sub(low(whole as u64)).wrapping_sub(expected);
        batch.lost = Lost { events: lost.into(), or_more: false };
        self.next = from.wrapping_add(count) & self.mask();
        self.number = Some(after);
        Ok(())
    }

    /// Reads what is between the next event and the write position, by what is in the slots.
    fn read_plainly(&mut self, header: &Header, batch: &mut Batch) -> Result<(), ReadError> {
        let (from, size) = (self.next, self.shape.layout.size());
        let count = self.distance(header.write_pos).min(AT_ONCE);
        self.copy(from, count, &mut batch.bytes)?;
        // The copy first, then what tells whether it is whole.
        fence(Ordering::SeqCst);
        let now = read_header(&self.file)?;
        let is_still_there =
            |position: u64| position.wrapping_sub(now.read_pos) & self.mask() < now.unread_of(self.mask());
        // What nobody has taken out nobody has overwritten. That cannot be said of a file that was read before it was passed.
        let is_unread = self.mode == Mode::Consume && (count == 0 || is_still_there(from));
        if !is_unread && self.has_changed(from.wrapping_sub(1) & self.mask(), 1, |reader| &reader.behind)? {
            batch.bytes.clear();
            let gone = now.read_pos.wrapping_sub(from) & self.mask();
            batch.lost.add(Lost { events: gone.min(count), or_more: gone > 0 });
            self.go_to_unread()?;
            return Ok(());
        }
        self.next = from.wrapping_add(count) & self.mask();
        if count > 0 {
            self.behind.clear();
            self.behind.extend_from_slice(&batch.bytes[batch.bytes.len() - size..]);
        }
        if self.mode == Mode::Peek {
            self.remember_ahead()?;
            self.number = self.number_after(&batch.bytes, self.next);
        }
        Ok(())
    }

    /// Takes what was read out of the file; true if it was still there. False if somebody else has consumed meanwhile,
    /// or began the file anew: then nothing is changed.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    ///
    /// # Panics
    /// In [`Mode::Peek`].
    pub fn commit(&mut self) -> Result<bool, ReadError> {
        assert!(self.mode == Mode::Consume, "a reader that only looks takes nothing out");
        let header = read_header(&self.file)?;
        if header.read_pos != self.last.0.read_pos || Shape::of(&header, self.shape.size()) != Ok(self.shape) {
            return Ok(false);
        }
        if self.next != header.read_pos {
            // The slots must have been copied before the writer learns that it may have them.
            fence(Ordering::SeqCst);
            self.file.write_all_at(&self.next.to_le_bytes(), READ_POS)?;
            self.last.0.read_pos = self.next;
        }
        Ok(true)
    }

    /// The header, if it is that of the file that was opened, and when that changed last.
    fn sound_header(&self) -> Result<(Header, (i64, i64)), ReadError> {
        let header = read_header(&self.file)?;
        let metadata = self.file.metadata()?;
        let shape = Shape::of(&header, metadata.len())?;
        if shape != self.shape {
            // Somebody else's file under this name: its size was right for both.
            return Err(Malformed::Version { version: header.version }.into());
        }
        Ok((header, changed(&metadata)))
    }

    /// How the writer of a file without numbers has moved since the last read.
    fn movement(&mut self, before: &Header, now: &Header, may_be_new: bool) -> Result<Movement, ReadError> {
        // Nobody has consumed, and yet there is less than there was.
        if now.read_pos == before.read_pos && now.unread() < before.unread() {
            return Ok(Movement::Anew);
        }
        let ahead = self.distance(now.write_pos);
        if self.has_changed(self.next.wrapping_sub(1) & self.mask(), 1, |reader| &reader.behind)? {
            // Whoever consumes changes the times, too.
            let is_consumed = now.read_pos != before.read_pos && now.read_pos != 0;
            if may_be_new && !is_consumed {
                return Ok(Movement::Anew);
            }
            // The writer has begun to write what comes a ring after that slot, at least. Where it is by now tells how much
            // that is.
            let later = read_header(&self.file)?;
            let ahead = self.distance(later.write_pos);
            let written = if ahead == self.mask() { ahead } else { ahead + self.shape.capacity };
            return Ok(Movement::Around { lost: written - later.unread_of(self.mask()).min(written) });
        }
        // Both positions at the file's beginning.
        let is_round = now.write_pos < self.next && now.read_pos <= now.write_pos;
        if is_round && may_be_new && !self.has_changed(self.next, ahead.min(AHEAD), |reader| &reader.ahead)? {
            return Ok(Movement::Anew);
        }
        Ok(Movement::On)
    }

    /// Whether slots are others than those remembered.
    fn has_changed(&mut self, from: u64, count: u64, known: fn(&Self) -> &Vec<u8>) -> Result<bool, ReadError> {
        let slots = self.copy_again(from, count)?;
        let has_changed = !known(self).starts_with(&slots);
        self.again = slots;
        Ok(has_changed)
    }

    /// The number of the event before the write position, if it is stamped.
    fn newest_number(&mut self, write_pos: u64) -> Result<Option<u32>, ReadError> {
        let Some(offset) = self.shape.stamp() else { return Ok(None) };
        let at = write_pos.wrapping_sub(1) & self.mask();
        let slot = self.copy_again(at, 1)?;
        let number = stamp::at(&slot, offset, at, self.mask());
        self.again = slot;
        Ok(number)
    }

    /// The number of the next event, if the slots before the write position are numbered: a writer of ours begins with such.
    /// Those before the next event would do as well, were they not the first that a writer overwrites.
    fn first_number(&mut self, header: &Header) -> Result<Option<u32>, ReadError> {
        let count = AHEAD.min(self.shape.capacity);
        let slots = self.copy_again(header.write_pos.wrapping_sub(count) & self.mask(), count)?;
        let number = self.number_after(&slots, header.write_pos);
        self.again = slots;
        Ok(number.map(|after| after.wrapping_sub(low(self.distance(header.write_pos)))))
    }

    /// How many events from the one of this number on may have been consumed by now, so that a writer may have begun to
    /// overwrite them.
    fn consumed_since(&mut self, first: u32) -> Result<u64, ReadError> {
        let now = read_header(&self.file)?;
        let Some(newest) = self.newest_number(now.write_pos)? else { return Ok(u64::MAX) };
        let oldest = newest.wrapping_add(1).wrapping_sub(low(now.unread_of(self.mask())));
        // In a file that is begun anew, the numbers are others, and all events are looked at again.
        let is_unread =
            u64::from(first.wrapping_sub(oldest)) <= self.shape.capacity && now.version == self.shape.version;
        Ok(if is_unread { 0 } else { oldest.wrapping_sub(first).into() })
    }

    /// Whether the oldest slot, too, has a number of those that lead to the newest, or already one that follows it: that of
    /// another writer is anywhere else.
    fn is_all_of_one_writer(&mut self, newest: u32, write_pos: u64) -> Result<bool, ReadError> {
        const FOLLOWING: u32 = 1 << 26;
        let Some(offset) = self.shape.stamp() else { return Ok(false) };
        // The one at the write position may be half written.
        let at = write_pos.wrapping_add(1) & self.mask();
        let slot = self.copy_again(at, 1)?;
        let stamp = stamp::at(&slot, offset, at, self.mask());
        self.again = slot;
        let oldest = newest.wrapping_add(2).wrapping_sub(low(self.shape.capacity));
        Ok(stamp.is_some_and(|stamp| stamp.wrapping_sub(oldest) <= FOLLOWING))
    }

    /// Makes the oldest event that nobody has consumed the next, and keeps what is in the slot before it. The header is one
    /// that was read afterwards: whoever comes round to what is between its positions has to pass that slot.
    fn go_to_unread(&mut self) -> Result<Header, ReadError> {
        self.number = None;
        let mut header = read_header(&self.file)?;
        // Who consumes at full speed may be in the way a few times.
        for _ in 0..16 {
            self.next = header.read_pos & self.mask();
            let mut behind = std::mem::take(&mut self.behind);
            behind.clear();
            self.copy(self.next.wrapping_sub(1) & self.mask(), 1, &mut behind)?;
            self.behind = behind;
            fence(Ordering::SeqCst);
            let before = std::mem::replace(&mut header, read_header(&self.file)?);
            if before.read_pos == header.read_pos {
                break;
            }
        }
        Ok(header)
    }

    /// Keeps what lies where the next events will, unless they are there already.
    fn remember_ahead(&mut self) -> Result<(), ReadError> {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        self.copy(self.next, AHEAD.min(self.shape.capacity), &mut ahead)?;
        fence(Ordering::SeqCst);
        if read_header(&self.file)?.write_pos != self.next {
            ahead.clear();
        }
        self.ahead = ahead;
        Ok(())
    }

    /// The number of the event at this position, if the slots before it have numbers that all follow each other and belong
    /// where they are. One slot alone may look so by chance.
    fn number_after(&self, slots: &[u8], position: u64) -> Option<u32> {
        let offset = self.shape.stamp()?;
        let mut stamps = slots.chunks_exact(self.shape.layout.size()).rev().map(|slot| stamp::of(slot, offset));
        let after = stamps.clone().next().filter(|_| stamps.len() > 1)?.wrapping_add(1);
        let belongs = (u64::from(after) ^ position) & self.mask() & u64::from(u32::MAX) == 0;
        (belongs && follow(&mut stamps, after) == slots.len() / self.shape.layout.size()).then_some(after)
    }

    /// The slots from a position on, in the buffer for what is copied a second time, which must be given back.
    fn copy_again(&mut self, from: u64, count: u64) -> Result<Vec<u8>, ReadError> {
        let mut again = std::mem::take(&mut self.again);
        again.clear();
        self.copy(from, count, &mut again)?;
        Ok(again)
    }

    /// Appends the slots from a position on.
    fn copy(&self, from: u64, count: u64, out: &mut Vec<u8>) -> Result<(), ReadError> {
        read_slots(&self.file, self.shape, from, count, out)
    }

    /// Whether the first events are events at all.
    fn check_events(&mut self, header: &Header) -> Result<(), ReadError> {
        let mut slots = Vec::new();
        self.copy(header.read_pos, header.unread().min(64), &mut slots)?;
        let size = self.shape.layout.size();
        if slots.chunks_exact(size).all(|slot| self.shape.fits(slot)) {
            Ok(())
        } else {
            Err(Malformed::Events { size }.into())
        }
    }

    /// Events from the next one up to a write position.
    fn distance(&self, write_pos: u64) -> u64 {
        write_pos.wrapping_sub(self.next) & self.mask()
    }

    fn mask(&self) -> u64 {
        self.shape.capacity - 1
    }
}

/// What a writer has done between two reads.
enum Movement {
    /// It went on, by less than a ring.
    On,
    /// It came round.
    Around {
        /// Events that are lost, at least.
        lost: u64,
    },
    /// It began anew.
    Anew,
}

/// How many stamps, from the last one backwards, are those of the events before the one with the number `after`.
fn follow(stamps: impl Iterator<Item = u32>, after: u32) -> usize {
    stamps.zip(1..).take_while(|(stamp, i)| *stamp == after.wrapping_sub(*i)).count()
}

/// The lower half; numbers of events go round.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn low(count: u64) -> u32 {
    count as u32
}

/// A number of slots that are in memory.
fn index(count: u64) -> usize {
    usize::try_from(count).expect("what is in memory can be counted")
}

/// Appends the slots of a file from a position on.
pub(crate) fn read_slots(file: &File, shape: Shape, from: u64, count: u64, out: &mut Vec<u8>) -> Result<(), ReadError> {
    let first = count.min(shape.capacity - from);
    for (from, count) in [(from, first), (0, count - first)] {
        let size = shape.layout.size() as u64;
        let start = out.len();
        let bytes = index(count * size);
        out.resize(start + bytes, 0);
        file.read_exact_at(&mut out[start..], HEADER_SIZE as u64 + from * size).map_err(shrunk)?;
    }
    Ok(())
}

fn read_header(file: &File) -> Result<Header, ReadError> {
    let mut bytes = Bytes([0; HEADER_SIZE]);
    file.read_exact_at(&mut bytes.0, 0).map_err(shrunk)?;
    Ok(Header::decode(&bytes.0))
}

/// The file ends before its ring does.
fn shrunk(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Io(io::Error::other("shrank while it was read")),
        _ => ReadError::Io(error),
    }
}

/// The time of the last change of its attributes: to begin a file anew, a writer sets its length.
pub(crate) fn changed(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

/// What it is if it is no file.
pub(crate) fn no_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    let table = [
        (kind.is_dir(), "a directory"),
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
        (kind.is_symlink(), "a symbolic link"),
    ];
    table.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// Opening a directory for writing, or a socket, fails before one could look what it is.
fn describe_directory(path: &Path, error: io::Error) -> ReadError {
    match std::fs::metadata(path).ok().as_ref().and_then(no_file) {
        Some(what) => ReadError::NoFile { what },
        None => ReadError::Io(error),
    }
}
