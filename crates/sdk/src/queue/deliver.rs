// SPDX-License-Identifier: Apache-2.0

//! The queue's own thread: one parcel after another to the sink, again if that fails, and what that means for the log.

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_log as log;

use crate::pump::{Failure, contained};
use crate::queue::buffer::{Outcome, Parcel, Shared};
use crate::queue::settings::DAY;
use crate::queue::{Delivery, Failed, Sink, What};
use crate::worker::Call;
use crate::{Agent, Backoff, chance};

/// Takes parcels out of a queue, and gives them to its sink.
pub(super) struct Courier<S> {
    /// `None` once it has panicked, or is closed.
    sink: Option<S>,
    queue: Arc<Shared>,
    agent: Agent,
    retries: bool,
    backoff: Backoff,
    /// What has failed and is tried again, and when.
    in_hand: Option<(Parcel, Instant)>,
    has_taken_over: bool,
    /// The last delivery failed.
    is_failing: bool,
}

/// What came of an attempt.
enum Attempt {
    Settled,
    Again(Duration),
    /// The sink has panicked.
    Over,
}

impl<S: Sink> Courier<S> {
    pub(super) fn new(sink: S, queue: Arc<Shared>, agent: Agent, retries: bool, backoff: Backoff) -> Self {
        let (in_hand, has_taken_over, is_failing) = (None, false, false);
        Self { sink: Some(sink), queue, agent, retries, backoff, in_hand, has_taken_over, is_failing }
    }

    /// The job of the queue's thread: one delivery, if one is due, so that it soon hears of the end. Says in how long the
    /// next is due.
    pub(super) fn run(&mut self, call: Call) -> Duration {
        if !self.has_taken_over {
            self.has_taken_over = true;
            self.queue.take_over(&self.agent);
        }
        match call {
            Call::Due | Call::Asked => self.step(false),
            Call::Last { until } => {
                self.finish(until);
                Duration::MAX
            }
        }
    }

    /// Delivers everything at once, as far as there is time.
    fn finish(&mut self, until: Instant) {
        // Who waits out a pause would end without a last attempt.
        if let Some((_, at)) = &mut self.in_hand {
            *at = Instant::now();
        }
        while self.sink.is_some() && Instant::now() < until {
            let wait = self.step(true);
            if wait > until.saturating_duration_since(Instant::now()) {
                break;
            }
            thread::sleep(wait);
        }
        if let Some(mut sink) = self.sink.take()
            && let Err(failure) = contained(move || {
                sink.close();
                Ok(())
            })
        {
            log::error!("{}: at its end: {failure}", self.queue.name());
        }
    }

    fn step(&mut self, is_urgent: bool) -> Duration {
        if self.sink.is_none() {
            return Duration::MAX;
        }
        let (parcel, is_again) = match self.in_hand.take() {
            Some((parcel, at)) if at > Instant::now() => {
                self.in_hand = Some((parcel, at));
                return at.saturating_duration_since(Instant::now());
            }
            Some((parcel, _)) => (parcel, true),
            None => match self.queue.take(is_urgent) {
                Ok(parcel) => (parcel, false),
                Err(wait) => return wait,
            },
        };
        match self.attempt(&parcel, is_again) {
            Attempt::Settled => Duration::ZERO,
            Attempt::Again(wait) => {
                let wait = wait.min(DAY);
                self.in_hand = Some((parcel, Instant::now() + wait));
                wait
            }
            Attempt::Over => Duration::MAX,
        }
    }

    fn attempt(&mut self, parcel: &Parcel, is_again: bool) -> Attempt {
        let (Some(sink), name) = (&mut self.sink, self.queue.name()) else { return Attempt::Over };
        let delivery = Delivery::new(parcel, is_again || parcel.is_repeated);
        let events = delivery.len();
        let outcome = match contained(|| Ok(sink.deliver(&delivery))) {
            Ok(Ok(())) => {
                if self.is_failing {
                    log::info!("{name}: delivers again");
                }
                self.is_failing = false;
                Outcome::Delivered
            }
            Ok(Err(Failed { error, what: What::Retry { after } })) => {
                if let Some(wait) = wait(&mut self.backoff, self.retries, parcel.spooled_until.is_some(), after) {
                    if !self.is_failing {
                        log::warn!(
                            "{name}: {error}; it is tried again in {} ms, and until it is well",
                            wait.as_millis()
                        );
                    }
                    self.is_failing = true;
                    return Attempt::Again(wait);
                }
                self.is_failing = true;
                log::error!("{name}: {error}; {events} events are given up");
                Outcome::GivenUp
            }
            Ok(Err(Failed { error, what: What::Refuse { most } })) => {
                self.is_failing = true;
                let events = most.min(events as u64);
                log::error!("{name}: {error}; {events} events are refused, and lost");
                Outcome::Refused { events }
            }
            Err(Failure::Panic(text) | Failure::Error(text)) => {
                log::error!("{name}: its sink panicked, and is not called again: {text}");
                self.queue.settle(parcel, Outcome::Panicked);
                self.queue.give_up();
                // Dropping what is broken may panic again.
                let broken = self.sink.take();
                let _ = contained(move || {
                    drop(broken);
                    Ok(())
                });
                return Attempt::Over;
            }
        };
        self.backoff.reset();
        self.queue.settle(parcel, outcome);
        Attempt::Settled
    }
}

/// In how long what has failed is tried again, if it is.
fn wait(backoff: &mut Backoff, retries: bool, is_spooled: bool, after: Option<Duration>) -> Option<Duration> {
    match (retries, is_spooled) {
        (false, false) => None,
        (true, false) => backoff.failed(Instant::now(), after, chance()),
        // What is in the spool may stay there, however long it takes.
        (true, true) => {
            let limit = mem::replace(&mut backoff.max_elapsed_time, Duration::MAX);
            let wait = backoff.failed(Instant::now(), after, chance());
            backoff.max_elapsed_time = limit;
            wait
        }
        // Nobody wants the sink to be asked often, and nobody wants a dead process's events dropped for one failure.
        (false, true) => Some(backoff.max_interval.max(after.unwrap_or_default())),
    }
}
