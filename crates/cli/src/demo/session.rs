// SPDX-License-Identifier: Apache-2.0

//! The second part of `demo`: the transfers, and what is said about them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nixl_telemetry_settings::Settings;
use nixl_telemetry_traffic::workload::{Progress, Stop, Workload};

use crate::common::end::{End, Outcome};
use crate::common::interrupt::Interrupt;
use crate::common::plugins;
use crate::common::progress::Line;
use crate::demo::csv::Files;
use crate::demo::report::{Exported, Summary};
use crate::demo::{Agent, Arguments, local, progress, real};

/// The one that starts the transfers, and the one whose memory they reach.
pub(crate) const AGENTS: [&str; 2] = ["initiator", "target"];

/// What either kind of agents runs.
pub(crate) struct Run<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) stop: &'a Stop,
    limit: Option<Duration>,
    line: Line,
}

impl Run<'_> {
    /// Shows how far it is, and ends it if its time is over.
    pub(crate) fn show(&mut self, progress: &Progress, more: &str) {
        self.line.show(progress.elapsed, || progress::text(progress, self.limit, more));
        if self.limit.is_some_and(|limit| progress.elapsed >= limit) {
            self.stop.stop();
        }
    }
}

/// Runs the demo in the environment that was made for it.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let outcome = observe(arguments);
    for path in &arguments.prepared.discard {
        discard(path);
    }
    outcome
}

/// Removes a file that was made for the demo, if nothing was written to it.
pub(crate) fn discard(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        // What stays lies where things are removed sooner or later.
        let _ = fs::remove_file(path);
    }
}

fn observe(arguments: &Arguments) -> Outcome {
    let interrupt = Interrupt::catch().context("cannot catch Ctrl-C")?;
    let settings = Settings::process();
    let files = arguments.writes_csv().then(|| Files::before(settings, AGENTS)).flatten();
    let (workload, limit) = (arguments.workload(), arguments.time_limit());
    let mut run = Run { workload: &workload, stop: interrupt.stop(), limit, line: Line::new() };
    let (report, exported, hint) = match (arguments.agent, &arguments.prepared.prepared_nixl) {
        (Agent::Local, _) => {
            let nixl = arguments.nixl.find().ok();
            let path = plugins::search_path(&arguments.plugin_dir, settings, nixl.as_ref())?;
            let (report, counts) = local::run(&mut run, &path)?;
            let hint = nixl.filter(|nixl| nixl.capi().is_ok()).map(|nixl| nixl.folder().to_owned());
            (report, Exported::Counted(counts), hint)
        }
        (Agent::Nixl, Some(folder)) => (real::run(&mut run, folder)?, Exported::InNixl(folder.clone()), None),
        (Agent::Nixl, None) => bail!("--prepared without --prepared-nixl: expected to be started by `demo` itself"),
    };
    drop(run);
    let summary = Summary {
        exporter: &arguments.exporter(),
        report: &report,
        exported: &exported,
        files: files.as_ref(),
        interrupted: interrupt.signal().is_some(),
    };
    let complete = summary.print(hint.as_deref())?;
    Ok(match interrupt.signal() {
        Some(signal) => End::Stopped(signal),
        None if complete => End::Done,
        None => End::Failed,
    })
}
