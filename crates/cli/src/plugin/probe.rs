// SPDX-License-Identifier: Apache-2.0

//! Loading a plugin in a process of its own, so that what it does there ends nobody else.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::Context as _;
use nixl_telemetry_loader::Plugin;
use serde::{Deserialize, Serialize};

use crate::common::end::{End, Outcome};
use crate::common::terminal;

/// How long a plugin may take to load before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// Load one plugin and print what it says, as JSON; used by `plugin inspect`.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Arguments {
    file: PathBuf,
}

/// What a plugin says once it is loaded, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Answer {
    Loaded { name: String, version: String, api: u32, form: String, hooks: bool },
    Refused(String),
}

/// The part of this in the process that loads.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let answer = match Plugin::load(&arguments.file) {
        Ok(plugin) => Answer::Loaded {
            name: plugin.declared_name(),
            version: plugin.version(),
            api: plugin.api_version(),
            form: plugin.form().to_string(),
            hooks: plugin.has_batch_hooks(),
        },
        Err(error) => Answer::Refused(error.to_string()),
    };
    terminal::print(&serde_json::to_string(&answer)?)?;
    Ok(End::Done)
}

/// The part of this in the process that asks.
///
/// # Errors
/// If there is no such process to be had. What the plugin does wrong is an answer.
pub(crate) fn probe(file: &Path) -> anyhow::Result<Answer> {
    let program = env::current_exe().context("cannot tell where this program lies")?;
    let mut child = Command::new(program)
        .args(["plugin", "probe", "--"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a process to load the plugin in")?;
    // The answer is far smaller than a pipe holds, so the child never waits for it to be read.
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Answer::Refused(format!("loading it had no end within {} s", PATIENCE.as_secs())));
        }
        thread::sleep(Duration::from_millis(2));
    };
    let mut text = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut text)?;
    }
    Ok(match (serde_json::from_str(&text), status.signal()) {
        (Ok(answer), None) => answer,
        (_, Some(signal)) => Answer::Refused(format!("loading it ended the process with signal {signal}")),
        (Err(_), None) => Answer::Refused(format!("loading it ended the process with {status}")),
    })
}
