// SPDX-License-Identifier: Apache-2.0

//! What waits, on disk: it outlives the process, and the next one delivers it.
//!
//! With a spool nothing waits in memory. Whatever the host brings is written before anybody tries to deliver it, as
//! OpenTelemetry's `storage` does, and not only when the sink is down: what is in memory when a process is killed is lost,
//! whatever state the sink was in; and the one path is used all day, not only on the bad one. A write goes into the kernel's
//! memory, so that a kill loses nothing of it; `SPOOL_FSYNC` is about crashes of the machine.
//!
//! ```text
//! spool/postgres.3f….lock                      held by the process that writes; how far it has delivered
//! spool/postgres.3f….0000000000000000.segment  header, record, record, …
//! spool/postgres.3f….00000000000a3d70.segment
//! spool/postgres.3f….0000000000051eb8.segment.damaged     set aside: what cannot be read, and what is behind it
//! ```
//!
//! `3f…` is the origin, so that no two agents, processes or runs share a name. Files of one origin are a [`Trail`]. A
//! segment is removed when all of it is delivered. Who finds a trail whose lock nobody holds takes it over
//! (`takeover.rs`), delivers it under its origin and numbers, and removes it.

mod record;
pub mod spools;
mod takeover;
mod trail;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use nixl_telemetry_log as log;
use nixl_telemetry_shm::check_private;

use crate::Error;
use crate::queue::delivery::{Part, Source};
use crate::queue::settings::SpoolConfig;

pub(super) use record::Broken;
use record::MOST_BYTES;
pub(super) use takeover::{Home, TakenOver};
use trail::Most;
pub(super) use trail::{Place, Trail};

/// The spool of one queue: what its own agent did, and before that, what others left behind.
#[derive(Debug)]
pub(super) struct Spool {
    home: Home,
    adopted: VecDeque<Trail>,
    own: Trail,
    max_bytes: u64,
    /// Records on their way to a file.
    scratch: Vec<u8>,
    /// The last append failed.
    is_broken: bool,
}

/// What became of an append, which may have displaced events even if it failed.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) displaced: u64,
    pub(super) result: Result<(), NotAppended>,
}

/// Why something is not in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAppended {
    /// It may not take more room.
    Full,
    /// Its disk is in trouble, of which the log tells.
    Broken,
}

