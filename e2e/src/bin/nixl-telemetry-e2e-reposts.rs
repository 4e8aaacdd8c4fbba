// SPDX-License-Identifier: Apache-2.0

//! Posts a write and a read of a real NIXL by turns, again and again and as fast as it goes, destroys the agents at once, and
//! prints what happened as JSON, as the driver does.
//!
//! `nixl-telemetry-e2e-reposts NIXL-FOLDER TRANSFERS BYTES`

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, env, path::Path, time::Duration};

use anyhow::ensure;
use nixl_telemetry_event::Kind;
use nixl_telemetry_nixl::{AgentConfig, Library, Operation, Progress, UCX_MEMORY, find};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, transfers, bytes] = &arguments[..] else {
        anyhow::bail!("the arguments are NIXL-FOLDER TRANSFERS BYTES");
    };
    let (transfers, bytes) = (transfers.parse::<u64>()?, bytes.parse::<usize>()?);

    let library = Library::open(&find(Some(Path::new(folder)))?.capi()?)?;
    // Threads of UCX that never sleep would take a processor each from the one that transfers.
    let config = AgentConfig { progress_delay: Duration::from_micros(10), ..AgentConfig::default() };
    let (initiator, target) = (library.agent("initiator", &config)?, library.agent("target", &config)?);
    let local = initiator.backend("UCX", UCX_MEMORY)?.register(bytes)?;
    let remote = target.backend("UCX", UCX_MEMORY)?.register(bytes)?;
    local.fill(0xA5);
    initiator.load(&target.metadata()?)?;

    let mut requests = [
        (initiator.transfer(Operation::Write, &[local.whole()], &[remote.whole()])?, Counted::default()),
        (initiator.transfer(Operation::Read, &[local.whole()], &[remote.whole()])?, Counted::default()),
    ];
    for number in 0..transfers {
        let (request, counted) = &mut requests[usize::from(number % 2 == 1)];
        if request.post()? == Progress::Running {
            request.wait(PATIENCE)?;
        }
        let told = request.telemetry()?;
        counted.transfers += 1;
        counted.post_us += told.post_us;
        counted.xfer_us += told.xfer_us;
    }
    ensure!(remote.read(0..bytes)?.iter().all(|byte| *byte == 0xA5), "the bytes did not arrive");

    let [written, read] = requests.map(|(_, counted)| counted);
    drop((local, remote, initiator, target));

    let bytes = bytes as u64;
    let mut happened = BTreeMap::from([
        (Kind::MEMORY_REGISTERED.to_string(), [1, bytes]),
        (Kind::MEMORY_DEREGISTERED.to_string(), [1, bytes]),
    ]);
    let target = happened.clone();
    for (counted, bytes_kind, requests_kind) in
        [(written, Kind::TX_BYTES, Kind::TX_REQUESTS_NUM), (read, Kind::RX_BYTES, Kind::RX_REQUESTS_NUM)]
    {
        let Counted { transfers, post_us, xfer_us } = counted;
        for (kind, sum) in [
            (Kind::XFER_POST_TIME, post_us),
            (Kind::XFER_TIME, xfer_us),
            (bytes_kind, transfers * bytes),
            (requests_kind, transfers),
        ] {
            let total = happened.entry(kind.to_string()).or_default();
            *total = [total[0] + transfers, total[1] + sum];
        }
    }
    println!("{}", json!({ "initiator": happened, "target": target }));
    Ok(())
}

/// What NIXL told of the transfers of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    transfers: u64,
    post_us: u64,
    xfer_us: u64,
}
