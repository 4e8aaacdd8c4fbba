// SPDX-License-Identifier: Apache-2.0

//! Whose spools these are: files are named after origins, and what belongs to nobody that lives is taken over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nixl_telemetry_log as log;

use super::record::{self, Broken, Header, Walk};
use super::trail::{Mark, Segment, Trail, open};
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

/// The origins of files, with the first numbers of their segments.
pub(super) type Origins = BTreeMap<OriginId, BTreeSet<u64>>;

/// Origins that are delivered in this process, or that it has looked at and left alone.
static CLAIMED: Mutex<BTreeSet<OriginId>> = Mutex::new(BTreeSet::new());

impl Home {
    pub(super) fn new(directory: PathBuf, sink: &str) -> Self {
        Self { directory, exporter: sink.to_ascii_lowercase() }
    }

    /// The homes of all sinks whose files are in a directory, with their origins and the first numbers of their segments.
    pub(super) fn all(directory: &Path) -> io::Result<Vec<(Self, Origins)>> {
        let mut homes = BTreeMap::<String, Origins>::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let Some((sink, name)) = name.to_str().and_then(|name| Some((name.split_once('.')?.0, name))) else {
                continue;
            };
            let is_sink = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            if sink.bytes().all(is_sink)
                && let Some((origin, first)) = Self::new(directory.to_owned(), sink).parse(name)
            {
                homes.entry(sink.to_owned()).or_default().entry(origin).or_default().extend(first);
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
        self.directory.join(format!("{}.{origin}.lock", self.exporter))
    }

    pub(super) fn segment_path(&self, origin: OriginId, first: u64) -> PathBuf {
        self.directory.join(format!("{}.{origin}.{first:016x}.segment", self.exporter))
    }

    /// What processes that have died left behind, of the same exporter, and what agents of this one did that have ended. What
    /// cannot be read is left alone, with a line in the log.
    pub(in crate::queue) fn take_over(&self, agent: &Agent) -> Vec<Trail> {
        let origins = self.origins().unwrap_or_else(|error| {
            log::warn!("cannot look for spools in {}: {error}", self.directory.display());
            BTreeMap::new()
        });
        let mut trails = Vec::new();
        for origin in origins.into_keys() {
            let Some(claim) = Claim::of(origin) else { continue };
            let path = self.lock_path(origin);
            match Mark::open(path.clone()) {
                Ok(Some(mark)) => trails.extend(self.read(agent, claim, mark)),
                Ok(None) => {}
                Err(error) => log::warn!("{}: {error}; that spool is left alone", path.display()),
            }
        }
        trails
    }

    /// The origins of all files, with the first numbers of their segments.
    fn origins(&self) -> io::Result<Origins> {
        let mut origins = Origins::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some((origin, first)) = name.to_str().and_then(|name| self.parse(name)) {
                origins.entry(origin).or_default().extend(first);
            }
        }
        Ok(origins)
    }

    /// The origin of a file of this exporter, and if it is a segment, its first number.
    fn parse(&self, name: &str) -> Option<(OriginId, Option<u64>)> {
        let rest = name.strip_prefix(&self.exporter)?.strip_prefix('.')?;
        let (origin, rest) = rest.split_at_checked(32)?;
        let origin = OriginId(u128::from_str_radix(origin, 16).ok()?);
        let first = match rest {
            ".lock" => None,
            _ => Some(u64::from_str_radix(rest.strip_prefix('.')?.strip_suffix(".segment")?, 16).ok()?),
        };
        let expected = first.map_or_else(|| self.lock_path(origin), |first| self.segment_path(origin, first));
        (expected.file_name()? == name).then_some((origin, first))
    }

    /// Reads what there is of a trail, and removes what has been delivered.
    fn read(&self, agent: &Agent, mut claim: Claim, mark: Mark) -> Option<Trail> {
        // Listed anew, since by now nobody changes it.
        let firsts = self.origins().ok()?.remove(&claim.origin).unwrap_or_default();
        let (delivered, last) = (mark.read(), firsts.last().copied());
        let (mut segments, mut source, mut has_left) = (VecDeque::new(), None, false);
        for first in firsts {
            let path = self.segment_path(claim.origin, first);
            match read_segment(&path, claim.origin, first, delivered, Some(first) == last) {
                Ok((_, segment)) if segment.events.is_empty() => segment.remove(),
                Ok((header, segment)) => {
                    source = Some(header.source(agent));
                    segments.push_back(segment);
                }
                Err(error) => {
                    log::warn!("{} {error}; it is left alone", path.display());
                    has_left = true;
                }
            }
        }
        match source {
            Some(source) => return Some(Trail::recovered(self, source, mark, segments, has_left, claim)),
            None if has_left => claim.keep(),
            None => mark.remove(),
        }
        None
    }
}

/// What of a segment has not been delivered.
fn read_segment(
    path: &Path,
    origin: OriginId,
    first: u64,
    delivered: u64,
    is_last: bool,
) -> Result<(Header, Segment), Broken> {
    let mut all = Vec::new();
    open(path)?.read_to_end(&mut all)?;
    let header = record::read_header(&all)?;
    if header.origin != origin || header.first != first {
        return Err(Broken::Header);
    }
    let (mut events, mut bytes) = (first..first, header.len as u64..header.len as u64);
    for record in Walk::new(&all, &header) {
        match record {
            Ok((chunk, place)) if chunk.first == events.end => {
                (events.end, bytes.end) = (chunk.end(), place.end);
                if chunk.end() <= delivered {
                    (events.start, bytes.start) = (events.end, bytes.end);
                }
            }
            Err(torn @ Broken::Torn(_)) if is_last => log::info!("{}: {torn}", path.display()),
            _ => return Err(Broken::Record(bytes.end)),
        }
    }
    Ok((header, Segment { path: path.to_owned(), events, bytes }))
}

impl Claim {
    /// `None` if somebody in this process has it.
    // Not made before it is known to be one: dropped, it would take the claim of who has it along.
    pub(super) fn of(origin: OriginId) -> Option<Self> {
        claimed()?.insert(origin).then(|| Self { origin, is_for_ever: false })
    }

    /// Nobody in this process looks at the origin again.
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
