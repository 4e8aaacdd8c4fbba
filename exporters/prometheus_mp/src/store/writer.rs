// SPDX-License-Identifier: Apache-2.0

//! The writing side: an agent's own store.

use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release, fence};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use nixl_telemetry_sdk::metrics::{Buckets, FAMILIES, Named, Source, TIMES, Tally};
use nixl_telemetry_sdk::{Kind, error, now_us, warn};
use nixl_telemetry_shm::{NewFile, Words};
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};

use super::layout;
use crate::lock::Lock;

/// Whose numbers they are.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// As it is shown; empty if it is not.
    pub(crate) agent: String,
    pub(crate) hostname: String,
    pub(crate) pid: u32,
    pub(crate) instance: u64,
    /// Empty for none.
    pub(crate) rank: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) created_us: u64,
}

/// The time, as stores have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// `CLOCK_MONOTONIC`, the same for all processes of a machine.
    pub(crate) monotonic_ns: u64,
    /// Since the Unix epoch.
    pub(crate) unix_us: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let monotonic = time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned();
        Self { monotonic_ns: monotonic, unix_us: now_us() }
    }
}

/// The store of one agent. Dropping it leaves the file, for whoever shows what the process did last; only its lock
/// goes.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    identity: Identity,
    /// Kept open for its lock, by which others see that the process lives. `None` while there is no file.
    file: Option<Lock>,
    words: Words,
    /// Those in the store, in its order.
    names: Vec<Box<str>>,
}

impl Writer {
    /// Makes a store of zeros. It has its name only when it is complete.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn create(directory: &Path, identity: Identity) -> io::Result<Self> {
        let name = format!("nixl.{}.{}.{}.mmap", identity.pid, run_marker(), identity.instance);
        let path = directory.join(name);
        let (new, words) = map(&path, &image(&identity))?;
        let file = Some(Lock::of(new.publish()?));
        Ok(Self { path, identity, file, words, names: Vec::new() })
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a batch and empties it.
    pub(crate) fn publish(&mut self, tally: &mut Tally, now: Moment) {
        if self.is_whole() || self.renew() {
            let sequence = self.words[layout::SEQUENCE].load(Relaxed);
            self.words[layout::SEQUENCE].store(sequence.wrapping_add(1), Relaxed);
            fence(Release);
            self.add(tally, now);
            self.words[layout::SEQUENCE].store(sequence.wrapping_add(2), Release);
        }
        tally.clear();
    }

    fn add(&mut self, tally: &Tally, now: Moment) {
        let mut dropped = tally.dropped();
        for named in tally.named() {
            dropped += self.add_named(named);
        }
        let words = &self.words;
        // Nobody else writes, so that adding needs no locked instruction.
        let add = |at: usize, count: u64| words[at].store(words[at].load(Relaxed).wrapping_add(count), Relaxed);
        for kind in Kind::ALL {
            add(layout::COUNTERS + kind.code() as usize, tally.sum(kind));
        }
        // As NIXL has it: only those that are shown.
        for family in &FAMILIES {
            if let Source::Gauge(kind) = family.source {
                words[layout::GAUGES + kind.code() as usize].store(tally.last(kind), Relaxed);
            }
        }
        for (time, kind) in TIMES.into_iter().enumerate() {
            let at = kind.code() as usize;
            add(layout::SUMS + at, tally.distributed(kind));
            for (count, classic, exponential) in tally.distribution(kind) {
                add(layout::buckets(at) + classic, count);
                add(layout::exponential(time) + exponential.map_or(0, |bucket| 1 + bucket), count);
            }
        }
        let counts = [tally.events(), tally.aggregated(), dropped, 1];
        layout::ACCOUNT.zip(counts).for_each(|(at, count)| add(at, count));
        words[layout::ACCOUNT.end - 1].store(now.unix_us, Relaxed);
        words[layout::HEARTBEAT].store(now.monotonic_ns, Relaxed);
    }

    /// Adds events of a name; returns how many found no room.
    fn add_named(&mut self, Named { name, events, sum }: &Named) -> u64 {
        let number = match self.names.iter().position(|known| known == name) {
            Some(number) => number,
            None if self.names.len() == Named::MOST => return *events,
            None => {
                self.names.push(name.clone());
                self.names.len() - 1
            }
        };
        let place = &self.words[layout::name(number)];
        let (text, counts) = place.split_at(place.len() - 2);
        text.iter().zip(packed(name)).for_each(|(word, packed)| word.store(packed, Relaxed));
        for (word, count) in counts.iter().zip([events, sum]) {
            word.store(word.load(Relaxed).wrapping_add(*count), Relaxed);
        }
        self.words[layout::NAME_COUNT].store(self.names.len() as u64, Relaxed);
        0
    }

