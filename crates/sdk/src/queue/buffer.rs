// SPDX-License-Identifier: Apache-2.0

//! What waits: in memory, or in the spool, under one lock that nobody holds while it waits for a sink.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixl_telemetry_log as log;

use crate::batch::Buffer;
use crate::queue::delivery::{Chunk, Part, Source};
use crate::queue::settings::{Limits, Overflow};
use crate::queue::spool::{Appended, Broken, NotAppended, Place, Spool, TakenOver};
use crate::queue::{Dropped, QueueCounts};
use crate::{Agent, Batch, batch::now_us};

/// After how long what could not be read is tried again: the disk may be back, or files may be closed.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A queue, as both its ends see it.
#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    limits: Limits,
    max_age_us: Option<u64>,
    /// What events of this queue come from.
    own: Arc<Source>,
    state: Mutex<State>,
    /// Something has left.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    /// The sequence number of the next event.
    next: u64,
    memory: Memory,
    spool: Option<Spool>,
    /// What the sink is being given.
    flight: Option<Flight>,
    /// When the oldest came of those that the sink is not being given, or earlier.
    since: Option<Instant>,
    /// The spool could not be read the last time.
    is_unreadable: bool,
    /// Nothing is delivered any more.
    ended: Option<Ended>,
    counts: QueueCounts,
}

/// What waits in memory.
#[derive(Debug, Default)]
struct Memory {
    chunks: VecDeque<Chunk>,
    held: Held,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    events: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Flight {
    Memory(Held),
    /// The first in the spool.
    Spool {
        events: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    Closed,
    Panicked,
}

/// What a sink is given at once.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) source: Arc<Source>,
    /// Of consecutive events, at least one.
    pub(super) chunks: Vec<Chunk>,
    /// It may have been delivered before it was first taken.
    pub(super) is_repeated: bool,
    /// Where in the spool it ends, if it is there.
    pub(super) spooled_until: Option<u64>,
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// So many events; the others are delivered.
    Refused {
        events: u64,
    },
    GivenUp,
    Expired,
    Panicked,
}

/// Why a batch found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("its queue is full: the sink is too slow, or down")]
    Full,
    #[error("its sink has panicked")]
    Panicked,
    #[error("its queue is closed")]
    Closed,
}

/// What a batch that was put into the queue asks of who did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// The queue's thread knows what to do, and when.
    Quiet,
    /// It must look anew.
    Wake,
}

impl Shared {
    pub(super) fn new(
        name: String,
        limits: Limits,
        max_age: Option<Duration>,
        own: Arc<Source>,
        spool: Option<Spool>,
    ) -> Self {
        let max_age_us = max_age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        let state = State {
            next: 0,
            memory: Memory::default(),
            spool,
            flight: None,
            since: None,
            is_unreadable: false,
            ended: None,
            counts: QueueCounts::default(),
        };
        Self { name, limits, max_age_us, own, state: Mutex::new(state), room: Condvar::new() }
    }

    /// Copies a batch into the queue, all of it or nothing.
    ///
    /// # Errors
    /// If there is no room for it and it is the newest that gives way, or nobody delivers any more. It is counted then.
    pub(super) fn put(&self, batch: &Batch<'_>) -> Result<Put, Refusal> {
        let mut parts = self.parts(batch);
        let mut state = self.lock();
        let events = batch.len() as u64;
        state.counts.exported += events;
        let due_before = self.is_full_batch(&state);
        match self.put_locked(&mut state, &mut parts) {
            Ok(()) => {}
            Err(Refusal::Full) if matches!(self.limits.overflow, Overflow::Block(_)) => {
                state = self.wait_for_room(state, &mut parts)?;
            }
            Err(refusal) => return Err(state.refuse(events, refusal)),
        }
        let was_empty = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        let is_due = !due_before && self.is_full_batch(&state);
        Ok(if was_empty || is_due { Put::Wake } else { Put::Quiet })
    }

    /// What is there now.
    pub(super) fn counts(&self) -> QueueCounts {
        let state = self.lock();
        let flight = match &state.flight {
            Some(Flight::Memory(held)) => held.events,
            _ => 0,
        };
        QueueCounts {
            waiting: state.memory.held.events + flight,
            spooled: state.spool.as_ref().map_or(0, Spool::events),
            ..state.counts
        }
    }

    /// The name of the queue, for people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next parcel, if one is due, or in how long to look again. What is due waits no longer if it is `urgent`.
    pub(super) fn take(&self, is_urgent: bool) -> Result<Parcel, Duration> {
        loop {
            let mut state = self.lock();
            debug_assert!(state.flight.is_none(), "one parcel at a time");
            let place = self.due(&mut state, is_urgent)?;
            let Some(place) = place else { return Ok(self.take_from_memory(&mut state)) };
            // Until it is settled nothing but the end of this place moves.
            state.flight = Some(Flight::Spool { events: 0 });
            drop(state);
            if let Some(parcel) = self.read(&place)? {
                return Ok(parcel);
            }
        }
    }

