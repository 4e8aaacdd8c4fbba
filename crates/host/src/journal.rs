// SPDX-License-Identifier: Apache-2.0

//! A file in which the rings of a collector live, so that a process that dies takes nothing along.
//!
//! The file is a mapping shared with the kernel: recording into it is recording into memory, and what was written is
//! there whatever becomes of the process. It begins with a header, whose words are below; then come the blocks and
//! segments of lanes (`block.rs`, `lane.rs`), where there was room. Numbers are those of the machine.
//!
//! # A batch is taken once
//! Before exporters get a batch it is written into the header as a whole, with how far each lane was read for it.
//! [`PHASE`] says what the dead process was about:
//!
//! | phase | |
//! |---|---|
//! | 0 | no batch: what lanes say is true, the header's batch is not |
//! | 1 | the batch is taken; lanes are read at least as far as it says |
//! | 2 + 2 n | exporter n is at it: it may have it, wholly, in part, or not |
//! | 3 + 2 n | exporter n has it |
//!
//! Every step is one store, so that there is nothing between them to die in. An exporter that was at it is given the
//! batch again, told so, and with the memo it wrote beforehand.
//!
//! # Who lives
//! A process holds the lock of its journal until it ends. Pids say nothing: they are used again.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher as _;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nixl_telemetry_event::MemoWords;
use nixl_telemetry_log::warn;
use nixl_telemetry_shm::{NewFile, NotPrivate, check_private, lock, reserve};

use crate::flusher::Recipients;
use crate::lane::Reading;
use crate::record::{Expansion, Slot};
use crate::sync::Words;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::totals::{self, Totals};

/// `NIXLTLMJ`, as bytes of a machine whose low byte comes first.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"NIXLTLMJ");
/// The version of all this.
pub(crate) const VERSION: u64 = 1;

/// Stored last when the journal is made.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
/// When the collector was created, in nanoseconds since the Unix epoch.
const CREATED: usize = 2;
const PID: usize = 3;
/// [`Expansion::bits`], and in bit 8 whether drops are reported.
const ENABLED: usize = 4;
/// What tells this collector from others.
const ORIGIN: usize = 5;
/// Lengths of texts in bytes.
const AGENT_LEN: usize = 6;
const EXPORTERS_LEN: usize = 7;
const NAMES_LEN: usize = 8;
/// How many lanes are listed.
const LANES_LEN: usize = 9;

const PHASE: usize = 16;
/// Of the batch: its number, time, slots and lanes.
const NUMBER: usize = 17;
const BATCH_TIME: usize = 18;
const SLOTS_LEN: usize = 19;
const RANGES_LEN: usize = 20;

/// What exporters were told of what was not kept: in all, and of that in this batch, and in all with this batch.
const HANDED: usize = 32;
const BATCH_TOTALS: usize = HANDED + totals::WORDS;
const BATCH_HANDED: usize = BATCH_TOTALS + totals::WORDS;
const MEMOS: usize = 320;
const MEMO_WORDS: usize = size_of::<MemoWords>() / 8;
/// Exporters that have one.
pub(crate) const MOST_EXPORTERS: usize = 16;

const AGENT: Range<usize> = 512..768;
const EXPORTERS: Range<usize> = 768..1024;
const NAMES: Range<usize> = 1024..2048;
const LANES: Range<usize> = 2048..6144;
/// Four words each: the lane, and what its head, read events and time become.
const RANGES: Range<usize> = 6144..10240;
const RANGE_WORDS: usize = 4;
const SLOTS: Range<usize> = 10240..26624;
const HEADER: usize = SLOTS.end;

const _: () = assert!(cfg!(loom) || BATCH_HANDED + totals::WORDS <= MEMOS);
const _: () = assert!(MEMOS + MEMO_WORDS * MOST_EXPORTERS <= AGENT.start);

/// The most slots a batch has.
pub(crate) const MOST_SLOTS: usize = SLOTS.end.wrapping_sub(SLOTS.start) / 2;
/// The most lanes a batch is taken from.
pub(crate) const MOST_RANGES: usize = RANGES.end.wrapping_sub(RANGES.start) / RANGE_WORDS;

