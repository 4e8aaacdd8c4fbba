// SPDX-License-Identifier: Apache-2.0

//! What is known of the agents: events in, figures out.
//!
//! Time is what the caller says it is, counted from any moment; nothing here looks at a clock, a file or a terminal.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixl_telemetry_event::Event;
use nixl_telemetry_ring::{Header, Lost, Shape};

use crate::top::counts::{Counts, Errors};
use crate::top::window::{Percentiles, Window};

/// How long an agent that has gone is shown.
pub(crate) const SHOWN_AFTER: Duration = Duration::from_secs(30);

/// An agent without events for so long is idle.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Rates are told over one refresh, and no less than this: agents hand out their events ten times a second.
const RATED_OVER: Duration = Duration::from_secs(1);

/// The agents, by the paths of their files.
#[derive(Debug, Default)]
pub(crate) struct Model {
    agents: BTreeMap<PathBuf, Agent>,
}

#[derive(Debug)]
struct Agent {
    name: String,
    counts: Counts,
    /// The errors that were there to be read when it was seen first.
    errors_before: Errors,
    window: Window,
    /// Counts at earlier refreshes, the oldest first.
    samples: VecDeque<(Duration, Counts)>,
    /// When it last had an event, other than those it had when it was seen first.
    heard: Duration,
    gone: Option<Duration>,
    restarts: u64,
    ring: Option<Ring>,
}

/// When events happened, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Just now.
    Now,
    /// Before anybody looked: they waited in the file.
    Before,
}

/// An agent's figures at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) path: PathBuf,
    pub(crate) agent: String,
    pub(crate) state: State,
    pub(crate) rates: Rates,
    pub(crate) counts: Counts,
    /// Errors since it is watched.
    pub(crate) new_errors: Errors,
    pub(crate) transfer: Option<Percentiles>,
    pub(crate) post: Option<Percentiles>,
    /// Bytes in each second of the last minute.
    pub(crate) received: Vec<u64>,
    pub(crate) sent: Vec<u64>,
    /// How often a new process has begun the file anew.
    pub(crate) restarts: u64,
    pub(crate) ring: Option<Ring>,
}

/// How an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It had events lately.
    Live,
    /// It had no event for so long: it has nothing to do, or its process has ended. The file stays.
    Idle(Duration),
    /// Its ring is full and nobody consumes: what happens now is refused, and not to be seen by anybody.
    Full,
    /// Its file cannot be read any more, for so long.
    Gone(Duration),
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) transfers: f64,
    /// Bytes.
    pub(crate) received: f64,
    /// Bytes.
    pub(crate) sent: f64,
}

/// A ring file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) shape: Shape,
    /// Events that nobody has consumed.
    pub(crate) unread: u64,
    read_pos: u64,
    /// It is full, and was so at the last refresh, with nothing consumed in between.
    is_stuck: bool,
}

impl Model {
    /// An agent is there, for the first time or again.
    pub(crate) fn came(&mut self, path: &Path, name: &str, now: Duration) {
        let agent = self.agents.entry(path.to_owned()).or_insert_with(|| Agent::new(name, now));
        agent.gone = None;
    }

