// SPDX-License-Identifier: Apache-2.0

//! Two agents of a real NIXL that go on until somebody kills this process, or asks them to stop. How far they have come is
//! in a file.
//!
//! `nixl-telemetry-e2e-victim NIXL-FOLDER TRUTH-FILE`

#![forbid(unsafe_code)]

use std::{env, path::Path, thread, time::Duration};

use anyhow::bail;
use nixl_telemetry_e2e::strand::{MEMORY, MOST_BYTES, STRAY, Strand, Truth};
use nixl_telemetry_nixl::{
    Agent, AgentConfig, Backend, Error, Library, Operation, Progress, Region, Transfer, UCX_MEMORY, find,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A mistake is made after so many writes.
const MISTAKE: u64 = 50;
/// Between two registrations, which are slow and not what this is about.
const PAUSE: Duration = Duration::from_micros(200);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, truth] = &arguments[..] else { bail!("the arguments are NIXL-FOLDER TRUTH-FILE") };
    let truth = Truth::open(Path::new(truth))?;

    let library = Library::open(&find(Some(Path::new(folder)))?.capi()?)?;
    // Threads of UCX that never sleep would take a processor each from those that transfer.
    let config = AgentConfig { progress_delay: Duration::from_micros(10), ..AgentConfig::default() };
    let (initiator, target) = (library.agent("initiator", &config)?, library.agent("target", &config)?);
    let (here, there) = (initiator.backend("UCX", UCX_MEMORY)?, target.backend("UCX", UCX_MEMORY)?);
    let local = truth.step(Strand::InitiatorMemory, |_| here.register(size(MEMORY)))?;
    let remote = truth.step(Strand::TargetMemory, |_| there.register(size(MEMORY)))?;
    initiator.load(&target.metadata()?)?;
    let stray = truth.step(Strand::TargetMemory, |_| there.register(size(STRAY)))?;

    let mut writes = requests(&initiator, Operation::Write, &local, &remote)?;
    let mut reads = requests(&initiator, Operation::Read, &local, &remote)?;
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| write(&truth, &mut writes, || mistake(&initiator, &local, &stray))),
            scope.spawn(|| transfer_all(&truth, Strand::Read, &mut reads, |_| Ok(()))),
            scope.spawn(|| register(&truth, &there)),
        ];
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;

    drop((writes, reads));
    truth.step(Strand::InitiatorMemory, |_| gone(local))?;
    truth.step(Strand::TargetMemory, |_| gone(remote))?;
    truth.step(Strand::TargetMemory, |_| gone(stray))?;
    Ok(())
}

/// One request for each number of bytes a step can have.
fn requests(agent: &Agent, operation: Operation, local: &Region, remote: &Region) -> Result<Vec<Transfer>, Error> {
    let request = |bytes| agent.transfer(operation, &[local.slice(0..bytes)?], &[remote.slice(0..bytes)?]);
    (1..=size(MOST_BYTES)).map(request).collect()
}

fn write(truth: &Truth, requests: &mut [Transfer], mistake: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    transfer_all(truth, Strand::Write, requests, |step| {
        if step.is_multiple_of(MISTAKE) { truth.step(Strand::Mistake, |_| mistake()) } else { Ok(()) }
    })
}

/// Does the transfers of a strand, and something after each.
fn transfer_all(
    truth: &Truth,
    strand: Strand,
    requests: &mut [Transfer],
    mut then: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !truth.is_stopped() {
        let step = truth.step(strand, |step| {
            let request = &mut requests[size(strand.bytes(step)) - 1];
            if request.post()? == Progress::Running {
                request.wait(PATIENCE)?;
            }
            anyhow::Ok(step)
        })?;
        then(step)?;
    }
    Ok(())
}

/// Names memory the initiator was not told about.
fn mistake(initiator: &Agent, local: &Region, stray: &Region) -> anyhow::Result<()> {
    match initiator.transfer(Operation::Write, &[local.slice(0..64)?], &[stray.slice(0..64)?]) {
        Err(Error::Call { function: "create_xfer_req", .. }) => Ok(()),
        answer => bail!("memory nobody knows: {answer:?}"),
    }
}

/// Registers memory and deregisters it.
fn register(truth: &Truth, backend: &Backend) -> anyhow::Result<()> {
    while !truth.is_stopped() {
        let memory = truth.step(Strand::Register, |step| backend.register(size(Strand::Register.bytes(step))))?;
        thread::sleep(PAUSE);
        truth.step(Strand::Register, |_| gone(memory))?;
    }
    Ok(())
}

/// Deregisters memory that nobody else has.
fn gone(memory: Region) -> anyhow::Result<()> {
    drop(memory);
    Ok(())
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("these are small")
}
