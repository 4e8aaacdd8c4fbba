// SPDX-License-Identifier: Apache-2.0

//! What the worker does: looks at every agent, sends what there is, and remembers what was accepted.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::metrics::Snapshot;
use nixl_telemetry_sdk::worker::Call;
use nixl_telemetry_sdk::{Backoff, chance, error, now_us, warn};

use super::{Crew, Member, taken};
use crate::encode::{Form, Series, encode};
use crate::response::{Partial, Verdict};
use crate::settings::Config;
use crate::transport::Transport;

/// The most agents that have ended and are kept until an export is accepted.
pub(super) const MOST_LEFT: usize = 64;

/// The worker's memory.
pub(super) struct Job {
    pub(super) config: Config,
    pub(super) crew: Arc<Crew>,
    transport: Transport,
    pub(super) series: Vec<Tracked>,
    backoff: Backoff,
    /// The receiver has asked for it.
    left_alone_until: Option<Instant>,
    trouble: Option<Trouble>,
    /// Data points of accepted exports.
    pub(super) rejected: u64,
}

/// An agent, as the worker knows it.
pub(super) struct Tracked {
    member: Arc<Member>,
    now: Snapshot,
    now_us: u64,
    /// It had ended when it was looked at, so that nothing is missing.
    is_complete: bool,
    accepted: Snapshot,
    accepted_us: u64,
    last_success_us: u64,
}

/// What went wrong since the last export that was accepted.
struct Trouble {
    since: Instant,
    is_refusal: bool,
    exports: u64,
    points: u64,
}

/// What became of an export.
enum Outcome {
    Accepted,
    /// How long the receiver asked to be left alone.
    Later(Option<Duration>),
    Refused,
}

impl Job {
    /// A job that has not begun.
    pub(super) fn new(config: &Config, crew: &Arc<Crew>, transport: &Transport) -> Self {
        Self {
            config: config.clone(),
            crew: Arc::clone(crew),
            transport: transport.clone(),
            series: Vec::new(),
            backoff: Backoff::default(),
            left_alone_until: None,
            trouble: None,
            rejected: 0,
        }
    }

    /// Says when it is due again.
    pub(super) fn run(&mut self, call: Call) -> Duration {
        let started = Instant::now();
        if let Call::Last { until } = call {
            self.run_last(until);
            return Duration::MAX;
        }
        if call == Call::Asked
            && let Some(until) = self.left_alone_until.filter(|until| started < *until)
        {
            return until - started;
        }
        let interval = self.config.interval;
        match self.export(self.config.timeout) {
            Outcome::Accepted | Outcome::Refused => interval.saturating_sub(started.elapsed()),
            Outcome::Later(retry_after) => {
                let now = Instant::now();
                self.left_alone_until = retry_after.and_then(|wait| now.checked_add(wait));
                self.backoff.failed(now, retry_after, chance()).unwrap_or_else(|| {
                    self.backoff.reset();
                    self.give_up(0);
                    interval.max(retry_after.unwrap_or_default())
                })
            }
        }
    }

    /// Tries until it is accepted or refused, or somebody waits in vain.
    fn run_last(&mut self, until: Instant) {
        /// Nobody is kept waiting for the time a receiver in trouble may need.
        const PAUSE: Duration = Duration::from_millis(200);
        let now = Instant::now();
        // Who is to be left alone for longer than that is asked nevertheless: there is no later.
        let alone = self.left_alone_until.filter(|alone| *alone < until);
        let mut pause = alone.map_or(Duration::ZERO, |alone| alone.saturating_duration_since(now));
        loop {
            thread::sleep(pause);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.export(self.config.timeout.min(left)) {
                Outcome::Accepted | Outcome::Refused => return,
                Outcome::Later(retry_after) => pause = retry_after.unwrap_or(PAUSE),
            }
            if Instant::now().checked_add(pause).is_none_or(|again| again >= until) {
                return;
            }
        }
    }

    /// Sends what there is now.
    fn export(&mut self, timeout: Duration) -> Outcome {
        self.look();
        if self.series.is_empty() {
            return Outcome::Accepted;
        }
        let Config { protocol, temporality, histograms, .. } = self.config;
        let form = Form { protocol, temporality, histograms, resource: &self.config.resource };
        let (body, points) = encode(form, &self.series.iter().map(Tracked::series).collect::<Vec<_>>());
        match self.transport.send(&body, timeout) {
            Verdict::Accepted(partial) => {
                self.accepted(&partial, points);
                Outcome::Accepted
            }
            Verdict::Later { problem, retry_after } => {
                self.failed(&problem, false, points);
                self.transport.renew(&self.config);
                Outcome::Later(retry_after)
            }
            Verdict::Refused { problem } => {
                self.failed(&problem, true, points);
                // The receiver answers, so that there is nothing to wait for beyond the next export.
                self.backoff.reset();
                Outcome::Refused
            }
        }
    }