    /// Events of an agent that came.
    pub(crate) fn events<'a>(
        &mut self,
        path: &Path,
        events: impl IntoIterator<Item = Event<'a>>,
        when: When,
        now: Duration,
    ) {
        let Some(agent) = self.agents.get_mut(path) else { return };
        agent.window.slide(now);
        for event in events {
            agent.counts.add(&event);
            if when == When::Now {
                agent.window.add(&event);
            }
        }
        match when {
            When::Now => agent.heard = now,
            When::Before => agent.begin(now),
        }
    }

    /// Events of it were overwritten before they were read.
    pub(crate) fn lost(&mut self, path: &Path, lost: Lost) {
        if let Some(agent) = self.agents.get_mut(path) {
            agent.counts.lost.add(lost);
        }
    }

    /// A new process has begun its file anew.
    pub(crate) fn restarted(&mut self, path: &Path) {
        if let Some(agent) = self.agents.get_mut(path) {
            agent.restarts += 1;
        }
    }

    /// What its file is, and how full.
    pub(crate) fn ring(&mut self, path: &Path, shape: Shape, header: &Header) {
        let Some(agent) = self.agents.get_mut(path) else { return };
        let before = agent.ring;
        let is_stuck =
            header.is_full() && before.is_some_and(|ring| ring.read_pos == header.read_pos && ring.is_full());
        agent.ring = Some(Ring { shape, unread: header.unread(), read_pos: header.read_pos, is_stuck });
    }

    /// Its file is there no more, or cannot be read.
    pub(crate) fn gone(&mut self, path: &Path, now: Duration) {
        if let Some(agent) = self.agents.get_mut(path) {
            agent.gone.get_or_insert(now);
            agent.ring = None;
        }
    }

    /// The figures now, at a refresh; refreshes are this far apart.
    pub(crate) fn refresh(&mut self, now: Duration, interval: Duration) -> Vec<Row> {
        self.agents.retain(|_, agent| agent.gone.is_none_or(|gone| now.saturating_sub(gone) < SHOWN_AFTER));
        self.agents.iter_mut().map(|(path, agent)| agent.row(path, now, interval)).collect()
    }
}

impl Agent {
    fn new(name: &str, now: Duration) -> Self {
        let mut agent = Self {
            name: name.to_owned(),
            counts: Counts::default(),
            errors_before: Errors::default(),
            window: Window::new(now),
            samples: VecDeque::new(),
            heard: now,
            gone: None,
            restarts: 0,
            ring: None,
        };
        agent.begin(now);
        agent
    }

    /// What is counted up to now is from before, and says nothing about how fast it goes.
    fn begin(&mut self, now: Duration) {
        self.errors_before = self.counts.errors;
        self.samples.clear();
        self.samples.push_back((now, self.counts.clone()));
    }

    fn row(&mut self, path: &Path, now: Duration, interval: Duration) -> Row {
        self.window.slide(now);
        Row {
            path: path.to_owned(),
            agent: self.name.clone(),
            state: self.state(now),
            rates: self.rates(now, interval),
            counts: self.counts.clone(),
            new_errors: self.counts.errors.since(&self.errors_before),
            transfer: self.window.transfer(),
            post: self.window.post(),
            received: self.window.received(),
            sent: self.window.sent(),
            restarts: self.restarts,
            ring: self.ring,
        }
    }

    fn state(&self, now: Duration) -> State {
        let quiet = now.saturating_sub(self.heard);
        match self.gone {
            Some(gone) => State::Gone(now.saturating_sub(gone)),
            None if self.ring.is_some_and(|ring| ring.is_stuck) => State::Full,
            None if quiet >= IDLE_AFTER => State::Idle(quiet),
            None => State::Live,
        }
    }

    /// Since the newest sample that is old enough; refreshes come a little early and late.
    fn rates(&mut self, now: Duration, interval: Duration) -> Rates {
        let age = interval.max(RATED_OVER) - interval / 10;
        let is_old_enough = |sample: &(Duration, Counts)| now.saturating_sub(sample.0) >= age;
        while self.samples.get(1).is_some_and(is_old_enough) {
            self.samples.pop_front();
        }
        let (since, before) = &self.samples[0];
        let seconds = now.saturating_sub(*since).as_secs_f64();
        let rate = |now: u64, before: u64| if seconds > 0.0 { (now - before) as f64 / seconds } else { 0.0 };
        let rates = Rates {
            transfers: rate(self.counts.transfers(), before.transfers()),
            received: rate(self.counts.received.bytes, before.received.bytes),
            sent: rate(self.counts.sent.bytes, before.sent.bytes),
        };
        self.samples.push_back((now, self.counts.clone()));
        rates
    }
}

impl Ring {
    /// Events it has room for: one slot always stays free.
    pub(crate) fn room(&self) -> u64 {
        self.shape.capacity - 1
    }

    fn is_full(&self) -> bool {
        self.unread == self.room()
    }

    /// How much of it is taken, from 0 to 1.
    pub(crate) fn fill(&self) -> f64 {
        // A ring of one slot has room for nothing.
        self.unread as f64 / self.room().max(1) as f64
    }
}

