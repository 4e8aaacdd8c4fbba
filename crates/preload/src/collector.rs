// SPDX-License-Identifier: Apache-2.0

//! The collector of one agent: ours, with the exporters of two places.

use std::path::{Path, PathBuf};

use nixl_telemetry_event::Generation;
use nixl_telemetry_host::settings::ENABLE;
use nixl_telemetry_host::{Collector, Error};
use nixl_telemetry_loader::{PLUGIN_DIR, PLUGIN_PATH, SearchPath};
use nixl_telemetry_settings::Settings;

use crate::object::Agent;

/// The telemetry of an agent that has it on: every release decides that before it calls its collector.
///
/// `exporter` is one that the caller names, instead of the settings; `generation` is the caller's. `None`, after a log line, if the system gives no
/// thread.
pub(crate) fn collect(
    agent: &str,
    exporter: Option<&str>,
    settings: Settings,
    path: SearchPath,
    generation: Generation,
) -> Result<Option<Agent>, Error> {
    let settings = settings.with_override(ENABLE.name(), "y");
    let mut builder = Collector::builder(agent).settings(settings).search_path(path).generation(generation);
    if let Some(exporter) = exporter {
        builder = builder.exporter(exporter);
    }
    let collector = builder.build()?;
    Ok(collector.map(Agent::new))
}

/// Where exporters are looked for: the directories the user names, ours, NIXL's.
pub(crate) fn search_path(settings: &Settings, ours: Option<PathBuf>, library: Option<&Path>) -> SearchPath {
    // What is malformed or unreadable names no directory; the collector complains about the file.
    let first = settings.find(&PLUGIN_PATH).ok().flatten().map(|found| found.value.0).unwrap_or_default();
    let named = settings.find(&PLUGIN_DIR).ok().flatten().map(|found| found.value);
    let beside = || Some(library?.parent()?.join("plugins"));
    SearchPath::new(first.into_iter().chain(ours).chain(named.or_else(beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_their_order() {
        let check = |pairs: &[(&str, &str)], expected: &[&str]| {
            let settings = Settings::from_pairs(pairs.iter().copied());
            let path = search_path(&settings, Some("/ours".into()), Some(Path::new("/nixl/libnixl.so")));
            assert_eq!(path.directories(), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{pairs:?}");
        };
        check(&[], &["/ours", "/nixl/plugins"]);
        check(&[("NIXL_PLUGIN_DIR", "/p")], &["/ours", "/p"]);
        check(&[("NIXL_TELEMETRY_PLUGIN_PATH", "/a:/b"), ("NIXL_PLUGIN_DIR", "/p")], &["/a", "/b", "/ours", "/p"]);
    }
}
