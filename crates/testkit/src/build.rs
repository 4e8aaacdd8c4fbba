// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    env, fs,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::machine::is_ci;

/// The root of this workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).as_os_str().as_ref()
}

/// The shared library of one of this workspace's exporters, built now, in the release profile it is shipped in.
///
/// # Panics
/// If it does not build.
pub fn plugin(exporter: &str) -> PathBuf {
    shipped(&format!("telemetry-exporter-{exporter}"), &format!("libtelemetry_exporter_{exporter}.so"))
}

/// The library that is preloaded, built as [`plugin`] builds exporters.
///
/// # Panics
/// If it does not build.
pub fn preload() -> PathBuf {
    shipped("nixl-telemetry-preload", "libnixl_telemetry_preload.so")
}

fn shipped(package: &str, file_name: &str) -> PathBuf {
    // Where all are wanted, they are made at once: made one by one, each has what they share compiled with features of its own.
    let which = if is_ci() { &["--workspace"][..] } else { &["--package", package] };
    artifact(&[&["--release"], which].concat(), file_name)
}

/// Has a command run as if nobody had run this test with cargo.
///
/// What cargo tells a test of the package it belongs to is in its environment. Crates whose build looks at that, ring among
/// them, would be built anew for each package with tests.
pub fn outside_cargo(command: &mut Command) -> &mut Command {
    let is_of_a_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_a_package) {
            command.env_remove(name);
        }
    }
    command
}

/// What `cargo build` with these arguments makes under this file name. Built once in a process.
///
/// # Panics
/// If it does not build, or makes no such file.
pub fn artifact(arguments: &[&str], file_name: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(file_name) {
        return path.clone();
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = outside_cargo(&mut cargo)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics"])
        .args(arguments)
        .current_dir(workspace_root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.file_name().is_some_and(|name| name == file_name))
        .unwrap_or_else(|| panic!("cargo build {arguments:?} makes {file_name}"));
    built.insert(file_name.to_owned(), path.clone());
    path
}

/// A shared library or program compiled by g++ from C++ sources, kept by content.
///
/// `name` is the file's name. Relative sources and `-I` folders count from the workspace's root.
///
/// # Panics
/// If g++ is missing (it is a prerequisite of this workspace) or the sources do not compile.
pub fn compile_cpp(name: &str, sources: &[&Path], arguments: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    arguments.hash(&mut hasher);
    // What may be included counts as well.
    hash_folder(&workspace_root().join("include"), &mut hasher);
    for source in sources {
        let text =
            fs::read(workspace_root().join(source)).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        text.hash(&mut hasher);
    }
    let folder = env::temp_dir().join(format!("nixl-telemetry-cpp-{:016x}", hasher.finish()));
    let out = folder.join(name);
    if !out.exists() {
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        // Under a name of this thread's own until it is whole: other tests may want it at the same time.
        let unfinished = tempfile::NamedTempFile::new_in(&folder).expect("the folder is writable").into_temp_path();
        let output = Command::new("g++")
            .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-fPIC"])
            .args(arguments)
            .args(sources)
            .arg("-o")
            .arg(&unfinished)
            .current_dir(workspace_root())
            .output()
            .expect("g++ runs");
        assert!(output.status.success(), "g++ {sources:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        unfinished.persist(&out).expect("a rename within a folder");
    }
    out
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it can be read").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            hash_folder(&path, hasher);
        } else {
            fs::read(&path).expect("a file").hash(hasher);
        }
    }
}
