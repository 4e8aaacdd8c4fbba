// SPDX-License-Identifier: Apache-2.0

//! Whose spools these are: files are named after origins, and what belongs to nobody that lives is taken over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nixl_telemetry_log as log;

use super::record::{self, Broken, Header, MOST_BYTES, Walk};
use super::trail::{Mark, Segment, Trail, read_all, set_aside};
use crate::Agent;
use crate::queue::delivery::OriginId;

/// The directory of an exporter's spools.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Home {
    directory: PathBuf,
    /// What the exporter's files begin with.
    exporter: String,
}

/// An origin that nobody else in this process delivers. (A lock says so only to other processes.)
#[derive(Debug)]
pub(super) struct Claim {
    origin: OriginId,
    is_for_ever: bool,
}

/// The origins of files, with the files.
pub(super) type Origins = BTreeMap<OriginId, BTreeSet<Part>>;

/// A file of an origin; segments with their first numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Lock,
    Segment(u64),
    /// Set aside: no queue looks at it.
    Damaged(u64),
}

/// What the name of a segment that was set aside ends with.
pub(super) const DAMAGED: &str = "damaged";

/// What was taken over.
#[derive(Debug, Default)]
pub(in crate::queue) struct TakenOver {
    pub(in crate::queue) trails: Vec<Trail>,
    /// Events that cannot be read, as far as that is known.
    pub(in crate::queue) unreadable: u64,
}

/// Origins that are delivered in this process, or that it has looked at and left alone.
static CLAIMED: Mutex<BTreeSet<OriginId>> = Mutex::new(BTreeSet::new());

impl Home {
    pub(super) fn new(directory: PathBuf, sink: &str) -> Self {
        Self { directory, exporter: sink.to_ascii_lowercase() }
    }

    /// The homes of all sinks whose files are in a directory, with their origins.
    pub(super) fn all(directory: &Path) -> io::Result<Vec<(Self, Origins)>> {
        let mut homes = BTreeMap::<String, Origins>::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let Some((sink, name)) = name.to_str().and_then(|name| Some((name.split_once('.')?.0, name))) else {
                continue;
            };
            let is_sink = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            if sink.bytes().all(is_sink)
                && let Some((origin, part)) = Self::new(directory.to_owned(), sink).parse(name)
            {
                homes.entry(sink.to_owned()).or_default().entry(origin).or_default().insert(part);
            }
        }
        Ok(homes.into_iter().map(|(sink, origins)| (Self::new(directory.to_owned(), &sink), origins)).collect())
    }

    /// The sink's name as its files have it, in small letters.
    pub(super) fn exporter(&self) -> &str {
        &self.exporter
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn lock_path(&self, origin: OriginId) -> PathBuf {
        self.path(origin, Part::Lock)
    }

    pub(super) fn segment_path(&self, origin: OriginId, first: u64) -> PathBuf {
        self.path(origin, Part::Segment(first))
    }

    pub(super) fn path(&self, origin: OriginId, part: Part) -> PathBuf {
        let name = match part {
            Part::Lock => "lock".to_owned(),
            Part::Segment(first) => format!("{first:016x}.segment"),
            Part::Damaged(first) => format!("{first:016x}.segment.{DAMAGED}"),
        };
        self.directory.join(format!("{}.{origin}.{name}", self.exporter))
    }

    /// What processes that have died left behind, of the same exporter, and what agents of this one did that have ended. What
    /// cannot be read gets a line in the log.
    pub(in crate::queue) fn take_over(&self, agent: &Agent) -> TakenOver {
        let origins = self.origins().unwrap_or_else(|error| {
            log::warn!("cannot look for spools in {}: {error}", self.directory.display());
            BTreeMap::new()
        });
        let mut all = TakenOver::default();
        for (origin, parts) in origins {
            if parts.iter().all(|part| matches!(part, Part::Damaged(_))) {
                continue;
            }
            let Some(claim) = Claim::of(origin) else { continue };
            let path = self.lock_path(origin);
            match Mark::open(path.clone()) {
                Ok(Some(mark)) => {
                    let (trail, unreadable) = self.read(agent, claim, mark).unwrap_or_default();
                    all.trails.extend(trail);
                    all.unreadable += unreadable;
                }
                Ok(None) => {}
                Err(error) => log::warn!("{}: {error}; that spool is left alone", path.display()),
            }
        }
        all
    }

    /// The origins of all files.
    fn origins(&self) -> io::Result<Origins> {
        let mut origins = Origins::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some((origin, part)) = name.to_str().and_then(|name| self.parse(name)) {
                origins.entry(origin).or_default().insert(part);
            }
        }
        Ok(origins)
    }

    /// The origin of a file of this exporter, and which one it is.
    fn parse(&self, name: &str) -> Option<(OriginId, Part)> {
        let rest = name.strip_prefix(&self.exporter)?.strip_prefix('.')?;
        let (origin, rest) = rest.split_at_checked(32)?;
        let origin = OriginId(u128::from_str_radix(origin, 16).ok()?);
        let part = match rest.strip_prefix('.')?.split_once('.') {
            None => Part::Lock,
            Some((first, kind)) => {
                let first = u64::from_str_radix(first, 16).ok()?;
                if kind == "segment" { Part::Segment(first) } else { Part::Damaged(first) }
            }
        };
        // Which leaves no other names.
        (self.path(origin, part).file_name()? == name).then_some((origin, part))
    }

    /// Reads what there is of a trail, removes what has been delivered, and sets aside what is damaged. Tells how many events
    /// cannot be read, as far as that is known. `None`, and nothing done, if another time may be better.
    fn read(&self, agent: &Agent, mut claim: Claim, mark: Mark) -> Option<(Option<Trail>, u64)> {
        // Listed anew, since by now nobody changes it.
        let parts = self.origins().ok()?.remove(&claim.origin).unwrap_or_default();
        let firsts: Vec<u64> = parts.into_iter().filter_map(Part::segment).collect();
        let (delivered, mut found) = (mark.read().next, Vec::new());
        for &first in &firsts {
            let path = self.segment_path(claim.origin, first);
            match read_segment(&path, claim.origin, first, delivered) {
                Err(error @ (Broken::Io(_) | Broken::Version(_))) => {
                    // What comes behind it has to wait: sinks that keep the highest number would not take it afterwards.
                    log::warn!("{} {error}; that spool is left alone", path.display());
                    if matches!(error, Broken::Version(_)) {
                        claim.keep();
                    }
                    return None;
                }
                read => found.push((path, read)),
            }
        }
        let (mut segments, mut source, mut unreadable) = (VecDeque::new(), None, 0);
        let nexts = firsts.iter().skip(1).copied().chain([0]);
        for (((path, read), first), next) in found.into_iter().zip(&firsts).zip(nexts) {
            let (end, known_end, problem) = match read {
                Ok(Read { header, segment, known_end, problem }) => {
                    let end = segment.events.end;
                    if segment.events.is_empty() {
                        segment.remove();
                    } else {
                        source = Some(header.source(agent));
                        segments.push_back(segment);
                    }
                    (end, known_end, problem)
                }
                Err(error) => {
                    set_aside(&path);
                    (*first, *first, Some(error))
                }
            };
            let Some(problem) = problem else { continue };
            // No event takes less than a byte.
            let lost = known_end.max(next).saturating_sub(end.max(delivered)).min(MOST_BYTES);
            unreadable += lost;
            let path = path.display();
            match problem {
                Broken::Torn(_) if lost == 0 => log::info!("{path} {problem}"),
                Broken::Torn(_) => log::error!("{path} {problem}; {lost} events are lost"),
                _ => {
                    log::error!("{path} {problem}; at least {lost} events are not delivered, and the file is set aside")
                }
            }
        }
        let Some(source) = source else {
            mark.remove();
            return Some((None, unreadable));
        };
        Some((Some(Trail::recovered(self, source, mark, segments, claim)), unreadable))
    }
}

