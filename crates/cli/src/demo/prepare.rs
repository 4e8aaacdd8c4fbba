// SPDX-License-Identifier: Apache-2.0

//! The first part of `demo`: an environment for agents and exporters, and this program started again in it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::error::ErrorKind;
use nixl_telemetry_host::settings::{ENABLE, EXPORTER, ON_ERROR};
use nixl_telemetry_loader::PLUGIN_PATH;
use nixl_telemetry_settings::Settings;

use crate::common::end::{Outcome, usage};
use crate::common::{again, plugins, preload};
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
    let mut environment = Environment::default();
    let outcome = fill(arguments, &mut environment).and_then(|()| {
        let hidden = iter::once("--prepared".into()).chain(environment.arguments.iter().cloned());
        Err(again::start(1, hidden, &environment.variables))
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
            None if environment.get(FILE).is_some() => {}
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

/// NIXL gets this collector, as by `run`, and exporters from where embedded agents have them.
fn fill_for_nixl(arguments: &Arguments, environment: &mut Environment) -> anyhow::Result<()> {
    let nixl = arguments.nixl.find()?;
    // What is missing is better known before NIXL says so in its own words.
    nixl.capi()?;
    let others = environment.get(preload::VARIABLE);
    environment.set(preload::VARIABLE, preload::list(&preload::library()?, others.as_deref())?);
    let given = arguments.settings.iter();
    let settings =
        given.fold(Settings::process().clone(), |settings, (name, value)| settings.with_override(name, value));
    let path = plugins::search_path(&arguments.plugin_dir, &settings, Some(&nixl))?;
    for exporter in arguments.exporters().iter().filter(|name| !["NOP", "BUFFER"].contains(&name.as_str())) {
        path.find(exporter)?;
    }
    let directories =
        env::join_paths(path.directories()).context("plugins are looked for in a directory with a colon")?;
    environment.set(PLUGIN_PATH.name(), directories);
    environment.arguments.extend(["--prepared-nixl".into(), nixl.folder().into()]);
    Ok(())
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

    /// What the new process has for this name.
    fn get(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned().or_else(|| env::var_os(name))
    }

    /// Has the new process remove what was made for it.
    fn discard(&mut self, path: PathBuf) {
        self.arguments.extend(["--discard".into(), path.clone().into()]);
        self.made.push(path);
    }
}
