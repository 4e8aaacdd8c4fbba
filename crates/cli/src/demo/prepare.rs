// SPDX-License-Identifier: Apache-2.0

//! The first part of `demo`: an environment for agents and exporters, and this program started again in it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::iter;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::error::ErrorKind;
use nixl_telemetry_host::settings::{ENABLE, EXPORTER, ON_ERROR};
use nixl_telemetry_loader::{PLUGIN_DIR, SearchPath, file_name};
use nixl_telemetry_nixl::Found;
use nixl_telemetry_settings::Settings;

use crate::common::end::{Outcome, usage};
use crate::common::{again, plugins};
use crate::demo::csv::FILE;
use crate::demo::{Agent, Arguments};

/// What the new process has besides what this one has.
#[derive(Debug, Default)]
struct Environment {
    variables: BTreeMap<OsString, OsString>,
    arguments: Vec<OsString>,
    /// What was made and is not needed if the new process never comes.
    made: Vec<PathBuf>,
}

/// Starts this program again, in place of this process.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.output.is_some() && !arguments.writes_csv() {
        usage(ErrorKind::ArgumentConflict, "--output is the file of the exporter csv: expected --exporter csv");
    }
    if arguments.agent == Agent::Nixl && arguments.exporters().len() != 1 {
        usage(ErrorKind::InvalidValue, "NIXL takes one exporter: expected one --exporter NAME");
    }
    let mut environment = Environment::default();
    let outcome = fill(arguments, &mut environment).and_then(|()| {
        let hidden = iter::once("--prepared".into()).chain(environment.arguments.iter().cloned());
        Err(again::start(hidden, &environment.variables))
    });
    for path in &environment.made {
        super::session::discard(path);
    }
    outcome
}

fn fill(arguments: &Arguments, environment: &mut Environment) -> anyhow::Result<()> {
    environment.set(ENABLE.name(), "y");
    // In a program, an exporter that cannot be had is not worth failing for; here it is what it is all about.
    if env::var_os(ON_ERROR.name()).is_none() {
        environment.set(ON_ERROR.name(), "fail");
    }
    for (key, value) in &arguments.settings {
        environment.set(key, value);
    }
    environment.set(EXPORTER.name(), arguments.exporter());
    if arguments.writes_csv() {
        match &arguments.output {
            Some(path) => environment.set(FILE, path),
            None if environment.has(FILE) => {}
            None => {
                let path = new_file()?;
                environment.set(FILE, &path);
                environment.discard(path);
            }
        }
    }
    if arguments.agent == Agent::Nixl {
        fill_for_nixl(arguments, environment)?;
    }
    Ok(())
}

/// NIXL looks for all its plugins in one directory, so a new one gets the exporter, and links to the backends.
///
/// Through links the backends no longer find the libraries beside them, which the search path makes good for.
fn fill_for_nixl(arguments: &Arguments, environment: &mut Environment) -> anyhow::Result<()> {
    let nixl = arguments.nixl.find()?;
    // Better known before anything is made for it.
    nixl.capi()?;
    let folder = tempfile::Builder::new()
        .prefix("nixl-telemetry-demo-")
        .tempdir()
        .context("cannot make a plugin directory for NIXL")?
        .keep();
    environment.discard(folder.clone());
    link_backends(&nixl, &folder)?;
    let exporter = arguments.exporter();
    if !["NOP", "BUFFER"].contains(&exporter.as_str()) {
        let path = exporters(arguments, &nixl)?;
        link(&path.find(&exporter)?, &folder.join(file_name(&exporter)))?;
    }
    environment.set(PLUGIN_DIR.name(), &folder);
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let libraries = nixl.libraries().into_iter().chain(env::split_paths(&before));
    let libraries = env::join_paths(libraries.filter(|path| !path.as_os_str().is_empty()))
        .with_context(|| format!("{} cannot be part of a search path", nixl.folder().display()))?;
    environment.set("LD_LIBRARY_PATH", libraries);
    environment.arguments.extend(["--prepared-nixl".into(), nixl.folder().into()]);
    Ok(())
}

/// Where the exporter for NIXL comes from: as elsewhere, but what this process says about NIXL's plugins is NIXL's.
fn exporters(arguments: &Arguments, nixl: &Found) -> anyhow::Result<SearchPath> {
    plugins::search_path(&arguments.plugin_dir, Settings::process(), Some(nixl))
}

fn link_backends(nixl: &Found, folder: &Path) -> anyhow::Result<()> {
    let plugins = nixl.plugins();
    let cannot = || format!("cannot read NIXL's plugin directory {}", plugins.display());
    for entry in fs::read_dir(&plugins).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // The transfers need these two; old releases load whatever there is, with complaints about what is missing.
        if ["libplugin_UCX.so", "libplugin_POSIX.so"].iter().any(|name| entry.file_name() == *name) {
            link(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn link(original: &Path, link: &Path) -> anyhow::Result<()> {
    let original = fs::canonicalize(original).with_context(|| format!("cannot find {}", original.display()))?;
    symlink(&original, link).with_context(|| format!("cannot link {} to {}", link.display(), original.display()))
}

/// A file that nobody else has.
fn new_file() -> anyhow::Result<PathBuf> {
    let file = tempfile::Builder::new().prefix("nixl-telemetry-demo-").suffix(".csv").tempfile();
    let (_, path) =
        file.and_then(|file| Ok(file.keep()?)).context("cannot make a temporary file; --output names one")?;
    Ok(path)
}

impl Environment {
    fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.variables.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
    }

    fn has(&self, name: &str) -> bool {
        self.variables.contains_key(OsStr::new(name)) || env::var_os(name).is_some()
    }

    /// Has the new process remove what was made for it.
    fn discard(&mut self, path: PathBuf) {
        self.arguments.extend(["--discard".into(), path.clone().into()]);
        self.made.push(path);
    }
}
