// SPDX-License-Identifier: Apache-2.0

//! Every error status, once, each by the mistake it stands for.

use std::path::Path;

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_host::Recorder;

use super::{Access, Agent, DescriptorList, Error, Fabric, Memory, MemoryType, Operation};
use crate::workload::{self, Ledger};

/// More than moves inside a post.
const LARGE: usize = 1 << 20;

/// Makes one mistake per status, with agents of its own that share the initiator's recorder.
///
/// The eleven statuses that are events, and the registrations they need, are counted as the initiator's.
pub(super) fn make(
    fabric: &Fabric,
    number: usize,
    recorder: Option<Recorder>,
    ledger: &mut Ledger,
) -> Result<(), workload::Error> {
    let agent = |role: &str, recorder: Option<Recorder>| Agent::new(fabric, &format!("{role} {number}"), recorder);
    let clumsy = agent("clumsy", recorder.clone())?;
    let silent = agent("silent", None)?;
    let fleeting = agent("fleeting", None)?;
    let (near, far) = (Memory::zeroed(LARGE), Memory::zeroed(LARGE));
    let local = clumsy.register_memory(&near, Access::ReadWrite)?;
    let locked = clumsy.register_memory(&far, Access::ReadOnly)?;
    let full = clumsy.register_file(Path::new("/dev/full"), LARGE as u64, Access::ReadWrite)?;
    for _ in 0..3 {
        ledger.initiator.add(Kind::MEMORY_REGISTERED, LARGE as u64);
    }
    let remote = fleeting.register_memory(&far, Access::ReadWrite)?;
    clumsy.load_remote_metadata(&fleeting.local_metadata())?;

    let empty = DescriptorList { memory_type: MemoryType::Dram, descriptors: Vec::new() };
    let accelerator = DescriptorList { memory_type: MemoryType::Vram, ..remote.whole() };
    let (all, half) = (local.whole(), local.range(0, LARGE as u64 / 2));
    let write = |to: &str, local: &DescriptorList, remote: &DescriptorList| {
        clumsy.create_request(Operation::Write, local, to, remote)
    };
    let remote_name = fleeting.name().to_owned();
    let good = || write(&remote_name, &all, &remote.whole());

    let mut expect = |mistake, status, result| -> Result<(), workload::Error> {
        answered(mistake, status, result)?;
        ledger.initiator.add_error(status);
        Ok(())
    };
    expect("status before the post", Status::NotPosted, good()?.status().map(drop))?;
    expect("no descriptors", Status::InvalidParam, write(&remote_name, &empty, &remote.whole()).map(drop))?;
    expect("remote agent nobody knows", Status::NotFound, write("nobody", &all, &remote.whole()).map(drop))?;
    expect("lengths that differ", Status::Mismatch, write(&remote_name, &half, &remote.whole()).map(drop))?;
    expect("write to read-only memory", Status::NotAllowed, write(clumsy.name(), &all, &locked.whole()).map(drop))?;
    expect("memory of an accelerator", Status::NotSupported, write(&remote_name, &all, &accelerator).map(drop))?;
    let mut disk_full = write(clumsy.name(), &all, &full.whole())?;
    disk_full.post()?;
    expect("write to a full disk", Status::Backend, disk_full.wait())?;
    // Held memory keeps the worker, and so the request, from going on.
    let mut running = good()?;
    near.with_mut(|_| -> Result<(), workload::Error> {
        running.post()?;
        expect("post of a running request", Status::RepostActive, running.post().map(drop))?;
        expect("release of a running request", Status::Canceled, running.release())
    })?;
    let mut late = good()?;
    drop(fleeting);
    expect("post to an agent that is gone", Status::RemoteDisconnect, late.post().map(drop))?;
    let other_half = local.range(LARGE as u64 / 2, LARGE as u64 / 2);
    let mut stranded = write(clumsy.name(), &half, &other_half)?;
    clumsy.stop_worker();
    expect("post without a worker", Status::Unknown, stranded.post().map(drop))?;

    let own = silent.register_memory(&far, Access::ReadWrite)?;
    let unmeasured = silent.create_request(Operation::Read, &own.range(0, 1), silent.name(), &own.range(1, 1))?;
    // The one status that is no event.
    answered("telemetry that is off", Status::NoTelemetry, unmeasured.telemetry().map(drop))?;

    for region in [&local, &locked, &full] {
        clumsy.deregister(region)?;
        ledger.initiator.add(Kind::MEMORY_DEREGISTERED, LARGE as u64);
    }
    Ok(())
}

fn answered(mistake: &'static str, expected: Status, result: Result<(), Error>) -> Result<(), workload::Error> {
    let answer = match result {
        Err(error) if error.status() == expected => return Ok(()),
        Err(error) => format!("{} ({error})", error.status()),
        Ok(()) => Status::Success.to_string(),
    };
    Err(workload::Error::Mistake { mistake, answer, expected })
}
