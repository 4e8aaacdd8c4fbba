// SPDX-License-Identifier: Apache-2.0

//! Two agents of a real NIXL in this process, as an engine for [workloads](crate::workload).
//!
//! Their telemetry is NIXL's own: configured by the environment this process was started with, which this module only
//! leaves alone, collected by NIXL, and exported by the plugin NIXL loads. The [report](crate::workload::Report) has the
//! truth to compare it with: requests and bytes as they were asked for, durations as NIXL's `getXferTelemetry` tells
//! them, which are the very numbers of the events.
//!
//! What reaches an exporter of a stock NIXL is less than the truth in two cases that a caller can avoid:
//!
//! * What NIXL has not exported when an agent is destroyed, it drops. [`RealOptions::linger`] is how long the engine
//!   waits for that, after the last deregistration; it has to be longer than `NIXL_TELEMETRY_RUN_INTERVAL`.
//! * What comes faster than NIXL's buffer is emptied, it drops too. [`Workload::max_rate`] keeps it slow enough.
//!
//! [`Workload::max_rate`]: crate::workload::Workload::max_rate

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_nixl::{
    Agent, AgentConfig, Backend, CapiStatus, Error, FileRegion, Library, Progress, Region, Slice, UCX_LOOPBACK,
    UCX_MEMORY,
};

use crate::local::{Operation, ScratchFile};
use crate::workload::{self, Engine, Lane, LanePlan, Ledger, Place, Side, Times};

/// Two NIXL agents, as an engine for workloads: memory over the `UCX` backend, files over `POSIX`.
///
/// Dropping it waits for [`RealOptions::linger`] before the agents are destroyed.
#[derive(Debug)]
pub struct RealEngine {
    initiator: Backend,
    target: Backend,
    /// The initiator's backend for files, once one was needed.
    files: Mutex<Option<Backend>>,
    options: RealOptions,
}

/// How a [`RealEngine`] is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealOptions {
    /// Name of the agent that starts the transfers. Defaults to `initiator`.
    pub initiator: String,
    /// Name of the agent whose memory they reach. Defaults to `target`.
    pub target: String,
    /// How UCX moves bytes between them. Defaults to [`Transport::Memory`].
    pub transport: Transport,
    /// Whether the agents are asked to measure transfers even if the environment does not turn telemetry on. Defaults
    /// to true: without, durations are unknown unless it does.
    ///
    /// From 1.4.0 on this also runs the exporter the environment names, and the environment may turn it off again.
    pub capture_telemetry: bool,
    /// How long each agent's progress thread sleeps between rounds, in whole microseconds. Defaults to 10 us: NIXL's own
    /// choice, none at all, takes a processor per agent from the threads that transfer.
    pub progress_delay: Duration,
    /// How long the agents are kept after everything was deregistered, so that NIXL exports what it has. Defaults to 1
    /// s, ten of NIXL's intervals: on a busy machine its flush comes late.
    pub linger: Duration,
    /// How long a transfer may take before it counts as failed. Defaults to 10 s.
    pub timeout: Duration,
    /// Folder for the files of transfers to files, one per thread, which are removed again. Defaults to `None`: the
    /// system's folder for temporary files.
    pub folder: Option<PathBuf>,
}

/// How UCX moves bytes between two agents of a process. Neither way listens to anything but this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Through memory, without any socket; most transfers are complete when posted.
    Memory,
    /// Through TCP on the loopback interface; transfers take their time. From 1.0.1 on.
    Loopback,
}

/// One thread's memory and file.
#[derive(Debug)]
pub struct RealLane {
    agent: Agent,
    target: Backend,
    timeout: Duration,
    local: Region,
    remote: Region,
    /// The file, and memory that the backend for files knows.
    file: Option<(ScratchFile, FileRegion, Region)>,
}

impl Default for RealOptions {
    fn default() -> Self {
        Self {
            initiator: "initiator".to_owned(),
            target: "target".to_owned(),
            transport: Transport::Memory,
            capture_telemetry: true,
            progress_delay: Duration::from_micros(10),
            linger: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            folder: None,
        }
    }
}

impl RealEngine {
    /// Creates both agents, which is where NIXL reads its settings and loads the exporter.
    ///
    /// # Errors
    /// [`Error::Call`] if NIXL refuses an agent, as it does for a bad telemetry setting and, from 1.4.0 on, for an exporter
    /// that cannot be created, or if it refuses the backend.
    pub fn new(library: Library, options: RealOptions) -> Result<Self, Error> {
        let RealOptions { capture_telemetry, progress_delay, .. } = options;
        let config = AgentConfig { capture_telemetry, progress_delay, ..AgentConfig::default() };
        let parameters = match options.transport {
            Transport::Memory => UCX_MEMORY,
            Transport::Loopback => UCX_LOOPBACK,
        };
        let backend = |name: &str| library.agent(name, &config)?.backend("UCX", parameters);
        let (initiator, target) = (backend(&options.initiator)?, backend(&options.target)?);
        Ok(Self { initiator, target, files: Mutex::new(None), options })
    }

    /// The backend for files, creating it if this is the first time.
    fn files(&self) -> Result<Backend, Error> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match &*files {
            Some(backend) => Ok(backend.clone()),
            None => Ok(files.insert(self.initiator.agent().backend("POSIX", &[])?).clone()),
        }
    }
}

impl Drop for RealEngine {
    fn drop(&mut self) {
        thread::sleep(self.options.linger);
    }
}

impl Engine for RealEngine {
    type Lane = RealLane;

