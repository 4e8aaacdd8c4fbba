// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry nixl detect`: which NIXL is here, what it is, and what is in its plugin directory.

use std::path::Path;

use nixl_telemetry_loader::{PLUGIN_DIR, SearchPath};
use nixl_telemetry_nixl::Found;
use nixl_telemetry_settings::Settings;

use crate::common::end::{End, Outcome};
use crate::common::host::Judgement;
use crate::common::nixl;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Sheet, Stream, Style, paint};
use crate::common::{elf, help};
use crate::install::manifest::{Folder, State};

/// Say which NIXL is found, of which generation it is, and which exporters are in it
///
/// Nothing of NIXL is loaded: its generation is read off the symbols of libnixl.so, as exporters do at run time. The exit
/// code is 1 if there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[&[&PLUGIN_DIR]]))]
pub(crate) struct Arguments {
    #[command(flatten)]
    nixl: nixl::Choice,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry nixl detect
  nixl-telemetry nixl detect --nixl /opt/venv";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let places = arguments.nixl.places();
    let chosen = places.iter().position(|place| place.answer.is_ok());
    let mut sheet = Sheet::new();
    match chosen.and_then(|index| places[index].answer.as_ref().ok()) {
        Some(nixl) => describe(&mut sheet, nixl)?,
        None => sheet.heading(&paint(Stream::Out, Style::Bad, "no NIXL found")),
    }
    sheet.text("");
    sheet.heading("looked at");
    for (index, place) in places.iter().enumerate() {
        let verdict = match chosen {
            Some(chosen) if index == chosen => "chosen",
            Some(chosen) if index > chosen && place.answer.is_ok() => "later",
            _ => "no",
        };
        sheet.text(format_args!("  {verdict:<7} {place}"));
    }
    sheet.print()?;
    Ok(if chosen.is_some() { End::Done } else { End::Failed })
}

fn describe(sheet: &mut Sheet, nixl: &Found) -> anyhow::Result<()> {
    let judgement = Judgement::of(&elf::defined_symbols(&nixl.libnixl())?);
    sheet.heading(&format!("NIXL in {}", nixl.folder().display()));
    sheet.line("version", nixl.version().unwrap_or_else(|| "unknown: it does not lie in a wheel".to_owned()));
    sheet.line("generation", judgement.words());
    sheet.line("  it has", list(judgement.defined()));
    sheet.line("  and not", list(judgement.missing()));
    if let Some(host) = judgement.generation() {
        let hooks = if host.has_batch_hooks() { "batches announced" } else { "batches not announced" };
        let drops = if host.counts_drops() { "drops counted" } else { "drops not counted" };
        sheet.line(
            "plugins get",
            format!("plugin API {}, {:?} events, {hooks}, {drops}", host.plugin_api(), host.layout()),
        );
    }
    let capi = nixl.capi().map(|path| path.display().to_string());
    sheet.line("C API", capi.unwrap_or_else(|_| "none, as in releases up to 0.10.0".to_owned()));
    sheet.line("plugins", nixl.plugins().display());
    if let Some(found) = Settings::process().find(&PLUGIN_DIR)? {
        let instead = format!(
            "{} is set ({}): NIXL looks into {} instead",
            PLUGIN_DIR.name(),
            found.origin,
            found.value.display()
        );
        sheet.line("", paint(Stream::Out, Style::Odd, &instead));
    }
    sheet.text("");
    sheet.heading("exporters in it");
    sheet.text(exporters(&nixl.plugins()));
    Ok(())
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join("\n                 ") }
}

fn exporters(folder: &Path) -> String {
    if !folder.is_dir() {
        return format!("  none: {} does not exist", folder.display());
    }
    let manifest = match Folder::new(folder).manifest() {
        Ok(manifest) => manifest,
        Err(error) => return format!("  {error:#}"),
    };
    let mut table = Table::new([("name", Side::Left), ("file", Side::Left)]);
    for plugin in SearchPath::new([folder]).list() {
        let words = match manifest.plugins.get(&plugin.name) {
            None => match nixl_telemetry_loader::inspect(&plugin.path) {
                Ok(inspection) => match inspection.upstream {
                    Some(upstream) => format!("NIXL's own, of {}", upstream.releases),
                    None if inspection.exports_init => "somebody's, not installed by nixl-telemetry".to_owned(),
                    None => "no plugin: it does not export nixl_telemetry_plugin_init".to_owned(),
                },
                Err(error) => format!("no plugin: {error}"),
            },
            Some(entry) => match Folder::new(folder).state(&plugin.name, entry) {
                Ok(State::Ours) => "installed by nixl-telemetry".to_owned(),
                Ok(State::Original) => "what was there before nixl-telemetry".to_owned(),
                Ok(_) => "installed by nixl-telemetry and changed since".to_owned(),
                Err(error) => format!("{error:#}"),
            },
        };
        table.row([plugin.name, words]);
    }
    table.render()
}
