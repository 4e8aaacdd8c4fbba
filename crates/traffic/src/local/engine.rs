// SPDX-License-Identifier: Apache-2.0

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nixl_telemetry_event::Kind;
use nixl_telemetry_host::Recorder;

use super::{Access, Agent, Error, Fabric, Memory, Operation, Region, mistakes};
use crate::workload::{self, Engine, Lane, LanePlan, Ledger, Place, Side, Times};

/// Two embedded agents, as an engine for workloads.
#[derive(Debug)]
pub struct LocalEngine {
    fabric: Fabric,
    initiator: Arc<Agent>,
    target: Arc<Agent>,
    recorder: Option<Recorder>,
    folder: PathBuf,
}

/// How a [`LocalEngine`] is made.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Name of the agent that starts the transfers. Defaults to `initiator`.
    pub initiator: String,
    /// Name of the agent whose memory they reach. Defaults to `target`.
    pub target: String,
    /// Where the initiator's telemetry goes. Defaults to `None`: off.
    pub initiator_recorder: Option<Recorder>,
    /// Where the target's telemetry goes. Defaults to `None`: off.
    pub target_recorder: Option<Recorder>,
    /// Folder for the files of transfers to files, one per thread, which are removed again. Defaults to `None`: the
    /// system's folder for temporary files.
    pub folder: Option<PathBuf>,
}

/// One thread's memory and file.
#[derive(Debug)]
pub struct LocalLane {
    fabric: Fabric,
    number: usize,
    recorder: Option<Recorder>,
    initiator: Arc<Agent>,
    target: Arc<Agent>,
    local: (Memory, Region),
    remote: (Memory, Region),
    file: Option<(ScratchFile, Region)>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            initiator: "initiator".to_owned(),
            target: "target".to_owned(),
            initiator_recorder: None,
            target_recorder: None,
            folder: None,
        }
    }
}

impl LocalEngine {
    /// Creates both agents, on a fabric of their own.
    ///
    /// # Errors
    /// [`Error::EmptyName`], [`Error::NameTaken`] if both have the same name, or [`Error::WorkerGone`].
    pub fn new(options: LocalOptions) -> Result<Self, Error> {
        let fabric = Fabric::new();
        let recorder = options.initiator_recorder;
        let initiator = Arc::new(Agent::new(&fabric, &options.initiator, recorder.clone())?);
        let target = Arc::new(Agent::new(&fabric, &options.target, options.target_recorder)?);
        Ok(Self { fabric, initiator, target, recorder, folder: options.folder.unwrap_or_else(std::env::temp_dir) })
    }
}

impl Engine for LocalEngine {
    type Lane = LocalLane;

    fn agents(&self) -> [&str; 2] {
        [self.initiator.name(), self.target.name()]
    }

    fn open(&self, plan: &LanePlan, ledger: &mut Ledger) -> Result<LocalLane, workload::Error> {
        let length = plan.largest as u64;
        let register = |agent: &Agent| -> Result<_, Error> {
            let memory = Memory::zeroed(plan.largest);
            let region = agent.register_memory(&memory, Access::ReadWrite)?;
            Ok((memory, region))
        };
        let local = register(&self.initiator)?;
        ledger.initiator.add(Kind::MEMORY_REGISTERED, length);
        let remote = register(&self.target)?;
        ledger.target.add(Kind::MEMORY_REGISTERED, length);
        let file = if plan.files {
            let file = ScratchFile::create(&self.folder, length)?;
            let region = self.initiator.register_file(&file.path, length, Access::ReadWrite)?;
            ledger.initiator.add(Kind::MEMORY_REGISTERED, length);
            Some((file, region))
        } else {
            None
        };
        Ok(LocalLane {
            fabric: self.fabric.clone(),
            number: plan.number,
            recorder: self.recorder.clone(),
            initiator: Arc::clone(&self.initiator),
            target: Arc::clone(&self.target),
            local,
            remote,
            file,
        })
    }

    fn connect(&self) -> Result<(), workload::Error> {
        self.initiator.load_remote_metadata(&self.target.local_metadata())?;
        Ok(())
    }
}

