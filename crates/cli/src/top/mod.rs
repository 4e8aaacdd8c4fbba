// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry top`: what agents do now, on a screen, from NIXL's ring files.
//!
//! [`watch`] reads the files into the [`model`], which knows nothing of them; the model is told what time it is, and makes
//! a [`snapshot`] of figures. [`view`] draws that; [`ui`] is what keys have chosen. Only [`screen`] knows a terminal.

mod canvas;
mod columns;
mod counts;
mod figures;
mod model;
#[cfg(test)]
mod scene;
mod screen;
mod snapshot;
mod ui;
mod view;
mod watch;
mod window;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::common::end::{End, Outcome};
use crate::common::interrupt::Interrupt;
use crate::common::terminal::{Stream, Style, complain, is_terminal, print};
use crate::rings::selection::Selection;
use crate::top::ui::{SHORTEST, Ui};
use crate::top::watch::{PAUSE, Watch};

/// Show what agents do now: transfers, bytes, times, errors
///
/// Agents whose exporter is BUFFER write their events into a ring file each, in the directory NIXL_TELEMETRY_DIR. This
/// command looks at such files as they are written, and takes nothing out of them: any number of these can run, beside
/// NIXL's own reader or another one. Agents are found as they come.
///
/// A ring that nobody consumes fills up, and NIXL refuses its events from then on: its agent is marked FULL, and shows no
/// traffic any more. Start a reader that consumes for it.
///
/// What waits in a file when this command begins is counted as errors, bytes and transfers, and is no part of rates, times
/// and sparklines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Ring files, and directories of them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Milliseconds between refreshes, 100 at least
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(u64::try_from(SHORTEST.as_millis()).unwrap_or(0)..))]
    interval: u64,
    /// Print one screen as text after one interval, and end
    #[arg(long)]
    once: bool,
}

const EXAMPLES: &str = "\
Keys: q quits, ? tells the others.

Examples:
  nixl-telemetry top /tmp/telemetry                      every agent that writes there
  nixl-telemetry top --agent 'decode-*' /tmp/telemetry   some of them
  nixl-telemetry top --once --interval 5000 /tmp/telemetry
                                                         what they do in five seconds, as text

Exit codes: 0 somebody quit, or with --once all could be read; 1 something cannot be read;
130 and 143 ended by Ctrl-C and SIGTERM.";

/// Width of a screen that is printed.
const WIDTH: u16 = 120;

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { paths, selection, interval, once } = arguments;
    if !once && !is_terminal(Stream::Out) {
        bail!("standard output is no terminal: expected one, or --once, which prints one screen as text");
    }
    let interrupt = Interrupt::catch().context("cannot catch Ctrl-C")?;
    let ui = Ui::new(Duration::from_millis(interval));
    let watch = Watch::begin(paths, selection);
    if once { print_once(watch, &ui, &interrupt) } else { screen::show(watch, ui, &interrupt) }
}

fn print_once(mut watch: Watch, ui: &Ui, interrupt: &Interrupt) -> Outcome {
    // What there is to compare with.
    watch.refresh(ui.interval);
    let begun = Instant::now();
    while begun.elapsed() < ui.interval {
        if let Some(signal) = interrupt.signal() {
            return Ok(End::Stopped(signal));
        }
        thread::sleep(PAUSE.min(ui.interval.saturating_sub(begun.elapsed())));
        watch.poll();
    }
    let snapshot = watch.refresh(ui.interval);
    print(&view::text(WIDTH, &snapshot, ui))?;
    for problem in &snapshot.problems {
        complain(Style::Bad, "error", &format!("cannot read {problem}"));
    }
    Ok(if snapshot.problems.is_empty() { End::Done } else { End::Failed })
}
