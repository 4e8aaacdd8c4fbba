// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry spool replay`: what dead processes left in spools, through exporters.
//!
//! An exporter with a queue delivers what others left as soon as there is one; all this has to do is to make one and to
//! watch. It watches through files that were opened before: a process loses its locks with any descriptor it closes.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nixl_telemetry_event::BatchId;
use nixl_telemetry_host::settings::ON_ERROR;
use nixl_telemetry_loader::{Exporter, Plugin};
use nixl_telemetry_sdk::queue::spools::Progress;
use nixl_telemetry_settings::Settings;

use crate::common::end::{End, Outcome};
use crate::common::interrupt::Interrupt;
use crate::common::progress::{Line, bar};
use crate::common::terminal::{Style, complain, print};
use crate::common::{again, help, human, nixl, plugins};
use crate::rings::remark;
use crate::spool::found::{self, Found, Segment};
use crate::spool::which::Which;

/// Deliver what dead processes left in spools
///
/// Makes an exporter for each sink that has a spool whose process is dead, lets it deliver what is there, and ends when all of
/// it is. Agents, origins and numbers are those of the dead process, so that a sink that has a part of the events takes
/// the rest. Spools of living processes are left alone.
///
/// The exporter is the one of the sink's name, unless --exporter says another. Its settings are those of this environment,
/// with --set over them: they have to be the ones the dead process had, where events are to go to the same place. SPOOL_DIR is
/// set by this command.
///
/// What is not delivered stays, for the next time, also if Ctrl-C ends this. What the sink refuses, and what is older than
/// SPOOL_MAX_AGE allows, if that is set, is lost: it is counted and told, and the exit code is 1. Of a file that is damaged, what
/// is in front of the damage is delivered, and the file is set aside.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[nixl_telemetry_loader::SETTINGS]))]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Exporters to use, separated by commas [default: those named like the sinks]
    #[arg(long, value_name = "NAME[,NAME]")]
    exporter: Option<String>,
    /// An environment variable for the exporters, over those of this environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::demo::parse_setting)]
    settings: Vec<(String, String)>,
    /// A directory to look for plugins in first; may be repeated
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// How long nothing may be delivered before it is given up
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = crate::demo::parse_duration)]
    timeout: Duration,
    /// The environment is made
    #[arg(long, hide = true)]
    prepared: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry spool replay /var/lib/telemetry
  nixl-telemetry spool replay --sink postgres --set NIXL_TELEMETRY_POSTGRES_URL=postgres://db/telemetry /var/lib/telemetry

Exit codes: 0 everything was delivered, or there was nothing to deliver; 1 something was not; 130 ended by Ctrl-C.";

/// How often it is looked how far it is.
const TICK: Duration = Duration::from_millis(20);

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let (all, errors) = found::look(arguments.which.find()?);
    let (in_use, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|found| found.writer.is_some());
    let waiting: Vec<_> = left.iter().filter(|found| found.is_deliverable()).collect();
    let directories = directories(&waiting)?;
    if !arguments.prepared && !directories.is_empty() {
        return Err(start_again(arguments, directories));
    }
    if !in_use.is_empty() {
        remark::note(&format!("{} in use by a living process", found::spools(in_use.len())));
    }
    errors.iter().for_each(|error| complain(Style::Bad, "error", &human::line(error)));
    left.iter().for_each(Found::complain);
    let is_sound = errors.is_empty() && !left.iter().any(Found::is_damaged);
    let interrupt = Interrupt::catch().context("cannot catch signals")?;
    let (replay, sinks) = (Replay::of(&waiting)?, directories.into_keys().collect::<Vec<_>>());
    let exporters = exporters(arguments, &sinks)?;
    replay.watch(&interrupt, arguments.timeout);
    // Which lets them note what they have delivered.
    drop(exporters);
    let (left, lost) = (replay.waiting(), replay.lost());
    let delivered = remark::events((replay.all - left).saturating_sub(lost));
    print(&format!("{} replayed with {delivered}\n", found::spools(waiting.len())))?;
    if lost > 0 {
        let what = format!("{} are lost: refused, too old or damaged, as the log tells", remark::events(lost));
        complain(Style::Bad, "error", &what);
    }
    if left > 0 && interrupt.signal().is_none() {
        let timeout = arguments.timeout.as_secs_f64();
        let what = format!("{} are not delivered, and stay: nothing was for {timeout} s", remark::events(left));
        complain(Style::Bad, "error", &what);
    }
    Ok(match interrupt.signal() {
        Some(signal) if left > 0 => End::Stopped(signal),
        _ if left > 0 || lost > 0 || !is_sound => End::Failed,
        _ => End::Done,
    })
}