    fn agents(&self) -> [&str; 2] {
        [&self.options.initiator, &self.options.target]
    }

    fn open(&self, plan: &LanePlan, ledger: &mut Ledger) -> Result<RealLane, workload::Error> {
        let bytes = plan.largest as u64;
        let local = self.initiator.register(plan.largest)?;
        ledger.initiator.add(Kind::MEMORY_REGISTERED, bytes);
        let remote = self.target.register(plan.largest)?;
        ledger.target.add(Kind::MEMORY_REGISTERED, bytes);
        let file = if plan.files {
            let backend = self.files()?;
            let folder = self.options.folder.clone().unwrap_or_else(std::env::temp_dir);
            let scratch = ScratchFile::create(&folder, bytes)?;
            let region = backend.register_file(scratch.handle()?, plan.largest)?;
            ledger.initiator.add(Kind::MEMORY_REGISTERED, bytes);
            let memory = backend.register(plan.largest)?;
            ledger.initiator.add(Kind::MEMORY_REGISTERED, bytes);
            Some((scratch, region, memory))
        } else {
            None
        };
        let (agent, target) = (self.initiator.agent().clone(), self.target.clone());
        Ok(RealLane { agent, target, timeout: self.options.timeout, local, remote, file })
    }

    fn connect(&self) -> Result<(), workload::Error> {
        self.initiator.agent().load(&self.target.agent().metadata()?)?;
        Ok(())
    }
}

impl RealLane {
    fn file(&self) -> &(ScratchFile, FileRegion, Region) {
        self.file.as_ref().expect("a plan without files has no transfers to files")
    }

    /// The memory at one end; `None` where there is a file.
    fn memory(&self, side: Side, place: Place) -> Option<&Region> {
        match (side, place) {
            (Side::Local, Place::Memory) => Some(&self.local),
            (Side::Remote, Place::Memory) => Some(&self.remote),
            (Side::Local, Place::File) => Some(&self.file().2),
            (Side::Remote, Place::File) => None,
        }
    }

    fn slice(&self, side: Side, place: Place, bytes: usize) -> Result<Slice, Error> {
        match self.memory(side, place) {
            Some(memory) => memory.slice(0..bytes),
            None => self.file().1.slice(0..bytes),
        }
    }
}

impl Lane for RealLane {
    fn fill(&mut self, side: Side, place: Place, bytes: &[u8]) -> Result<(), workload::Error> {
        match self.memory(side, place) {
            Some(memory) => Ok(memory.write(0, bytes)?),
            None => self.file().0.write(bytes),
        }
    }

    fn fetch(&mut self, side: Side, place: Place, bytes: &mut [u8]) -> Result<(), workload::Error> {
        match self.memory(side, place) {
            Some(memory) => bytes.copy_from_slice(&memory.read(0..bytes.len())?),
            None => self.file().0.read(bytes)?,
        }
        Ok(())
    }

    fn transfer(&mut self, operation: Operation, place: Place, bytes: u64) -> Result<Option<Times>, workload::Error> {
        let bytes = usize::try_from(bytes).expect("a lane was opened for transfers of this size");
        let (local, remote) = (self.slice(Side::Local, place, bytes)?, self.slice(Side::Remote, place, bytes)?);
        let mut transfer = self.agent.transfer(raw(operation), &[local], &[remote])?;
        if transfer.post()? == Progress::Running {
            transfer.wait(self.timeout)?;
        }
        match transfer.telemetry() {
            Ok(told) => Ok(Some(Times { post_us: told.post_us, xfer_us: told.xfer_us })),
            Err(Error::Call { status: CapiStatus::NoTelemetry, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The one mistake every release counts in the same way: naming memory that the initiator was not told about.
    fn provoke(&mut self, ledger: &mut Ledger) -> Result<(), workload::Error> {
        const BYTES: usize = 64;
        let stray = self.target.register(BYTES)?;
        ledger.target.add(Kind::MEMORY_REGISTERED, BYTES as u64);
        let local = self.local.slice(0..BYTES.min(self.local.len()))?;
        let remote = stray.slice(0..local.len())?;
        match self.agent.transfer(raw(Operation::Write), &[local], &[remote]) {
            Err(Error::Call { function: "create_xfer_req", .. }) => ledger.initiator.add_error(Status::NotFound),
            answer => {
                let answer = answer.map_or_else(|error| error.to_string(), |_| Status::Success.to_string());
                let mistake = "memory the initiator was not told about";
                return Err(workload::Error::Mistake { mistake, answer, expected: Status::NotFound });
            }
        }
        drop(stray);
        ledger.target.add(Kind::MEMORY_DEREGISTERED, BYTES as u64);
        Ok(())
    }

    fn close(self, ledger: &mut Ledger) -> Result<(), workload::Error> {
        let Self { local, remote, file, .. } = self;
        ledger.initiator.add(Kind::MEMORY_DEREGISTERED, local.len() as u64);
        drop(local);
        ledger.target.add(Kind::MEMORY_DEREGISTERED, remote.len() as u64);
        drop(remote);
        if let Some((_, region, memory)) = file {
            ledger.initiator.add(Kind::MEMORY_DEREGISTERED, region.len() as u64);
            drop(region);
            ledger.initiator.add(Kind::MEMORY_DEREGISTERED, memory.len() as u64);
            drop(memory);
        }
        Ok(())
    }
}

fn raw(operation: Operation) -> nixl_telemetry_nixl::Operation {
    match operation {
        Operation::Read => nixl_telemetry_nixl::Operation::Read,
        Operation::Write => nixl_telemetry_nixl::Operation::Write,
    }
}