impl Spool {
    /// The spool of a new agent, which is delivered in batches of so many events at most.
    ///
    /// # Errors
    /// If there is no such directory, or others may write into it.
    pub(super) fn open(
        config: &SpoolConfig,
        batch_size: usize,
        sink: &str,
        source: Arc<Source>,
    ) -> Result<Self, Error> {
        let SpoolConfig { directory, max_bytes, fsync, .. } = config;
        let refused =
            |why: &dyn std::fmt::Display| format!("NIXL_TELEMETRY_{sink}_SPOOL_DIR is {}: {why}", directory.display());
        match std::fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(&error).into()),
            _ => check_private(directory).map_err(|error| refused(&error))?,
        }
        let home = Home::new(directory.clone(), sink);
        let own = Trail::create(&home, source, most(*max_bytes, batch_size as u64), *fsync)
            .map_err(|error| refused(&error))?;
        let (adopted, scratch) = (VecDeque::new(), Vec::new());
        Ok(Self { home, adopted, own, max_bytes: *max_bytes, scratch, is_broken: false })
    }

    /// Where spools lie.
    pub(super) fn home(&self) -> Home {
        self.home.clone()
    }

    /// Events that have not been delivered.
    pub(super) fn events(&self) -> u64 {
        self.trails().map(Trail::events).sum()
    }

    /// Whether it has taken half of the room it may take.
    pub(super) fn is_half_full(&self) -> bool {
        self.bytes() >= self.max_bytes / 2
    }

    /// Where the next events are.
    pub(super) fn front(&self) -> Option<Place> {
        self.trails().find_map(Trail::front)
    }

    /// Writes consecutive parts, all or none. If there is no room and the oldest may give way they do, but not what is
    /// `pinned`, the segment in front.
    pub(super) fn append(&mut self, parts: &[Part<'_>], drops_oldest: bool, is_pinned: bool) -> Appended {
        self.scratch.clear();
        parts.iter().for_each(|part| record::write(part, &mut self.scratch));
        let mut displaced = 0;
        let needed = self.scratch.len() as u64 + self.own.header_bytes();
        if needed > self.max_bytes {
            return Appended { displaced, result: Err(NotAppended::Full) };
        }
        while self.bytes() + needed > self.max_bytes {
            if self.own.reclaim() {
                continue;
            }
            match drops_oldest.then(|| self.displace(is_pinned)).flatten() {
                Some(events) => displaced += events,
                None => return Appended { displaced, result: Err(NotAppended::Full) },
            }
        }
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            return Appended { displaced, result: Ok(()) };
        };
        let result = self.own.append(&self.scratch, first.first..last.end());
        let path = self.home.directory().display();
        match (&result, self.is_broken) {
            (Err(error), false) => log::error!("cannot write to the spool in {path}: {error}; memory has to do"),
            (Ok(()), true) => log::info!("the spool in {path} can be written again"),
            _ => {}
        }
        self.is_broken = result.is_err();
        Appended { displaced, result: result.map_err(|_| NotAppended::Broken) }
    }

    /// What is in front has been settled up to this byte and this event; so many of them are lost.
    pub(super) fn advance(&mut self, offset: u64, next: u64, lost: u64) {
        self.front_trail().advance(offset, next, lost);
        self.forget_empty();
    }

    /// Sets the file in front aside, and tells how many events that costs.
    pub(super) fn give_up_front(&mut self) -> u64 {
        let events = self.front_trail().give_up_front();
        self.forget_empty();
        events
    }

    /// Whether somebody has removed the file in front.
    pub(super) fn is_front_gone(&mut self) -> bool {
        self.front_trail().is_front_gone()
    }

    /// Adds what others left behind, to be delivered before anything else.
    pub(super) fn adopt(&mut self, trails: Vec<Trail>) {
        self.adopted.extend(trails);
        self.forget_empty();
    }

    /// Writes no more. Removes the agent's own files if everything in them is delivered.
    pub(super) fn close(&mut self) {
        self.own.close();
    }

    fn trails(&self) -> impl Iterator<Item = &Trail> {
        self.adopted.iter().chain([&self.own])
    }

    fn bytes(&self) -> u64 {
        self.trails().map(Trail::bytes).sum()
    }

    /// The trail [`front`](Self::front) is in.
    fn front_trail(&mut self) -> &mut Trail {
        self.adopted.front_mut().unwrap_or(&mut self.own)
    }

    /// Removes the oldest segment, and tells how many of its events had not been delivered; `None` if there is none that may
    /// be removed.
    fn displace(&mut self, mut is_pinned: bool) -> Option<u64> {
        let trails = self.adopted.iter_mut().chain([&mut self.own]);
        // Only the very first segment is.
        let events = trails.flat_map(|trail| trail.displace(usize::from(mem::take(&mut is_pinned)))).next();
        self.forget_empty();
        events
    }

    fn forget_empty(&mut self) {
        self.adopted.retain_mut(|trail| {
            if trail.events() == 0 {
                trail.close();
            }
            trail.events() > 0
        });
    }
}

/// How long a file becomes: short enough that what is delivered makes room soon, and what gives way is not much at once. What
/// is delivered at once comes from one file; so those of a sink with large batches are as large as these, up to half of what
/// is ever read.
fn most(max_bytes: u64, batch_size: u64) -> Most {
    const SHORT: u64 = 8 << 20;
    // Of an event, with its share in the record of a small batch.
    const EVENT: u64 = 48;
    let of_a_batch = batch_size.saturating_mul(EVENT);
    let bytes = (max_bytes / 8).clamp(4 << 10, SHORT.max(of_a_batch)).min(MOST_BYTES / 2);
    Most { bytes, events: if of_a_batch > SHORT { batch_size } else { u64::MAX } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_short_or_a_batch() {
        let most = |max_bytes, batch_size| {
            let Most { bytes, events } = most(max_bytes, batch_size);
            (bytes, events)
        };
        assert_eq!(most(1 << 30, 8192), (8 << 20, u64::MAX));
        assert_eq!(most(1 << 20, 8192), (1 << 17, u64::MAX));
        assert_eq!(most(0, 8192), (4096, u64::MAX));
        assert_eq!(most(1 << 30, 1_000_000), (48_000_000, 1_000_000));
        assert_eq!(most(100 << 20, 1_000_000), ((100 << 20) / 8, 1_000_000));
        assert_eq!(most(u64::MAX, u64::MAX), (1 << 29, u64::MAX));
    }
}
