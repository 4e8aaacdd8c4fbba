// SPDX-License-Identifier: Apache-2.0

//! Where plugins are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nixl_telemetry_loader::{LoadError, SearchPath};
use nixl_telemetry_nixl::Found;
use nixl_telemetry_settings::Settings;

/// Directories in which a plugin is looked for: those of `--plugin-dir`, then those every program of this project
/// searches, NIXL's own among them.
pub(crate) fn search_path(first: &[PathBuf], settings: &Settings, nixl: Option<&Found>) -> anyhow::Result<SearchPath> {
    let usual = SearchPath::from_settings(settings, nixl.map(Found::plugins))?;
    Ok(SearchPath::new(first.iter().cloned().chain(usual.directories().iter().cloned())))
}

/// Where the plugins lie that come with this program: the given folder, else beside the program and in
/// `../lib/nixl-telemetry` seen from there.
pub(crate) fn supply(from: Option<&Path>) -> anyhow::Result<SearchPath> {
    if let Some(from) = from {
        return Ok(SearchPath::new([from]));
    }
    let program = env::current_exe().context("cannot tell where this program lies")?;
    let folder = program.parent().unwrap_or(&program);
    Ok(SearchPath::new([folder.to_owned(), folder.parent().unwrap_or(folder).join("lib/nixl-telemetry")]))
}

/// Whether an exporter may have this name.
///
/// # Errors
/// [`LoadError::InvalidName`] if not.
pub(crate) fn check_name(name: &str) -> Result<(), LoadError> {
    match SearchPath::default().find(name) {
        Err(error @ LoadError::InvalidName { .. }) => Err(error),
        _ => Ok(()),
    }
}

/// The names in a list with commas, each once.
pub(crate) fn names(list: &str) -> Result<Vec<String>, LoadError> {
    let mut names: Vec<String> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        check_name(name)?;
        if names.iter().all(|other| other != name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_folder() {
        for name in ["csv", "prometheus_mp", "a-b.c"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "../csv", "a/b", ".csv"] {
            assert_eq!(check_name(name), Err(LoadError::InvalidName { name: name.to_owned() }), "{name}");
        }
    }

    #[test]
    fn every_exporter_is_named_once() {
        assert_eq!(names("csv, NOP,csv,").unwrap(), ["csv", "NOP"]);
        assert_eq!(names("").unwrap(), [""; 0]);
        assert!(names("csv,../csv").is_err());
    }

    #[test]
    fn given_directories_come_first() {
        let settings = Settings::from_pairs([("NIXL_PLUGIN_DIR", "/p")]);
        let path = search_path(&["/a".into(), "/p".into()], &settings, None).unwrap();
        assert_eq!(path.directories(), [PathBuf::from("/a"), PathBuf::from("/p")]);
        assert_eq!(supply(Some(Path::new("/x"))).unwrap().directories(), [PathBuf::from("/x")]);
    }
}