    /// Counts what became of the parcel that was taken, and makes room.
    pub(super) fn settle(&self, parcel: &Parcel, outcome: Outcome) {
        let mut state = self.lock();
        let Some(flight) = state.flight.take() else { return };
        let events = parcel.events();
        let dropped = &mut state.counts.dropped;
        let lost = match outcome {
            Outcome::Delivered => 0,
            Outcome::Refused { events } => add(&mut dropped.refused, events),
            Outcome::GivenUp => add(&mut dropped.given_up, events),
            Outcome::Expired => add(&mut dropped.expired, events),
            Outcome::Panicked => add(&mut dropped.panicked, events),
        };
        state.counts.delivered += events - lost;
        if let (Flight::Spool { .. }, Some(until)) = (flight, parcel.spooled_until)
            && let Some(spool) = &mut state.spool
        {
            spool.advance(until, parcel.end(), lost);
        }
        drop(state);
        self.room.notify_all();
    }

    /// Takes over what processes that have died left behind. Called by the queue's thread, before it takes anything.
    pub(super) fn take_over(&self, agent: &Agent) {
        let Some(home) = self.lock().spool.as_ref().map(Spool::home) else { return };
        let TakenOver { trails, unreadable } = home.take_over(agent);
        let events = trails.iter().map(|trail| trail.events()).sum::<u64>();
        if events > 0 {
            log::info!("{}: delivering {events} events that processes which have ended left in the spool", self.name);
        }
        let mut state = self.lock();
        state.counts.recovered += events + unreadable;
        state.counts.dropped.unreadable += unreadable;
        if let Some(spool) = &mut state.spool {
            spool.adopt(trails);
        }
    }

