// SPDX-License-Identifier: Apache-2.0

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use nixl_telemetry_host::Recorder;

use super::memory::Storage;
use super::node::Node;
use super::plan::Plan;
use super::{Access, DescriptorList, Error, Fabric, Memory, MemoryType, Operation, Region, RegionId, Request, worker};

/// An agent that moves bytes within this process and to and from files, shaped like a NIXL agent.
///
/// It may be shared by threads. Dropping it ends its transfers at their next chunk, waits for its worker, and leaves
/// the fabric: requests towards it fail with [`Error::Disconnected`], its own with [`Error::Canceled`].
pub struct Agent {
    node: Arc<Node>,
    worker: Option<JoinHandle<()>>,
}

/// What an agent tells others about itself and its regions: what NIXL calls local metadata.
///
/// A snapshot: regions registered later are not in it. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    pub(super) agent: Arc<str>,
    /// Tells this agent from an earlier one of its name.
    pub(super) instance: u64,
    pub(super) regions: Arc<HashMap<RegionId, Region>>,
}

impl Agent {
    /// Creates an agent of this name; with a recorder, its telemetry is on.
    ///
    /// The recorder belongs to a [collector](nixl_telemetry_host::Collector), which the caller keeps, so as to close
    /// it after the agent and see its counts.
    ///
    /// # Errors
    /// [`Error::EmptyName`]; [`Error::NameTaken`] within the fabric; [`Error::WorkerGone`] if the operating system
    /// gives no thread. None of these is an event: there is no agent yet.
    pub fn new(fabric: &Fabric, name: &str, recorder: Option<Recorder>) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::EmptyName);
        }
        let node = fabric.join(name, |instance| Arc::new(Node::new(name, instance, fabric.clone(), recorder)))?;
        let mut agent = Self { node, worker: None };
        let (sender, receiver) = mpsc::channel();
        let worker = thread::Builder::new().name(format!("agent {name}")).spawn(move || worker::work(&receiver));
        agent.worker = Some(worker.map_err(|_| Error::WorkerGone { name: name.to_owned() })?);
        agent.node.open_jobs(sender);
        Ok(agent)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Registers main memory, one event with its bytes.
    ///
    /// # Errors
    /// [`Error::EmptyRegion`] for memory without bytes.
    pub fn register_memory(&self, memory: &Memory, access: Access) -> Result<Region, Error> {
        let length = memory.len() as u64;
        self.register(MemoryType::Dram, length, access, || Ok(Storage::Memory(memory.clone())))
    }

    /// Registers the first `length` bytes of a file, one event with this number.
    ///
    /// With [`Access::ReadWrite`] a missing file is created. Its size is left alone: writes make it grow, and reads
    /// beyond its end fail when they happen, with [`Error::ShortFile`].
    ///
    /// # Errors
    /// [`Error::EmptyRegion`] if `length` is 0; [`Error::NoFile`], [`Error::Permission`] or [`Error::Io`] if the file
    /// cannot be opened.
    pub fn register_file(&self, path: &Path, length: u64, access: Access) -> Result<Region, Error> {
        self.register(MemoryType::File, length, access, || Storage::open(path, access))
    }

    /// Forgets a region, one event with its bytes. Transfers that are running keep their hold on it.
    ///
    /// # Errors
    /// [`Error::UnknownRegion`] if it is not registered here.
    pub fn deregister(&self, region: &Region) -> Result<(), Error> {
        self.node.report(self.node.remove_region(region))?;
        if let Some(recorder) = &self.node.recorder {
            recorder.memory_deregistered(region.length);
        }
        Ok(())
    }

    /// What other agents need in order to reach the regions registered so far.
    pub fn local_metadata(&self) -> Metadata {
        self.node.metadata()
    }

    /// Learns of another agent, or its new regions; returns its name.
    ///
    /// # Errors
    /// [`Error::OwnMetadata`] if it is this agent's.
    pub fn load_remote_metadata(&self, metadata: &Metadata) -> Result<String, Error> {
        self.node.report(self.node.load_remote(metadata))?;
        Ok(metadata.agent.to_string())
    }

    /// Forgets another agent: requests towards it can no longer be posted. Those that are running go on.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`] if its metadata is not loaded.
    pub fn invalidate_remote(&self, name: &str) -> Result<(), Error> {
        self.node.report(self.node.forget_remote(name))
    }

    /// Prepares a transfer between own regions and those of `remote_agent`, which may be this agent's own name.
    ///
    /// # Errors
    /// [`Error::EmptyList`], [`Error::BadDescriptor`] or [`Error::Overlap`] for lists that cannot be meant;
    /// [`Error::Unsupported`] for memory that is neither main memory nor a file; [`Error::UnknownAgent`];
    /// [`Error::UnknownRegion`] or [`Error::OutOfBounds`] for what is not registered; [`Error::Counts`] or
    /// [`Error::Lengths`] if the sides do not fit; [`Error::ReadOnly`] for the destination.
    pub fn create_request(
        &self,
        operation: Operation,
        local: &DescriptorList,
        remote_agent: &str,
        remote: &DescriptorList,
    ) -> Result<Request, Error> {
        let plan = |peer: &Metadata| Plan::new(operation, &self.node.metadata(), local, peer, remote);
        let planned = self.node.remote(remote_agent).and_then(|peer| Ok((plan(&peer)?, peer)));
        let (plan, peer) = self.node.report(planned)?;
        Ok(Request::new(Arc::clone(&self.node), plan, peer))
    }

    /// Stops the worker for good, as its crash would: what is running or queued, and every later post, fails with
    /// [`Error::WorkerGone`]. For rehearsing what an application does about it.
    pub fn stop_worker(&self) {
        self.node.stop_worker();
    }

    fn register(
        &self,
        memory_type: MemoryType,
        length: u64,
        access: Access,
        storage: impl FnOnce() -> Result<Storage, Error>,
    ) -> Result<Region, Error> {
        let storage = if length == 0 { Err(Error::EmptyRegion) } else { storage() };
        let storage = self.node.report(storage)?;
        let region = self.node.add_region(memory_type, length, access, storage);
        if let Some(recorder) = &self.node.recorder {
            recorder.memory_registered(length);
        }
        Ok(region)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.node.end();
        if let Some(worker) = self.worker.take() {
            // Its panic was printed when it happened, and its jobs have ended.
            drop(worker.join());
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.node.name())
            .field("telemetry", &self.node.recorder.is_some())
            .finish_non_exhaustive()
    }
}

impl Metadata {
    /// The name of the agent that it describes.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    pub(super) fn region(&self, id: RegionId, memory_type: MemoryType) -> Result<&Region, Error> {
        let region = self.regions.get(&id).filter(|region| region.memory_type == memory_type);
        region.ok_or_else(|| self.unknown(id, memory_type))
    }

    pub(super) fn unknown(&self, region: RegionId, memory_type: MemoryType) -> Error {
        Error::UnknownRegion { agent: self.agent.to_string(), region, memory_type }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("agent", &self.agent)
            .field("regions", &self.regions.len())
            .finish_non_exhaustive()
    }
}
