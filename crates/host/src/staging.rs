// SPDX-License-Identifier: Apache-2.0

//! Between the threads that record and the one that flushes: a lane for each thread, and who sleeps.
//!
//! # Waking
//! Waking costs a system call, so only a sleeper is woken, and only if it has to be: by the first record after it found
//! nothing, and by one that fills half of a lane. A thread that records and one that goes to sleep each write and then
//! read what the other wrote, and one of them must see the other:
//!
//! * *Half a lane*, which is rare, has a sequentially consistent fence between the two on both sides.
//! * *The first record* may not cost a fence each time. The compiler keeps its store before its load, and the processor
//!   makes a store visible in far less time than [`GRACE`], so the sleeper looks once more after that time, before it
//!   sleeps for good. Loom, which knows no time, gets a fence.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixl_telemetry_event::BatchId;

use crate::journal::{self, Batch, Journal};
use crate::lane::{Lane, Pushed, Writer};
use crate::memory::Memory;
use crate::record::{self, Expansion, Record, Slot};
use crate::settings::Overflow;
use crate::sync::Padded;
use crate::sync::atomic::{AtomicU8, fence};
use crate::totals::Totals;

/// Between finding nothing and sleeping for good.
const GRACE: Duration = Duration::from_millis(10);
/// Records after which a thread takes the long way, which looks at the clock.
const CHUNK: u64 = 256;
/// The most events of a batch, in whole transfers and with room for a report.
pub(crate) const MOST_EVENTS: u64 = BatchId::MOST_EVENTS as u64 - record::MOST_EVENTS;

/// What the flush thread does: works, or sleeps until there is something, or until its deadline.
const AWAKE: u8 = 0;
const UNTIL_SOMETHING: u8 = 1;
const UNTIL_DEADLINE: u8 = 2;

/// The lanes of one collector. Any thread records; one thread [`wait`](Self::wait)s and [`drain`](Self::drain)s.
pub(crate) struct Staging {
    /// Its number, which no other collector of the process ever has.
    id: u64,
    rules: Rules,
    /// Read by every record, written when the flush thread falls asleep or is woken.
    sleep: Padded<AtomicU8>,
    /// Half of some lane is taken.
    is_crowded: Padded<AtomicBool>,
    /// Nothing is taken any more.
    is_closed: AtomicBool,
    /// The flush thread has ended.
    is_over: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    /// There may be room again.
    room: Condvar,
}

/// What a buffer is made of.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) expansion: Expansion,
    /// Events of one thread that may wait, where somebody has chosen.
    pub(crate) bound: Option<u64>,
    pub(crate) overflow: Overflow,
    /// Events of one batch, unless one record alone stands for more.
    pub(crate) batch: u64,
    pub(crate) interval: Duration,
    pub(crate) memory: Memory,
}

struct State {
    /// The first one is for all who have none of their own.
    lanes: Vec<crate::sync::Arc<Lane>>,
    /// The numbers of lanes in the journal, where they are not as they stand here.
    numbers: Vec<usize>,
    common: Option<Common>,
    names: Names,
    /// How far each lane is read in the pass under way; of lanes added since, nothing.
    goals: Vec<u64>,
    /// Passes ever begun, the one under way included.
    passes: u64,
    in_pass: bool,
    /// The number of the last batch.
    number: u64,
    /// Events ever drained.
    drained: u64,
    /// What drains have told of what was not kept.
    handed: Totals,
    /// What of that a process had told which has died.
    handed_before: Totals,
    shutdown_timeout: u64,
    /// Threads that wait for room.
    starving: u64,
    /// The last pass has begun.
    last: bool,
    /// Nothing will be drained any more.
    ended: bool,
    /// Somebody asked for a flush now.
    urged: bool,
}

/// The producer's side of the lane for all.
struct Common {
    writer: Writer,
    time_us: u64,
}

/// Names of backend events, each with a number.
#[derive(Default)]
struct Names {
    numbers: HashMap<Arc<str>, u64>,
    names: Vec<Arc<str>>,
}

