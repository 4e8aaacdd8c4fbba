// SPDX-License-Identifier: Apache-2.0

//! The thread that moves bytes while the program does something else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::memory::Storage;
use super::node::Life;
use super::{CHUNK, Error};

/// One run of a request: posted once, finished once.
#[derive(Default)]
pub(super) struct Flight {
    outcome: Mutex<Option<Result<(), Error>>>,
    finished: Condvar,
    canceled: AtomicBool,
}

/// The bytes one run moves, and who may end it early.
pub(super) struct Job {
    pub(super) flight: Arc<Flight>,
    pub(super) moves: Vec<Move>,
    pub(super) own: (String, Arc<Life>),
    pub(super) remote: (String, Arc<Life>),
}

/// A copy of consecutive bytes.
pub(super) struct Move {
    pub(super) source: (Storage, u64),
    pub(super) destination: (Storage, u64),
    pub(super) length: u64,
}

/// Runs jobs in order until the last sender is gone.
pub(super) fn work(jobs: &Receiver<Job>) {
    let mut buffer = Vec::new();
    while let Ok(job) = jobs.recv() {
        job.run(&mut buffer);
    }
}

impl Flight {
    /// How the run ended, or `None` while it has not.
    pub(super) fn outcome(&self) -> Option<Result<(), Error>> {
        self.lock().clone()
    }

    /// Waits for the end of the run.
    pub(super) fn wait(&self) {
        let outcome = self.finished.wait_while(self.lock(), |outcome| outcome.is_none());
        drop(outcome.unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks the run to end at its next chunk.
    pub(super) fn cancel(&self) {
        self.canceled.store(true, Ordering::Release);
    }

    fn finish(&self, outcome: Result<(), Error>) {
        // The first outcome stands: a job that ended is dropped afterwards.
        self.lock().get_or_insert(outcome);
        self.finished.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Result<(), Error>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Moves all bytes, using `buffer` as the place between, and tells the request how it went.
    pub(super) fn run(self, buffer: &mut Vec<u8>) {
        let outcome = self.moves.iter().try_for_each(|one| self.copy(one, buffer));
        self.flight.finish(outcome);
    }

    /// Goes through a buffer, so that no two locks are ever held at once.
    fn copy(&self, one: &Move, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut done = 0;
        while done < one.length {
            self.check()?;
            let chunk = usize::try_from(one.length - done).map_or(CHUNK, |left| left.min(CHUNK));
            if buffer.len() < chunk {
                buffer.resize(chunk, 0);
            }
            let ((source, from), (destination, to)) = (&one.source, &one.destination);
            source.read(from + done, &mut buffer[..chunk])?;
            destination.write(to + done, &buffer[..chunk])?;
            done += chunk as u64;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let (name, life) = &self.own;
        if self.flight.canceled.load(Ordering::Acquire) || life.ended() {
            return Err(Error::Canceled);
        }
        if life.worker_stopped() {
            return Err(Error::WorkerGone { name: name.clone() });
        }
        let (name, life) = &self.remote;
        if life.ended() {
            return Err(Error::Disconnected { name: name.clone() });
        }
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Nothing happens after a regular end. A panic of the worker, and a queue that nobody empties, end here.
        self.flight.finish(Err(Error::WorkerGone { name: self.own.0.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use nixl_telemetry_event::Status;

    use super::super::Memory;
    use super::*;

    fn job(length: u64) -> (Arc<Flight>, Job) {
        let (flight, memory) = (Arc::new(Flight::default()), Storage::Memory(Memory::zeroed(1)));
        let moves = vec![Move { source: (memory.clone(), 0), destination: (memory, 0), length }];
        let life = || ("a".to_owned(), Arc::default());
        (Arc::clone(&flight), Job { flight, moves, own: life(), remote: life() })
    }

    #[test]
    fn a_panic_of_the_worker_ends_what_it_was_doing_and_what_it_had_to_do() {
        let (sender, receiver) = mpsc::channel();
        // The first reaches beyond its memory, which a plan never lets happen.
        let (doomed, queued) = (job(2), job(1));
        sender.send(doomed.1).map_err(drop).unwrap();
        sender.send(queued.1).map_err(drop).unwrap();
        assert!(thread::spawn(move || work(&receiver)).join().is_err());
        assert!(sender.send(job(1).1).is_err());
        for flight in [doomed.0, queued.0] {
            flight.wait();
            assert_eq!(flight.outcome().unwrap().unwrap_err().status(), Status::Unknown);
        }
    }
}