/// For each sink, the directory of its spools.
fn directories(waiting: &[&Found]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut directories = BTreeMap::new();
    for Found { directory, spool, .. } in waiting {
        let other = directories.insert(spool.sink().to_owned(), directory.clone());
        if let Some(other) = other.filter(|other| other != directory) {
            let (sink, directory, other) = (spool.sink(), directory.display(), other.display());
            bail!("{sink} has spools in {other} and in {directory}: expected one DIR");
        }
    }
    Ok(directories)
}

fn start_again(arguments: &Arguments, directories: BTreeMap<String, PathBuf>) -> anyhow::Error {
    let directories = directories.into_iter().map(|(sink, directory)| {
        (format!("NIXL_TELEMETRY_{}_SPOOL_DIR", sink.to_ascii_uppercase()), directory.into_os_string())
    });
    let given = arguments.settings.iter().map(|(name, value)| (name.clone(), value.into()));
    // In a program, an exporter that cannot be had is not worth failing for; here nothing is lost if it fails.
    let strict = (ON_ERROR.name().to_owned(), "fail".into());
    again::start(2, iter::once("--prepared".into()), iter::once(strict).chain(given).chain(directories))
}

/// One of each exporter, which begins at once.
fn exporters(arguments: &Arguments, sinks: &[String]) -> anyhow::Result<Vec<Exporter>> {
    if sinks.is_empty() {
        return Ok(Vec::new());
    }
    let names = match &arguments.exporter {
        Some(names) => plugins::names(names)?,
        None => sinks.to_vec(),
    };
    let nixl = nixl::Choice::default().find().ok();
    let path = plugins::search_path(&arguments.plugin_dir, Settings::process(), nixl.as_ref())?;
    let exporter = |name: &String| {
        let plugin = Plugin::find(name, &path)?;
        let exporter = plugin.create_exporter("nixl-telemetry-replay", BatchId::MOST_EVENTS as u64);
        exporter.with_context(|| format!("exporter {name:?} cannot be had"))
    };
    names.iter().map(exporter).collect()
}

/// What there was to deliver, and how much of it there still is.
struct Replay {
    spools: Vec<(Progress, Vec<Segment>)>,
    all: u64,
    /// What had been lost before it began.
    lost_before: u64,
}

impl Replay {
    fn of(waiting: &[&Found]) -> anyhow::Result<Self> {
        let of = |found: &&Found| {
            let context = || format!("cannot look at {}", found::name(&found.directory, &found.spool));
            Ok((found.spool.progress().with_context(context)?, found.segments.clone()))
        };
        let spools = waiting.iter().map(of).collect::<anyhow::Result<_>>()?;
        let mut this = Self { spools, all: 0, lost_before: 0 };
        (this.all, this.lost_before) = (this.waiting(), this.lost());
        Ok(this)
    }

    /// Events that were lost in place of being delivered.
    fn lost(&self) -> u64 {
        self.spools.iter().map(|(progress, _)| progress.lost()).sum::<u64>() - self.lost_before
    }

    /// Events that are not delivered.
    fn waiting(&self) -> u64 {
        let of = |(progress, segments): &(Progress, Vec<Segment>)| {
            let next = progress.next();
            let segments = segments.iter().filter(|segment| segment.path.exists());
            let left = |numbers: &Range<u64>| numbers.end.saturating_sub(numbers.start.max(next));
            segments.flat_map(Segment::deliverable).map(left).sum::<u64>()
        };
        self.spools.iter().map(of).sum()
    }

    /// Waits until all is delivered, somebody wants it to end, or nothing was delivered for so long.
    fn watch(&self, interrupt: &Interrupt, timeout: Duration) {
        let (mut line, begun) = (Line::new(), Instant::now());
        let (mut before, mut since) = (self.all, begun);
        loop {
            let waiting = self.waiting();
            if waiting != before {
                (before, since) = (waiting, Instant::now());
            }
            if waiting == 0 || interrupt.signal().is_some() || since.elapsed() >= timeout {
                return;
            }
            let done = self.all - waiting;
            line.show(begun.elapsed(), || {
                let fraction = done as f64 / self.all as f64;
                format!("{} {} of {} events", bar(fraction), human::count(done), human::count(self.all))
            });
            thread::sleep(TICK);
        }
    }
}
