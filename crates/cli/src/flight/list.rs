// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry flight list`: recorders and their dumps.

use std::path::PathBuf;

use anyhow::Context as _;
use nixl_telemetry_event::unescape_file_name;
use nixl_telemetry_ring::DumpName;
use serde::Serialize;

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Style, complain, print};
use crate::flight::recorder::{Contents, DUMPS, Recorder, State, Which};

/// Show flight recorders, who writes them, what they hold, and the dumps that were made of them
///
/// Nothing is changed. A recorder whose process has ended stays as it is until the next agent of its name begins, which
/// saves it as a dump.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Directory of dumps [default: the folder dumps in DIR]
    #[arg(long, value_name = "DIR")]
    dumps: Option<PathBuf>,
    /// Print one JSON object a line: recorders first, then dumps
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry flight list /var/lib/telemetry
  nixl-telemetry flight list --agent 'prefill-*' --json /var/lib/telemetry

Exit codes: 0 done; 1 a file or the directory cannot be read.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { which, dumps, json } = arguments;
    let (recorders, mut problems) = which.recorders()?;
    let directory = dumps.clone().unwrap_or_else(|| which.directory.join(DUMPS));
    let names = DumpName::all(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut dumps = Vec::new();
    for name in names.into_iter().filter(|name| which.wants(&name.recorder)) {
        let path = directory.join(name.to_string());
        match Contents::of(&path) {
            Ok(contents) => dumps.push(Dump { name, path, contents }),
            Err(error) if error.is_absent() => {}
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    print(&if *json { as_json(&recorders, &dumps) } else { as_text(which, &recorders, &dumps) })?;
    for problem in &problems {
        complain(Style::Bad, "error", &human::line(problem));
    }
    Ok(if problems.is_empty() { End::Done } else { End::Failed })
}

#[derive(Debug)]
struct Dump {
    name: DumpName,
    path: PathBuf,
    contents: Contents,
}

fn as_text(which: &Which, recorders: &[Recorder], dumps: &[Dump]) -> String {
    let mut parts = Vec::new();
    if recorders.is_empty() {
        parts.push(format!("no recorders in {}", human::line(&which.directory.display().to_string())));
    } else {
        let mut table = Table::new([
            ("recorder", Side::Left),
            ("process", Side::Left),
            ("events", Side::Right),
            ("first", Side::Left),
            ("last", Side::Left),
            ("size", Side::Right),
        ]);
        for Recorder { name, state, contents, .. } in recorders {
            let state = match state {
                State::Alive(0) => "alive, elsewhere".to_owned(),
                State::Alive(process) => process.to_string(),
                State::Ended => "ended".to_owned(),
                State::Unknown => "unknown".to_owned(),
            };
            let [first, last] = contents.span_text();
            let size = human::bytes(contents.bytes as f64);
            table.row([human::line(name), state, human::count(contents.events), first, last, size]);
        }
        parts.push(table.render());
    }
    if !dumps.is_empty() {
        let mut table = Table::new([
            ("dump of", Side::Left),
            ("made", Side::Left),
            ("reason", Side::Left),
            ("events", Side::Right),
            ("first", Side::Left),
            ("last", Side::Left),
            ("size", Side::Right),
        ]);
        for Dump { name, contents, .. } in dumps {
            let [first, last] = contents.span_text();
            let size = human::bytes(contents.bytes as f64);
            let (recorder, reason) = (human::line(&name.recorder), name.reason.to_string());
            table.row([recorder, name.time.clone(), reason, human::count(contents.events), first, last, size]);
        }
        parts.push(table.render());
    }
    parts.join("\n\n") + "\n"
}

#[derive(Serialize)]
struct RecorderObject {
    recorder: String,
    agent: String,
    /// `alive`, `ended` or `unknown`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(flatten)]
    contents: ContentsObject,
}

#[derive(Serialize)]
struct DumpObject<'a> {
    dump: String,
    agent: String,
    reason: &'static str,
    made: &'a str,
    #[serde(flatten)]
    contents: ContentsObject,
}

#[derive(Serialize)]
struct ContentsObject {
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_us: Option<u64>,
    slots: u64,
    bytes: u64,
}

impl ContentsObject {
    fn of(contents: &Contents) -> Self {
        let Contents { events, span, slots, bytes } = *contents;
        let (first_us, last_us) = span.unzip();
        Self { events, first_us, last_us, slots, bytes }
    }
}

fn as_json(recorders: &[Recorder], dumps: &[Dump]) -> String {
    let recorders = recorders.iter().map(|recorder| {
        let (state, pid) = match recorder.state {
            State::Alive(process) => ("alive", Some(process).filter(|process| *process != 0)),
            State::Ended => ("ended", None),
            State::Unknown => ("unknown", None),
        };
        let (path, contents) = (recorder.path.display().to_string(), ContentsObject::of(&recorder.contents));
        serde_json::to_string(&RecorderObject { recorder: path, agent: recorder.agent(), state, pid, contents })
    });
    let dumps = dumps.iter().map(|Dump { name, path, contents }| {
        serde_json::to_string(&DumpObject {
            dump: path.display().to_string(),
            agent: unescape_file_name(&name.recorder),
            reason: name.reason.as_str(),
            made: &name.time,
            contents: ContentsObject::of(contents),
        })
    });
    recorders.chain(dumps).map(|line| line.expect("texts and numbers are JSON") + "\n").collect()
}
