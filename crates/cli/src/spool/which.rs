// SPDX-License-Identifier: Apache-2.0

//! Which spools a call is about.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::error::ErrorKind;
use nixl_telemetry_event::fnmatch;
use nixl_telemetry_sdk::queue::spools::{self, Spool};
use nixl_telemetry_settings::Settings;

use crate::common::end::usage;

/// Which spools are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Directory of spools [default: those that settings like NIXL_TELEMETRY_POSTGRES_SPOOL_DIR name]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Only spools of a sink, such as postgres: *, ? and [a-c] as in a shell; may be repeated
    #[arg(long, value_name = "GLOB[,GLOB]", value_delimiter = ',')]
    sink: Vec<String>,
}

impl Which {
    /// The spools that are meant, by directory, sink and origin.
    pub(crate) fn find(&self) -> anyhow::Result<Vec<(PathBuf, Spool)>> {
        let mut found = Vec::new();
        for directory in self.directories()? {
            let spools = spools::find(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
            let wanted = spools.into_iter().filter(|spool| self.wants(spool.sink()));
            found.extend(wanted.map(|spool| (directory.clone(), spool)));
        }
        Ok(found)
    }

    fn wants(&self, sink: &str) -> bool {
        self.sink.is_empty() || self.sink.iter().any(|pattern| fnmatch(&pattern.to_ascii_lowercase(), sink))
    }

    fn directories(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        if let Some(directory) = &self.directory {
            return Ok([directory.clone()].into());
        }
        let settings = Settings::process();
        let mut directories = BTreeSet::new();
        for name in settings.names("NIXL_TELEMETRY_")?.keys().filter(|name| name.ends_with("_SPOOL_DIR")) {
            directories.extend(settings.find_named::<PathBuf>(name)?.map(|found| found.value));
        }
        if directories.is_empty() {
            usage(
                ErrorKind::MissingRequiredArgument,
                "no directory of spools: expected DIR, or a setting such as NIXL_TELEMETRY_POSTGRES_SPOOL_DIR",
            );
        }
        Ok(directories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_chosen_by_their_names() {
        let which = |sink: &[&str]| Which { directory: None, sink: sink.iter().map(|&name| name.to_owned()).collect() };
        assert!(which(&[]).wants("postgres"));
        for (sink, wanted) in [("postgres", true), ("sqlite", true), ("sqlite_old", false), ("nats", false)] {
            assert_eq!(which(&["POSTGRES", "sq*e"]).wants(sink), wanted, "{sink}");
        }
    }
}
