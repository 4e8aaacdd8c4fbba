// SPDX-License-Identifier: Apache-2.0

//! This program once more, in an environment made for it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, anyhow};

/// Starts this program again in place of this process: same process, same terminal, one Ctrl-C for both. Returns only if
/// that does not work.
///
/// Exporters take their settings from the environment of their process, and only a new program can have another. It gets
/// the arguments of this one, with `hidden` behind the first `words`, which name the command.
pub(crate) fn start(
    words: usize,
    hidden: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> anyhow::Error {
    let program = match env::current_exe().context("cannot tell where this program lies") {
        Ok(program) => program,
        Err(error) => return error,
    };
    let command = env::args_os().skip(1).take(words).chain(hidden).chain(env::args_os().skip(1 + words));
    let error = Command::new(&program).args(command).envs(variables).exec();
    anyhow!(error).context(format!("cannot start {} again", program.display()))
}
