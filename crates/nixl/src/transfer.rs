// SPDX-License-Identifier: Apache-2.0

//! A transfer: bytes on their way between two agents.

use std::ffi::c_int;
use std::fmt;
use std::mem;
use std::ptr::{self, NonNull};
use std::thread;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::error::{CapiStatus, Error, check};
use crate::owned::Owned;
use crate::peers::Ticket;
use crate::region::Slice;
use crate::sys;

/// How long a transfer that is dropped while running is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which way the bytes go, seen from the agent that starts the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// From remote to local.
    Read,
    /// From local to remote.
    Write,
}

impl Operation {
    fn raw(self) -> c_int {
        match self {
            Operation::Read => sys::OPERATION_READ,
            Operation::Write => sys::OPERATION_WRITE,
        }
    }
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// It is on its way.
    Running,
    /// All bytes have arrived.
    Complete,
}

/// What NIXL measured of one run of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct XferTelemetry {
    /// When it was posted, in microseconds of the machine's monotonic clock; not time of day.
    pub start_us: u64,
    /// From the start until posting returned, in microseconds.
    pub post_us: u64,
    /// From the start until the call that saw it complete, in microseconds.
    pub xfer_us: u64,
    /// Bytes of all its slices.
    pub bytes: u64,
    /// Descriptors NIXL made of the slices, adjacent ones merged.
    pub descriptors: u64,
}

/// A prepared transfer, made by [`Agent::transfer`]. It can be posted many times, one after the other.
///
/// NIXL accounts for a transfer, and so emits its telemetry events, in the call that sees it complete: [`post`] or
/// [`status`]. One that is not polled to its end never appears.
///
/// Dropping a transfer that is still running waits for it, up to five seconds. One that does not end by then is given
/// up: its memory is never freed, because it may still be written, and both agents live until the process ends. Memory
/// of a transfer that failed is not freed either, because NIXL does not say whether all of it has stopped; but it can be
/// deregistered.
///
/// [`post`]: Transfer::post
/// [`status`]: Transfer::status
pub struct Transfer {
    request: NonNull<sys::XferReq>,
    ticket: Ticket,
    state: State,
    /// Of both sides. They hold the agents, too.
    slices: Vec<Slice>,
    agent: Agent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Complete,
    Failed,
}

// SAFETY: a request is bound to no thread, and calls with it need an agent, which locks. That lock does not keep apart two
// calls with the same request, so this is not Sync: no second thread can make one.
unsafe impl Send for Transfer {}

impl Transfer {
    pub(crate) fn create(
        agent: &Agent,
        operation: Operation,
        local: &[Slice],
        remote: &[Slice],
    ) -> Result<Transfer, Error> {
        let peer = matching(agent, local, remote)?;
        let functions = agent.functions();
        let (local_list, remote_list) = (descriptors(agent, local)?, descriptors(agent, remote)?);
        let (request, ticket) = agent.peers().preparing(peer.c_name(), || {
            let mut request = ptr::null_mut();
            // SAFETY: agent, lists and name are alive; the function copies lists and name. Null arguments mean any
            // backend.
            check("create_xfer_req", unsafe {
                (functions.create_xfer_req)(
                    agent.handle(),
                    operation.raw(),
                    local_list.get(),
                    remote_list.get(),
                    peer.c_name().as_ptr(),
                    &mut request,
                    ptr::null_mut(),
                )
            })?;
            NonNull::new(request)
                .ok_or(Error::Call { function: "create_xfer_req", status: CapiStatus::InvalidParameter })
        })?;
        Ok(Transfer {
            request,
            ticket,
            state: State::Ready,
            slices: local.iter().chain(remote).cloned().collect(),
            agent: agent.clone(),
        })
    }

    /// Starts it. A small one may be complete at once.
    ///
    /// # Errors
    ///
    /// [`Error::StillRunning`] if its previous run was not seen to end; [`Error::Stale`] if the remote agent's metadata was
    /// loaded again since it was prepared; [`Error::Call`] if NIXL refuses.
    pub fn post(&mut self) -> Result<Progress, Error> {
        if self.state == State::Running {
            return Err(Error::StillRunning);
        }
        let status = self.ticket.posting(self.agent.peers(), || {
            // SAFETY: agent and request are alive, and so is the metadata the request was made from, or NIXL knows that
            // it is gone. The memory of both sides stays as it is until the transfer is over: `slices` holds it, and
            // gives it up in `drop` only.
            let status = unsafe {
                (self.agent.functions().post_xfer_req)(self.agent.handle(), self.request.as_ptr(), ptr::null_mut())
            };
            (status, status == sys::IN_PROGRESS)
        })?;
        self.advance("post_xfer_req", status)
    }

    /// Asks how far it has come, and without a progress thread makes it go on.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] if it was not posted or its last run failed; [`Error::Call`] if it has failed just now.
    pub fn status(&mut self) -> Result<Progress, Error> {
        match self.state {
            State::Ready | State::Failed => Err(Error::NotRunning),
            State::Complete => Ok(Progress::Complete),
            State::Running => {
                // SAFETY: agent and request are alive.
                let status =
                    unsafe { (self.agent.functions().get_xfer_status)(self.agent.handle(), self.request.as_ptr()) };
                self.advance("get_xfer_status", status)
            }
        }
    }

