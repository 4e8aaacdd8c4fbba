// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry plugin inspect`: what one plugin file is, and where it works.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nixl_telemetry_abi::raw;
use nixl_telemetry_event::Generation;
use nixl_telemetry_loader::{Inspection, SLOTS_SYMBOL};

use crate::common::elf;
use crate::common::end::{End, Outcome};
use crate::common::table::{Side, Table};
use crate::common::terminal::{Sheet, Stream, Style, complain, paint};
use crate::plugin::fit::fit;
use crate::plugin::probe::{self, Answer};

/// Say what a plugin is, and which hosts it fits
///
/// First the file is read, which runs no code of it; then it is loaded, in a process of its own, as a host would. The
/// exit code is 0 if every file is a plugin that loads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Plugin files, libtelemetry_exporter_NAME.so
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only read the file, and run no code of it
    #[arg(long)]
    no_load: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry plugin inspect target/release/libtelemetry_exporter_csv.so
  nixl-telemetry plugin inspect --no-load downloads/*.so";

const KNOWN_EXPORTS: [&str; 4] = [raw::INIT_SYMBOL, raw::FINI_SYMBOL, raw::NEGOTIATE_SYMBOL, SLOTS_SYMBOL];

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut sheet = Sheet::new();
    let mut end = End::Done;
    for (index, file) in arguments.files.iter().enumerate() {
        if index > 0 {
            sheet.text("");
        }
        match describe(&mut sheet, file, !arguments.no_load) {
            Ok(true) => {}
            Ok(false) => end = End::Failed,
            Err(error) => {
                sheet.line("", paint(Stream::Out, Style::Bad, &format!("{error:#}")));
                end = End::Failed;
            }
        }
    }
    sheet.print()?;
    if end == End::Failed {
        complain(Style::Bad, "error", "not every file is a plugin that works");
    }
    Ok(end)
}

/// Whether the file is a plugin that works.
fn describe(sheet: &mut Sheet, file: &Path, load: bool) -> anyhow::Result<bool> {
    sheet.heading(&file.display().to_string());
    let plugin = nixl_telemetry_loader::inspect(file)?;
    anyhow::ensure!(plugin.exports_init, "no telemetry plugin: it does not export {}", raw::INIT_SYMBOL);
    describe_file(sheet, &plugin, &elf::defined_symbols(file)?);
    let answer = if load { Some(probe::probe(file)?) } else { None };
    let (mut api, mut works) = (None, true);
    match &answer {
        None => sheet.line("loading", "left out"),
        Some(Answer::Loaded { name, version, api: loaded, form, hooks }) => {
            // A negotiated version says nothing about what a stock host would be told.
            api = Some(*loaded).filter(|_| !plugin.negotiates);
            sheet.line("calls itself", format!("{name} {version}"));
            sheet.line("plugin API", version_in_words(*loaded, plugin.negotiates));
            let hooks = if *hooks { "with batch hooks" } else { "without batch hooks" };
            sheet.line("fed here", format!("{form} events, {hooks}"));
        }
        Some(Answer::Refused(reason)) => {
            works = false;
            sheet.line("loading", paint(Stream::Out, Style::Bad, reason));
        }
    }
    let columns = [("host", Side::Left), ("releases", Side::Left), ("fits", Side::Left), ("because", Side::Left)];
    let mut table = Table::new(columns);
    for host in Generation::ALL {
        let fit = fit(&plugin, api, host);
        table.row([format!("NIXL {host}"), host.releases().to_owned(), fit.word().to_owned(), fit.to_string()]);
    }
    sheet.text(table.render());
    Ok(works)
}

fn describe_file(sheet: &mut Sheet, plugin: &Inspection, defined: &HashSet<String>) {
    let compilers =
        if plugin.compilers.is_empty() { String::new() } else { format!(" ({})", plugin.compilers.join("; ")) };
    sheet.line("written in", format!("{}{compilers}", plugin.language));
    if let Some(upstream) = &plugin.upstream {
        sheet.line("known as", format!("{} of NIXL {}", upstream.exporter, upstream.releases));
    }
    let exports: Vec<&str> = KNOWN_EXPORTS.into_iter().filter(|&name| defined.contains(name)).collect();
    let others = defined.len() - exports.len();
    let others = match others {
        0 => "nothing else".to_owned(),
        1 => "1 other symbol".to_owned(),
        _ => format!("{others} other symbols"),
    };
    sheet.line(
        "exports",
        [exports.join(", "), others].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "),
    );
    sheet.line("needs", if plugin.needed.is_empty() { "no library".to_owned() } else { plugin.needed.join(", ") });
    let of_nixl = match plugin.undefined_nixl.as_slice() {
        [] => "no symbol".to_owned(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    };
    sheet.line("needs of NIXL", of_nixl);
    let slots = match plugin.slots {
        _ if plugin.negotiates => "5, with the batch hooks (by the SDK)".to_owned(),
        Some(slots) => {
            format!("{slots}, {} the batch hooks", if plugin.batch_hooks() == Some(true) { "with" } else { "without" })
        }
        None => format!("unknown; {SLOTS_SYMBOL} would tell"),
    };
    sheet.line("vtable slots", slots);
    if let Some(id) = &plugin.build_id {
        sheet.line("build ID", id);
    }
}

fn version_in_words(version: u32, negotiated: bool) -> String {
    if negotiated {
        format!("{version:#x}, negotiated; to NIXL it is 1 or 2, as the host demands")
    } else {
        version.to_string()
    }
}