/// What [`Staging::drain`] tells besides the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// The number of the batch.
    pub(crate) number: u64,
    /// Events the records stand for.
    pub(crate) events: u64,
    /// What was not kept since the last drain.
    pub(crate) lost: Totals,
    /// The pass this drain belongs to.
    pub(crate) pass: u64,
    /// Whether the pass ends with it: everything recorded before its beginning has been drained.
    pub(crate) is_last: bool,
}

impl Drained {
    /// Events that an exporter is told of by totals, if it takes them.
    pub(crate) fn told(&self, takes_totals: bool) -> u64 {
        if takes_totals { self.lost.events() - self.lost.untold() } else { 0 }
    }

    /// Events that it is not told of, but that they were dropped.
    pub(crate) fn dropped(&self, takes_totals: bool) -> u64 {
        self.lost.events() - self.told(takes_totals)
    }
}

/// The buffer's part of [`Counts`](crate::Counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StagingCounts {
    pub(crate) produced: u64,
    pub(crate) waiting: u64,
    pub(crate) queue_full: u64,
    pub(crate) closed: u64,
    pub(crate) shutdown_timeout: u64,
}

impl Staging {
    /// An empty buffer; `None` if there is no memory for the least it needs.
    pub(crate) fn new(rules: Rules) -> Option<Self> {
        let (lane, writer) = Lane::new_anyway(&rules.memory)?;
        if let Some(journal) = &rules.memory.journal {
            journal.add_lane(lane.offset());
        }
        let common = Common { writer, time_us: crate::clock::NEVER };
        Some(Self::of(rules, vec![lane], Some(common), Names::default()))
    }

    /// What a dead process left, with the number of its last batch and what it told of what was not kept. The events of a
    /// batch that it did not finish, and what that tells, have been drained already. It is closed.
    pub(crate) fn found(
        rules: Rules,
        lanes: Vec<(usize, crate::sync::Arc<Lane>)>,
        (names, number): (Vec<Arc<str>>, u64),
        handed: Totals,
        unfinished: (u64, Totals),
    ) -> Self {
        let names = Names { names, ..Names::default() };
        let (numbers, lanes) = lanes.into_iter().unzip();
        let staging = Self::of(rules, lanes, None, names);
        let mut state = staging.lock();
        state.numbers = numbers;
        (state.number, state.handed, state.drained) = (number, handed, unfinished.0);
        state.handed_before = handed.since(&unfinished.1);
        drop(state);
        staging.is_closed.store(true, Ordering::Relaxed);
        staging
    }

