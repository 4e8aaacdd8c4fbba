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
use std::sync::atomic::fence;

use nixl_telemetry_event::{Event, Layout, escape_file_name, layout};
use nixl_telemetry_shm::Words;

use crate::create::{Claim, Options};
use crate::header::HEADER_SIZE;
use crate::{CreateError, Shape};

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
    file: File,
    words: Words,
    /// Events written since the ring began, and a number to begin with: also the stamp of the next one. Its place is this
    /// modulo the capacity.
    next: u64,
    _claim: Claim,
}

/// Words of the header.
const WRITE_POS: usize = 0;
const READ_POS: usize = 1;
const VERSIONS: usize = 2;
const CAPACITY: usize = 3;
const MASK: usize = 4;
const SLOTS: usize = HEADER_SIZE / 8;

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
        const MOST: u32 = 1000;
        let name = escape_file_name(agent);
        let mut number = 1;
        loop {
            let name = if number == 1 { name.clone() } else { format!("{name}.{number}") };
            let path = directory.join(name);
            match Self::at(path.clone(), options) {
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
        let shape = options.shape()?;
        let ring = Ring::make(&path, options, shape)?;
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
        let metadata = self.ring.file.metadata()?;
        if metadata.nlink() > 0 && metadata.len() == self.shape.size() {
            return Ok(true);
        }
        if metadata.nlink() > 0 {
            // Somebody else's now. Whoever wrote into it last will have it.
            let _ = std::fs::remove_file(&self.path);
        }
        self.ring = Ring::make(&self.path, self.options, self.shape)?;
        Ok(false)
    }

    /// Writes events in order. With [`Keep::Oldest`], what finds no room is refused, each event that follows too.
    #[inline]
    pub fn push(&mut self, events: &[Event<'_>]) -> Pushed {
        let Self { shape, options: Options { keep, .. }, ring, .. } = self;
        match shape.layout {
            Layout::L16 => ring.push(*shape, *keep, events, |event| layout::l16::encode(event).map(words::<16, 2>)),
            Layout::L16c => ring.push(*shape, *keep, events, |event| layout::l16c::encode(event).map(words::<16, 2>)),
            Layout::L48 => ring.push(*shape, *keep, events, |event| Some(words::<48, 6>(layout::l48::encode(event)))),
            Layout::L56 => ring.push(*shape, *keep, events, |event| Some(words::<56, 7>(layout::l56::encode(event)))),
        }
    }

    /// Events that nobody has consumed.
    pub fn unread(&self) -> u64 {
        let read_pos = self.ring.words[READ_POS].load(Acquire);
        self.ring.next.wrapping_sub(read_pos) & (self.shape.capacity - 1)
    }
}

impl Ring {
    fn make(path: &Path, options: Options, shape: Shape) -> Result<Self, CreateError> {
        let (file, claim, words) = options.make(path, |file| Self::begin(file, shape))?;
        // Nobody can foresee where the numbers begin.
        let next = RandomState::new().hash_one(path) & u64::from(u32::MAX) & !(shape.capacity - 1);
        Ok(Self { file, words, next, _claim: claim })
    }

    /// Maps the file and writes its header: the version last, before which no reader believes the rest.
    fn begin(file: &File, shape: Shape) -> io::Result<Words> {
        let words =
            Words::of_file(file, 0, usize::try_from(shape.size() / 8).map_err(|_| io::ErrorKind::OutOfMemory)?)?;
        let header = shape.header();
        let version = u64::from(header.version.cast_unsigned());
        words[VERSIONS].store(0, Release);
        fence(Release);
        words[WRITE_POS].store(0, Relaxed);
        words[READ_POS].store(0, Relaxed);
        words[CAPACITY].store(header.capacity, Relaxed);
        words[MASK].store(header.mask, Relaxed);
        words[VERSIONS].store(version | version << 32, Release);
        Ok(words)
    }

    /// `encode` makes the words of an event in which the stamp's half is zero.
    #[inline]
    fn push<const WORDS: usize>(
        &mut self,
        shape: Shape,
        keep: Keep,
        events: &[Event<'_>],
        encode: impl Fn(&Event<'_>) -> Option<[u64; WORDS]>,
    ) -> Pushed {
        let mask = shape.capacity - 1;
        // Without a stamp it is the first word that comes first, and that is as good as any.
        let (stamp_word, stamp_shift) = shape.stamp().map_or((0, None), |at| (at / 8, Some(8 * (at % 8))));
        // The position is whatever somebody wrote into the file; masked, it is one.
        let read_pos = self.words[READ_POS].load(Acquire);
        let mut room = read_pos.wrapping_sub(self.next).wrapping_sub(1) & mask;
        let slots = &self.words[SLOTS..];
        let mut pushed = Pushed::default();
        let mut next = self.next;
        for event in events {
            let Some(mut words) = encode(event) else {
                pushed.unsupported += 1;
                continue;
            };
            if room == 0 {
                if keep == Keep::Oldest {
                    pushed.refused += 1;
                    continue;
                }
                // An eighth of the ring at a time, and before anything of it is overwritten; nor may it pass what is
                // published.
                self.words[WRITE_POS].store(next & mask, Release);
                room = (shape.capacity / 8).max(1);
                self.words[READ_POS].store(next.wrapping_add(room).wrapping_add(1) & mask, Release);
                fence(Release);
            }
            room -= 1;
            if let Some(shift) = stamp_shift {
                words[stamp_word] |= u64::from(low(next)) << shift;
            }
            let at = index(next & mask) * WORDS;
            let slot = &slots[at..at + WORDS];
            // The stamp first, and seen before what follows it.
            slot[stamp_word].store(words[stamp_word], Relaxed);
            fence(Release);
            for (i, word) in words.into_iter().enumerate() {
                if i != stamp_word {
                    slot[i].store(word, Relaxed);
                }
            }
            next = next.wrapping_add(1);
            pushed.written += 1;
        }
        self.next = next;
        self.words[WRITE_POS].store(next & mask, Release);
        pushed
    }
}

/// The bytes as words.
#[inline]
fn words<const BYTES: usize, const WORDS: usize>(bytes: [u8; BYTES]) -> [u64; WORDS] {
    std::array::from_fn(|i| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes")))
}

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "stamps are numbers modulo 2^32")]
fn low(number: u64) -> u32 {
    number as u32
}

#[expect(clippy::cast_possible_truncation, reason = "less than the words of a mapping")]
fn index(position: u64) -> usize {
    position as usize
}
