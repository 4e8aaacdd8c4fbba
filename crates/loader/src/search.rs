// SPDX-License-Identifier: Apache-2.0

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use nixl_telemetry_settings::{Describe, Dialect, Error, Malformed, Setting, Settings, Value};

use crate::LoadError;

/// Directories searched before all others: `NIXL_TELEMETRY_PLUGIN_PATH`.
///
/// This project's own; NIXL does not read it.
pub static PLUGIN_PATH: Setting<Directories> =
    Setting::optional("NIXL_TELEMETRY_PLUGIN_PATH", "Directories searched first for exporter plugins.");

/// The directory searched instead of the default ones: `NIXL_PLUGIN_DIR`.
///
/// NIXL's own, for plugins of every kind: one directory, not a list.
pub static PLUGIN_DIR: Setting<PathBuf> =
    Setting::optional("NIXL_PLUGIN_DIR", "The directory searched for plugins instead of the default ones.");

/// The settings this crate reads.
pub static SETTINGS: &[&dyn Describe] = &[&PLUGIN_PATH, &PLUGIN_DIR];

const PREFIX: &str = "libtelemetry_exporter_";
const SUFFIX: &str = ".so";

/// The name of the file that holds exporter `name`: `libtelemetry_exporter_<name>.so`, letter by letter.
pub fn file_name(name: &str) -> String {
    format!("{PREFIX}{name}{SUFFIX}")
}

/// The directories in which plugins are looked for, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPath {
    directories: Vec<PathBuf>,
}

/// A plugin file on a [`SearchPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The exporter's name, from the file name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Whether a directory before this one has a plugin of the same name, so that this one is never loaded.
    pub shadowed: bool,
}

/// A list of directories, separated by colons in the environment. Empty parts are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories(pub Vec<PathBuf>);

impl Value for Directories {
    const TYPE: &'static str = "paths";
    const EXPECTED: &'static str = "paths separated by colons";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        Ok(Self(env::split_paths(text).filter(|path| !path.as_os_str().is_empty()).collect()))
    }
}

impl SearchPath {
    /// These directories, in this order; a repeated one counts once.
    pub fn new<D: Into<PathBuf>>(directories: impl IntoIterator<Item = D>) -> Self {
        let mut path = Self::default();
        for directory in directories {
            path.push(directory.into());
        }
        path
    }

    /// The directories this process should search.
    ///
    /// 1. Those of [`PLUGIN_PATH`].
    /// 2. The one of [`PLUGIN_DIR`], if it is set, as NIXL has it. Otherwise the directory of the running program, then
    ///    `../lib/nixl-telemetry` seen from there, then `nixl_plugins`: NIXL's own default, which is the directory
    ///    `plugins` beside `libnixl.so`, if there is a NIXL around.
    ///
    /// # Errors
    /// If the settings file cannot be read.
    pub fn from_settings(settings: &Settings, nixl_plugins: Option<PathBuf>) -> Result<Self, Error> {
        let program = env::current_exe().ok();
        Self::for_program(settings, program.as_deref().and_then(Path::parent), nixl_plugins)
    }

    /// The directories, in the order they are searched.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The file of exporter `name`: the first that exists. Upper and lower case differ.
    ///
    /// # Errors
    /// * [`LoadError::InvalidName`] if the name could lead out of a directory, or is no name at all. NIXL would take it.
    /// * [`LoadError::NotFound`] if no directory has the file.
    pub fn find(&self, name: &str) -> Result<PathBuf, LoadError> {
        if !is_name(name) {
            return Err(LoadError::InvalidName { name: name.to_owned() });
        }
        let file_name = file_name(name);
        self.directories
            .iter()
            .map(|directory| directory.join(&file_name))
            .find(|path| path.exists())
            .ok_or_else(|| LoadError::NotFound { name: name.to_owned(), searched: self.directories.clone() })
    }

    /// Every plugin file, by directory in the order they are searched, by name within each. Directories that cannot be
    /// read have none.
    pub fn list(&self) -> Vec<Candidate> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for directory in &self.directories {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut here: Vec<_> = entries
                .filter_map(|entry| Some((name_of(&entry.path())?.to_owned(), entry.path())))
                .filter(|(name, path)| is_name(name) && path.exists())
                .collect();
            here.sort();
            for (name, path) in here {
                let shadowed = !seen.insert(name.clone());
                all.push(Candidate { name, path, shadowed });
            }
        }
        all
    }

    fn for_program(settings: &Settings, program: Option<&Path>, nixl_plugins: Option<PathBuf>) -> Result<Self, Error> {
        let mut path = Self::default();
        if let Some(found) = settings.find(&PLUGIN_PATH)? {
            path = Self::new(found.value.0);
        }
        if let Some(found) = settings.find(&PLUGIN_DIR)? {
            path.push(found.value);
            return Ok(path);
        }
        if let Some(directory) = program {
            path.push(directory.to_owned());
            // `/usr/bin` has its libraries in `/usr/lib`; `parent` rather than `..`, for the sake of messages.
            path.push(directory.parent().unwrap_or(directory).join("lib/nixl-telemetry"));
        }
        if let Some(directory) = nixl_plugins {
            path.push(directory);
        }
        Ok(path)
    }

    fn push(&mut self, directory: PathBuf) {
        if !directory.as_os_str().is_empty() && !self.directories.contains(&directory) {
            self.directories.push(directory);
        }
    }
}

/// The exporter's name in the name of its file, or `None` if that is no plugin's.
pub(crate) fn name_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (!name.is_empty()).then_some(name)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], program: Option<&str>, nixl: Option<&str>, expected: &[&str]) {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let path = SearchPath::for_program(&settings, program.map(Path::new), nixl.map(PathBuf::from)).unwrap();
        let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(path.directories(), expected, "{pairs:?}");
    }

    #[test]
    fn directories_and_their_order() {
        let ours = "NIXL_TELEMETRY_PLUGIN_PATH";
        let nixls = "NIXL_PLUGIN_DIR";
        let program = Some("/opt/x/bin");
        let nixl = Some("/nixl/plugins");
        check(&[], program, nixl, &["/opt/x/bin", "/opt/x/lib/nixl-telemetry", "/nixl/plugins"]);
        check(&[], None, None, &[]);
        check(&[], Some("/"), None, &["/", "/lib/nixl-telemetry"]);
        check(&[(nixls, "/p:/q")], program, nixl, &["/p:/q"]);
        check(&[(ours, "/a:/b"), (nixls, "/p")], program, nixl, &["/a", "/b", "/p"]);
        check(&[(ours, ":/a::b:/a:")], program, None, &["/a", "b", "/opt/x/bin", "/opt/x/lib/nixl-telemetry"]);
        check(&[(ours, ""), (nixls, "")], program, nixl, &[]);
        check(&[(ours, "/nixl/plugins")], None, nixl, &["/nixl/plugins"]);
    }

    #[test]
    fn names() {
        for name in ["csv", "prometheus_mp", "a-b.c", "_x", "0", "BUFFER", "a..b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".csv", "-x", "a/b", "../csv", "/csv", "a b", "é", "a\0", "a\n"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn names_of_files() {
        let table = [
            ("/x/libtelemetry_exporter_csv.so", Some("csv")),
            ("libtelemetry_exporter_a.so.so", Some("a.so")),
            ("libtelemetry_exporter_.so", None),
            ("libtelemetry_exporter_csv.so.1", None),
            ("libplugin_UCX.so", None),
            ("/", None),
        ];
        for (path, name) in table {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
        assert_eq!(file_name("csv"), "libtelemetry_exporter_csv.so");
    }
}
