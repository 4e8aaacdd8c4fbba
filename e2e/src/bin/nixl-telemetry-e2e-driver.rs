// SPDX-License-Identifier: Apache-2.0

//! Runs a fixed workload on two agents of a real NIXL and prints what it did as JSON: the truth to hold the exported
//! events against. Telemetry is whatever the environment tells NIXL.
//!
//! `nixl-telemetry-e2e-driver NIXL-FOLDER TRANSFERS LINGER-MS [LARGEST-BYTES]`; with the last, all is between memory.

#![forbid(unsafe_code)]

use std::{env, path::PathBuf, time::Duration};

use anyhow::Context as _;
use nixl_telemetry_nixl::{Library, find};
use nixl_telemetry_traffic::{
    real::{RealEngine, RealOptions},
    workload::{Sizes, Stop, Truth, Workload, run},
};
use serde_json::{Map, Value, json};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().context("the first argument is the folder of a NIXL")?);
    let mut number = || -> anyhow::Result<u64> {
        let text = arguments.next().context("the arguments are NIXL-FOLDER TRANSFERS LINGER-MS")?;
        Ok(text.to_string_lossy().parse()?)
    };
    let (transfers, linger) = (number()?, Duration::from_millis(number()?));
    let largest = number().ok();

    let library = Library::open(&find(Some(&folder))?.capi()?)?;
    let engine = RealEngine::new(library, RealOptions { linger, ..RealOptions::default() })?;
    let workload = Workload {
        transfers,
        sizes: Sizes::Range { min: 1, max: largest.unwrap_or(100_000) },
        file_percent: if largest.is_some() { 0 } else { 10 },
        threads: 2,
        provoke_errors: true,
        ..Workload::default()
    };
    let report = run(&engine, &workload, &Stop::new(), &mut |_| {})?;
    drop(engine);

    anyhow::ensure!(report.corrupt == 0 && report.verified == transfers, "bytes went astray: {report:?}");
    let agents = json!({
        &report.agents[0]: truth_of(report.initiator()),
        &report.agents[1]: truth_of(report.target()),
    });
    println!("{agents}");
    Ok(())
}

/// Count and sum by event name, for the events that happened.
fn truth_of(truth: &Truth) -> Value {
    let happened = truth.iter().filter(|(_, tally)| tally.count > 0);
    Value::Object(
        happened.map(|(kind, tally)| (kind.to_string(), json!([tally.count, tally.sum]))).collect::<Map<_, _>>(),
    )
}
