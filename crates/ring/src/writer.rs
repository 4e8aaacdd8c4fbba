// SPDX-License-Identifier: Apache-2.0

//! The one who writes.
//!
//! As with NIXL (facts 5.2): a slot is filled, then the write position moves past it; a reader that has seen the position
//! has seen the slot. Here a whole batch is filled before the position moves, which no reader can tell from events that
//! came at once.
//!
//! Whoever reads without consuming looks at slots that are filled again meanwhile. For those, a slot's stamp is written
//! before the rest of it, and where the oldest gives way, the read position moves before anything is overwritten.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use nixl_telemetry_event::layout::{l16c, l48, l56};
use nixl_telemetry_event::{Event, Layout, escape_file_name};
use nixl_telemetry_shm::Words;

use crate::create::{Claim, Options};
use crate::dump::Still;
use crate::header::HEADER_SIZE;
use crate::{CreateError, DumpError, Dumped, Left, Place, Shape};

/// What gives way when a ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The new event, as with NIXL: the ring waits for somebody who consumes.
    Oldest,
    /// The oldest event: the ring always holds what happened last. For readers that only look; one that consumes at the
    /// same time may see events twice, or in between those of another time.
    Newest,
}

/// What became of events that were to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Pushed {
    /// Written.
    pub written: u64,
    /// Refused for want of room.
    pub refused: u64,
    /// Of a sort the layout cannot hold: backend events where events have numbers.
    pub unsupported: u64,
}

/// Makes and writes the ring file of one agent. The file stays when the writer goes, as with NIXL.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    options: Options,
    shape: Shape,
    ring: Ring,
}

/// A file that is made, mapped and locked.
#[derive(Debug)]
struct Ring {
    claim: Claim,
    words: Words,
    /// Events written since the ring began, and a number to begin with: also the stamp of the next one. Its place is this
    /// modulo the capacity.
    next: u64,
}

/// Words of the header.
const WRITE_POS: usize = 0;
const READ_POS: usize = 1;
const VERSIONS: usize = 2;
const CAPACITY: usize = 3;
const MASK: usize = 4;
const SLOTS: usize = HEADER_SIZE / 8;

/// Slots that have numbers before there are events.
const NUMBERED: u64 = 8;

/// The word with the stamp, where there is none.
const NONE: usize = usize::MAX;

impl Writer {
    /// Makes the file of an agent in a directory, or begins one anew that an earlier agent of this name has left.
    ///
    /// The file is called as the agent is, [escaped](escape_file_name). If an agent of that name that lives has it, `.2`,
    /// `.3` and so on are put behind it. The room is taken on the disk at once, so that a full one is an error here, and
    /// no signal later.
    ///
    /// # Errors
    /// If it cannot be made, or there is something of that name that is no ring of this user.
    pub fn create(directory: &Path, agent: &str, options: Options) -> Result<Self, (PathBuf, CreateError)> {
        Self::create_saving(directory, agent, options, &mut |_| {})
    }

