// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry flight dump`: what recorders hold now, into files that stay as they are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nixl_telemetry_ring::{Dumped, Place, Reason};
use serde::Serialize;

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::terminal::{Style, complain, print};
use crate::flight::recorder::{Contents, DUMPS, Recorder, Which};

/// Copy what flight recorders hold now into files that stay as they are
///
/// Recorders of living processes go on meanwhile and do not notice; those of processes that have ended are as good. A copy is
/// named AGENT.TIME.request.ring, and can be read like any ring file. These copies stay until somebody removes them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Directory to put them into [default: the folder dumps in DIR]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Wait so long first, so that what has just happened is in: NIXL exports its events every 100 ms
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    wait: Option<Duration>,
    /// Print one JSON object a line for each copy
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry flight dump /var/lib/telemetry
  nixl-telemetry flight dump --agent 'prefill-*' --wait 1 --to /tmp/evidence /var/lib/telemetry

Exit codes: 0 done; 1 a recorder cannot be copied, or there is none.";

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| *time <= Duration::from_secs(3600))
        .ok_or_else(|| "expected seconds from 0 to 3600".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { which, to, wait, json } = arguments;
    thread::sleep(wait.unwrap_or_default());
    let (recorders, problems) = which.recorders()?;
    let mut complaints = problems;
    if recorders.is_empty() && complaints.is_empty() {
        bail!("no such recorders in {}", which.directory.display());
    }
    let to = to.clone().unwrap_or_else(|| which.directory.join(DUMPS));
    for recorder in &recorders {
        if recorder.contents.events == 0 {
            if !json {
                print(&format!("{}: holds no events\n", human::line(&recorder.name)))?;
            }
            continue;
        }
        match copy(recorder, &to) {
            Ok(copied) if *json => print(&as_json(recorder, &copied))?,
            Ok(copied) => print(&as_text(recorder, &copied))?,
            Err(error) => complaints.push(format!("{}: {error:#}", recorder.path.display())),
        }
    }
    for problem in &complaints {
        complain(Style::Bad, "error", &human::line(problem));
    }
    Ok(if complaints.is_empty() { End::Done } else { End::Failed })
}

struct Copied {
    dumped: Dumped,
    contents: Contents,
}

fn copy(recorder: &Recorder, to: &Path) -> anyhow::Result<Copied> {
    let recorded = fs::metadata(&recorder.path)?;
    make_directory(to, &recorded).with_context(|| format!("cannot make {}", to.display()))?;
    let place = Place { directory: to, reason: Reason::Request, mode: recorded.mode() & 0o777 };
    let dumped = nixl_telemetry_ring::dump(&recorder.path, &place)?;
    let contents = Contents::of(&dumped.path)?;
    Ok(Copied { dumped, contents })
}

/// Makes the directory if it is not there, for the recorder's owner: root must not keep him from his own dumps.
fn make_directory(directory: &Path, recorded: &fs::Metadata) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) if fs::metadata(directory)?.uid() != recorded.uid() => {
            chown(directory, Some(recorded.uid()), Some(recorded.gid()))
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn as_text(recorder: &Recorder, Copied { dumped, contents }: &Copied) -> String {
    let (name, path) = (human::line(&recorder.name), human::line(&dumped.path.display().to_string()));
    let (events, [first, last]) = (human::count(contents.events), contents.span_text());
    let mut line = format!("{name}: {events} events from {first} to {last} in {path}");
    if dumped.lost.is_some() {
        let at_least = if dumped.lost.or_more { "at least " } else { "" };
        line += &format!(", without {at_least}{} overwritten meanwhile", human::count(dumped.lost.events));
    }
    line + "\n"
}

#[derive(Serialize)]
struct Object {
    recorder: String,
    agent: String,
    dump: String,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_us: Option<u64>,
    /// Events that were overwritten before they could be copied.
    overwritten: u64,
    bytes: u64,
}

fn as_json(recorder: &Recorder, Copied { dumped, contents }: &Copied) -> String {
    let (first_us, last_us) = contents.span.unzip();
    let object = Object {
        recorder: recorder.path.display().to_string(),
        agent: recorder.agent(),
        dump: dumped.path.display().to_string(),
        events: dumped.events,
        first_us,
        last_us,
        overwritten: dumped.lost.events,
        bytes: dumped.size,
    };
    serde_json::to_string(&object).expect("texts and numbers are JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read() {
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_seconds("3600"), Ok(Duration::from_secs(3600)));
        for text in ["", "-1", "1s", "NaN", "3601", "inf"] {
            assert_eq!(parse_seconds(text).unwrap_err(), "expected seconds from 0 to 3600", "{text}");
        }
    }
}
