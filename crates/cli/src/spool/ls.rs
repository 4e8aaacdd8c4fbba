// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry spool ls`: which spools there are.

use nixl_telemetry_sdk::queue::spools::Broken;
use serde::Serialize;

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::terminal::{Style, complain, print};
use crate::rings::remark;
use crate::rings::selection::Agents;
use crate::spool::found::{self, Found, Problem};
use crate::spool::which::Which;

/// Show spools, whose they are, what waits in them, and whether their process lives
///
/// An exporter with a queue, such as postgres, keeps the events its sink has not got in the directory SPOOL_DIR names. Its
/// process delivers them; what a process leaves behind is delivered by the next one with the same exporter and directory, or
/// by replay. Nothing is changed, and whoever writes meanwhile is not disturbed.
///
/// Oldest and newest are the times at which the first and the last event that wait came. What cannot be read is told on
/// standard error: queues deliver what is in front of it, and set the file aside.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    agents: Agents,
    /// How spools are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How spools are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns for people
    #[default]
    Text,
    /// One object a line for each spool
    Json,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry spool ls /var/lib/telemetry
  NIXL_TELEMETRY_POSTGRES_SPOOL_DIR=/var/lib/telemetry nixl-telemetry spool ls --format json

Exit codes: 0 done; 1 a file or a directory cannot be read.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { which, agents, format } = arguments;
    let (mut all, errors) = found::look(which.find()?);
    errors.iter().for_each(|error| complain(Style::Bad, "error", &human::line(error)));
    // One that does not say whose it is might be anybody's.
    all.retain(|found| found.agent().is_none_or(|agent| agents.wants(agent)));
    match format {
        Format::Text => print(&as_text(&all))?,
        Format::Json => print(&all.iter().map(as_json).collect::<String>())?,
    }
    all.iter().for_each(Found::complain);
    Ok(if errors.is_empty() && !all.iter().any(Found::is_damaged) { End::Done } else { End::Failed })
}

fn as_text(all: &[Found]) -> String {
    let rows: Vec<_> = all.iter().collect();
    let table = if rows.is_empty() { String::new() } else { found::table(&rows) + "\n" };
    let (events, bytes) = (all.iter().map(Found::waiting).sum(), all.iter().map(|found| found.bytes).sum::<u64>());
    let in_use = all.iter().filter(|found| found.writer.is_some()).count();
    let in_use = if in_use > 0 {
        format!(", {} in use by a living process", human::count(in_use as u64))
    } else {
        String::new()
    };
    let (spools, events, bytes) = (found::spools(all.len()), remark::events(events), human::bytes(bytes as f64));
    format!("{table}{spools} with {events} that wait, {bytes}{in_use}\n")
}

/// A spool as JSON has it.
#[derive(Serialize)]
struct Object<'a> {
    directory: String,
    sink: &'a str,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    /// The process whose events they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// `in_use` or `left`.
    state: &'static str,
    /// The process that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<u32>,
    segments: usize,
    bytes: u64,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_us: Option<u64>,
    problems: Vec<ProblemObject>,
}

#[derive(Serialize)]
struct ProblemObject {
    file: String,
    error: String,
    /// Of a segment that another version wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
}

impl ProblemObject {
    fn of(Problem { path, error }: &Problem) -> Self {
        let version = match error {
            Broken::Version(version) => Some(*version),
            _ => None,
        };
        Self { file: path.display().to_string(), error: error.to_string(), version }
    }
}

fn as_json(found: &Found) -> String {
    let (oldest_us, newest_us) = found.span.unzip();
    let whose = found.whose.as_ref();
    let object = Object {
        directory: found.directory.display().to_string(),
        sink: found.spool.sink(),
        origin: found.spool.origin().to_string(),
        agent: found.agent(),
        hostname: whose.map(|whose| whose.hostname.as_str()),
        pid: whose.map(|whose| whose.pid),
        state: if found.writer.is_some() { "in_use" } else { "left" },
        writer: found.writer.filter(|process| *process != 0),
        segments: found.segments.len(),
        bytes: found.bytes,
        events: found.waiting(),
        oldest_us,
        newest_us,
        problems: found.problems.iter().map(ProblemObject::of).collect(),
    };
    serde_json::to_string(&object).expect("texts and numbers are JSON") + "\n"
}
