// SPDX-License-Identifier: Apache-2.0

//! Processes that measure: this program again, each with an environment of its own.

use std::process::Command;
use std::{env, io};

/// This program, without the NIXL variables and configuration of whoever runs it.
///
/// # Errors
/// If this program's file cannot be found.
pub fn this_program() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("NIXL_") {
            command.env_remove(name);
        }
    }
    // Where NIXL would look for a file with settings.
    command.env("HOME", "/nonexistent");
    Ok(command)
}
