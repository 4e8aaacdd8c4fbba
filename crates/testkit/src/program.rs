// SPDX-License-Identifier: Apache-2.0

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Copies a program, for anybody to run; returns where it lies.
///
/// By another process: what a process writes cannot be run as long as it has it open, and a child that another thread of it
/// starts in that moment has it open as well.
///
/// # Panics
/// If it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> PathBuf {
    let output = Command::new("install").args(["-m", "755"]).arg(from).arg(to).output().expect("install runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to.to_owned()
}

/// NIXL's own reader of ring files, of the wheel unpacked in `release`, which is not executable there: copied into `folder`.
///
/// # Panics
/// If it cannot be copied.
pub fn nixl_reader(release: &Path, folder: &Path) -> Command {
    let shipped = release.join("nixl_cu12.scripts/telemetry_reader");
    let mut command = Command::new(copy_program(&shipped, &folder.join("telemetry_reader")));
    let libraries = [".nixl_cu12.mesonpy.libs", "nixl_cu12.libs"].map(|name| release.join(name));
    command.env("LD_LIBRARY_PATH", env::join_paths(libraries).expect("no colon in the path"));
    command
}