    /// Ends the queue: what is in memory is lost, what is in the spool stays.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.counts.dropped.shutdown += state.end(Ended::Closed);
        if let Some(spool) = &mut state.spool {
            spool.close();
        }
    }

    /// Ends the queue, since its sink has panicked.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        state.counts.dropped.panicked += state.end(Ended::Panicked);
        drop(state);
        self.room.notify_all();
    }

    /// What a batch is put into the queue as, not numbered yet.
    fn parts<'a>(&self, batch: &Batch<'a>) -> Vec<Part<'a>> {
        let (at_us, is_repeated) = (now_us(), batch.is_repeated());
        let Buffer { records, names, .. } = batch.buffer();
        let parts = records.chunks(self.limits.batch_size.min(Buffer::CAPACITY));
        parts.map(|records| Part { first: 0, at_us, is_repeated, records, names }).collect()
    }

    fn put_locked(&self, state: &mut State, parts: &mut [Part<'_>]) -> Result<(), Refusal> {
        match state.ended {
            Some(Ended::Closed) => return Err(Refusal::Closed),
            Some(Ended::Panicked) => return Err(Refusal::Panicked),
            None => {}
        }
        let mut next = state.next;
        for part in parts.iter_mut() {
            part.first = next;
            next = part.end();
        }
        let drops_oldest = self.limits.overflow == Overflow::DropOldest;
        if let Some(spool) = &mut state.spool {
            let is_pinned = matches!(state.flight, Some(Flight::Spool { .. }));
            let Appended { displaced, result } = spool.append(parts, drops_oldest, is_pinned);
            state.counts.dropped.displaced += displaced;
            match result {
                Ok(()) => {
                    state.next = next;
                    return Ok(());
                }
                Err(NotAppended::Full) => return Err(Refusal::Full),
                // Memory has to do.
                Err(NotAppended::Broken) => {}
            }
        }
        let new = parts.iter().map(Held::of).fold(Held::default(), Held::plus);
        let in_flight = match &state.flight {
            Some(Flight::Memory(held)) => *held,
            _ => Held::default(),
        };
        let (max_events, max_bytes) = (self.limits.events, self.limits.bytes);
        let fits = |held: Held| {
            let all = held.plus(in_flight).plus(new);
            all.events <= max_events && all.bytes <= max_bytes
        };
        if drops_oldest && fits(Held::default()) {
            while !fits(state.memory.held) {
                let Some(oldest) = state.memory.pop() else { break };
                state.counts.dropped.displaced += oldest.len();
            }
        }
        if !fits(state.memory.held) {
            return Err(Refusal::Full);
        }
        state.memory.held = state.memory.held.plus(new);
        state.memory.chunks.extend(parts.iter().map(Part::keep));
        state.next = next;
        Ok(())
    }

    /// Waits until a batch fits, but not longer than the host may wait.
    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        parts: &mut [Part<'_>],
    ) -> Result<MutexGuard<'a, State>, Refusal> {
        let Overflow::Block(at_most) = self.limits.overflow else { return Ok(state) };
        let events = parts.iter().map(Part::len).sum();
        let until = Instant::now().checked_add(at_most);
        loop {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(state.refuse(events, Refusal::Full));
            }
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            match self.put_locked(&mut state, parts) {
                Ok(()) => return Ok(state),
                Err(Refusal::Full) => {}
                Err(refusal) => return Err(state.refuse(events, refusal)),
            }
        }
    }

    /// Whether what waits need not wait for more: there is a batch, or soon no room.
    fn is_full_batch(&self, state: &State) -> bool {
        let (Limits { events, bytes, batch_size, .. }, held) = (self.limits, state.memory.held);
        state.waiting() >= batch_size as u64
            || held.events >= events / 2
            || held.bytes >= bytes / 2
            || state.spool.as_ref().is_some_and(Spool::is_half_full)
    }

    /// Where the next parcel is: in the spool, or `None` for memory.
    fn due(&self, state: &mut State, is_urgent: bool) -> Result<Option<Place>, Duration> {
        if state.ended.is_some() {
            return Err(Duration::MAX);
        }
        let spooled = state.spool.as_ref().and_then(Spool::front);
        if let Some(place) = spooled.as_ref().filter(|place| place.is_recovered) {
            return Ok(Some(place.clone()));
        }
        if spooled.is_none() && state.memory.chunks.is_empty() {
            // Whatever comes next must wake the thread.
            state.since = None;
            return Err(Duration::MAX);
        }
        if !is_urgent && !self.is_full_batch(state) {
            let waited = state.since.map_or(Duration::MAX, |since| since.elapsed());
            let left = self.limits.batch_timeout.saturating_sub(waited);
            if !left.is_zero() {
                return Err(left);
            }
        }
        let in_memory = state.memory.chunks.front().map_or(u64::MAX, |chunk| chunk.first);
        Ok(spooled.filter(|place| place.first < in_memory))
    }

    fn take_from_memory(&self, state: &mut State) -> Parcel {
        let mut taken = Held::default();
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(chunk) = state.memory.chunks.front() {
            let follows = chunks.last().is_none_or(|last| last.end() == chunk.first);
            let fits = chunks.is_empty() || taken.events + chunk.len() <= self.limits.batch_size as u64;
            if !follows || !fits {
                break;
            }
            let Some(chunk) = state.memory.pop() else { break };
            taken = taken.plus(Held::of(&chunk.as_part()));
            chunks.push(chunk);
        }
        state.flight = Some(Flight::Memory(taken));
        state.move_time(&chunks);
        let is_repeated = chunks.iter().any(|chunk| chunk.is_repeated);
        Parcel { source: Arc::clone(&self.own), chunks, is_repeated, spooled_until: None }
    }

    /// The parcel that begins at this place of the spool; `None` if there is none, and what there was is settled; or in how
    /// long to look again.
    fn read(&self, place: &Place) -> Result<Option<Parcel>, Duration> {
        let (chunks, until) = match place.read(self.limits.batch_size) {
            Ok(read) => read,
            Err(error) => return self.cannot_read(place, &error),
        };
        let source = Arc::clone(&place.source);
        let oldest_us = self.max_age_us.map_or(0, |age| now_us().saturating_sub(age));
        let is_old = chunks.last().is_some_and(|chunk| chunk.at_us < oldest_us);
        let is_repeated = place.is_recovered || chunks.iter().any(|chunk| chunk.is_repeated);
        let parcel = Parcel { source, chunks, is_repeated, spooled_until: Some(until) };
        let mut state = self.lock();
        state.flight = Some(Flight::Spool { events: parcel.events() });
        if !place.is_recovered {
            state.move_time(&parcel.chunks);
        }
        let was_unreadable = mem::take(&mut state.is_unreadable);
        drop(state);
        if was_unreadable {
            log::info!("{}: the spool can be read again", self.name);
        }
        if is_old {
            self.settle(&parcel, Outcome::Expired);
            return Ok(None);
        }
        Ok(Some(parcel))
    }

    /// What is damaged, or was removed, is passed over. For what may be there another time everything behind it has to wait:
    /// a sink that keeps the highest number would not take it afterwards.
    fn cannot_read(&self, place: &Place, error: &Broken) -> Result<Option<Parcel>, Duration> {
        let (name, path) = (&self.name, place.path.display());
        let mut state = self.lock();
        state.flight = None;
        if matches!(error, Broken::Io(_)) && !state.spool.as_mut().is_some_and(Spool::is_front_gone) {
            let was_unreadable = mem::replace(&mut state.is_unreadable, true);
            drop(state);
            if !was_unreadable {
                let wait = READ_AGAIN.as_millis();
                log::warn!("{name}: {path}: {error}; it is tried again in {wait} ms, and until it is well");
            }
            return Err(READ_AGAIN);
        }
        let lost = state.spool.as_mut().map_or(0, Spool::give_up_front);
        state.counts.dropped.unreadable += lost;
        drop(state);
        log::error!(
            "{name}: {path}: {error}; {lost} events in it are not delivered, and it is set aside if it is there"
        );
        self.room.notify_all();
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What panics under it is a bug of ours, and then counts are the least of all worries.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a count, and returns what was added.
const fn add(count: &mut u64, events: u64) -> u64 {
    *count += events;
    events
}

impl State {
    /// Events that the sink is not being given.
    fn waiting(&self) -> u64 {
        let in_flight = match &self.flight {
            Some(Flight::Spool { events }) => *events,
            _ => 0,
        };
        self.memory.held.events + self.spool.as_ref().map_or(0, Spool::events).saturating_sub(in_flight)
    }

    /// These have left: what waits came after the last of them, and if nothing waits, nothing waits for its time.
    fn move_time(&mut self, taken: &[Chunk]) {
        let age = taken.last().map_or(0, |last| now_us().saturating_sub(last.at_us));
        let since = Instant::now().checked_sub(Duration::from_micros(age)).or(self.since);
        self.since = since.filter(|_| self.waiting() > 0);
    }

    /// Nothing is taken from now on, and what is in memory is no longer there: so many events.
    fn end(&mut self, ended: Ended) -> u64 {
        self.ended.get_or_insert(ended);
        let flight = match self.flight.take_if(|flight| matches!(flight, Flight::Memory(_))) {
            Some(Flight::Memory(held)) => held.events,
            _ => 0,
        };
        mem::take(&mut self.memory).held.events + flight
    }

    fn refuse(&mut self, events: u64, refusal: Refusal) -> Refusal {
        let Dropped { full, panicked, shutdown, .. } = &mut self.counts.dropped;
        *match refusal {
            Refusal::Full => full,
            Refusal::Panicked => panicked,
            Refusal::Closed => shutdown,
        } += events;
        refusal
    }
}

impl Memory {
    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        let Held { events, bytes } = Held::of(&chunk.as_part());
        self.held = Held { events: self.held.events - events, bytes: self.held.bytes - bytes };
        Some(chunk)
    }
}