    /// Takes a snapshot of every agent.
    fn look(&mut self) {
        for member in self.crew.members().iter() {
            if !self.series.iter().any(|known| Arc::ptr_eq(&known.member, member)) {
                self.series.push(Tracked::new(member));
            }
        }
        self.give_up(MOST_LEFT);
        self.series.iter_mut().for_each(Tracked::look);
    }

    fn accepted(&mut self, partial: &Partial, points: u64) {
        let endpoint = self.config.shown_endpoint();
        if partial.rejected > 0 || !partial.message.is_empty() {
            self.rejected = self.rejected.saturating_add(partial.rejected);
            let (Partial { rejected, message }, all) = (partial, self.rejected);
            warn!("exporter otlp: {endpoint} rejected {rejected} of {points} data points, {all} up to now: {message}");
        }
        if let Some(Trouble { since, exports, points, .. }) = self.trouble.take() {
            let seconds = since.elapsed().as_secs();
            warn!(
                "exporter otlp: {endpoint} accepts again after {seconds} s, in which {exports} exports with {points} data \
                 points failed"
            );
        }
        self.backoff.reset();
        self.left_alone_until = None;
        self.crew.is_failing.store(false, Ordering::Relaxed);
        self.series.iter_mut().for_each(Tracked::accept);
        self.forget(|tracked| tracked.is_complete);
    }

    fn failed(&mut self, problem: &str, is_refusal: bool, points: u64) {
        if self.trouble.as_ref().is_none_or(|trouble| trouble.is_refusal != is_refusal) {
            let (endpoint, kind) = (self.config.shown_endpoint(), if is_refusal { "refuses exports" } else { "fails" });
            error!("exporter otlp: {endpoint} {kind}: {problem}; what is not delivered goes with a later export");
        }
        let trouble = self.trouble.get_or_insert(Trouble { since: Instant::now(), is_refusal, exports: 0, points: 0 });
        trouble.is_refusal = is_refusal;
        trouble.exports += 1;
        trouble.points += points;
        self.crew.is_failing.store(true, Ordering::Relaxed);
    }

    /// Lets go of agents that have ended, the oldest first, until there are no more than these.
    fn give_up(&mut self, most: usize) {
        let ended = self.series.iter().filter(|tracked| !tracked.member.lives()).count();
        let mut surplus = ended.saturating_sub(most);
        let mut events = 0;
        self.forget(|tracked| {
            let goes = surplus > 0 && !tracked.member.lives();
            if goes {
                surplus -= 1;
                events += tracked.member.missing();
            }
            goes
        });
        if events > 0 {
            error!("exporter otlp: {events} events of agents that have ended could not be delivered, and are lost");
        }
    }

    fn forget(&mut self, mut goes: impl FnMut(&Tracked) -> bool) {
        let gone: Vec<_> = self.series.extract_if(.., |tracked| goes(tracked)).collect();
        self.crew.members().retain(|member| !gone.iter().any(|tracked| Arc::ptr_eq(&tracked.member, member)));
    }
}

impl Tracked {
    fn new(member: &Arc<Member>) -> Self {
        let nothing = || Snapshot::new(Arc::clone(&member.buckets));
        Self {
            member: Arc::clone(member),
            now: nothing(),
            now_us: 0,
            is_complete: false,
            accepted: nothing(),
            accepted_us: 0,
            last_success_us: 0,
        }
    }

    fn look(&mut self) {
        // First, so that what is looked at after the end is all there is.
        let left_us = self.member.left_us.load(Ordering::Acquire);
        self.is_complete = left_us > 0;
        self.member.live.read(&mut self.now);
        if self.accepted_us == 0 {
            self.accepted_us = self.now.created_us;
        }
        // A point of an agent that is gone lies before those of one of the same name that came after it.
        let now_us = if self.is_complete { left_us } else { now_us() };
        self.now_us = now_us.max(self.accepted_us);
        self.now.account.queued = taken(&self.now).wrapping_sub(taken(&self.accepted));
        self.now.account.last_success_us = self.last_success_us;
    }

    fn series(&self) -> Series<'_> {
        let Self { member, now, now_us, accepted, accepted_us, .. } = self;
        let began_us = now.created_us;
        Series { labels: &member.labels, now, accepted, began_us, accepted_us: *accepted_us, now_us: *now_us }
    }

    fn accept(&mut self) {
        mem::swap(&mut self.now, &mut self.accepted);
        self.accepted_us = self.now_us;
        self.last_success_us = now_us();
        self.member.delivered.store(taken(&self.accepted), Ordering::Relaxed);
    }
}
