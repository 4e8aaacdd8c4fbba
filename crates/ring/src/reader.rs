// SPDX-License-Identifier: Apache-2.0

//! One file, read.
//!
//! What makes it right while a writer writes and others consume, who never wait for us:
//!
//! 1. An event lies still as long as its slot is between the read and the write position. So slots are copied, and the
//!    positions looked at again: those that are between them still, were so all the while.
//! 2. The others somebody has consumed meanwhile, and the writer may have come round to them. They are copied once more:
//!    what has changed was overwritten, and so was the slot at the write position, which may be half written. A writer of
//!    ours changes a slot's stamp before the rest, so that a slot of which only the rest is new cannot keep its stamp.
//! 3. Between two reads the writer may have gone round as a whole. Our stamps tell. Without them, the event before the next
//!    one is looked at again: it has changed then, unless the one that took its place is the same.
//! 4. A file may have been begun anew, its positions at 0 again. Then the numbers of our stamps are others, by more than
//!    there was time for, and go back no further than the beginning. Without them: the file's times have changed, and either
//!    the positions are ones no writer can have got to from where they were, or what should be new events lies there as it
//!    lay before. What is between the new positions is read, and nothing else of the file is believed.
//! 5. The file's times say less than one would like: who consumes by writing to the file changes them as well.

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

