// SPDX-License-Identifier: Apache-2.0

//! A list of settings as text.

use crate::{Describe, Description};

/// A Markdown table of the settings, in their order, with a line feed at the end of each row.
pub fn markdown_table(settings: &[&dyn Describe]) -> String {
    let mut table = String::from("| Variable | Type | Default | Meaning |\n|---|---|---|---|\n");
    for setting in settings {
        let about = setting.describe();
        let default = match about.default {
            Some("") => "empty".to_owned(),
            Some(default) => format!("`{}`", cell(default)),
            None if about.required => "none, required".to_owned(),
            None => "none".to_owned(),
        };
        table.push_str(&format!("| `{}` | {} | {default} | {} |\n", about.name, type_and_unit(about), cell(about.doc)));
    }
    table
}

/// The settings as indented plain text for `--help`, in their order, with a line feed at the end of each line.
///
/// ```text
/// NIXL_TELEMETRY_BUFFER_SIZE (u64, default 4096)
///     Events kept between two flushes.
/// ```
pub fn help_text(settings: &[&dyn Describe]) -> String {
    let mut help = String::new();
    for setting in settings {
        let about = setting.describe();
        let presence = match about.default {
            Some("") => ", default empty".to_owned(),
            Some(default) => format!(", default {default}"),
            None if about.required => ", required".to_owned(),
            None => String::new(),
        };
        help.push_str(&format!("{} ({}{presence})\n    {}\n", about.name, type_and_unit(about), about.doc));
    }
    help
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// `u64, bytes`, or the type alone where nothing is counted.
fn type_and_unit(about: &Description) -> String {
    match about.unit {
        "" => about.type_name.to_owned(),
        unit => format!("{}, {unit}", about.type_name),
    }
}
