// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry spool cat`: the events that wait in spools.

use std::io::Write as _;

use nixl_telemetry_sdk::queue::OriginId;
use nixl_telemetry_sdk::queue::spools::Record;

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::terminal::{Style, Unprintable, complain};
use crate::rings::csv;
use crate::rings::output::Output;
use crate::rings::printer::{Form, Format};
use crate::rings::selection::Selection;
use crate::rings::text::{self, Time};
use crate::spool::found::{self, Found};
use crate::spool::which::Which;

/// Print the events that wait in spools
///
/// Each event as read prints it, with its number before it: in JSON and CSV as origin and sequence, which together no other
/// event has, and by which sinks know what they have; in text with the first digits of the origin.
///
/// Nothing is changed, and whoever writes meanwhile is not disturbed. What is damaged, and what is left of a write that was not
/// finished, is told on standard error and passed over. Of files that queues have set aside all is printed that is sound.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    selection: Selection,
    /// How events are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry spool cat /var/lib/telemetry
  nixl-telemetry spool cat --sink postgres --agent 'prefill-*' --format json /var/lib/telemetry

Exit codes: 0 everything there is was read, also if that is nothing; 1 something could not be.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { which, selection, format } = arguments;
    let (mut printer, mut is_sound) = (Printer::new(*format)?, true);
    for (directory, spool) in which.find()? {
        let (origin, mut form) = (spool.origin(), None::<Form>);
        let name = found::name(&directory, &spool);
        let found = Found::visit(directory, spool, |whose, record| {
            if !selection.wants_agent(&whose.agent) {
                return Ok(());
            }
            let form = form.get_or_insert_with(|| Form::new(*format, &whose.agent));
            printer.print(origin, record, form, selection)
        })?;
        printer.output.flush()?;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                is_sound = false;
                complain(Style::Bad, "error", &human::line(&format!("cannot look at {name}: {error}")));
                continue;
            }
        };
        if found.agent().is_none_or(|agent| selection.wants_agent(agent)) {
            found.complain();
            is_sound &= !found.is_damaged();
        }
    }
    Ok(if is_sound { End::Done } else { End::Failed })
}

/// Writes events with their numbers.
struct Printer {
    text: text::Writer,
    output: Output,
}

impl Printer {
    fn new(format: Format) -> Result<Self, Unprintable> {
        let mut this = Self { text: text::Writer::new(), output: Output::new() };
        if format == Format::Csv {
            this.output.line(|out| out.extend_from_slice(format!("origin,sequence,{}", csv::HEADER).as_bytes()))?;
        }
        this.output.flush()?;
        Ok(this)
    }

    fn print(
        &mut self,
        origin: OriginId,
        record: &Record,
        form: &Form,
        selection: &Selection,
    ) -> Result<(), Unprintable> {
        let Self { text, output } = self;
        for (sequence, event) in (record.sequence()..).zip(record.events()) {
            if !selection.wants(&event) {
                continue;
            }
            // Writing to memory does not fail.
            output.line(|out| match form {
                Form::Json(writer) => {
                    let _ = write!(out, "{{\"origin\":\"{origin}\",\"sequence\":{sequence}");
                    let rest = out.len();
                    writer.write(&event, out);
                    // Where its object began, it goes on.
                    out[rest] = b',';
                }
                Form::Csv(writer) => {
                    let _ = write!(out, "{origin},{sequence},");
                    writer.write(&event, out);
                }
                Form::Text { agent } => {
                    let _ = write!(out, "{:.8} {sequence:>8}  ", origin.to_string());
                    let time = event.timestamp_us().map_or(Time::Unknown, Time::Recorded);
                    text.write(agent, &event, time, out);
                }
            })?;
        }
        Ok(())
    }
}
