// SPDX-License-Identifier: Apache-2.0

//! A client: what it has sent, what it is sent, and until when it has to do its part.
//!
//! A connection gets a turn when its socket is ready, does what can be done without waiting, at most one request, and
//! says how it goes on. Then others have theirs.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use crate::{
    Limits, Service,
    request::{self, Bad},
    site::Site,
    transport::Transport,
};

/// How long a client is listened to after its last answer. A socket that is closed before it has read all it was sent
/// takes the answer back.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection goes on after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// When its socket is ready, or its deadline has come.
    Wait,
    /// At once: there is more to do than fits in one turn.
    Again,
    /// Not at all.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client sends the head of a request, or nothing yet.
    Reading,
    /// The client takes its answer.
    Writing,
    /// The client has had its last answer.
    Draining,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    phase: Phase,
    /// When the client has to have done its part of the phase.
    deadline: Instant,
    /// What was read and not yet understood: part of a head, or requests that wait for those before them.
    input: Vec<u8>,
    /// Whether the client will send no more.
    input_ended: bool,
    /// Whether there may be more to read that `input` had no room for, and of which the socket says nothing.
    input_is_full: bool,
    output: Vec<u8>,
    sent: usize,
    /// Bytes of metrics in `output`.
    body_bytes: usize,
    /// When all of `output` has to be sent.
    answer_by: Instant,
    /// Whether the connection goes on after `output`.
    keep_alive: bool,
    /// Whether the next answer is the last.
    is_leaving: bool,
    has_been_answered: bool,
    /// When it was made, or was answered last.
    quiet_since: Instant,
}

impl Connection {
    pub(crate) fn new(transport: Transport, limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            transport,
            phase: Phase::Reading,
            deadline: now + limits.head,
            input: Vec::new(),
            input_ended: false,
            input_is_full: false,
            output: Vec::new(),
            sent: 0,
            body_bytes: 0,
            answer_by: now,
            keep_alive: true,
            is_leaving: false,
            has_been_answered: false,
            quiet_since: now,
        }
    }

    /// Since when it could be closed without anybody missing an answer; `None` if a request has begun.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let is_idle = match self.phase {
            Phase::Reading => self.input.is_empty(),
            Phase::Writing => false,
            Phase::Draining => true,
        };
        is_idle.then_some(self.quiet_since)
    }

    /// Makes the answer to the request that has begun the last.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// What its socket has to be ready for before its next turn.
    pub(crate) fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Writing => PollFlags::OUT,
            Phase::Reading if self.transport.wants_write() => PollFlags::IN | PollFlags::OUT,
            Phase::Reading | Phase::Draining => PollFlags::IN,
        }
    }

    /// When it has to be told that its time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Does what can be done without waiting.
    pub(crate) fn turn<S: Service>(&mut self, site: &mut Site<S>, limits: &Limits) -> Turn {
        match self.phase {
            Phase::Reading => self.read(site, limits),
            Phase::Writing => self.write(site, limits),
            Phase::Draining => self.drain(),
        }
    }

    /// Its deadline has come.
    pub(crate) fn expire<S: Service>(&mut self, site: &mut Site<S>, limits: &Limits) -> Turn {
        if self.phase != Phase::Reading || self.input.is_empty() {
            return Turn::Close;
        }
        self.refuse(Bad::Timeout, site);
        self.begin_writing(limits);
        self.write(site, limits)
    }

    fn read<S: Service>(&mut self, site: &mut Site<S>, limits: &Limits) -> Turn {
        let had_begun = !self.input.is_empty();
        if let Err(error) = self.fill(limits) {
            // TLS has an alert for the client, which it has to have time to read.
            return if error.kind() == ErrorKind::InvalidData {
                nixl_telemetry_log::debug!("scrape: a client failed at TLS: {error}");
                site.stats().bad_request();
                self.begin_draining()
            } else {
                Turn::Close
            };
        }
        match request::parse(&self.input, limits, site.formats()) {
            Ok(None) if self.input_ended => return Turn::Close,
            Ok(None) => {
                if self.has_been_answered && !had_begun && !self.input.is_empty() {
                    self.deadline = Instant::now() + limits.head;
                }
                return Turn::Wait;
            }
            Ok(Some(head)) => {
                self.keep_alive = head.keep_alive && !self.is_leaving;
                self.body_bytes = site.answer(&head, self.keep_alive, &mut self.output);
                let length = head.length;
                self.input.drain(..length);
            }
            Err(bad) => self.refuse(bad, site),
        }
        self.begin_writing(limits);
        self.write(site, limits)
    }

    /// Reads until there is nothing more, or as much as a head may have.
    fn fill(&mut self, limits: &Limits) -> io::Result<()> {
        let mut buffer = [0; 4096];
        self.input_is_full = false;
        while !self.input_ended {
            let room = limits.head_bytes.saturating_sub(self.input.len()).min(buffer.len());
            if room == 0 {
                self.input_is_full = true;
                break;
            }
            match self.transport.read(&mut buffer[..room]) {
                Ok(0) => self.input_ended = true,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn refuse<S: Service>(&mut self, bad: Bad, site: &mut Site<S>) {
        // After what is no request nobody can tell where the next one begins.
        self.input.clear();
        self.keep_alive = false;
        self.body_bytes = 0;
        site.refuse(bad, &mut self.output);
    }

    fn begin_writing(&mut self, limits: &Limits) {
        let now = Instant::now();
        self.phase = Phase::Writing;
        self.sent = 0;
        self.answer_by = now + limits.answer;
        self.deadline = self.answer_by.min(now + limits.stall);
    }

    fn write<S: Service>(&mut self, site: &mut Site<S>, limits: &Limits) -> Turn {
        let before = self.sent;
        match self.send() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.sent > before {
                    self.deadline = self.answer_by.min(Instant::now() + limits.stall);
                }
                return Turn::Wait;
            }
            Err(_) => return Turn::Close,
        }
        site.stats().sent(self.body_bytes as u64);
        self.output.clear();
        self.has_been_answered = true;
        self.quiet_since = Instant::now();
        if !self.keep_alive || (self.is_leaving && self.input.is_empty()) {
            return self.begin_draining();
        }
        self.phase = Phase::Reading;
        let has_more = !self.input.is_empty();
        self.deadline = self.quiet_since + if has_more { limits.head } else { limits.idle };
        // What was read already, here or by TLS, makes no socket ready.
        if has_more || self.input_is_full || self.input_ended { Turn::Again } else { Turn::Wait }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.transport.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.transport.flush()
    }

    fn begin_draining(&mut self) -> Turn {
        self.transport.finish();
        self.phase = Phase::Draining;
        self.deadline = Instant::now() + LINGER;
        if self.input_ended { Turn::Close } else { Turn::Wait }
    }

    fn drain(&mut self) -> Turn {
        match self.transport.discard() {
            Ok(0) => Turn::Close,
            Ok(_) => Turn::Wait,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Turn::Wait,
            Err(_) => Turn::Close,
        }
    }
}

impl Drop for Connection {
    /// Ends the connection for all who hold its socket: a child of this process may, which the client would wait for.
    fn drop(&mut self) {
        if self.phase == Phase::Reading {
            self.transport.finish();
        }
        let _ = self.transport.socket().shutdown(Shutdown::Both);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.socket().as_fd()
    }
}