    fn of(rules: Rules, lanes: Vec<crate::sync::Arc<Lane>>, common: Option<Common>, names: Names) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let state = State {
            lanes,
            numbers: Vec::new(),
            common,
            names,
            goals: Vec::new(),
            passes: 0,
            in_pass: false,
            number: 0,
            drained: 0,
            handed: Totals::default(),
            handed_before: Totals::default(),
            shutdown_timeout: 0,
            starving: 0,
            last: false,
            ended: false,
            urged: false,
        };
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            rules,
            sleep: Padded(AtomicU8::new(AWAKE)),
            is_crowded: Padded(AtomicBool::new(false)),
            is_closed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            state: Mutex::new(state),
            wake: Condvar::new(),
            room: Condvar::new(),
        }
    }

    /// The number of this buffer.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What its records mean.
    pub(crate) fn expansion(&self) -> &Expansion {
        &self.rules.expansion
    }

    /// The journal it lives in, if there is one.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.rules.memory.journal.as_deref()
    }

    /// To be called after each record that was pushed: wakes the flush thread if it sleeps because there was nothing.
    #[inline]
    pub(crate) fn pushed(&self) {
        #[cfg(not(loom))]
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        if self.sleep.0.load(Ordering::Relaxed) == UNTIL_SOMETHING {
            self.rouse();
        }
    }

    /// Adds up a record that need not try, because nothing has been read since one that wanted no more found no room; false
    /// if it has to.
    pub(crate) fn drop_at_once(&self, writer: &mut Writer, record: &Record, events: u64) -> bool {
        let is_sure = self.rules.overflow == Overflow::DropNewest && writer.is_still_full(record, events);
        if !is_sure || self.is_closed() {
            return false;
        }
        writer.lose(record, &self.rules.expansion);
        self.pushed();
        true
    }

    /// Takes a record the long way, after the time if one is given. True if it was written, and the time with it.
    pub(crate) fn push(&self, writer: &mut Writer, time: Option<Slot>, record: &Record, events: u64) -> bool {
        if self.is_closed() {
            writer.count_closed(events);
            return false;
        }
        let Rules { expansion, bound, overflow, memory, .. } = &self.rules;
        let attempt = |writer: &mut Writer| writer.push_slowly((time, record), events, *bound, (memory, CHUNK));
        let mut pushed = attempt(writer);
        if pushed == Pushed::Full {
            match overflow {
                Overflow::DropNewest => {}
                Overflow::DropOldest => {
                    if writer.drop_oldest(record::MOST_SLOTS, events, *bound, expansion) {
                        pushed = attempt(writer);
                    }
                }
                Overflow::Block(patience) => pushed = self.wait_for_room(*patience, || attempt(writer)),
            }
            if pushed == Pushed::Full {
                writer.lose(record, expansion);
            }
        }
        self.tell(pushed);
        pushed != Pushed::Full
    }

    /// Takes a record of a thread that has no lane of its own. The newest is dropped where there is no room, since
    /// nobody may wait here: others do. `time` is asked for the time, with the one that was told last.
    pub(crate) fn push_in_common(&self, record: &Record, time: impl FnOnce(u64) -> u64, events: u64) {
        let Rules { expansion, bound, memory, .. } = &self.rules;
        let mut state = self.lock();
        let Some(Common { writer, time_us: told }) = &mut state.common else { return };
        if self.is_closed() {
            return writer.count_closed(events);
        }
        let time_us = time(*told);
        let time = (*told != time_us).then(|| Record::time(time_us));
        let pushed = writer.push_slowly((time, record), events, *bound, (memory, CHUNK));
        match pushed {
            Pushed::Full => writer.lose(record, expansion),
            Pushed::Kept | Pushed::Crowded => *told = time_us,
        }
        drop(state);
        self.tell(pushed);
    }

    /// The number of a backend event's name.
    pub(crate) fn name(&self, name: &str) -> u64 {
        let mut state = self.lock();
        let known = state.names.names.len();
        let number = state.names.number(name);
        if let Some(journal) = self.journal().filter(|_| state.names.names.len() > known) {
            journal.add_name(name);
        }
        number
    }

    /// Wakes the flush thread, if what became of a record is a reason.
    fn tell(&self, pushed: Pushed) {
        if pushed == Pushed::Kept {
            return self.pushed();
        }
        // Release: the record is there when the flag is.
        self.is_crowded.0.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.sleep.0.load(Ordering::Relaxed) != AWAKE {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        // Under the lock it is not between looking and sleeping; and of many only one has to make the call.
        let state = self.lock();
        let was = self.sleep.0.swap(AWAKE, Ordering::Relaxed);
        drop(state);
        if was != AWAKE {
            self.wake.notify_one();
        }
    }

    /// Tries again whenever a drain has made room, for so long.
    fn wait_for_room(&self, patience: Duration, mut attempt: impl FnMut() -> Pushed) -> Pushed {
        let deadline = Instant::now().checked_add(patience);
        let mut state = self.lock();
        state.starving += 1;
        loop {
            let pushed = attempt();
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if pushed != Pushed::Full || left.is_zero() || self.is_closed() {
                state.starving -= 1;
                return pushed;
            }
            state.urged = true;
            self.wake.notify_one();
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A lane for the calling thread: one whose thread has gone, or a new one.
    pub(crate) fn attach(&self) -> Option<Writer> {
        let mut state = self.lock();
        if let Some(writer) = state.lanes[1..].iter().find_map(Lane::adopt) {
            return Some(writer);
        }
        if self.journal().is_some_and(|journal| !journal.has_room_for_a_lane()) {
            return None;
        }
        let (lane, writer) = Lane::new(&self.rules.memory)?;
        if let Some(journal) = self.journal() {
            journal.add_lane(lane.offset());
        }
        state.lanes.push(lane);
        Some(writer)
    }

    /// Waits until it is time for a pass of drains; false if there will be none any more.
    ///
    /// It is time when the interval has passed since this method saw something to drain, when half of a lane is taken,
    /// when somebody urges, and when the buffer is closed.
    pub(crate) fn wait(&self) -> bool {
        let state = self.wait_for_something(self.lock());
        let mut state = self.wait_for_deadline(state);
        self.sleep.0.store(AWAKE, Ordering::Relaxed);
        if self.is_closed() && (state.last || state.is_idle(&self.rules.expansion)) {
            state.ended = true;
        }
        state.last = self.is_closed();
        !state.ended
    }

    fn wait_for_something<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let mut has_looked = false;
        loop {
            self.sleep.0.store(UNTIL_SOMETHING, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_closed() || state.urged || !state.is_idle(&self.rules.expansion) {
                return state;
            }
            if has_looked {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.wake.wait_timeout(state, GRACE).unwrap_or_else(PoisonError::into_inner).0;
            }
            has_looked = !has_looked;
        }
    }

    fn wait_for_deadline<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let deadline = Instant::now().checked_add(self.rules.interval);
        loop {
            self.sleep.0.store(UNTIL_DEADLINE, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_closed() || state.urged || self.is_crowded.0.load(Ordering::Relaxed) {
                return state;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return state,
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes the slots of the next batch, which is of this time, and the names that are new; where nobody wants to see
    /// them, without slots, and as many events as there are.
    ///
    /// A pass takes what was there at its beginning, in as many batches as that needs, lane by lane.
    pub(crate) fn drain(&self, time_us: u64, mut slots: Option<&mut Vec<Slot>>, names: &mut Vec<Arc<str>>) -> Drained {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.in_pass {
            state.in_pass = true;
            state.passes += 1;
            state.urged = false;
            // Acquire: who set it has written its records, so the tails below are beyond them.
            self.is_crowded.0.swap(false, Ordering::AcqRel);
            state.goals = state.lanes.iter().map(|lane| lane.tail()).collect();
        }
        let (mut events, mut readings, mut is_last) = (0, Vec::new(), true);
        for (index, (lane, goal)) in state.lanes.iter().zip(&state.goals).enumerate() {
            if lane.is_read_to(*goal) {
                continue;
            }
            if slots.is_some() && readings.len() == journal::MOST_RANGES {
                is_last = false;
                break;
            }
            let mut told = None;
            let reading = lane.read(*goal, |record, time_us, _| {
                let more = self.rules.expansion.events(record);
                let Some(slots) = &mut slots else {
                    events += more;
                    return Some(more);
                };
                let has_room = slots.len() + 4 <= journal::MOST_SLOTS;
                if events > 0 && events + more > self.rules.batch || !has_room {
                    return None;
                }
                if told != Some(time_us) {
                    slots.push(Record::time(time_us));
                    told = Some(time_us);
                }
                record.append(slots);
                events += more;
                Some(more)
            });
            is_last = reading.head() >= *goal;
            readings.push((state.numbers.get(index).copied().unwrap_or(index), reading));
            if !is_last {
                break;
            }
        }
        let lost = state.lost(&self.rules.expansion).since(&state.handed);
        let is_something = events > 0 || lost.events() > 0;
        state.number += u64::from(is_something);
        state.handed.join(&lost);
        match self.journal() {
            Some(journal) if is_something => {
                let slots = slots.as_deref().map_or(&[][..], Vec::as_slice);
                let batch = Batch { number: state.number, time_us, slots, totals: &lost, handed: &state.handed };
                journal.take(&batch, readings);
            }
            _ => readings.into_iter().for_each(|(_, reading)| reading.done()),
        }
        state.in_pass = !is_last;
        state.drained += events;
        let known = names.len();
        names.extend_from_slice(&state.names.names[known..]);
        if state.starving > 0 {
            self.room.notify_all();
        }
        Drained { number: state.number, events, lost, pass: state.passes, is_last }
    }

    /// Ends the wait for the interval. Returns the pass after which everything recorded so far has been drained.
    pub(crate) fn urge(&self) -> u64 {
        let mut state = self.lock();
        state.urged = !state.is_idle(&self.rules.expansion);
        self.wake.notify_one();
        state.passes + u64::from(state.urged)
    }

    /// Takes nothing any more.
    pub(crate) fn close(&self) {
        self.close_quietly();
        // Under the lock, so that nobody is between looking and sleeping.
        drop(self.lock());
        self.wake.notify_one();
        self.room.notify_all();
    }

    /// The same without a lock, as in a signal handler: to be called again until [`is_over`](Self::is_over), since who
    /// is just falling asleep may miss it.
    pub(crate) fn close_quietly(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// The flush thread ends.
    pub(crate) fn finish(&self) {
        // Threads hold on to their lanes until they record for another agent; others may have the budget before.
        self.lock().lanes.iter().for_each(|lane| lane.give_back());
        // Release: all it did.
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the flush thread has ended, or nobody waits for it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Drops what is left, at the end of the time for the last flush. In a journal it stays.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let left = if state.ended { 0 } else { state.standing(&self.rules.expansion).0 };
        state.shutdown_timeout += left;
        state.ended = true;
        self.is_over.store(true, Ordering::Release);
        left
    }

    pub(crate) fn counts(&self) -> StagingCounts {
        let state = self.lock();
        let (left, lost) = state.standing(&self.rules.expansion);
        // What was written after the last pass will never be read: it came when the buffer was closed.
        let (waiting, late) = if state.ended { (0, left.saturating_sub(state.shutdown_timeout)) } else { (left, 0) };
        let queue_full = lost.since(&state.handed_before).events();
        let closed = late + state.lanes.iter().map(|lane| lane.closed()).sum::<u64>();
        let shutdown_timeout = state.shutdown_timeout;
        let produced = state.drained + shutdown_timeout + waiting + queue_full + closed;
        StagingCounts { produced, waiting, queue_full, closed, shutdown_timeout }
    }

    /// Nothing in here can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The events that wait, and all that were not kept.
    fn standing(&self, expansion: &Expansion) -> (u64, Totals) {
        let (mut waiting, mut lost) = (0, Totals::default());
        for lane in &self.lanes {
            let (more, totals) = lane.standing(expansion);
            waiting += more;
            lost.join(&totals);
        }
        (waiting, lost)
    }

    /// All that was ever not kept.
    fn lost(&self, expansion: &Expansion) -> Totals {
        let mut lost = Totals::default();
        self.lanes.iter().for_each(|lane| lost.join(&lane.losses(expansion).totals));
        lost
    }

    fn is_idle(&self, expansion: &Expansion) -> bool {
        self.lanes.iter().all(|lane| lane.is_empty()) && self.lost(expansion) == self.handed
    }
}

impl Names {
    fn number(&mut self, name: &str) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number): (Arc<str>, _) = (name.into(), self.names.len() as u64);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use nixl_telemetry_event::{Allowlist, Kind};

    use super::*;
    use crate::memory::PLENTY;

    fn rules(interval: Duration) -> Rules {
        let expansion = Expansion::new(&Allowlist::All);
        let overflow = Overflow::DropNewest;
        Rules { expansion, bound: None, overflow, batch: MOST_EVENTS, interval, memory: PLENTY }
    }

    fn staging(capacity: u64, interval: Duration) -> Staging {
        Staging::new(Rules { bound: Some(capacity), batch: capacity, ..rules(interval) }).unwrap()
    }

    /// Offers events through a lane of the thread's own.
    fn offer(staging: &Staging, values: impl IntoIterator<Item = u64>) {
        let mut writer = staging.attach().unwrap();
        for value in values {
            staging.push(&mut writer, None, &Record::event(Kind::TX_BYTES, value), 1);
        }
    }

    /// The values of the next batch, and what it tells.
    fn drain(staging: &Staging) -> (Vec<u64>, Drained) {
        let mut slots = Vec::new();
        let drained = staging.drain(1, Some(&mut slots), &mut Vec::new());
        let records = slots.iter().filter(|slot| slot[1] & 7 == record::KIND);
        (records.map(|slot| slot[0]).collect(), drained)
    }

    /// Asserts what the next drain gives and tells.
    fn check_drain(staging: &Staging, values: &[u64], lost: u64) {
        let (drained, told) = drain(staging);
        assert_eq!(drained, values);
        assert_eq!((told.events, told.lost.events()), (values.len() as u64, lost));
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn what_fits_is_kept_in_order_and_the_rest_is_counted() {
        let staging = staging(5, NEVER);
        check_drain(&staging, &[], 0);
        offer(&staging, 1..=9);
        check_drain(&staging, &[1, 2, 3, 4, 5], 4);
        check_drain(&staging, &[], 0);
        offer(&staging, 1..=11);
        check_drain(&staging, &[1, 2, 3, 4, 5], 6);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.queue_full, counts.waiting), (20, 10, 0));
    }

    #[test]
    fn the_oldest_give_way_where_that_is_asked_for() {
        let overflow = Overflow::DropOldest;
        let staging = Staging::new(Rules { bound: Some(3), overflow, ..rules(NEVER) }).unwrap();
        offer(&staging, 1..=9);
        let (values, told) = drain(&staging);
        assert_eq!((values, told.lost.events()), (vec![7, 8, 9], 6));
        let total = told.lost.iter().next().unwrap();
        assert_eq!((total.kind, total.count, total.sum), (Kind::TX_BYTES, 6, 21));
        assert_eq!(staging.counts().produced, 9);
    }

    #[test]
    fn who_may_wait_waits_for_room_and_no_longer() {
        let overflow = Overflow::Block(Duration::from_secs(60));
        let staging = Staging::new(Rules { bound: Some(2), overflow, ..rules(NEVER) }).unwrap();
        thread::scope(|scope| {
            let producer = scope.spawn(|| offer(&staging, 1..=6));
            let mut values = Vec::new();
            while values.len() < 6 {
                // It is woken by who has no room, long before its interval.
                assert!(staging.wait());
                values.extend(drain(&staging).0);
            }
            producer.join().unwrap();
            assert_eq!(values, [1, 2, 3, 4, 5, 6]);
        });
        assert_eq!(staging.counts().queue_full, 0);

        let overflow = Overflow::Block(Duration::from_millis(20));
        let staging = Staging::new(Rules { bound: Some(2), overflow, ..rules(NEVER) }).unwrap();
        let start = Instant::now();
        offer(&staging, 1..=3);
        assert!(start.elapsed() >= Duration::from_millis(20));
        check_drain(&staging, &[1, 2], 1);
    }

    #[test]
    fn closing_lets_those_go_that_wait_for_room() {
        let overflow = Overflow::Block(NEVER);
        let staging = Staging::new(Rules { bound: Some(1), overflow, ..rules(NEVER) }).unwrap();
        thread::scope(|scope| {
            let producer = scope.spawn(|| offer(&staging, 1..=2));
            while staging.lock().starving == 0 {
                thread::yield_now();
            }
            staging.close();
            producer.join().unwrap();
        });
        check_drain(&staging, &[1], 1);
    }

    #[test]
    fn a_capacity_beyond_memory_is_only_a_number() {
        let staging = staging(u64::MAX, NEVER);
        offer(&staging, [1, 2]);
        check_drain(&staging, &[1, 2], 0);
    }

    #[test]
    fn a_pass_ends_with_what_was_there_at_its_beginning() {
        let staging = Staging::new(Rules { batch: 2, ..rules(NEVER) }).unwrap();
        let drain = || {
            let (values, drained) = drain(&staging);
            (values, drained.pass, drained.is_last)
        };
        offer(&staging, 1..=3);
        assert_eq!(drain(), (vec![1, 2], 1, false));
        offer(&staging, [4]);
        assert_eq!(staging.urge(), 2);
        assert_eq!(drain(), (vec![3], 1, true));
        assert_eq!(drain(), (vec![4], 2, true));
        assert_eq!(staging.urge(), 2);
    }

    #[test]
    fn batches_are_numbered_and_nothing_is_none() {
        let staging = staging(8, NEVER);
        let number = || drain(&staging).1.number;
        assert_eq!(number(), 0);
        offer(&staging, [1]);
        assert_eq!((number(), number()), (1, 1));
        offer(&staging, 0..9);
        assert_eq!(number(), 2);
    }

    #[test]
    fn closing_ends_the_wait_and_the_taking() {
        let staging = staging(8, NEVER);
        let mut writer = staging.attach().unwrap();
        let mut offer = |value| staging.push(&mut writer, None, &Record::event(Kind::TX_BYTES, value), 1);
        assert!(offer(1));
        staging.close();
        assert!(staging.wait());
        check_drain(&staging, &[1], 0);
        assert!(!staging.wait());
        assert!(!(0..100).any(offer));
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.closed, counts.queue_full, counts.waiting), (101, 100, 0, 0));
    }

    #[test]
    fn drops_without_events_are_something_to_drain() {
        let staging = staging(2, Duration::ZERO);
        let mut writer = staging.attach().unwrap();
        let record = Record::long(crate::Direction::Write, 1, 2, 3);
        staging.push(&mut writer, None, &record, 4);
        assert!(staging.wait());
        check_drain(&staging, &[], 4);
    }

    #[test]
    fn who_gets_no_lane_shares_one() {
        let memory = Memory { budget: 0, ..PLENTY };
        let staging = Staging::new(Rules { memory, ..rules(Duration::ZERO) }).unwrap();
        assert!(staging.attach().is_none());
        (0..2000).for_each(|value| staging.push_in_common(&Record::event(Kind::TX_BYTES, value), |_| 7, 1));
        assert!(staging.wait());
        let (values, told) = drain(&staging);
        // One slot of the ring tells the time.
        let kept = crate::lane::FIRST - 1;
        assert_eq!((values, told.lost.events()), ((0..kept).collect(), 2000 - kept));
        staging.close();
        staging.push_in_common(&Record::event(Kind::TX_BYTES, 4), |_| 7, 1);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.queue_full, counts.closed), (2001, 2000 - kept, 1));
    }

    #[test]
    fn half_a_queue_and_an_urge_end_the_wait() {
        let staging = staging(8, NEVER);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| staging.wait());
            offer(&staging, 0..4);
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[0, 1, 2, 3], 0);

            let waiter = scope.spawn(|| staging.wait());
            offer(&staging, [4]);
            assert_eq!(staging.urge(), 2);
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[4], 0);
        });
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let staging = staging(8, NEVER);
        offer(&staging, [1, 2, 3]);
        assert_eq!((staging.abandon(), staging.abandon()), (3, 0));
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.shutdown_timeout, counts.waiting), (3, 3, 0));
    }

    #[test]
    fn the_lane_of_a_thread_that_has_gone_is_used_again() {
        let staging = staging(1 << 20, NEVER);
        (0..100).for_each(|value| offer(&staging, [value]));
        assert_eq!(drain(&staging).0.iter().sum::<u64>(), 4950);
        assert_eq!(staging.lock().lanes.len(), 2);
    }
}
