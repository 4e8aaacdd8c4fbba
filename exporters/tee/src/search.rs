// SPDX-License-Identifier: Apache-2.0

//! Where the plugins are that the tee feeds.

use std::path::{Path, PathBuf};

use nixl_telemetry_abi::host::{loaded_nixls, this_library};
use nixl_telemetry_loader::{PLUGIN_PATH, SearchPath};
use nixl_telemetry_sdk::{Error, Settings};

/// The directories of `NIXL_TELEMETRY_PLUGIN_PATH`, the one this plugin lies in, and then those any host of this project
/// searches, that of the NIXL in this process included.
///
/// # Errors
/// If the settings file cannot be read.
pub(crate) fn path(settings: &Settings) -> Result<SearchPath, Error> {
    let nixls = loaded_nixls();
    let directory = |file: &Path| file.parent().map(Path::to_owned);
    let plugins = nixls.first().and_then(|nixl| directory(nixl)).map(|directory| directory.join("plugins"));
    let named = settings.find(&PLUGIN_PATH)?.map_or_else(Vec::new, |found| found.value.0);
    let beside: Option<PathBuf> = this_library().and_then(|file| directory(&file));
    let usual = SearchPath::from_settings(settings, plugins)?;
    Ok(SearchPath::new(named.into_iter().chain(beside).chain(usual.directories().iter().cloned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_comes_before_what_lies_beside_it() {
        let here = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let settings =
            Settings::from_pairs([("NIXL_TELEMETRY_PLUGIN_PATH", "/a:/b"), ("NIXL_PLUGIN_DIR", "/nixl/plugins")]);
        let path = path(&settings).unwrap();
        assert_eq!(path.directories(), [Path::new("/a"), Path::new("/b"), &here, Path::new("/nixl/plugins")]);
    }
}
