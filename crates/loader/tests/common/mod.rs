// SPDX-License-Identifier: Apache-2.0

//! Plugins to load: the fixtures, compiled, and NIXL's own.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::collections::hash_map::DefaultHasher;
use std::ffi::CStr;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};

use libloading::os::unix::Library;

/// A compiled fixture that belongs to one test: the dynamic linker keeps a library for good, and with it what it
/// recorded, so that each test needs a file of its own.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Fixture {
    /// Compiles `tests/fixtures/<source>` with these macros into a plugin of this name.
    pub(crate) fn new(source: &str, macros: &[&str], name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(nixl_telemetry_loader::file_name(name));
        fs::copy(compile(source, macros), &path).unwrap();
        Self { directory, path }
    }

    /// What the fixture recorded, line by line.
    pub(crate) fn recording(&self) -> Vec<String> {
        let library = self.open();
        // SAFETY: `recording.h` defines it as an array that ends in a zero.
        let text = unsafe { CStr::from_ptr(*library.get::<*const std::ffi::c_char>("recording").unwrap()) };
        text.to_str().unwrap().lines().map(str::to_owned).collect()
    }

    /// A number the fixture exports.
    pub(crate) fn int(&self, symbol: &str) -> i32 {
        let library = self.open();
        // SAFETY: the caller names an `int`, which nobody changes while it is read.
        unsafe { **library.get::<*const i32>(symbol).unwrap() }
    }

    /// The fixture as the dynamic linker has it; the plugin must have been opened before.
    pub(crate) fn open(&self) -> Library {
        // SAFETY: the library is open already, so that nothing of it runs.
        unsafe { Library::new(&self.path).unwrap() }
    }
}

/// The compiled fixture, from a folder that survives, by the content of all it is made of.
fn compile(source: &str, macros: &[&str]) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut hash = DefaultHasher::new();
    for file in [source, "nixl.h", "creator.h", "recording.h"] {
        fs::read(fixtures.join(file)).unwrap().hash(&mut hash);
    }
    let (compiler, standard) =
        if source.ends_with(".c") { (tool("CC", "gcc"), "-std=c11") } else { (tool("CXX", "g++"), "-std=c++17") };
    (macros, &compiler).hash(&mut hash);
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}-{:016x}.so", hash.finish()));
    if library.exists() {
        return library;
    }
    // Under a name of its own first: other tests may be at the same fixture.
    let unfinished = library.with_extension(format!("{}-{:?}", process::id(), std::thread::current().id()));
    let output = Command::new(compiler)
        .args([standard, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-o"])
        .args([&unfinished, &fixtures.join(source)])
        .args(macros.iter().map(|name| format!("-D{name}")))
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "{source}: {messages}");
    fs::rename(unfinished, &library).unwrap();
    library
}

fn tool(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// The plugin folder of a NIXL release, or `None`, with a line that says so, if it is not there.
///
/// # Panics
/// If it is not there and `CI` is true, so that nothing is skipped where it counts.
pub(crate) fn nixl_plugins(release: &str) -> Option<PathBuf> {
    let root = env::var_os("NIXL_TELEMETRY_WHEELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.nixl"), PathBuf::from);
    let plugins = root.join(release).join(".nixl_cu12.mesonpy.libs/plugins");
    if plugins.is_dir() {
        return Some(plugins);
    }
    let line = format!("skipped: NIXL {release} is not in {} (`cargo xtask wheels` fetches it)\n", root.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{line}");
    // The macros that print are captured with the test's output, and a skipped test shows none.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

/// Runs `body` in a process of its own: the test of this name, in the same program, alone.
///
/// Libraries of two NIXL releases must not meet in one process.
pub(crate) fn in_process_of_its_own(test: &str, variables: &[(&str, String)], body: impl FnOnce()) {
    const INSIDE: &str = "NIXL_TELEMETRY_TEST_INSIDE";
    if env::var(INSIDE).as_deref() == Ok(test) {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{test}: {}\n{out}\n{err}", output.status);
}
