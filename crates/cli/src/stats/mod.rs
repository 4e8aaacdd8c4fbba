// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry stats`: what the events of ring files come to.

mod histogram;
mod report;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixl_telemetry_ring::{Change, Mode};

use crate::common::end::{End, Outcome};
use crate::common::terminal::{self, Unprintable};
use crate::rings::once::once;
use crate::rings::selection::Selection;
use crate::stats::report::File;
use crate::stats::tally::Tallies;

/// Sum up the events that ring files hold
///
/// For each file, that is each agent of NIXL, says how many events of each kind wait in it, and what they come to: the sum and
/// the mean, of transfer and post times the median, the 90th and 99th percentile and the maximum; errors by their status; what
/// NIXL's collector reports as dropped. The files are left as they are.
///
/// Percentiles are up to 0.8 percent too high. Everything is about the events that are in the file now: a full one, of which
/// nobody takes anything out, has the oldest, since NIXL drops what comes then.
///
/// With --json, each line is an object: agent, file, version, capacity, unread, full, lost (and at_least where there may be
/// more), first_timestamp_us and last_timestamp_us where the file has times, events, a list of objects of event, category,
/// unit, count, sum, min, max, last and, for times, p50, p90 and p99, errors by status, and dropped. Integers are exact; a sum
/// above 2^64 is a string of digits.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Ring files, and directories of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON object a line for each file
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry stats /tmp/telemetry                        all agents of a directory
  nixl-telemetry stats --event 'agent_xfer_*' /tmp/telemetry/prefill-0
  nixl-telemetry stats --json /tmp/telemetry | jq .errors

Exit codes: 0 everything there is was read, also if that is nothing; 1 a file could not be.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { paths, selection, json } = arguments;
    let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
    let is_sound = once(paths, selection, Mode::Peek, |follower, change| {
        let file = files.entry(follower.path().to_owned()).or_insert_with(|| File::new(follower));
        if let Change::Events(batch) = change {
            file.add(batch, selection);
        }
        Ok::<_, Unprintable>(())
    })?;
    let texts: Vec<String> = files.values().map(|file| if *json { file.json() } else { file.text() }).collect();
    terminal::print(&texts.join(if *json { "" } else { "\n" }))?;
    Ok(if is_sound { End::Done } else { End::Failed })
}
