// SPDX-License-Identifier: Apache-2.0

use std::convert::Infallible;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::report::Findings;
use super::{Engine, Error, Lane, LanePlan, Operation, Random, Report, Side, Stop, Transfer, Workload};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Transfers that are complete.
    pub done: u64,
    /// Transfers there will be.
    pub total: u64,
    /// Bytes of those that are complete.
    pub bytes: u64,
    /// Since the first transfer.
    pub elapsed: Duration,
}

/// Runs a workload on an engine to its end, or until it is stopped.
///
/// `progress` is called on this thread, about ten times a second and once at the end.
///
/// # Errors
/// [`Error`] if the workload is impossible, if an agent refuses something, or if a transfer fails. The memory that was
/// registered is deregistered in any case.
pub fn run<E: Engine>(
    engine: &E,
    workload: &Workload,
    stop: &Stop,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, Error> {
    workload.check()?;
    let mut findings = Findings::default();
    let mut lanes = Vec::with_capacity(workload.threads);
    let mut outcome = open_all(engine, workload, &mut lanes, &mut findings);
    let mut wall = Duration::ZERO;
    if outcome.is_ok() {
        let start = Instant::now();
        let outcomes = drive_all(&Shared::new(workload, stop, start), &mut lanes, progress);
        wall = start.elapsed();
        for result in outcomes {
            match result {
                Ok(found) => findings.merge(&found),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    for lane in lanes {
        outcome = outcome.and(lane.close(&mut findings.ledger));
    }
    outcome?;
    let stopped = findings.written.requests + findings.read.requests < workload.transfers;
    Ok(Report::new(engine.agents(), findings, wall, stopped))
}

fn open_all<E: Engine>(
    engine: &E,
    workload: &Workload,
    lanes: &mut Vec<E::Lane>,
    findings: &mut Findings,
) -> Result<(), Error> {
    for number in 0..workload.threads {
        lanes.push(engine.open(&LanePlan::new(workload, number)?, &mut findings.ledger)?);
    }
    engine.connect()
}

struct Shared<'a> {
    workload: &'a Workload,
    stop: &'a Stop,
    start: Instant,
    /// One lane has, so the others need not go on.
    failed: AtomicBool,
    done: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Shared<'a> {
    fn new(workload: &'a Workload, stop: &'a Stop, start: Instant) -> Self {
        Self {
            workload,
            stop,
            start,
            failed: AtomicBool::default(),
            done: AtomicU64::default(),
            bytes: AtomicU64::default(),
        }
    }
}

fn drive_all<L: Lane>(
    shared: &Shared<'_>,
    lanes: &mut [L],
    progress: &mut dyn FnMut(&Progress),
) -> Vec<Result<Findings, Error>> {
    thread::scope(|scope| {
        // Never sent to: it closes when the last lane has ended.
        let (running, ended) = mpsc::channel::<Infallible>();
        let spawn = |(number, lane)| {
            let running = running.clone();
            scope.spawn(move || {
                let outcome = drive(shared, number, lane);
                drop(running);
                outcome
            })
        };
        let threads: Vec<_> = lanes.iter_mut().enumerate().map(spawn).collect();
        drop(running);
        let mut tell = || {
            progress(&Progress {
                done: shared.done.load(Ordering::Relaxed),
                total: shared.workload.transfers,
                bytes: shared.bytes.load(Ordering::Relaxed),
                elapsed: shared.start.elapsed(),
            });
        };
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_millis(100)) {
            tell();
        }
        let outcomes =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
        let outcomes = outcomes.collect();
        tell();
        outcomes
    })
}

/// One thread's share: every `threads`th transfer, from its own number on.
fn drive<L: Lane>(shared: &Shared<'_>, number: usize, lane: &mut L) -> Result<Findings, Error> {
    let workload = shared.workload;
    let mut findings = Findings::default();
    let outcome = (|| {
        let mut contents = Contents::new(workload)?;
        if workload.provoke_errors {
            lane.provoke(&mut findings.ledger)?;
        }
        let mut pace = Pace::new(workload);
        for number in (number as u64..workload.transfers).step_by(workload.threads) {
            if shared.stop.is_stopped() || shared.failed.load(Ordering::Relaxed) {
                break;
            }
            pace.wait();
            let transfer = workload.transfer(number);
            contents.prepare(lane, &transfer, number)?;
            let start = Instant::now();
            let times = lane.transfer(transfer.operation, transfer.place, transfer.bytes)?;
            findings.request_ns.add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if let Some(times) = times {
                findings.post_us.add(times.post_us);
                findings.xfer_us.add(times.xfer_us);
            }
            findings.ledger.initiator.add_transfer(transfer.operation, transfer.bytes, times);
            findings.add(&transfer);
            match contents.arrived(lane, &transfer)? {
                Some(true) => findings.verified += 1,
                Some(false) => findings.corrupt += 1,
                None => {}
            }
            shared.done.fetch_add(1, Ordering::Relaxed);
            shared.bytes.fetch_add(transfer.bytes, Ordering::Relaxed);
        }
        Ok(())
    })();
    if outcome.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    outcome.map(|()| findings)
}

/// What is transferred, and what arrived.
struct Contents {
    verify: bool,
    seed: u64,
    sent: Vec<u8>,
    found: Vec<u8>,
}

impl Contents {
    fn new(workload: &Workload) -> Result<Self, Error> {
        let bytes = LanePlan::new(workload, 0)?.largest;
        let sent = vec![0; bytes];
        let found = vec![0; if workload.verify { bytes } else { 0 }];
        Ok(Self { verify: workload.verify, seed: workload.seed, sent, found })
    }

    /// Puts bytes at the source that no earlier transfer had; without verification, any bytes will do.
    fn prepare(&mut self, lane: &mut impl Lane, transfer: &Transfer, number: u64) -> Result<(), Error> {
        if !self.verify {
            return Ok(());
        }
        let sent = &mut self.sent[..length(transfer)];
        Random::new(!self.seed, number).fill(sent);
        lane.fill(source(transfer.operation), transfer.place, sent)
    }

    fn arrived(&mut self, lane: &mut impl Lane, transfer: &Transfer) -> Result<Option<bool>, Error> {
        if !self.verify {
            return Ok(None);
        }
        let length = length(transfer);
        let side = match source(transfer.operation) {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        };
        lane.fetch(side, transfer.place, &mut self.found[..length])?;
        Ok(Some(self.found[..length] == self.sent[..length]))
    }
}

fn length(transfer: &Transfer) -> usize {
    usize::try_from(transfer.bytes).expect("the largest fits")
}

fn source(operation: Operation) -> Side {
    match operation {
        Operation::Write => Side::Local,
        Operation::Read => Side::Remote,
    }
}

/// Keeps one thread to its share of the rate.
struct Pace {
    interval: Duration,
    due: Instant,
}

impl Pace {
    fn new(workload: &Workload) -> Self {
        let threads = u32::try_from(workload.threads).unwrap_or(u32::MAX);
        let interval = workload.max_rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * threads / rate.get());
        Self { interval, due: Instant::now() }
    }

    fn wait(&mut self) {
        if self.interval.is_zero() {
            return;
        }
        let now = Instant::now();
        thread::sleep(self.due.saturating_duration_since(now));
        // A transfer that comes late delays all after it: making up for it would be a burst.
        self.due = self.due.max(now) + self.interval;
    }
}
