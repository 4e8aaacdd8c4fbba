// SPDX-License-Identifier: Apache-2.0

//! One worker for all agents of the process that push alike: it begins with the first of them and ends with the last.

mod job;

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::metrics::{Buckets, Labels, Live, Snapshot};
use nixl_telemetry_sdk::{Agent, Error, Worker, error, info, lock_shared, now_us};

use crate::pusher::job::Job;
use crate::settings::Config;
use crate::transport::Transport;

/// An agent's place among those that are pushed.
pub(crate) struct Membership {
    pusher: Arc<Pusher>,
    member: Arc<Member>,
    has_left: bool,
}

/// Agents, their worker, and the way it sends.
struct Pusher {
    config: Config,
    crew: Arc<Crew>,
    worker: Worker,
    /// To end a request that hangs.
    transport: Transport,
}

/// What agents and worker share.
#[derive(Default)]
struct Crew {
    members: Mutex<Vec<Arc<Member>>>,
    /// The last export was not accepted.
    is_failing: AtomicBool,
}

struct Member {
    labels: Vec<(String, String)>,
    live: Arc<Live>,
    buckets: Arc<Buckets>,
    /// Events in the last export that was accepted.
    delivered: AtomicU64,
    /// When the agent ended, in microseconds since the Unix epoch; 0 while it lives.
    left_us: AtomicU64,
}

/// Those that work, each with another configuration.
static PUSHERS: Mutex<Vec<Arc<Pusher>>> = Mutex::new(Vec::new());

impl Membership {
    /// Has the metrics of an agent pushed from now on.
    ///
    /// # Errors
    /// If there can be no connection, for want of certificates or of room for a thread; if this is a child that was forked
    /// while an exporter was being opened or closed.
    pub(crate) fn join(
        config: Config,
        agent: &Agent,
        labels: Labels,
        live: Arc<Live>,
        buckets: Arc<Buckets>,
    ) -> Result<Self, Error> {
        let mut pushers = lock_shared(&PUSHERS)?;
        // In a forked child they are the parent's, and so are their locks.
        pushers.extract_if(.., |pusher| !pusher.worker.is_here()).for_each(mem::forget);
        let pusher = match pushers.iter().find(|pusher| pusher.config == config) {
            Some(pusher) => Arc::clone(pusher),
            None => {
                let pusher = Arc::new(Pusher::start(config)?);
                pushers.push(Arc::clone(&pusher));
                pusher
            }
        };
        let member = pusher.crew.add(agent, labels, live, buckets);
        Ok(Self { pusher, member, has_left: false })
    }

    /// The agent has ended: waits, not for long, until what it did has been delivered.
    ///
    /// # Errors
    /// If it was the last one, and something has not.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        if mem::replace(&mut self.has_left, true) {
            return Ok(());
        }
        let Pusher { config, crew, worker, transport } = &*self.pusher;
        let until = Instant::now() + config.shutdown_timeout;
        let mut pushers = lock_shared(&PUSHERS)?;
        self.member.left_us.store(now_us(), Ordering::Release);
        let was_last = !crew.members().iter().any(|member| member.lives());
        if was_last {
            // Who comes now begins anew.
            pushers.retain(|pusher| !Arc::ptr_eq(pusher, &self.pusher));
        }
        drop(pushers);
        if !was_last {
            // Where nobody answers, the worker goes on trying without us.
            if !crew.is_failing.load(Ordering::Relaxed) && !worker.wait(worker.ask(), until) {
                info!("exporter otlp: the last export of an agent takes its time, and goes on without it");
            }
            return Ok(());
        }
        if !worker.end(until) {
            transport.cut();
            worker.end(Instant::now() + Duration::from_millis(200));
        }
        let (missing, endpoint) =
            (crew.members().iter().map(|member| member.missing()).sum::<u64>(), config.shown_endpoint());
        if missing == 0 {
            return Ok(());
        }
        Err(format!("{missing} events are lost: {endpoint} has not accepted them").into())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            error!("exporter otlp: {error}");
        }
    }
}

impl Pusher {
    fn start(config: Config) -> Result<Self, Error> {
        let transport = Transport::new(&config)?;
        let crew = Arc::<Crew>::default();
        let mut job = Job::new(&config, &crew, &transport);
        let worker = Worker::start("nixl-tlm-otlp", config.interval, move |call| job.run(call))
            .map_err(|error| format!("no thread to push: {error}"))?;
        info!("exporter otlp: pushing to {} every {} ms", config.shown_endpoint(), config.interval.as_millis());
        Ok(Self { config, crew, worker, transport })
    }
}

impl Crew {
    fn add(&self, agent: &Agent, labels: Labels, live: Arc<Live>, buckets: Arc<Buckets>) -> Arc<Member> {
        let mut members = self.members();
        let mut labels = labels.pairs().to_vec();
        if members.iter().any(|member| member.lives() && member.labels == labels) {
            // Two agents of one name would be one series, which goes up and down.
            labels.push(("agent_instance".into(), agent.instance().to_string()));
        }
        let (delivered, left_us) = (AtomicU64::new(0), AtomicU64::new(0));
        let member = Arc::new(Member { labels, live, buckets, delivered, left_us });
        members.push(Arc::clone(&member));
        member
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        // Adding to a list, and taking from it, leaves nothing half done.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn lives(&self) -> bool {
        self.left_us.load(Ordering::Acquire) == 0
    }

    /// Events that have not been delivered.
    fn missing(&self) -> u64 {
        let mut snapshot = Snapshot::new(Arc::clone(&self.buckets));
        self.live.read(&mut snapshot);
        taken(&snapshot).wrapping_sub(self.delivered.load(Ordering::Relaxed))
    }
}

fn taken(snapshot: &Snapshot) -> u64 {
    snapshot.account.events.wrapping_add(snapshot.account.aggregated)
}

#[cfg(test)]
mod tests;
