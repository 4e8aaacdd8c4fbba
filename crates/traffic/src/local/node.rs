// SPDX-License-Identifier: Apache-2.0

//! What an agent, its requests and its peers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nixl_telemetry_host::Recorder;

use super::memory::Storage;
use super::worker::Job;
use super::{Access, Error, Fabric, MemoryType, Metadata, Region, RegionId};

pub(super) struct Node {
    name: Arc<str>,
    instance: u64,
    pub(super) fabric: Fabric,
    pub(super) recorder: Option<Recorder>,
    regions: Mutex<Regions>,
    remotes: Mutex<HashMap<Arc<str>, Metadata>>,
    /// The way to the worker; `None` once it is stopped.
    jobs: Mutex<Option<Sender<Job>>>,
    pub(super) life: Arc<Life>,
}

/// What running transfers look at to learn that they should end.
#[derive(Default)]
pub(super) struct Life {
    ended: AtomicBool,
    worker_stopped: AtomicBool,
}

struct Regions {
    /// What others may know; copied only if somebody holds an older state of it.
    metadata: Metadata,
    storage: HashMap<RegionId, Storage>,
    last: u64,
}

impl Node {
    pub(super) fn new(name: &str, instance: u64, fabric: Fabric, recorder: Option<Recorder>) -> Self {
        let name: Arc<str> = name.into();
        let metadata = Metadata { agent: Arc::clone(&name), instance, regions: Arc::default() };
        Self {
            name,
            instance,
            fabric,
            recorder,
            regions: Mutex::new(Regions { metadata, storage: HashMap::new(), last: 0 }),
            remotes: Mutex::default(),
            jobs: Mutex::new(None),
            life: Arc::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// Passes a result on, after recording the event of an error.
    pub(super) fn report<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), Some(recorder)) = (&result, &self.recorder) {
            recorder.error(error.status());
        }
        result
    }

    pub(super) fn add_region(&self, memory_type: MemoryType, length: u64, access: Access, storage: Storage) -> Region {
        let mut regions = lock(&self.regions);
        regions.last += 1;
        let region = Region { instance: self.instance, id: RegionId(regions.last), memory_type, length, access };
        regions.storage.insert(region.id, storage);
        Arc::make_mut(&mut regions.metadata.regions).insert(region.id, region);
        region
    }

    pub(super) fn remove_region(&self, region: &Region) -> Result<(), Error> {
        let mut regions = lock(&self.regions);
        // Other agents number theirs in the same way, hence the comparison.
        if regions.metadata.region(region.id, region.memory_type)? != region {
            return Err(regions.metadata.unknown(region.id, region.memory_type));
        }
        Arc::make_mut(&mut regions.metadata.regions).remove(&region.id);
        regions.storage.remove(&region.id);
        Ok(())
    }

    pub(super) fn storage(&self, id: RegionId, memory_type: MemoryType) -> Result<Storage, Error> {
        let regions = lock(&self.regions);
        regions.storage.get(&id).cloned().ok_or_else(|| regions.metadata.unknown(id, memory_type))
    }

    pub(super) fn metadata(&self) -> Metadata {
        lock(&self.regions).metadata.clone()
    }

    pub(super) fn load_remote(&self, metadata: &Metadata) -> Result<(), Error> {
        if metadata.agent == self.name {
            return Err(Error::OwnMetadata { name: self.name.to_string() });
        }
        lock(&self.remotes).insert(Arc::clone(&metadata.agent), metadata.clone());
        Ok(())
    }

    pub(super) fn forget_remote(&self, name: &str) -> Result<(), Error> {
        match lock(&self.remotes).remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::UnknownAgent { name: name.to_owned() }),
        }
    }

    /// What is known about a remote agent; an agent always knows itself.
    pub(super) fn remote(&self, name: &str) -> Result<Metadata, Error> {
        if name == self.name() {
            return Ok(self.metadata());
        }
        lock(&self.remotes).get(name).cloned().ok_or_else(|| Error::UnknownAgent { name: name.to_owned() })
    }

    pub(super) fn open_jobs(&self, jobs: Sender<Job>) {
        *lock(&self.jobs) = Some(jobs);
    }

    /// Hands a job to the worker. A job that cannot be handed over ends as one whose worker is gone.
    pub(super) fn submit(&self, job: Job) -> Result<(), Error> {
        let gone = || Error::WorkerGone { name: self.name.to_string() };
        lock(&self.jobs).as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())
    }

    pub(super) fn stop_worker(&self) {
        self.life.worker_stopped.store(true, Ordering::Release);
        *lock(&self.jobs) = None;
    }

    pub(super) fn end(&self) {
        // In this order: whoever finds the name free also finds this agent ended.
        self.life.ended.store(true, Ordering::Release);
        self.fabric.leave(&self.name);
        *lock(&self.jobs) = None;
    }
}

impl Life {
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn worker_stopped(&self) -> bool {
        self.worker_stopped.load(Ordering::Acquire)
    }
}

/// Nothing panics between the changes made under one of these locks, so there is no half-made change to find.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
