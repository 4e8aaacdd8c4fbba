// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry recover`: what dead processes left in their journals, through exporters.

mod journal;
mod list;
mod report;

use std::iter;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use nixl_telemetry_host::settings::{EXPORTER, JOURNAL_DIR, ON_ERROR};
use nixl_telemetry_settings::Settings;

use crate::common::end::{End, Outcome, usage};
use crate::common::{again, help, nixl, plugins};
use crate::recover::journal::Way;
use crate::recover::report::Report;

/// Export what processes had not exported when they died
///
/// A process that runs with NIXL_TELEMETRY_JOURNAL_DIR keeps the events that wait for its exporters in a file there, its
/// journal. If it ends, it removes the journal; if it is killed or crashes, the journal stays, with every event that was
/// recorded and not exported, unless the machine went down with it. This command exports those, journal by journal in order
/// of their names, and removes each journal of which everything was exported. Journals of living processes are left alone.
///
/// Events go through the exporters the dead process had, unless --exporter says others. Exporters take their settings from
/// the environment of this command, with --set over it: it has to be the one the dead process had, where events are to go
/// to the same place.
///
/// What an exporter fails at stays in the journal, for the next time, and so does everything if Ctrl-C, or a kill, ends this
/// command: the next one goes on where it ended. A batch that was under way then, or when the process died, is exported
/// again. csv and jsonl write each row once all the same; other exporters may have those events twice.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[&[&JOURNAL_DIR], nixl_telemetry_loader::SETTINGS]))]
pub(crate) struct Arguments {
    /// Journals, and directories of them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Exporters to use, separated by commas; NOP discards [default: those each journal names]
    #[arg(long, value_name = "NAME[,NAME]", value_parser = NonEmptyStringValueParser::new())]
    exporter: Option<String>,
    /// An environment variable for the exporters, over those of this environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::demo::parse_setting)]
    settings: Vec<(String, String)>,
    /// A directory to look for plugins in first; may be repeated
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// Only say what is there
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a line for each journal
    #[arg(long)]
    json: bool,
    /// The environment is made
    #[arg(long, hide = true)]
    prepared: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry recover --dry-run /var/lib/telemetry        what is there
  nixl-telemetry recover --set NIXL_TELEMETRY_CSV_FILE=/tmp/{agent}.csv /var/lib/telemetry
  nixl-telemetry recover --exporter csv --json /var/lib/telemetry/nixl.4711.*.journal
  nixl-telemetry recover --exporter NOP /var/lib/telemetry   throw it away

Exit codes: 0 everything was exported, or there was nothing to export; 1 something was not; 130 ended by Ctrl-C.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.settings.iter().any(|(name, _)| name == EXPORTER.name()) {
        usage(
            ErrorKind::ArgumentConflict,
            "NIXL_TELEMETRY_EXPORTER has no say in what is recovered: expected --exporter",
        );
    }
    let exporters = plugins::names(arguments.exporter.as_deref().unwrap_or_default())?;
    if !arguments.prepared {
        // In a program, an exporter that cannot be had is not worth failing for; here nothing is lost if it fails.
        let strict = (ON_ERROR.name(), "fail");
        let given = arguments.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        return Err(again::start(1, iter::once("--prepared".into()), iter::once(strict).chain(given)));
    }
    let (found, unreadable) = list::journals(&arguments.paths);
    let mut report = Report::new(arguments.json, arguments.dry_run);
    for problem in &unreadable {
        report.complain(problem);
    }
    let way = if arguments.dry_run {
        None
    } else {
        let settings = Settings::process();
        let nixl = nixl::Choice::default().find().ok();
        Some(Way { exporters, settings, path: plugins::search_path(&arguments.plugin_dir, settings, nixl.as_ref())? })
    };
    for path in found {
        if let Some(journal) = journal::look(&path, way.as_ref()) {
            report.add(&journal)?;
        }
    }
    Ok(if report.finish()? { End::Done } else { End::Failed })
}
