// SPDX-License-Identifier: Apache-2.0

//! Running the command, and looking at what it leaves behind.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::borrow::BorrowMut;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nixl_telemetry_testkit as testkit;
use rustix::process::Signal;

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The library that is preloaded.
pub(crate) const PRELOAD: &str = "libnixl_telemetry_preload.so";

/// A folder with the command and what it preloads, side by side.
pub(crate) fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(testkit::preload(), folder.path().join(PRELOAD)).unwrap();
    copy_command(&folder.path().join("nixl-telemetry"));
    folder
}

/// Copies the command to where it is run from.
pub(crate) fn copy_command(to: &Path) {
    testkit::copy_program(Path::new(env!("CARGO_BIN_EXE_nixl-telemetry")), to);
}

/// The command in an environment in which no NIXL is to be found, and no setting is made.
pub(crate) fn command(arguments: &[&str]) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_nixl-telemetry")), arguments)
}

/// The same with another copy of the command.
pub(crate) fn command_of(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    // Without a `PATH` there is no python3 and no ldconfig that could find one.
    command.args(arguments).env_clear().env("PATH", "/nonexistent").env("HOME", "/nonexistent");
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    finish(command(arguments))
}

/// Runs this to its end.
pub(crate) fn finish(mut command: impl BorrowMut<Command>) -> Ran {
    let command = command.borrow_mut();
    ran(command.output().expect("the command starts"))
}

pub(crate) fn ran(Output { status, stdout, stderr }: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Ran {
    /// Asserts the exit code, showing everything if it is another.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Asserts that standard output has all of these in it.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        parts.iter().for_each(|part| assert!(self.out.contains(part), "no {part:?} in:\n{}", self.out));
        self
    }

    /// Asserts that standard error has all of these in it.
    #[track_caller]
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        parts.iter().for_each(|part| assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err));
        self
    }
}

/// The ignored test `victim` of this test program as a process of its own, with the role it plays and nothing else in its
/// environment but telemetry that does not go on if anything is wrong; its input and output are pipes.
pub(crate) fn victim(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--include-ignored", "--nocapture"]).env_clear();
    command.env("VICTIM", role).env("NIXL_TELEMETRY_ENABLE", "y").env("NIXL_TELEMETRY_ON_ERROR", "fail");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Waits for a process to be killed.
#[track_caller]
pub(crate) fn is_killed(mut victim: Child) {
    let status = victim.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
}

/// The exporter csv, in a folder that holds nothing else of the kind.
pub(crate) fn csv() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("libtelemetry_exporter_csv.so");
    fs::copy(testkit::plugin("csv"), &plugin).unwrap();
    (folder, plugin)
}

/// A folder laid out like `site-packages` with a wheel of NIXL, whose library has the symbols of NIXL 1.5 and no more.
pub(crate) fn wheel(name: &str) -> tempfile::TempDir {
    let source = Path::new("crates/cli/tests/fixtures/libnixl.cc");
    let library = testkit::compile_cpp(&format!("libnixl-{name}.so"), &[source], &["-shared"]);
    let root = tempfile::tempdir().unwrap();
    let libraries = root.path().join(".nixl_cu12.mesonpy.libs");
    fs::create_dir_all(libraries.join("plugins")).unwrap();
    fs::copy(library, libraries.join("libnixl.so")).unwrap();
    fs::write(libraries.join("plugins/libplugin_UCX.so"), "backend").unwrap();
    fs::write(libraries.join("plugins/libtelemetry_exporter_prometheus.so"), "upstream").unwrap();
    let metadata = root.path().join("nixl_cu12-1.5.1.dist-info");
    fs::create_dir(&metadata).unwrap();
    fs::write(metadata.join("METADATA"), "Metadata-Version: 2.1\nName: nixl-cu12\nVersion: 1.5.1\n").unwrap();
    root
}

/// Where a wheel has its plugins.
pub(crate) fn plugins(wheel: &Path) -> PathBuf {
    wheel.join(".nixl_cu12.mesonpy.libs/plugins")
}

/// Every file of a folder with its content.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().collect()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