    /// The same, but what the earlier agent has left in the file is shown before it goes.
    ///
    /// # Errors
    /// As above.
    pub fn create_saving(
        directory: &Path,
        agent: &str,
        options: Options,
        save: &mut dyn FnMut(&Left<'_>),
    ) -> Result<Self, (PathBuf, CreateError)> {
        const MOST: u32 = 1000;
        let name = escape_file_name(agent);
        let mut number = 1;
        loop {
            let name = if number == 1 { name.clone() } else { format!("{name}.{number}") };
            let path = directory.join(name);
            match Self::at_saving(path.clone(), options, save) {
                Err(CreateError::Taken) if number < MOST => number += 1,
                result => return result.map_err(|error| (path, error)),
            }
        }
    }

    /// Makes the file of this path, or begins one anew.
    ///
    /// # Errors
    /// As above, and if a writer that lives has it.
    pub fn at(path: PathBuf, options: Options) -> Result<Self, CreateError> {
        Self::at_saving(path, options, &mut |_| {})
    }

    fn at_saving(path: PathBuf, options: Options, save: &mut dyn FnMut(&Left<'_>)) -> Result<Self, CreateError> {
        let shape = options.shape()?;
        let ring = Ring::make(&path, options, shape, save)?;
        Ok(Self { path, options, shape, ring })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of slots; one always stays free.
    pub fn capacity(&self) -> u64 {
        self.shape.capacity
    }

    /// Looks whether the file is still there and whole, and makes it again if it is not. Call it before each
    /// [`push`](Self::push): what is mapped of a file that was cut short is a `SIGBUS` to touch.
    ///
    /// Others do remove and change it: a C++ reader of NIXL's removes a file of another version, and another NIXL
    /// process with an agent of this name sets its length.
    ///
    /// # Errors
    /// If the file cannot be made again.
    pub fn check(&mut self) -> Result<bool, CreateError> {
        let metadata = self.ring.claim.file().metadata()?;
        if metadata.nlink() > 0 && metadata.len() == self.shape.size() {
            return Ok(true);
        }
        if metadata.nlink() > 0 {
            // Somebody else's now. Whoever wrote into it last will have it.
            let _ = std::fs::remove_file(&self.path);
        }
        self.ring = Ring::make(&self.path, self.options, self.shape, &mut |_| {})?;
        Ok(false)
    }

    /// Writes events in order. With [`Keep::Oldest`], what finds no room is refused, each event that follows too.
    #[inline]
    pub fn push(&mut self, events: &[Event<'_>]) -> Pushed {
        let Self { shape, options: Options { keep, .. }, ring, .. } = self;
        match shape.layout {
            Layout::L16 => {
                ring.push::<2, 0>(*shape, *keep, events, |event| Some([u64::from(event.kind()?.code()), event.value()]))
            }
            Layout::L16c => ring.push::<2, NONE>(*shape, *keep, events, |event| l16c::encode(event).map(words)),
            Layout::L48 => ring.push::<6, 4>(*shape, *keep, events, |event| Some(words(l48::encode(event)))),
            Layout::L56 => ring.push::<7, 5>(*shape, *keep, events, |event| Some(words(l56::encode(event)))),
        }
    }

    /// Copies what the ring holds into a file of its own.
    ///
    /// # Errors
    /// If the ring cannot be read any more, or the dump not be written.
    pub fn dump(&self, place: &Place<'_>) -> Result<Dumped, DumpError> {
        let events = self.unread();
        let from = self.ring.next.wrapping_sub(events) & (self.shape.capacity - 1);
        Still { file: self.ring.claim.file(), shape: self.shape, from, events }.dump(&self.path, place)
    }

    /// Events that nobody has consumed.
    pub fn unread(&self) -> u64 {
        let read_pos = self.ring.words[READ_POS].load(Acquire);
        self.ring.next.wrapping_sub(read_pos) & (self.shape.capacity - 1)
    }
}

impl Ring {
    fn make(path: &Path, options: Options, shape: Shape, save: &mut dyn FnMut(&Left<'_>)) -> Result<Self, CreateError> {
        let chance = RandomState::new().hash_one(path);
        let (claim, (words, next)) = options.make(path, save, |file| Self::begin(file, shape, chance))?;
        Ok(Self { claim, words, next })
    }

    /// Maps the file and makes it empty: the version last, before which no reader believes the rest. Returns the number of the
    /// first event, too.
    ///
    /// The last slots have the numbers before the first, by which readers know that there are numbers.
    fn begin(file: &File, shape: Shape, chance: u64) -> io::Result<(Words, u64)> {
        let words =
            Words::of_file(file, 0, usize::try_from(shape.size() / 8).map_err(|_| io::ErrorKind::OutOfMemory)?)?;
        let next = Self::first_number(&words, shape, chance);
        let header = shape.header();
        let version = u64::from(header.version.cast_unsigned());
        words[VERSIONS].store(0, Release);
        fence(Release);
        words[WRITE_POS].store(0, Relaxed);
        words[READ_POS].store(0, Relaxed);
        words[CAPACITY].store(header.capacity, Relaxed);
        words[MASK].store(header.mask, Relaxed);
        words[SLOTS..].iter().for_each(|word| word.store(0, Relaxed));
        if let Some(stamp) = shape.stamp() {
            let in_slot = shape.layout.size() / 8;
            for back in 1..=NUMBERED.min(shape.capacity) {
                let slot = SLOTS + index(shape.capacity - back) * in_slot;
                words[slot + stamp / 8].store(next.wrapping_sub(back) << 32, Relaxed);
            }
        }
        words[VERSIONS].store(version | version << 32, Release);
        Ok((words, next))
    }

    /// Where the numbers of a new writer begin: nobody can foresee it, and they are farther from those in the file than any
    /// reader takes for events it has missed.
    fn first_number(words: &Words, shape: Shape, chance: u64) -> u64 {
        const FAR: u64 = 1 << 31;
        let last = words[WRITE_POS].load(Relaxed).wrapping_sub(1) & (shape.capacity - 1);
        let old = shape
            .stamp()
            .map_or(0, |stamp| words[SLOTS + index(last) * (shape.layout.size() / 8) + stamp / 8].load(Relaxed) >> 32);
        (old + FAR + 2 * shape.capacity + chance % (FAR / 2)) & u64::from(u32::MAX) & !(shape.capacity - 1)
    }

    /// `encode` makes the words of an event, of which the upper half of the one with the stamp is zero.
    #[inline]
    fn push<const WORDS: usize, const STAMP: usize>(
        &mut self,
        shape: Shape,
        keep: Keep,
        events: &[Event<'_>],
        encode: impl Fn(&Event<'_>) -> Option<[u64; WORDS]>,
    ) -> Pushed {
        let mut pushed = Pushed::default();
        let mut rest = events;
        let mut is_full = false;
        while let Some(event) = rest.first() {
            if encode(event).is_none() {
                pushed.unsupported += 1;
                rest = &rest[1..];
                continue;
            }
            // Once one was refused, room comes too late for those after it: they would be out of turn.
            let room = if is_full { 0 } else { self.room(shape, keep) };
            if room == 0 {
                is_full = true;
                pushed.refused += 1;
                rest = &rest[1..];
                continue;
            }
            // Up to the end of the file, of the room, or to an event that is none here.
            let at = self.next & (shape.capacity - 1);
            let run = index(room.min(shape.capacity - at));
            let slots = self.words[SLOTS + index(at) * WORDS..].as_chunks::<WORDS>().0;
            let written = fill::<WORDS, STAMP>(&slots[..run], rest, self.next, &encode);
            rest = &rest[written..];
            self.next = self.next.wrapping_add(written as u64);
            pushed.written += written as u64;
        }
        self.words[WRITE_POS].store(self.next & (shape.capacity - 1), Release);
        pushed
    }

    /// Slots that may be filled; some, if the oldest gives way.
    fn room(&self, shape: Shape, keep: Keep) -> u64 {
        let mask = shape.capacity - 1;
        // The position is whatever somebody wrote into the file; masked, it is one.
        let room = self.words[READ_POS].load(Acquire).wrapping_sub(self.next).wrapping_sub(1) & mask;
        if room > 0 || keep == Keep::Oldest {
            return room;
        }
        // What is published comes first, since the read position may not pass it; and the read position before anything
        // behind it is overwritten. An eighth of the ring at a time.
        let room = (shape.capacity / 8).max(1);
        self.words[WRITE_POS].store(self.next & mask, Release);
        self.words[READ_POS].store(self.next.wrapping_add(room).wrapping_add(1) & mask, Release);
        fence(Release);
        room
    }
}

/// Writes events into slots, one after another, as long as there are both, up to one that has no words. Returns how many.
#[inline]
fn fill<const WORDS: usize, const STAMP: usize>(
    slots: &[[AtomicU64; WORDS]],
    events: &[Event<'_>],
    number: u64,
    encode: impl Fn(&Event<'_>) -> Option<[u64; WORDS]>,
) -> usize {
    // Without a stamp it is the first word that comes first, and that is as good as any.
    let first = if STAMP == NONE { 0 } else { STAMP };
    let mut written = 0;
    for (slot, event) in slots.iter().zip(events) {
        let Some(mut words) = encode(event) else { break };
        if STAMP != NONE {
            words[first] |= number.wrapping_add(written as u64) << 32;
        }
        // The stamp is seen before what follows it.
        slot[first].store(words[first], Relaxed);
        for (i, word) in words.into_iter().enumerate() {
            if i != first {
                slot[i].store(word, Release);
            }
        }
        written += 1;
    }
    written
}

/// The bytes as words.
#[inline]
fn words<const BYTES: usize, const WORDS: usize>(bytes: [u8; BYTES]) -> [u64; WORDS] {
    std::array::from_fn(|i| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes")))
}

#[expect(clippy::cast_possible_truncation, reason = "less than the words of a mapping")]
fn index(position: u64) -> usize {
    position as usize
}