    /// Polls its status until it is complete.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if that takes longer than `timeout`; it goes on then, and can be waited for again. Otherwise
    /// as [`Transfer::status`].
    pub fn wait(&mut self, timeout: Duration) -> Result<(), Error> {
        let start = Instant::now();
        while self.status()? == Progress::Running {
            if start.elapsed() >= timeout {
                return Err(Error::Timeout(timeout));
            }
            // Transfers between processors take microseconds, so sleeping would be most of what is measured.
            thread::yield_now();
        }
        Ok(())
    }

    /// What NIXL measured of its last run.
    ///
    /// # Errors
    ///
    /// [`Error::Call`]: [`CapiStatus::NoTelemetry`] if telemetry is off for the agent, [`CapiStatus::InProgress`] while
    /// it runs, [`CapiStatus::Backend`] before it was posted or after it failed.
    pub fn telemetry(&self) -> Result<XferTelemetry, Error> {
        let mut raw = sys::XferTelemetry::default();
        // SAFETY: agent and request are alive, and `raw` is a place for what the function writes.
        check("get_xfer_telemetry", unsafe {
            (self.agent.functions().get_xfer_telemetry)(self.agent.handle(), self.request.as_ptr(), &mut raw)
        })?;
        Ok(XferTelemetry {
            start_us: raw.start_us,
            post_us: raw.post_us,
            xfer_us: raw.xfer_us,
            bytes: raw.bytes,
            descriptors: raw.descriptors,
        })
    }

    /// Draws the conclusion from an answer about a run.
    fn advance(&mut self, function: &'static str, status: sys::Status) -> Result<Progress, Error> {
        if status == sys::IN_PROGRESS {
            self.state = State::Running;
            return Ok(Progress::Running);
        }
        if self.state == State::Running {
            self.ticket.ended();
        }
        let answer = check(function, status);
        if answer.is_ok() {
            self.state = State::Complete;
        } else {
            self.state = State::Failed;
            // One of several descriptors failing ends the run; nothing says that the others have ended.
            self.slices.iter().for_each(Slice::keep_for_ever);
        }
        answer.map(|()| Progress::Complete)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.state == State::Running {
            // A failure ends the run as well; only a timeout leaves it running.
            let _ = self.wait(PATIENCE);
        }
        let functions = self.agent.functions();
        let over = self.state != State::Running
            // SAFETY: agent and request are alive, and the request is released once.
            && unsafe { (functions.release_xfer_req)(self.agent.handle(), self.request.as_ptr()) }
                == sys::SUCCESS;
        if over {
            // SAFETY: the request was released, is destroyed once, and is not used after this.
            unsafe { (functions.destroy_xfer_req)(self.request.as_ptr()) };
        } else {
            mem::forget(mem::take(&mut self.slices));
            mem::forget(self.agent.clone());
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Transfer")
            .field("agent", &self.agent.name())
            .field("state", &self.state)
            .field("slices", &self.slices)
            .finish()
    }
}

/// Checks what NIXL's safety rests on, and returns the agent of the remote side.
fn matching<'a>(agent: &Agent, local: &[Slice], remote: &'a [Slice]) -> Result<&'a Agent, Error> {
    let refuse = |reason| Err(Error::Slices(reason));
    let (Some(here), Some(there)) = (local.first(), remote.first()) else {
        return refuse("each side needs at least one slice");
    };
    if local.len() != remote.len() {
        return refuse("both sides need the same number of slices");
    }
    if local.iter().zip(remote).any(|(local, remote)| local.len() != remote.len()) {
        return refuse("a slice and its counterpart need the same length");
    }
    if local.iter().any(|slice| !slice.agent().is(agent)) {
        return refuse("local slices need to be of the agent that transfers");
    }
    if remote.iter().any(|slice| !slice.agent().is(there.agent())) {
        return refuse("remote slices need to be of one agent");
    }
    let mixed = |side: &[Slice], first: &Slice| side.iter().any(|slice| slice.memory_type() != first.memory_type());
    if mixed(local, here) || mixed(remote, there) {
        return refuse("one side cannot mix memory and files");
    }
    Ok(there.agent())
}

/// The slices of one side, not empty and of one type, as NIXL takes them.
fn descriptors(agent: &Agent, side: &[Slice]) -> Result<Owned<sys::XferDlist>, Error> {
    let functions = agent.functions();
    let memory = side.first().map_or(sys::MEMORY_DRAM, Slice::memory_type);
    // SAFETY: the list is destroyed once, by whoever gets it.
    let list = unsafe {
        Owned::create("create_xfer_dlist", functions.destroy_xfer_dlist, |out| {
            (functions.create_xfer_dlist)(memory, out)
        })
    }?;
    for slice in side {
        // SAFETY: the list is alive.
        check("xfer_dlist_add_desc", unsafe {
            (functions.xfer_dlist_add_desc)(list.get(), slice.address(), slice.len(), slice.device())
        })?;
    }
    Ok(list)
}
