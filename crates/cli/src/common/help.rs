// SPDX-License-Identifier: Apache-2.0

//! Parts of `--help` that are derived from elsewhere.

use nixl_telemetry_settings::{Describe, help_text};

/// Examples, then the environment variables of these lists, as the settings describe themselves.
pub(crate) fn after(examples: &str, settings: &[&[&dyn Describe]]) -> String {
    let all: Vec<&dyn Describe> = settings.iter().flat_map(|list| list.iter().copied()).collect();
    let variables: String = help_text(&all).lines().map(|line| format!("  {line}\n")).collect();
    format!("{examples}\n\nEnvironment (or the same names in NIXL's TOML file):\n{}", variables.trim_end())
}
