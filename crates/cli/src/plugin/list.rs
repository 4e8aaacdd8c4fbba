// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry plugin list`: every exporter that could be named.

use std::path::{Path, PathBuf};

use nixl_telemetry_loader::Candidate;
use nixl_telemetry_settings::Settings;

use crate::common::end::{End, Outcome};
use crate::common::table::{Side, Table};
use crate::common::terminal::Sheet;
use crate::common::{help, nixl, plugins};

/// List the exporters this machine has, and where they are looked for
///
/// That is where `demo` and every program on this project's collector look. NIXL itself looks into one directory only:
/// see `nixl-telemetry nixl detect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[nixl_telemetry_loader::SETTINGS]))]
pub(crate) struct Arguments {
    /// A directory to look into first; may be repeated
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    #[command(flatten)]
    nixl: nixl::Choice,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry plugin list
  nixl-telemetry plugin list --plugin-dir target/release --nixl /opt/venv";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let nixl = match arguments.nixl.find() {
        Err(error) if arguments.nixl.is_made() => return Err(error),
        found => found.ok(),
    };
    let path = plugins::search_path(&arguments.plugin_dir, Settings::process(), nixl.as_ref())?;
    let mut table =
        Table::new([("name", Side::Left), ("kind", Side::Left), ("path", Side::Left), ("note", Side::Left)]);
    table.row(["NOP".to_owned(), "built in".to_owned(), "-".to_owned(), "discards".to_owned()]);
    for plugin in path.list() {
        let note = note(&plugin);
        table.row([plugin.name, kind(&plugin.path), plugin.path.display().to_string(), note]);
    }
    let mut sheet = Sheet::new();
    sheet.heading("exporters");
    sheet.text(table.render());
    sheet.text("");
    sheet.heading("directories, in the order they are searched");
    for directory in path.directories() {
        let missing = if directory.is_dir() { "" } else { " (does not exist)" };
        sheet.text(format_args!("  {}{missing}", directory.display()));
    }
    sheet.print()?;
    Ok(End::Done)
}

fn kind(file: &Path) -> String {
    match nixl_telemetry_loader::inspect(file) {
        Ok(plugin) if !plugin.exports_init => "no plugin".to_owned(),
        Ok(plugin) => match plugin.upstream {
            Some(upstream) => format!("NIXL {}", upstream.releases),
            None => plugin.language.to_string(),
        },
        Err(error) => error.to_string(),
    }
}

fn note(plugin: &Candidate) -> String {
    // NIXL never looks for files of these names, and neither does this project's collector.
    if ["NOP", "BUFFER"].contains(&plugin.name.as_str()) {
        return "shadowed by the built-in exporter".to_owned();
    }
    if plugin.shadowed { "shadowed by the one above".to_owned() } else { String::new() }
}