impl Held {
    fn of(part: &Part<'_>) -> Self {
        Self { events: part.len(), bytes: part.bytes() }
    }

    fn plus(self, other: Self) -> Self {
        Self { events: self.events + other.events, bytes: self.bytes + other.bytes }
    }
}

impl Parcel {
    pub(super) fn events(&self) -> u64 {
        self.chunks.iter().map(Chunk::len).sum()
    }

    fn end(&self) -> u64 {
        self.chunks.last().map_or(0, Chunk::end)
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::{Event, Kind};

    use super::*;
    use crate::queue::OriginId;

    #[test]
    fn what_a_full_batch_leaves_behind_waits_for_its_own_time() {
        let (agent, timeout) = (Agent::new("a"), Duration::from_secs(3600));
        let source = Arc::new(Source { origin: OriginId::new(), agent: agent.clone() });
        let overflow = Overflow::DropNewest;
        let limits = Limits { events: 1000, bytes: 1 << 20, overflow, batch_size: 10, batch_timeout: timeout };
        let shared = Shared::new("q".to_owned(), limits, None, source, None);
        let put = || {
            let mut buffer = Buffer::new();
            (0..6).for_each(|value| buffer.push(&Event::new(Kind::TX_BYTES, value)));
            shared.put(&Batch::new(&agent, &buffer, None)).unwrap();
        };
        put();
        // As if it had come so long ago.
        let long_ago = Duration::from_secs(3599);
        let mut state = shared.lock();
        state.since = Instant::now().checked_sub(long_ago);
        state.memory.chunks[0].at_us -= u64::try_from(long_ago.as_micros()).unwrap();
        drop(state);
        put();
        put();
        for age in [long_ago, Duration::ZERO] {
            let parcel = shared.take(false).unwrap();
            assert_eq!(parcel.events(), 6);
            let since = shared.lock().since.unwrap();
            assert!(since.elapsed() >= age && since.elapsed() < age + Duration::from_secs(1000));
            shared.settle(&parcel, Outcome::Delivered);
        }
        assert!(shared.take(false).unwrap_err() > Duration::from_secs(2000));
    }
}
