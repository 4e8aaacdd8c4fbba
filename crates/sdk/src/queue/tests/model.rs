// SPDX-License-Identifier: Apache-2.0

//! A sink that does what it is told, and a queue around it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_event::{BatchId, Event, Kind};
use nixl_telemetry_settings::{Describe, Settings};
use proptest::test_runner::TestCaseError;

use crate::batch::Buffer;
use crate::queue::{Delivery, Failed, OriginId, QueueCounts, Queued, Sink, buffer::Shared};
use crate::{Agent, Batch, Error, Exporter as _};

/// What a sink does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reaction {
    Accept,
    Retry,
    RetryAfter(Duration),
    Refuse,
    /// Accepts all but the first event.
    RefuseOne,
    /// Accepts it when it is released.
    Hang,
    Panic,
}

/// What a sink was given.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) agent: String,
    pub(super) origin: OriginId,
    pub(super) sequence: u64,
    pub(super) is_repeated: bool,
    pub(super) events: Vec<Plain>,
}

/// An event's name, value and time.
pub(super) type Plain = (String, u64, Option<u64>);

/// The other side of a sink.
#[derive(Clone, Debug, Default)]
pub(super) struct Control(Arc<(Mutex<Told>, Condvar)>);

#[derive(Debug)]
struct Told {
    next: VecDeque<Reaction>,
    always: Reaction,
    seen: Vec<Seen>,
    accepted: Vec<u64>,
    is_released: bool,
    is_busy: bool,
    is_closed: bool,
}

pub(super) struct Model(Control);

pub(super) struct Rig {
    pub(super) agent: Agent,
    pub(super) sink: Control,
    queue: Queued<Model>,
}

/// Sinks by the names of agents that are about to be opened.
static CONTROLS: LazyLock<Mutex<HashMap<String, Control>>> = LazyLock::new(Mutex::default);

impl Default for Told {
    fn default() -> Self {
        let (next, seen, accepted) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { next, always: Reaction::Accept, seen, accepted, is_released: false, is_busy: false, is_closed: false }
    }
}

impl Sink for Model {
    const NAME: &'static str = "MODEL";
    const SETTINGS: &'static [&'static dyn Describe] = &[];

    fn open(agent: &Agent, _: &Settings) -> Result<Self, Error> {
        Ok(Self(CONTROLS.lock().unwrap().remove(agent.name()).expect("a rig opens it")))
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        let events: Vec<_> = batch.iter().map(|event| plain(&event)).collect();
        assert_eq!((batch.len(), batch.iter().len()), (events.len(), events.len()));
        let (agent, origin) = (batch.agent().name().to_owned(), batch.origin());
        let (sequence, is_repeated, len) = (batch.sequence(), batch.is_repeated(), events.len() as u64);
        let (mut told, changed) = (self.0.told(), &self.0.0.1);
        told.seen.push(Seen { at: Instant::now(), agent, origin, sequence, is_repeated, events });
        let reaction = told.next.pop_front().unwrap_or(told.always);
        told.is_busy = true;
        changed.notify_all();
        if reaction == Reaction::Hang {
            told = changed.wait_while(told, |told| !told.is_released).unwrap();
        }
        told.is_busy = false;
        changed.notify_all();
        match reaction {
            Reaction::Accept | Reaction::Hang => {
                told.accepted.extend(sequence..sequence + len);
                Ok(())
            }
            Reaction::Retry => Err(Failed::retry("told to fail")),
            Reaction::RetryAfter(time) => Err(Failed::retry_after("told to fail", time)),
            Reaction::Refuse => Err(Failed::refused("told to refuse")),
            Reaction::RefuseOne => {
                told.accepted.extend(sequence + 1..sequence + len);
                Err(Failed::refused_in_part("told to refuse one", 1))
            }
            Reaction::Panic => {
                drop(told);
                panic!("told to panic")
            }
        }
    }

    fn close(&mut self) {
        self.0.told().is_closed = true;
        self.0.0.1.notify_all();
    }
}

impl Control {
    /// The next reactions, after those that were named before.
    pub(super) fn then(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.told().next.extend(reactions);
    }