/// The end of every journal's name.
pub(crate) const EXTENSION: &str = "journal";

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Directory(#[from] NotPrivate),
    #[error("{0}: expected a directory on a file system with room, with locks, and whose files can be mapped")]
    File(io::Error),
    #[error("the agent's name has {0} bytes: expected at most {most}", most = 8 * AGENT.len())]
    Agent(usize),
    #[error("{0} exporters: expected at most {MOST_EXPORTERS}")]
    Exporters(usize),
}

/// Why a file cannot be recovered: it is no journal, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It is shorter than what every journal begins with.
    #[error("has {0} bytes: expected at least {min}", min = 8 * HEADER)]
    Short(u64),
    /// It does not begin with the bytes of a journal.
    #[error("does not begin as a journal does: expected NIXLTLMJ")]
    Magic,
    /// It is of another version than this program.
    #[error("is a journal of version {0}: expected {VERSION}")]
    Version(u64),
    /// Numbers of its header cannot be.
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    /// It cannot be opened, locked or read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A journal, of this process or found.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    header: Words,
    /// Bytes of the file; `None` once it could not grow, after which it is not tried again.
    end: Mutex<Option<u64>>,
}

/// What a batch consists of, besides its slots.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) number: u64,
    pub(crate) time_us: u64,
    pub(crate) slots: &'a [Slot],
    /// What it tells of what was not kept, and what all batches have told then.
    pub(crate) totals: &'a Totals,
    pub(crate) handed: &'a Totals,
}

/// A batch that its process did not finish.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) number: u64,
    pub(crate) time_us: u64,
    pub(crate) slots: Vec<Slot>,
    pub(crate) totals: Totals,
    pub(crate) handed: Totals,
    /// Of each lane it was taken from: its index, and what its head, read events and time are.
    pub(crate) ranges: Vec<[u64; RANGE_WORDS]>,
    /// Who does not have it.
    pub(crate) to: Recipients,
}

impl Journal {
    /// A journal in this directory, locked.
    pub(crate) fn create(
        directory: &Path,
        agent: &str,
        exporters: &[&str],
        expansion: Expansion,
        reports_drops: bool,
    ) -> Result<Self, Refused> {
        /// Tells collectors of one process apart that begin at the same moment.
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        check_private(directory)?;
        let names = exporters.join(",");
        if agent.len() > 8 * AGENT.len() {
            return Err(Refused::Agent(agent.len()));
        }
        if exporters.len() > MOST_EXPORTERS || names.len() > 8 * EXPORTERS.len() {
            return Err(Refused::Exporters(exporters.len()));
        }
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let path = directory.join(format!("nixl.{pid}.{now}.{count}.{EXTENSION}"));
        let new = NewFile::create(&path).map_err(Refused::File)?;
        let made = (|| {
            if !lock(new.file())? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            reserve(new.file(), 0, 8 * HEADER as u64)?;
            Words::of_file(new.file(), 0, HEADER)
        })();
        let header = made.map_err(Refused::File)?;
        let store = |at: usize, value: u64| header[at].store(value, Ordering::Relaxed);
        store(VERSION_AT, VERSION);
        store(CREATED, now);
        store(PID, pid.into());
        store(ENABLED, expansion.bits() | u64::from(reports_drops) << 8);
        store(ORIGIN, new_origin());
        store_text(&header, AGENT, AGENT_LEN, agent);
        store_text(&header, EXPORTERS, EXPORTERS_LEN, &names);
        // Release: the header is complete.
        header[MAGIC_AT].store(MAGIC, Ordering::Release);
        let file = new.publish().map_err(Refused::File)?;
        Ok(Self { file, path, header, end: Mutex::new(Some(whole_pages(8 * HEADER as u64))) })
    }

