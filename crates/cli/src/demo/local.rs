// SPDX-License-Identifier: Apache-2.0

//! The demo on embedded agents.

use anyhow::{Context as _, bail};
use nixl_telemetry_host::{Collector, Counts};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_traffic::local::{LocalEngine, LocalOptions};
use nixl_telemetry_traffic::workload::{self, Report};

use crate::common::human;
use crate::demo::session::{AGENTS, Run};

/// Runs the workload; also returns what became of every event of the two agents.
pub(crate) fn run(run: &mut Run<'_>, path: &SearchPath) -> anyhow::Result<(Report, [Counts; 2])> {
    let [initiator, target] = [collector(AGENTS[0], path)?, collector(AGENTS[1], path)?];
    let recorders = [initiator.recorder(), target.recorder()];
    let engine = LocalEngine::new(LocalOptions {
        initiator: AGENTS[0].to_owned(),
        target: AGENTS[1].to_owned(),
        initiator_recorder: Some(initiator.recorder()),
        target_recorder: Some(target.recorder()),
        folder: None,
    })
    .context("cannot create the agents")?;
    let report = workload::run(&engine, run.workload, run.stop, &mut |progress| {
        let (mut exported, mut dropped) = (0, 0);
        for counts in recorders.iter().map(|recorder| recorder.counts()) {
            exported += counts.exporters.iter().map(|exporter| exporter.exported).sum::<u64>();
            dropped += counts.drops().iter().map(|(_, _, events)| events).sum::<u64>();
        }
        run.show(
            progress,
            &format!("  events: {} exported, {} dropped", human::count(exported), human::count(dropped)),
        );
    })?;
    drop(engine);
    Ok((report, [initiator.close(), target.close()]))
}

fn collector(agent: &str, path: &SearchPath) -> anyhow::Result<Collector> {
    let builder = Collector::builder(agent).settings(Settings::process().clone()).search_path(path.clone());
    match builder.build()? {
        Some(collector) => Ok(collector),
        None => bail!("telemetry is off: expected NIXL_TELEMETRY_ENABLE to be on"),
    }
}