/// Between two reads, a time in which the numbers of events may have gone round by a good part.
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
    /// The number after the last event that was shown, or counted as lost, as long as the file goes on.
    shown: Option<u32>,
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
        let mut reader = Self {
            path,
            file,
            mode,
            shape,
            next: header.read_pos,
            behind,
            ahead,
            number: None,
            shown: None,
            last,
            looked,
            again,
        };
        reader.check_events(&header)?;
        reader.number = reader.number_behind()?;
        reader.shown = reader.number;
        reader.remember()?;
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

    /// Whether the path names this file still.
    pub fn is_current(&self) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => identity(named) == identity(open),
            _ => false,
        }
    }

    /// Reads what was written since the last time, or a good part of it: all, if the batch is empty after a call.
    ///
    /// In [`Mode::Consume`] the same events come again until they are [committed](Self::commit).
    ///
    /// # Errors
    /// If the file cannot be read, or is no sound ring of the same shape any more: whoever follows it opens it again.
    pub fn read(&mut self, batch: &mut Batch) -> Result<(), ReadError> {
        batch.clear(self.shape.layout);
        let looked = std::mem::replace(&mut self.looked, Instant::now());
        let header = self.sound_header()?;
        let change = changed(&self.file.metadata()?);
        let may_be_new = change != self.last.1;
        let before = std::mem::replace(&mut self.last, (header, change)).0;
        if self.mode == Mode::Consume {
            batch.contended = header.read_pos != before.read_pos;
            self.go_to(header.read_pos);
        } else {
            match self.movement(&before, &header, may_be_new, looked.elapsed())? {
                Movement::On => {}
                Movement::Around { lost, number } => {
                    batch.lost = lost;
                    self.go_to(header.read_pos);
                    self.number = number;
                }
                Movement::Anew => {
                    batch.restarted = true;
                    self.go_to(header.read_pos);
                    self.number = self.number_behind()?;
                    self.shown = self.number;
                }
            }
        }
        let count = self.distance(header.write_pos).min(AT_ONCE);
        let from = self.next;
        self.copy(from, count, &mut batch.bytes)?;
        let overwritten = self.overwritten(from, batch)?;
        self.advance(from, overwritten, batch);
        if self.mode == Mode::Peek {
            self.remember()?;
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

    /// The header, if it is that of the file that was opened.
    fn sound_header(&self) -> Result<Header, ReadError> {
        let header = read_header(&self.file)?;
        let shape = Shape::of(&header, self.file.metadata()?.len())?;
        if shape != self.shape {
            // Somebody else's file under this name: its size was right for both.
            return Err(Malformed::Version { version: header.version }.into());
        }
        Ok(header)
    }

    /// How the writer has moved since the last read.
    fn movement(
        &mut self,
        before: &Header,
        now: &Header,
        may_be_new: bool,
        during: Duration,
    ) -> Result<Movement, ReadError> {
        let ahead = self.distance(now.write_pos);
        if let Some(number) = self.number
            && let Some(newest) = self.newest_number(now.write_pos)?
        {
            let written = u64::from(newest.wrapping_add(1).wrapping_sub(number));
            if written == ahead {
                return Ok(Movement::On);
            }
            // No writer writes an event a nanosecond. After a short while, that is next to nothing of what the numbers can
            // be; after a long one, the file's times have to be the same as well.
            let is_possible = written > ahead
                && u128::from(written - ahead) <= during.as_nanos()
                && (during < LONG || !may_be_new && written <= u64::from(u32::MAX / 2));
            return Ok(if is_possible && self.is_all_of_one_writer(newest, now.write_pos)? {
                let lost = Lost { events: written.saturating_sub(now.unread()), or_more: false };
                Movement::Around { lost, number: Some(newest.wrapping_add(1).wrapping_sub(low(now.unread()))) }
            } else {
                Movement::Anew
            });
        }
        // Nobody has consumed, and yet there is less than there was.
        if now.read_pos == before.read_pos && now.unread() < before.unread() {
            return Ok(Movement::Anew);
        }
        let is_overtaken = self.has_changed(self.next.wrapping_sub(1) & self.mask(), 1, |reader| &reader.behind)?;
        // Whoever consumes changes the times, too.
        let is_consumed = now.read_pos != before.read_pos && now.read_pos != 0;
        if is_overtaken && may_be_new && !is_consumed {
            return Ok(Movement::Anew);
        }
        if is_overtaken {
            let written = ahead + self.shape.capacity;
            let lost = Lost { events: written - now.unread(), or_more: true };
            return Ok(Movement::Around { lost, number: None });
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

    /// The number of the next event, if the slots before it are numbered: a writer of ours begins with such.
    fn number_behind(&mut self) -> Result<Option<u32>, ReadError> {
        let Some(offset) = self.shape.stamp() else { return Ok(None) };
        let count = AHEAD.min(self.shape.capacity);
        let from = self.next.wrapping_sub(count) & self.mask();
        let slots = self.copy_again(from, count)?;
        let stamps = slots.chunks_exact(self.shape.layout.size()).map(|slot| stamp::of(slot, offset));
        // All of them: the last may have been written by another writer.
        let number = numbers(stamps.rev(), self.next, self.mask()).filter(|(right, _)| *right == count);
        self.again = slots;
        Ok(number.map(|(_, after)| after))
    }

    /// Whether the oldest slot, too, has a number of those that lead to the newest; or already one that follows it.
    fn is_all_of_one_writer(&mut self, newest: u32, write_pos: u64) -> Result<bool, ReadError> {
        let Some(offset) = self.shape.stamp() else { return Ok(false) };
        // The one at the write position may be half written.
        let slot = self.copy_again(write_pos.wrapping_add(1) & self.mask(), 1)?;
        let stamp = stamp::of(&slot, offset);
        self.again = slot;
        let following = newest.wrapping_add(2);
        Ok(stamp == following || stamp == following.wrapping_sub(low(self.shape.capacity)))
    }

    fn go_to(&mut self, position: u64) {
        self.next = position;
        self.number = None;
    }

    /// Keeps what the next read is compared with.
    fn remember(&mut self) -> Result<(), ReadError> {
        let (mut behind, mut ahead) = (std::mem::take(&mut self.behind), std::mem::take(&mut self.ahead));
        behind.clear();
        ahead.clear();
        self.copy(self.next.wrapping_sub(1) & self.mask(), 1, &mut behind)?;
        if self.number.is_none() {
            self.copy(self.next, AHEAD.min(self.shape.capacity), &mut ahead)?;
        }
        (self.behind, self.ahead) = (behind, ahead);
        Ok(())
    }

    /// How many events of the batch, from its beginning, may be others than those that were there.
    fn overwritten(&mut self, from: u64, batch: &Batch) -> Result<u64, ReadError> {
        let size = self.shape.layout.size();
        let count = batch.len() as u64;
        // Slots first, then positions.
        fence(Ordering::SeqCst);
        let now = read_header(&self.file)?;
        let mask = self.mask();
        let unread = now.write_pos.wrapping_sub(now.read_pos) & mask;
        // The first that was still between the positions; from there on all were.
        let is_safe = |i: &u64| from.wrapping_add(*i).wrapping_sub(now.read_pos) & mask < unread;
        let doubtful = (0..count).find(is_safe).unwrap_or(count);
        if doubtful == 0 {
            return Ok(0);
        }
        let again = self.copy_again(from, doubtful)?;
        let slots = batch.bytes.chunks_exact(size).zip(again.chunks_exact(size));
        let same = slots.rev().take_while(|(first, second)| first == second).count() as u64;
        self.again = again;
        let being_written = now.write_pos.wrapping_sub(from) & mask;
        Ok(if being_written < doubtful { (doubtful - same).max(being_written + 1) } else { doubtful - same })
    }

    /// Goes behind the batch, from which what was overwritten is taken away.
    fn advance(&mut self, from: u64, overwritten: u64, batch: &mut Batch) {
        let size = self.shape.layout.size();
        let count = batch.len() as u64;
        self.next = from.wrapping_add(count) & self.mask();
        let mut wrong = overwritten;
        if let Some(offset) = self.shape.stamp() {
            let stamps = batch.bytes.chunks_exact(size).map(|slot| stamp::of(slot, offset));
            match self.number {
                // Numbers that do not go on from the last one are those of other events.
                Some(number) => {
                    let after = number.wrapping_add(low(count));
                    let right = stamps.rev().zip(1..).take_while(|(stamp, i)| *stamp == after.wrapping_sub(*i)).count();
                    wrong = wrong.max(count - right as u64);
                    self.number = Some(after);
                }
                // Some of the first may have been overwritten before they were copied, so that both copies are alike.
                None => {
                    if let Some((right, after)) = numbers(stamps.rev(), self.next, self.mask()) {
                        wrong = wrong.max(count - right);
                        self.number = Some(after);
                    }
                }
            }
        }
        if wrong > 0 {
            batch.bytes.drain(..index(wrong) * size);
            batch.lost.add(Lost { events: wrong, or_more: false });
        }
        // However that came about, what is between two events that were shown is lost.
        if let (Mode::Peek, Some(shown), Some(number)) = (self.mode, self.shown, self.number) {
            let events = number.wrapping_sub(low(batch.len() as u64)).wrapping_sub(shown);
            if events < u32::MAX / 2 {
                batch.lost = Lost { events: events.into(), or_more: false };
            }
        }
        if self.number.is_some() {
            self.shown = self.number;
        }
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
        let first = count.min(self.shape.capacity - from);
        for (from, count) in [(from, first), (0, count - first)] {
            let size = self.shape.layout.size() as u64;
            let start = out.len();
            let bytes = index(count * size);
            out.resize(start + bytes, 0);
            self.file.read_exact_at(&mut out[start..], HEADER_SIZE as u64 + from * size).map_err(shrunk)?;
        }
        Ok(())
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
    Around { lost: Lost, number: Option<u32> },
    /// It began anew.
    Anew,
}

/// How many stamps of a batch, from its last one backwards, follow each other up to this position, and the number after
/// them. One alone may look so by chance.
fn numbers(mut stamps: impl Iterator<Item = u32>, position: u64, mask: u64) -> Option<(u64, u32)> {
    let last = stamps.next()?;
    let after = last.wrapping_add(1);
    let belongs = (u64::from(after) ^ position) & mask & u64::from(u32::MAX) == 0;
    let right = 1 + stamps.zip(1..).take_while(|(stamp, i)| *stamp == last.wrapping_sub(*i)).count() as u64;
    (belongs && right > 1).then_some((right, after))
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
fn changed(metadata: &Metadata) -> (i64, i64) {
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