    pub(super) fn always(&self, reaction: Reaction) {
        self.told().always = reaction;
    }

    /// Nothing hangs any more.
    pub(super) fn release(&self) {
        self.told().is_released = true;
        self.0.1.notify_all();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.told().seen.clone()
    }

    /// The numbers of the events it has accepted, in their order.
    pub(super) fn accepted(&self) -> Vec<u64> {
        self.told().accepted.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.told().is_closed
    }

    pub(super) fn until(&self, condition: impl Fn(&[Seen]) -> bool) {
        self.wait(|told| condition(&told.seen));
    }

    /// Waits until it has returned from what it was given.
    pub(super) fn until_idle(&self) {
        self.wait(|told| !told.is_busy);
    }

    pub(super) fn until_closed(&self) {
        self.wait(|told| told.is_closed);
    }

    fn wait(&self, condition: impl Fn(&Told) -> bool) {
        let timeout = Duration::from_secs(60);
        let waited = self.0.1.wait_timeout_while(self.told(), timeout, |told| !condition(told)).unwrap();
        assert!(!waited.1.timed_out(), "it never came");
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rig {
    pub(super) fn open(settings: &[(&str, String)]) -> Self {
        Self::open_to(Reaction::Accept, settings)
    }

    /// With a sink that does this from the beginning, to what others left behind.
    pub(super) fn open_to(always: Reaction, settings: &[(&str, String)]) -> Self {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let name = format!("agent {}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Self::try_open(&name, always, settings).unwrap()
    }

    pub(super) fn try_open(name: &str, always: Reaction, settings: &[(&str, String)]) -> Result<Self, Error> {
        let pairs = settings.iter().map(|(name, value)| (format!("NIXL_TELEMETRY_MODEL_{name}"), value));
        let (agent, sink) = (Agent::new(name), Control::default());
        sink.always(always);
        CONTROLS.lock().unwrap().insert(name.to_owned(), sink.clone());
        let queue = Queued::open(&agent, &Settings::from_pairs(pairs))?;
        Ok(Self { agent, sink, queue })
    }

    pub(super) fn export(&mut self, events: &[Event<'_>]) -> Result<(), Error> {
        self.export_batch(events, None)
    }

    pub(super) fn export_batch(&mut self, events: &[Event<'_>], id: Option<BatchId<'_>>) -> Result<(), Error> {
        let mut buffer = Buffer::new();
        events.iter().for_each(|event| buffer.push(event));
        self.queue.export(&Batch::new(&self.agent, &buffer, id))
    }

    /// What its two ends share.
    pub(super) fn queue(&self) -> Arc<Shared> {
        Arc::clone(&self.queue.queue)
    }

    pub(super) fn counts(&self) -> QueueCounts {
        self.queue.counts()
    }

    /// Whether all events are somewhere.
    pub(super) fn check(&self) -> Result<(), TestCaseError> {
        let counts @ QueueCounts { exported, recovered, delivered, waiting, spooled, dropped } = self.counts();
        let found = delivered + waiting + spooled + dropped.total();
        proptest::prop_assert_eq!(exported + recovered, found, "{:?}", counts);
        Ok(())
    }

    pub(super) fn until(&self, condition: impl Fn(QueueCounts) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !condition(self.counts()) {
            assert!(Instant::now() < until, "it never came: {:?}", self.counts());
            thread::sleep(Duration::from_millis(1));
        }
        self.check().unwrap();
    }

    /// Waits until a thread that was left behind has ended.
    pub(super) fn until_over(&self) {
        assert!(self.queue.worker.end(Instant::now() + Duration::from_secs(60)));
    }

    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.queue.flush()
    }
}

/// So many events that differ.
pub(super) fn events(count: usize) -> Vec<Event<'static>> {
    (0..count as u64).map(|value| Event::new(Kind::TX_BYTES, value).at(value)).collect()
}

pub(super) fn plain(event: &Event<'_>) -> Plain {
    (event.name().to_string(), event.value(), event.timestamp_us())
}