    /// Whether the file is there and has not been cut, so that its words may be touched.
    fn is_whole(&self) -> bool {
        let metadata = self.file.as_ref().map(|file| file.metadata());
        metadata.is_some_and(|found| found.is_ok_and(|found| found.nlink() > 0 && found.len() >= bytes(layout::WORDS)))
    }

    /// Makes the file anew that somebody has removed or cut short. False if nothing can be written to any more.
    fn renew(&mut self) -> bool {
        let path = self.path.display();
        if let Some(file) = self.file.take() {
            // What was only removed has its numbers still; what was cut off must not be touched.
            let image = if file.metadata().is_ok_and(|found| found.len() >= bytes(layout::WORDS)) {
                warn!("exporter prometheus_mp: {path} was removed, and is made anew");
                self.words.iter().map(|word| word.load(Relaxed)).collect()
            } else {
                warn!("exporter prometheus_mp: {path} was cut short; it is made anew, and begins with 0");
                self.names.clear();
                image(&self.identity)
            };
            // Goes on in memory until there is a file again.
            let Ok(words) = Words::anonymous(layout::WORDS) else { return false };
            words.iter().zip(image).for_each(|(word, value)| word.store(value, Relaxed));
            self.words = words;
        }
        let image: Vec<u64> = self.words.iter().map(|word| word.load(Relaxed)).collect();
        let made = map(&self.path, &image).and_then(|(new, words)| Ok((new.replace()?, words)));
        match made {
            Ok((file, words)) => (self.file, self.words) = (Some(Lock::of(file)), words),
            Err(error) => error!("exporter prometheus_mp: {path} cannot be made anew, and is not seen: {error}"),
        }
        true
    }
}

/// What a store without events holds, but for its mark.
fn image(identity: &Identity) -> Vec<u64> {
    let mut words = vec![0; layout::WORDS];
    words[layout::SCHEMA_AT] = layout::SCHEMA;
    words[layout::PID] = identity.pid.into();
    words[layout::HEARTBEAT] = Moment::now().monotonic_ns;
    words[layout::INSTANCE] = identity.instance;
    let bounds = identity.buckets.bounds();
    words[layout::BOUND_COUNT] = bounds.len() as u64;
    layout::BOUNDS.zip(bounds).for_each(|(at, bound)| words[at] = bound.to_bits());
    for (what, text, place) in [
        ("agent's name", &identity.agent, layout::AGENT),
        ("host's name", &identity.hostname, layout::HOSTNAME),
        ("rank", &identity.rank, layout::RANK),
    ] {
        let shown = text.floor_char_boundary(place.len() * 8 - 1);
        if shown < text.len() {
            warn!("exporter prometheus_mp: the {what} is cut to {:?}, from {} bytes", &text[..shown], text.len());
        }
        place.zip(packed(&text[..shown])).for_each(|(at, word)| words[at] = word);
    }
    words[layout::TAIL_MAGIC_AT] = layout::TAIL_MAGIC;
    words[layout::CREATED] = identity.created_us;
    layout::LABELS.zip(packed(&label_text(&identity.labels))).for_each(|(at, word)| words[at] = word);
    words
}

/// A new file with these words, mapped, locked and complete, that has no name yet.
fn map(path: &Path, image: &[u64]) -> io::Result<(NewFile, Words)> {
    let new = NewFile::create(path)?;
    if let Err(error) = flock(new.file(), FlockOperation::NonBlockingLockExclusive) {
        warn!(
            "exporter prometheus_mp: {} cannot be locked: {error}; nobody can see by it whether this process lives",
            path.display()
        );
    }
    // Written, not only made long: the disk has room for it, so that touching it cannot fail later.
    let mut bytes: Vec<u8> = image.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes[..8].fill(0);
    new.file().write_all_at(&bytes, 0)?;
    let words = Words::of_file(new.file(), 0, image.len())?;
    words[layout::MAGIC_AT].store(layout::MAGIC, Release);
    Ok((new, words))
}

/// The bytes that extra labels take in a store.
pub(crate) fn label_bytes(labels: &[(String, String)]) -> usize {
    label_text(labels).len()
}

/// Without zeros in values, which end them.
fn label_text(labels: &[(String, String)]) -> String {
    labels.iter().map(|(name, value)| format!("{name}\0{}\0", value.replace('\0', ""))).collect()
}

/// Text as words, the last one filled up with zeros.
fn packed(text: &str) -> impl Iterator<Item = u64> {
    text.as_bytes().chunks(8).map(|chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    })
}

const fn bytes(words: usize) -> u64 {
    words as u64 * 8
}

/// Tells processes apart that have had the same number: the time at which this one asked first.
fn run_marker() -> u128 {
    static MARKER: OnceLock<u128> = OnceLock::new();
    *MARKER.get_or_init(|| SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos())
}