impl LocalLane {
    fn file(&self) -> &(ScratchFile, Region) {
        self.file.as_ref().expect("a plan without files has no transfers to files")
    }

    fn memory(&self, side: Side) -> &Memory {
        match side {
            Side::Local => &self.local.0,
            Side::Remote => &self.remote.0,
        }
    }
}

impl Lane for LocalLane {
    fn fill(&mut self, side: Side, place: Place, bytes: &[u8]) -> Result<(), workload::Error> {
        if (side, place) == (Side::Remote, Place::File) {
            return self.file().0.write(bytes);
        }
        self.memory(side).with_mut(|memory| memory[..bytes.len()].copy_from_slice(bytes));
        Ok(())
    }

    fn fetch(&mut self, side: Side, place: Place, bytes: &mut [u8]) -> Result<(), workload::Error> {
        if (side, place) == (Side::Remote, Place::File) {
            return self.file().0.read(bytes);
        }
        self.memory(side).with(|memory| bytes.copy_from_slice(&memory[..bytes.len()]));
        Ok(())
    }

    fn transfer(&mut self, operation: Operation, place: Place, bytes: u64) -> Result<Option<Times>, workload::Error> {
        let (agent, remote) = match place {
            Place::Memory => (self.target.name(), &self.remote.1),
            Place::File => (self.initiator.name(), &self.file().1),
        };
        let (local, remote) = (self.local.1.range(0, bytes), remote.range(0, bytes));
        let mut request = self.initiator.create_request(operation, &local, agent, &remote)?;
        request.post()?;
        request.wait()?;
        let times = match request.telemetry() {
            Ok(told) => told.map(|told| Times { post_us: told.post_us, xfer_us: told.xfer_us }),
            Err(Error::NoTelemetry { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        request.release()?;
        Ok(times)
    }

    fn provoke(&mut self, ledger: &mut Ledger) -> Result<(), workload::Error> {
        mistakes::make(&self.fabric, self.number, self.recorder.clone(), ledger)
    }

    fn close(self, ledger: &mut Ledger) -> Result<(), workload::Error> {
        self.initiator.deregister(&self.local.1)?;
        ledger.initiator.add(Kind::MEMORY_DEREGISTERED, self.local.1.length());
        self.target.deregister(&self.remote.1)?;
        ledger.target.add(Kind::MEMORY_DEREGISTERED, self.remote.1.length());
        if let Some((_, region)) = &self.file {
            self.initiator.deregister(region)?;
            ledger.initiator.add(Kind::MEMORY_DEREGISTERED, region.length());
        }
        Ok(())
    }
}

/// A file that is removed when dropped.
#[derive(Debug)]
pub(crate) struct ScratchFile {
    path: PathBuf,
    file: File,
}

impl ScratchFile {
    /// Creates a file of `length` zero bytes under a name that is not in use.
    pub(crate) fn create(folder: &Path, length: u64) -> Result<Self, workload::Error> {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("nixl-telemetry-traffic.{}.{number}", std::process::id()));
        let created = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = created.map_err(|source| failed("create", &path, source))?;
        let scratch = Self { path, file };
        scratch.file.set_len(length).map_err(|source| failed("create", &scratch.path, source))?;
        Ok(scratch)
    }

    /// A handle of one's own.
    pub(crate) fn handle(&self) -> Result<File, workload::Error> {
        self.file.try_clone().map_err(|source| failed("open", &self.path, source))
    }

    /// Writes the first bytes.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), workload::Error> {
        self.file.write_all_at(bytes, 0).map_err(|source| failed("write", &self.path, source))
    }

    /// Reads the first bytes.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> Result<(), workload::Error> {
        self.file.read_exact_at(bytes, 0).map_err(|source| failed("read", &self.path, source))
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // There is nobody left to tell, and it lies where things are removed sooner or later.
        drop(std::fs::remove_file(&self.path));
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> workload::Error {
    workload::Error::File { action, path: path.to_path_buf(), source }
}
