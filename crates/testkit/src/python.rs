// SPDX-License-Identifier: Apache-2.0

use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Missing, workspace_root};

/// The interpreter of a virtual environment in which these packages are installed, each as pip names it, with its version:
/// `opentelemetry-proto==1.45.2`. Programs that packages bring lie beside it.
///
/// It is made once and kept under `target/python`, one environment for each list of packages.
///
/// # Errors
/// If it is not there and cannot be made, for want of Python's module `venv`, or of a way to the packages.
///
/// # Panics
/// If `target` cannot be written.
pub fn python(packages: &[&str]) -> Result<PathBuf, Missing> {
    let mut hasher = DefaultHasher::new();
    packages.hash(&mut hasher);
    let all =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from).join("python");
    let folder = all.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&all).expect("target can be written");
    // Other tests, in this process and others, may want it at the same time.
    let lock = File::create(folder.with_extension("lock")).expect("target can be written");
    lock.lock().expect("a file can be locked");
    let (python, complete) = (folder.join("bin/python3"), folder.join("complete"));
    if !complete.exists() {
        let remedy = || {
            let folder = folder.display();
            format!(
                "python3 -m venv {folder} && {folder}/bin/pip install {} && touch {folder}/complete",
                packages.join(" ")
            )
        };
        let missing = |what: String| Missing::new(format!("Python with {} ({what})", packages.join(" ")), remedy());
        run(Path::new("python3"), &["-m", "venv", "--clear", &folder.to_string_lossy()]).map_err(&missing)?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
        run(&python, &[&install, packages].concat()).map_err(&missing)?;
        fs::write(&complete, packages.join("\n")).expect("target can be written");
    }
    Ok(python)
}

/// What a program says last if it fails.
fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_owned())
}