/// What is in a segment.
struct Read {
    header: Header,
    /// What of it has not been delivered, up to what cannot be read.
    segment: Segment,
    /// The end of the last sound record, wherever it is.
    known_end: u64,
    problem: Option<Broken>,
}

fn read_segment(path: &Path, origin: OriginId, first: u64, delivered: u64) -> Result<Read, Broken> {
    let all = read_all(path)?;
    let header = record::read_header(&all)?;
    if header.origin != origin || header.first != first {
        return Err(Broken::Header);
    }
    let (mut events, mut bytes) = (first..first, header.len as u64..header.len as u64);
    let (mut known_end, mut problem) = (first, None);
    for record in Walk::new(&all, &header) {
        match record {
            Ok((chunk, place)) if problem.is_none() && chunk.first == events.end => {
                (events.end, bytes.end) = (chunk.end(), place.end);
                if chunk.end() <= delivered {
                    (events.start, bytes.start) = (events.end, bytes.end);
                }
                known_end = events.end;
            }
            Ok((chunk, place)) => {
                problem.get_or_insert(Broken::Record(place.start));
                known_end = known_end.max(chunk.end());
            }
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    let is_damaged = problem.as_ref().is_some_and(|problem| !matches!(problem, Broken::Torn(_)));
    let segment = Segment { path: path.to_owned(), events, bytes, is_damaged };
    Ok(Read { header, segment, known_end, problem })
}

impl Part {
    pub(super) fn segment(self) -> Option<u64> {
        match self {
            Self::Segment(first) => Some(first),
            Self::Lock | Self::Damaged(_) => None,
        }
    }
}

impl Claim {
    /// `None` if somebody in this process has it.
    // Not made before it is known to be one: dropped, it would take the claim of who has it along.
    pub(super) fn of(origin: OriginId) -> Option<Self> {
        claimed()?.insert(origin).then(|| Self { origin, is_for_ever: false })
    }

    /// Nobody in this process looks at the origin again: another version wrote it.
    pub(super) fn keep(&mut self) {
        self.is_for_ever = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_for_ever
            && let Some(mut claimed) = claimed()
        {
            claimed.remove(&self.origin);
        }
    }
}

/// `None` if it cannot be had within five seconds, for which nobody holds it: then this is a child that was forked at that
/// moment.
fn claimed() -> Option<MutexGuard<'static, BTreeSet<OriginId>>> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match CLAIMED.try_lock() {
            Ok(claimed) => return Some(claimed),
            Err(TryLockError::Poisoned(poisoned)) => return Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::WouldBlock) => return None,
        }
    }
}