impl Row {
    /// Whether it is still there.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.state, State::Gone(_))
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::{Kind, Layout, Status};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn path() -> &'static Path {
        Path::new("/rings/a")
    }

    /// What NIXL emits for a transfer: post time, transfer time, bytes, request.
    fn read(bytes: u64, us: u64) -> [Event<'static>; 4] {
        [
            Event::new(Kind::XFER_POST_TIME, us / 10),
            Event::new(Kind::XFER_TIME, us),
            Event::new(Kind::RX_BYTES, bytes),
            Event::new(Kind::RX_REQUESTS_NUM, 1),
        ]
    }

    fn write(bytes: u64, us: u64) -> [Event<'static>; 4] {
        let [post, time, ..] = read(bytes, us);
        [post, time, Event::new(Kind::TX_BYTES, bytes), Event::new(Kind::TX_REQUESTS_NUM, 1)]
    }

    fn model(now: Duration) -> Model {
        let mut model = Model::default();
        model.came(path(), "a", now);
        model
    }

    fn row(model: &mut Model, now: Duration) -> Row {
        model.refresh(now, SECOND).pop().unwrap()
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let start = 10 * SECOND;
        let mut model = model(start);
        assert_eq!(row(&mut model, start).rates, Rates::default());
        for _ in 0..20 {
            model.events(path(), read(1000, 50), When::Now, start + SECOND / 2);
            model.events(path(), write(3000, 70), When::Now, start + SECOND / 2);
        }
        let row_then = row(&mut model, start + SECOND);
        assert_eq!(row_then.rates, Rates { transfers: 40.0, received: 20_000.0, sent: 60_000.0 });
        assert_eq!(row_then.counts.transfers(), 40);
        assert_eq!(row_then.transfer, Some(Percentiles { count: 40, p50: 50, p90: 70, p99: 70, max: 70 }));
        assert_eq!(row_then.post, Some(Percentiles { count: 40, p50: 5, p90: 7, p99: 7, max: 7 }));
        // A refresh a little early or late is divided by the time it took.
        model.events(path(), read(3800, 1), When::Now, start + SECOND);
        let rates = row(&mut model, start + SECOND * 195 / 100).rates;
        assert!((rates.received - 4000.0).abs() < 1e-6 && rates.sent == 0.0, "{rates:?}");
        assert_eq!(row(&mut model, start + SECOND * 3).rates, Rates::default());
    }

    #[test]
    fn fast_refreshes_have_the_rates_of_a_second_and_slow_ones_their_own() {
        let mut model = model(Duration::ZERO);
        let tenth = SECOND / 10;
        for step in 1..=20 {
            // Handed out twice a second.
            if step % 5 == 0 {
                (0..5).for_each(|_| model.events(path(), write(100, 1), When::Now, tenth * step));
            }
            let rates = model.refresh(tenth * step, tenth).pop().unwrap().rates;
            // Once there is a second to look at.
            if step >= 10 {
                assert!((rates.transfers - 10.0).abs() < 1e-6, "{step}: {rates:?}");
            }
        }
        // Over five seconds.
        model.events(path(), write(1000, 1), When::Now, SECOND * 6);
        let rates = model.refresh(SECOND * 7, SECOND * 5).pop().unwrap().rates;
        assert_eq!(rates, Rates { transfers: 0.2, received: 0.0, sent: 200.0 });
    }

    #[test]
    fn what_waited_in_the_file_is_counted_and_no_traffic() {
        let mut model = model(SECOND);
        let errors = |kind, times| (0..times).map(move |_| Event::new(kind, 1));
        model.events(path(), read(5000, 50), When::Before, SECOND);
        model.events(path(), errors(Kind::ERR_BACKEND, 3), When::Before, SECOND);
        let waited = row(&mut model, 2 * SECOND);
        assert_eq!((waited.rates, waited.transfer, waited.post), (Rates::default(), None, None));
        assert_eq!((waited.counts.received.bytes, waited.counts.transfers()), (5000, 1));
        assert_eq!((waited.counts.errors.total(), waited.new_errors.total()), (3, 0));
        assert_eq!(waited.received, [0; 60]);
        model.events(path(), errors(Kind::ERR_BACKEND, 2), When::Now, 2 * SECOND);
        let later = row(&mut model, 3 * SECOND);
        assert_eq!(later.counts.errors.of(Status::Backend), 5);
        assert_eq!(later.new_errors.of(Status::Backend), 2);
    }

    #[test]
    fn a_minute_of_seconds() {
        let mut model = model(Duration::ZERO);
        for second in 0..90 {
            model.events(path(), read(second, 1), When::Now, SECOND * u32::try_from(second).unwrap());
        }
        let row = row(&mut model, SECOND * 90);
        assert_eq!(row.received, (30..90).collect::<Vec<u64>>());
        assert_eq!(row.sent, [0; 60]);
        assert_eq!(row.transfer.unwrap().count, 60);
    }

    #[test]
    fn agents_are_idle_gone_and_forgotten() {
        let mut model = model(Duration::ZERO);
        model.came(Path::new("/rings/b"), "b", Duration::ZERO);
        let states = |model: &mut Model, now| -> Vec<State> {
            model.refresh(now, SECOND).into_iter().map(|row| row.state).collect()
        };
        model.events(path(), read(1, 1), When::Now, 50 * SECOND);
        assert_eq!(states(&mut model, 59 * SECOND), [State::Live, State::Live]);
        assert_eq!(states(&mut model, 60 * SECOND), [State::Live, State::Idle(60 * SECOND)]);
        model.gone(path(), 61 * SECOND);
        model.gone(path(), 65 * SECOND);
        assert_eq!(states(&mut model, 66 * SECOND)[0], State::Gone(5 * SECOND));
        assert_eq!(states(&mut model, 90 * SECOND).len(), 2);
        // Back in time: all that was counted is still there.
        model.came(path(), "a", 90 * SECOND);
        let back = &model.refresh(91 * SECOND, SECOND)[0];
        assert_eq!((back.state, back.counts.transfers()), (State::Live, 1));
        model.gone(path(), 100 * SECOND);
        assert_eq!(states(&mut model, 130 * SECOND), [State::Idle(130 * SECOND)]);
        // Of a file nobody has announced, nothing is told.
        model.events(Path::new("/rings/c"), read(1, 1), When::Now, SECOND);
        model.lost(path(), Lost { events: 1, or_more: false });
        assert_eq!(states(&mut model, 130 * SECOND).len(), 1);
    }

    #[test]
    fn a_full_ring_is_stuck_unless_somebody_consumes() {
        let shape = Shape { version: 4, layout: Layout::L16, capacity: 16 };
        let header = |write_pos, read_pos| Header { write_pos, read_pos, ..shape_header() };
        fn shape_header() -> Header {
            Header { write_pos: 0, read_pos: 0, version: 4, expected_version: 4, capacity: 16, mask: 15 }
        }
        let mut model = model(Duration::ZERO);
        let mut state = |header: Header| {
            model.ring(path(), shape, &header);
            let row = row(&mut model, SECOND);
            (row.state, row.ring.unwrap().unread)
        };
        assert_eq!(state(header(4, 0)), (State::Live, 4));
        assert_eq!(state(header(15, 0)), (State::Live, 15));
        assert_eq!(state(header(15, 0)), (State::Full, 15));
        assert_eq!(state(header(0, 1)), (State::Live, 15));
        assert_eq!(state(header(0, 15)), (State::Live, 1));
        let ring = model.agents[path()].ring.unwrap();
        assert_eq!((ring.room(), ring.fill()), (15, 1.0 / 15.0));
        let none = Ring { shape: Shape { capacity: 1, ..shape }, unread: 0, ..ring };
        assert_eq!(none.fill(), 0.0);
    }

    #[test]
    fn losses_and_restarts_are_counted() {
        let mut model = model(Duration::ZERO);
        model.lost(path(), Lost { events: 5, or_more: false });
        model.lost(path(), Lost { events: 7, or_more: true });
        model.restarted(path());
        let row = row(&mut model, SECOND);
        assert_eq!((row.counts.lost, row.restarts), (Lost { events: 12, or_more: true }, 1));
    }
}
