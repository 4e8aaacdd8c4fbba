// SPDX-License-Identifier: Apache-2.0

//! Two agents of real NIXL in one process: bytes go there and back, NIXL's own measurement is printed, and one request
//! is made that NIXL refuses.
//!
//! ```text
//! cargo run -p nixl-telemetry-nixl --example pair -- [FOLDER]
//! ```
//!
//! `FOLDER` holds an unpacked wheel or `libnixl.so`; without it, an installed NIXL is used. Telemetry is configured
//! by the environment, as for every program that uses NIXL.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nixl_telemetry_nixl::{AgentConfig, Library, Operation, Region, UCX_MEMORY, find};

const LENGTH: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pair: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let found = find(folder.as_deref())?;
    println!("NIXL      {}", found.version().as_deref().unwrap_or("of unknown release"));
    let capi = found.capi()?;
    println!("library   {}", capi.display());

    let nixl = Library::open(&capi)?;
    let config = AgentConfig { capture_telemetry: true, ..AgentConfig::default() };
    let initiator = nixl.agent("initiator", &config)?;
    let target = nixl.agent("target", &config)?;
    println!("backends  {}", initiator.available_backends()?.join(" "));
    let source = initiator.backend("UCX", UCX_MEMORY)?.register(LENGTH)?;
    let sink = target.backend("UCX", UCX_MEMORY)?.register(LENGTH)?;
    source.fill(0xA5);

    // Not known yet, so NIXL refuses, and counts an error of the kind `not found`.
    let refused = initiator
        .transfer(Operation::Write, &[source.whole()], &[sink.whole()])
        .err()
        .ok_or("a transfer to an unknown agent was accepted")?;
    println!("refused   {refused}");

    initiator.load(&target.metadata()?)?;
    initiator.connect("target")?;
    for operation in [Operation::Write, Operation::Read] {
        let mut transfer = initiator.transfer(operation, &[source.whole()], &[sink.whole()])?;
        transfer.post()?;
        transfer.wait(PATIENCE)?;
        println!("{operation:<9?} {:?}", transfer.telemetry()?);
    }
    println!("arrived   {}", if same(&source, &sink)? { "every byte" } else { "other bytes" });
    Ok(())
}

fn same(one: &Region, other: &Region) -> Result<bool, nixl_telemetry_nixl::Error> {
    Ok(one.read(0..one.len())? == other.read(0..other.len())?)
}