    /// A journal that was found; `None` if its process lives.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Broken> {
        let file = open_found(path)?;
        if !lock(&file)? {
            return Ok(None);
        }
        let found = file.metadata()?;
        if found.nlink() == 0 {
            // Somebody has recovered and removed it since it was opened.
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        let length = found.len();
        if length < 8 * HEADER as u64 {
            return Err(Broken::Short(length));
        }
        let header = Words::of_file(&file, 0, HEADER)?;
        if header[MAGIC_AT].load(Ordering::Acquire) != MAGIC {
            return Err(Broken::Magic);
        }
        let journal = Self { file, path: path.to_owned(), header, end: Mutex::new(Some(length)) };
        match journal.word(VERSION_AT) {
            VERSION => Ok(Some(journal)),
            other => Err(Broken::Version(other)),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the agent.
    pub(crate) fn agent(&self) -> String {
        self.text(AGENT, AGENT_LEN)
    }

    /// The names of the exporters, in the order they are fed.
    pub(crate) fn exporters(&self) -> Vec<String> {
        let names = self.text(EXPORTERS, EXPORTERS_LEN);
        names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The process that made it, and when, in nanoseconds since the Unix epoch.
    pub(crate) fn made_by(&self) -> (u64, u64) {
        (self.word(PID), self.word(CREATED))
    }

    /// What tells this collector from others.
    pub(crate) fn origin(&self) -> u64 {
        self.word(ORIGIN)
    }

    /// What records mean, and whether drops are reported.
    pub(crate) fn meaning(&self) -> (Expansion, bool) {
        let enabled = self.word(ENABLED);
        (Expansion::from_bits(enabled), enabled >> 8 & 1 != 0)
    }

    /// What exporters were told of what was not kept.
    pub(crate) fn handed(&self) -> Totals {
        self.totals(HANDED)
    }

    /// The number of the last batch.
    pub(crate) fn number(&self) -> u64 {
        // One that was counted up to is far from the end of numbers.
        self.word(NUMBER).min(u64::MAX >> 1)
    }

    /// So many more words, zero, and where they lie; `None`, after a line in the log, if there is no room for them. Then there
    /// never is any more.
    pub(crate) fn extend(&self, words: usize) -> Option<(Words, u64)> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, bytes) = ((*end)?, 8 * words as u64);
        match reserve(&self.file, offset, bytes).and_then(|()| Words::of_file(&self.file, offset, words)) {
            Ok(words) => {
                *end = Some(offset + whole_pages(bytes));
                Some((words, offset))
            }
            Err(error) => {
                *end = None;
                let path = self.path.display();
                warn!("the journal {path} cannot grow: {error}; what finds no room in it is dropped and counted");
                None
            }
        }
    }

    /// The words of a place in the file, if it has them.
    pub(crate) fn part(&self, offset: u64, words: u64) -> Option<Words> {
        let end = (*self.end.lock().unwrap_or_else(PoisonError::into_inner))?;
        let fits = offset >= 8 * HEADER as u64 && words.checked_mul(8)?.checked_add(offset)? <= end;
        if !fits || whole_pages(offset) != offset {
            return None;
        }
        Words::of_file(&self.file, offset, usize::try_from(words).ok()?).ok()
    }

    /// Whether one more lane can be listed.
    pub(crate) fn has_room_for_a_lane(&self) -> bool {
        self.word(LANES_LEN) < LANES.len() as u64
    }

    /// Lists a lane, for which there is room. Not called by two at the same time.
    pub(crate) fn add_lane(&self, offset: u64) {
        let count = self.word(LANES_LEN);
        if let Some(place) = usize::try_from(count).ok().and_then(|count| self.header[LANES].get(count)) {
            place.store(offset, Ordering::Relaxed);
            // Release: the entry is complete.
            self.header[LANES_LEN].store(count + 1, Ordering::Release);
        }
    }

    /// Where the lanes are.
    pub(crate) fn lanes(&self) -> Result<Vec<u64>, Broken> {
        let count = usize::try_from(self.word(LANES_LEN)).unwrap_or(usize::MAX);
        let lanes = self.header[LANES].get(..count).ok_or(Broken::Header("more lanes than there can be"))?;
        Ok(lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).collect())
    }

