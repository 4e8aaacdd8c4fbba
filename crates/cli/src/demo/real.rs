// SPDX-License-Identifier: Apache-2.0

//! The demo on a real NIXL, which has this collector in it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nixl_telemetry_nixl::{Library, find};
use nixl_telemetry_traffic::real::{RealEngine, RealOptions};
use nixl_telemetry_traffic::workload::{self, Report};

use crate::demo::session::{AGENTS, Run};

/// Runs the workload on the NIXL of this folder.
pub(crate) fn run(run: &mut Run<'_>, folder: &Path) -> anyhow::Result<Report> {
    let library = Library::open(&find(Some(folder))?.capi()?)?;
    let options = RealOptions {
        initiator: AGENTS[0].to_owned(),
        target: AGENTS[1].to_owned(),
        // This collector exports what it has when an agent is destroyed.
        linger: Duration::ZERO,
        ..RealOptions::default()
    };
    let engine = RealEngine::new(library, options)
        .context("NIXL refuses its agents (its log lines say why; NIXL_LOG_LEVEL=INFO has more of them)")?;
    let report = workload::run(&engine, run.workload, run.stop, &mut |progress| run.show(progress, ""))?;
    drop(engine);
    Ok(report)
}
