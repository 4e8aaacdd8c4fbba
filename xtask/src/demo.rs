// SPDX-License-Identifier: Apache-2.0

//! `cargo xtask demo`, or `cargo demo`: builds the command and the exporter csv, and runs `nixl-telemetry demo`.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Runs the task: `demo [ARGUMENT…]`. The arguments are those of `nixl-telemetry demo`, `--help` among them.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Outcome {
    let target = target_folder()?;
    build(&target)?;
    let folder = target.join("release");
    let program = folder.join("nixl-telemetry");
    // In this process's place, so that Ctrl-C and the exit code are the demo's. Plugins beside the program are found.
    // The `--` that separates cargo's arguments from the demo's, if the alias has not taken it.
    let mut arguments = arguments.peekable();
    arguments.next_if(|argument| argument == "--");
    let error = Command::new(&program).arg("demo").args(arguments).exec();
    Err(format!("cannot start {}: {error}", program.display()))
}

/// With cargo's own progress on this terminal: the first time takes about a minute.
fn build(target: &Path) -> Outcome {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "nixl-telemetry-cli", "--package", "telemetry-exporter-csv"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .status()
        .map_err(|error| format!("cannot build the demo: cargo does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cannot build the demo: cargo ended with {status}")) }
}

/// The folder this program was built in: `<target>/debug/xtask`.
fn target_folder() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    target_of(&program)
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} does not lie in a target folder of cargo", program.display()))
}

fn target_of(program: &Path) -> Option<&Path> {
    program.parent()?.parent()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_are_this_workspaces() {
        assert!(workspace().join("crates/cli/Cargo.toml").is_file());
        assert_eq!(target_of(Path::new("/x/target/debug/xtask")), Some(Path::new("/x/target")));
        assert_eq!(target_of(Path::new("/xtask")), None);
    }
}