    /// Notes the name of backend events, the next in order; one for which there is no room will have none. Not called by
    /// two at the same time.
    pub(crate) fn add_name(&self, name: &str) {
        let used = usize::try_from(self.word(NAMES_LEN)).unwrap_or(usize::MAX);
        // A name that holds the separator is told by what it becomes; the place of one that does not fit stays empty, so that
        // those behind it keep theirs.
        let mut name = name.replace('\n', " ") + "\n";
        if used.saturating_add(name.len()) > 8 * NAMES.len() {
            name = "\n".to_owned();
        }
        if used.saturating_add(name.len()) <= 8 * NAMES.len() {
            let mut bytes = self.bytes(NAMES, used);
            bytes.extend_from_slice(name.as_bytes());
            store_bytes(&self.header, NAMES, &bytes);
            // Release: the text is complete.
            self.header[NAMES_LEN].store(bytes.len() as u64, Ordering::Release);
        }
    }

    /// The names of backend events.
    pub(crate) fn names(&self) -> Vec<String> {
        self.text(NAMES, NAMES_LEN).lines().map(str::to_owned).collect()
    }

    /// Takes a batch, and then, from each lane it was read from, what was read. Not called before the last one is
    /// [done](Self::done).
    pub(crate) fn take(&self, batch: &Batch<'_>, readings: Vec<(usize, Reading<'_>)>) {
        debug_assert_eq!(self.word(PHASE), 0);
        let header = &self.header;
        let store = |at: usize, value: u64| header[at].store(value, Ordering::Relaxed);
        for (place, (lane, reading)) in header[RANGES].chunks_exact(RANGE_WORDS).zip(&readings) {
            let values = [*lane as u64, reading.head(), reading.events(), reading.time()];
            place.iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        }
        for (place, slot) in header[SLOTS].chunks_exact(2).zip(batch.slots) {
            place.iter().zip(slot).for_each(|(word, value)| word.store(*value, Ordering::Relaxed));
        }
        store(RANGES_LEN, readings.len() as u64);
        store(SLOTS_LEN, batch.slots.len() as u64);
        store(NUMBER, batch.number);
        store(BATCH_TIME, batch.time_us);
        self.store_totals(BATCH_TOTALS, batch.totals);
        self.store_totals(BATCH_HANDED, batch.handed);
        self.enter(1);
        readings.into_iter().for_each(|(_, reading)| reading.done());
        self.store_totals(HANDED, batch.handed);
        // What lanes and header say is true before the batch is gone.
        fence(Ordering::Release);
    }

    /// The exporter at this index is about to get the batch.
    pub(crate) fn exporting(&self, exporter: usize) {
        self.enter(2 + 2 * exporter as u64);
    }

    /// The exporter at this index has the batch.
    pub(crate) fn exported(&self, exporter: usize) {
        self.enter(3 + 2 * exporter as u64);
    }

    /// All exporters have the batch.
    pub(crate) fn done(&self) {
        self.enter(0);
    }

    /// The memo of the exporter at this index.
    #[cfg(not(loom))]
    pub(crate) fn memo(&self, exporter: usize) -> Option<&MemoWords> {
        if exporter >= MOST_EXPORTERS {
            return None;
        }
        self.header[MEMOS + exporter * MEMO_WORDS..].first_chunk()
    }

    /// Loom's words are others.
    #[cfg(loom)]
    pub(crate) fn memo(&self, _: usize) -> Option<&MemoWords> {
        None
    }

    /// The batch its process did not finish, if there is one.
    pub(crate) fn unfinished(&self) -> Result<Option<Unfinished>, Broken> {
        if ![HANDED, BATCH_TOTALS, BATCH_HANDED].iter().all(|at| self.totals(*at).are_likely()) {
            return Err(Broken::Header("more events than there can be"));
        }
        let phase = self.header[PHASE].load(Ordering::Acquire);
        if phase == 0 {
            return Ok(None);
        }
        let length = |at: usize, most: usize| usize::try_from(self.word(at)).ok().filter(|length| *length <= most);
        let ranges =
            length(RANGES_LEN, MOST_RANGES).ok_or(Broken::Header("a batch of more lanes than there can be"))?;
        let slots = length(SLOTS_LEN, MOST_SLOTS).ok_or(Broken::Header("a batch larger than any"))?;
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let slots = self.header[SLOTS].chunks_exact(2).take(slots).map(|slot| [load(&slot[0]), load(&slot[1])]);
        let ranges = self.header[RANGES].chunks_exact(RANGE_WORDS).take(ranges);
        Ok(Some(Unfinished {
            number: self.word(NUMBER),
            time_us: self.word(BATCH_TIME),
            slots: slots.collect(),
            totals: self.totals(BATCH_TOTALS),
            handed: self.totals(BATCH_HANDED),
            ranges: ranges.map(|range| [0, 1, 2, 3].map(|at| load(&range[at]))).collect(),
            to: Recipients {
                first: usize::try_from((phase - 1) / 2).unwrap_or(usize::MAX),
                is_in_doubt: phase.is_multiple_of(2),
            },
        }))
    }

    /// Has it fed other exporters from now on; of a batch that is not finished, those before the recipients have it. `old`
    /// is where the first of them stood before, if it did.
    pub(crate) fn feed(&self, exporters: &[String], to: Recipients, old: Option<usize>) {
        let memo = old.and_then(|old| self.memo(old));
        let memo = memo.map(|memo| memo.each_ref().map(|word| word.load(Ordering::Relaxed)));
        if let (Some(words), Some(memo)) = (memo, self.memo(to.first)) {
            memo.iter().zip(words).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        }
        let is_unfinished = self.word(PHASE) != 0;
        if is_unfinished && self.exporters() != exporters {
            // Between the old names and the new ones nobody has the batch: who dies here has it exported twice, not never.
            self.enter(1);
        }
        store_text(&self.header, EXPORTERS, EXPORTERS_LEN, &exporters.join(","));
        if is_unfinished {
            self.enter(if to.is_in_doubt { 2 } else { 1 } + 2 * to.first as u64);
        }
    }

    /// Says that what it has told of what was not kept is this, when a batch that says so was found.
    pub(crate) fn set_handed(&self, handed: &Totals) {
        self.store_totals(HANDED, handed);
    }

    /// Removes the file: nothing in it is needed any more.
    pub(crate) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn enter(&self, phase: u64) {
        // Release: everything before it is written.
        self.header[PHASE].store(phase, Ordering::Release);
        // And nothing after it is written earlier.
        fence(Ordering::Release);
    }

    fn word(&self, at: usize) -> u64 {
        self.header[at].load(Ordering::Acquire)
    }

    fn totals(&self, at: usize) -> Totals {
        let mut words = [0; totals::WORDS];
        for (word, value) in words.iter_mut().zip(&self.header[at..]) {
            *word = value.load(Ordering::Relaxed);
        }
        Totals::from_words(words)
    }

    fn store_totals(&self, at: usize, totals: &Totals) {
        for (word, value) in self.header[at..].iter().zip(totals.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn text(&self, place: Range<usize>, length: usize) -> String {
        let length = usize::try_from(self.word(length)).unwrap_or(usize::MAX);
        String::from_utf8_lossy(&self.bytes(place, length)).into_owned()
    }

    fn bytes(&self, place: Range<usize>, length: usize) -> Vec<u8> {
        let words = self.header[place].iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        words.take(length).collect()
    }
}

/// A number that tells a collector from others, in other processes and on other machines, too.
pub(crate) fn new_origin() -> u64 {
    // Its keys are random.
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

/// Only from the beginning of a page can a file be mapped.
fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(rustix::param::page_size() as u64)
}

fn store_text(header: &Words, place: Range<usize>, length: usize, text: &str) {
    store_bytes(header, place, text.as_bytes());
    header[length].store(text.len() as u64, Ordering::Relaxed);
}

fn store_bytes(header: &Words, place: Range<usize>, bytes: &[u8]) {
    for (word, bytes) in header[place].iter().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
    }
}

/// A journal somebody left: a file of one's own, and nothing else that may lie under its name.
fn open_found(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).write(true).custom_flags(flags).open(path).map_err(|error| {
        let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if is_link { io::Error::other("is a symbolic link: expected the journal itself") } else { error }
    })?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("is no regular file: expected a journal"));
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(io::Error::other(format!("belongs to user {}: expected user {user}", found.uid())));
    }
    Ok(file)
}
