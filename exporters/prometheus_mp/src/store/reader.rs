// SPDX-License-Identifier: Apache-2.0

//! The reading side: anybody's store, which may hold anything and change at any time.
//!
//! It is read, never mapped: what is mapped of a file that shrinks is a `SIGBUS`, a read is an error.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};

use nixl_telemetry_sdk::metrics::{Buckets, BucketsError, Labels, LabelsError, Snapshot};

use super::image::Image;
use super::layout;

/// How often a copy is taken again that a batch came in between of.
const TRIES: usize = 16;

/// Why a file shows nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("is too small for a store: expected 6800 bytes or more")]
    TooSmall,
    #[error("is not complete")]
    Unfinished,
    #[error("is being written")]
    Busy,
    #[error("is no store: expected NIXLMPS1 at its beginning")]
    NoStore,
    #[error(
        "has schema {schema}, {slots} slots and {bounds} bounds: expected schema 1, 21 slots and at most 32 bounds"
    )]
    Schema { schema: u64, slots: u64, bounds: u64 },
    #[error("{0}")]
    Bounds(#[from] BucketsError),
    #[error("{0}")]
    Labels(#[from] LabelsError),
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Unreadable {
    /// Whether it is a matter of course: a process that was killed while it made the file, or is at work.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::TooSmall | Self::Unfinished | Self::Busy)
    }
}

/// Reads stores, one after the other, into the same memory.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    detail: Detail,
}

/// How much is read of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// All but exponential histograms, which are half of it, and which most formats do not show.
    Classic,
    /// All of it.
    Exponential,
}

/// What a store held when it was last read.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) labels: Labels,
    /// Its exponential histograms are as of the last time that they were read.
    pub(crate) snapshot: Snapshot,
    pub(crate) heartbeat_ns: u64,
    /// What labels and buckets were made of.
    identity: [Box<[u8]>; 3],
    /// Which batch the snapshot ends with, and how much of it was read; `None` in NIXL's own stores, and if it ends in
    /// the middle of a batch.
    version: Option<(u64, Detail)>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; layout::WORDS * 8], detail: Detail::Classic }
    }

    /// Reads so much from now on.
    pub(crate) fn set_detail(&mut self, detail: Detail) {
        self.detail = detail;
    }

    /// Reads a store, with what it held the last time, if it was read before. A store that has not changed since then
    /// costs one system call.
    ///
    /// The copy ends with a whole batch if the store says where batches end. While a writer that is alive does not let
    /// that happen, what was read before stays as it is; what a dead one was in the middle of is shown as far as it
    /// got.
    ///
    /// # Errors
    /// If it shows nothing.
    pub(crate) fn read(&mut self, file: &File, is_alive: bool, known: &mut Option<Store>) -> Result<(), Unreadable> {
        let (mut before, detail) = (None, self.detail);
        if let Some(Store { version: Some((last, read)), .. }) = known {
            let now = sequence(file)?;
            if now == *last && *read >= detail {
                return Ok(());
            }
            before = Some(now);
        }
        for _ in 0..TRIES {
            let image = self.copy(file)?;
            image.check()?;
            if !image.has_tail() {
                return Store::update(known, &image, None, detail);
            }
            // Nothing orders the reads of another process's memory but this.
            fence(SeqCst);
            let after = sequence(file)?;
            if before == Some(after) && after.is_multiple_of(2) {
                return Store::update(known, &image, Some(after), detail);
            }
            before = Some(after);
        }
        if is_alive {
            return if known.is_some() { Ok(()) } else { Err(Unreadable::Busy) };
        }
        let image = self.copy(file)?;
        image.check()?;
        Store::update(known, &image, None, detail)
    }

    /// Copies what is wanted, each part to its place.
    fn copy(&mut self, file: &File) -> io::Result<Image<'_>> {
        fence(SeqCst);
        let length = read_words(file, &mut self.bytes, 0..layout::FIXED_WORDS)?;
        let image = Image::new(&self.bytes[..length]);
        if !image.has_tail() {
            return Ok(Image::new(&self.bytes[..length]));
        }
        if let Some(last) = image.name_count().checked_sub(1) {
            read_words(file, &mut self.bytes, layout::name(0).start..layout::name(last).end)?;
        }
        if self.detail == Detail::Exponential {
            read_words(file, &mut self.bytes, layout::EXPONENTIAL..layout::WORDS)?;
        }
        Ok(Image::new(&self.bytes))
    }
}

/// The word of a store that says which batch it ends with.
fn sequence(file: &File) -> Result<u64, Unreadable> {
    let mut word = [0; 8];
    match file.read_exact_at(&mut word, layout::SEQUENCE as u64 * 8) {
        Ok(()) => Ok(u64::from_le_bytes(word)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unreadable::TooSmall),
        Err(error) => Err(error.into()),
    }
}

/// Reads a part of a file to its place in `bytes`, as much as there is, and zeros for the rest; returns how much there
/// was.
fn read_words(file: &File, bytes: &mut [u8], words: Range<usize>) -> io::Result<usize> {
    let (bytes, offset) = (&mut bytes[words.start * 8..words.end * 8], words.start as u64 * 8);
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes[length..].fill(0);
    Ok(length)
}

impl Store {
    fn update(
        known: &mut Option<Self>,
        image: &Image<'_>,
        sequence: Option<u64>,
        detail: Detail,
    ) -> Result<(), Unreadable> {
        let identity = image.identity();
        let store = match known {
            Some(store) if store.identity.iter().zip(identity).all(|(known, found)| **known == *found) => store,
            _ => known.insert(Self::new(image, identity.map(Into::into))?),
        };
        image.fill(&mut store.snapshot);
        if detail == Detail::Exponential {
            image.fill_exponential(&mut store.snapshot);
        }
        store.heartbeat_ns = image.word(layout::HEARTBEAT);
        store.version = sequence.map(|sequence| (sequence, detail));
        Ok(())
    }

    fn new(image: &Image<'_>, identity: [Box<[u8]>; 3]) -> Result<Self, Unreadable> {
        let mut snapshot = Snapshot::new(Arc::new(Buckets::new(image.bounds())?));
        if !image.has_tail() {
            snapshot.histograms.iter_mut().for_each(|histogram| histogram.exponential = None);
        }
        // Somebody else may have written it: labels that cannot be are no reason to hide the numbers.
        let labels = Labels::in_order(image.labels().chain(image.extra_labels()));
        let labels = labels.or_else(|_| Labels::in_order(image.labels()))?;
        Ok(Self { labels, snapshot, heartbeat_ns: 0, identity, version: None })
    }
}
