// SPDX-License-Identifier: Apache-2.0

//! Exports what dead processes left in their journals, with the settings in its environment, and prints what became of it
//! as JSON.
//!
//! `nixl-telemetry-e2e-recover JOURNAL-DIRECTORY`

#![forbid(unsafe_code)]

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};
use nixl_telemetry_host::{Abandoned, journals};
use nixl_telemetry_settings::Settings;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let directory = PathBuf::from(env::args_os().nth(1).context("the argument is the directory of journals")?);
    let mut all = Vec::new();
    for path in journals(&directory)? {
        let found = Abandoned::open(&path)?.with_context(|| format!("the process of {} lives", path.display()))?;
        ensure!(found.damage().is_empty(), "{}: {:?}", path.display(), found.damage());
        let (agent, events) = (found.agent(), found.events());
        let recovered = found.recover(&[], &Settings::from_process(), None)?;
        let counts = recovered.counts;
        ensure!(recovered.is_removed && counts.is_balanced() && counts.drops().is_empty(), "{agent}: {counts:?}");
        let csv = counts.exporter("csv").context("it had csv")?;
        ensure!(csv.pending == 0 && csv.exported + csv.exported_before == events, "{agent}: {events}, {counts:?}");
        all.push(json!({ "agent": agent, "exported": csv.exported, "exported_before": csv.exported_before }));
    }
    println!("{}", json!(all));
    Ok(())
}
