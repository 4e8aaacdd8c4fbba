// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry read`: the events that ring files hold.

use nixl_telemetry_ring::Change;

use crate::common::end::{End, Outcome};
use crate::common::terminal::Unprintable;
use crate::rings;
use crate::rings::once::once;
use crate::rings::printer::Printer;
use crate::rings::remark::{self, Remarks};

/// Print the events that ring files hold
///
/// NIXL's exporter BUFFER keeps the events of each agent in a file of NIXL_TELEMETRY_DIR that is named after the agent, until
/// somebody takes them out. This command prints those that wait, of NIXL 0.9 to 1.5, file by file, and ends. It leaves the
/// files as they are, so that any number of readers see the same events, unless --consume says otherwise.
///
/// A full file takes no new events: NIXL drops them. With --consume, events are taken out once they are written to standard
/// output. One reader of a file can do that, this command or another: of two, each gets a part of the events.
///
/// Only files of NIXL 0.9 to 1.0 (ring version 1) say when events were. Elsewhere the time is - in text, and left out in JSON
/// and CSV. docs/event.md describes both.
///
/// Events that were lost, and files that cannot be read, are told on standard error. In a directory, files that are no rings
/// at all are passed over.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: rings::reading::Reading,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry read /tmp/telemetry                         all agents of a directory
  nixl-telemetry read /tmp/telemetry/prefill-0 --event 'agent_err_*,agent_telemetry_*'
  nixl-telemetry read --format csv --agent 'decode-*' /tmp/telemetry > events.csv
  nixl-telemetry read --format json --consume /tmp/telemetry >> events.jsonl

Exit codes: 0 everything there is was read, also if that is nothing; 1 a file could not be.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let what = &arguments.what;
    let (mut printer, mut remarks) = (Printer::new(what)?, Remarks::default());
    let is_sound = once(&what.paths, &what.selection, what.mode(), |follower, change| {
        if let Change::Events(batch) = change {
            remarks.batch(follower, batch, what.mode());
            printer.print(follower, batch, batch.len(), None)?;
        }
        Ok::<_, Unprintable>(())
    })?;
    remark::left_out(printer.take_left_out());
    Ok(if is_sound { End::Done } else { End::Failed })
}
