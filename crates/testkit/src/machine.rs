// SPDX-License-Identifier: Apache-2.0

use std::{
    env, fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// The releases of NIXL (PyPI wheels of `nixl-cu12`) the end-to-end tests run on, oldest first.
pub const NIXL_RELEASES: [&str; 8] = ["0.9.0", "0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"];

/// Something this machine lacks, and how to get it.
#[derive(Debug)]
pub struct Missing {
    what: String,
    remedy: String,
}

impl Missing {
    /// What is missing, and how to get it.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing ({})", self.what, self.remedy)
    }
}

/// The thing, or `None` after one line on standard error that says what is skipped and why.
///
/// # Panics
/// If the thing is missing and the environment says `CI=true`.
pub fn require<T>(test: &str, thing: Result<T, Missing>) -> Option<T> {
    let missing = match thing {
        Ok(thing) => return Some(thing),
        Err(missing) => missing,
    };
    assert!(!is_ci(), "{test}: {missing}");
    // Written past the test harness, which swallows what `eprintln!` prints in a passing test.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {missing}");
    None
}

/// Whether the environment says `CI=true`: everything is tested, and nothing skipped.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// The folder of an unpacked NIXL release, as `cargo xtask wheels` leaves it.
pub fn nixl_release(version: &str) -> Result<PathBuf, Missing> {
    let root =
        env::var_os("NIXL_TELEMETRY_WHEELS").map_or_else(|| crate::workspace_root().join(".nixl"), PathBuf::from);
    let folder = root.join(version);
    if folder.join(".nixl_cu12.mesonpy.libs/libnixl.so").exists() {
        Ok(folder)
    } else {
        Err(Missing::new(format!("NIXL {version} in {}", root.display()), "`cargo xtask wheels` fetches it"))
    }
}

/// A program of this machine, by name or path, if it runs with `--version`.
pub fn command(name: &str, package: &str) -> Result<PathBuf, Missing> {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if found {
        Ok(Path::new(name).to_owned())
    } else {
        Err(Missing::new(format!("the program {name}"), format!("Debian package {package}")))
    }
}

/// `prometheus` or `promtool`: of this machine, or unpacked in `target/tools`.
///
/// # Errors
/// Says how to get it. Installed, the package starts a server of its own; unpacked it does not.
pub fn prometheus(name: &str) -> Result<PathBuf, Missing> {
    let unpacked = crate::workspace_root().join("target/tools/prometheus/usr/bin").join(name);
    let remedy = "prometheus; or, in target/tools, apt-get download prometheus && dpkg -x prometheus_*.deb prometheus";
    installed_or(unpacked, name, remedy)
}

/// `pgbouncer`, and where the libraries lie that it needs besides the machine's: as [`prometheus`].
pub(crate) fn pgbouncer() -> Result<(PathBuf, PathBuf), Missing> {
    let root = crate::workspace_root().join("target/tools/pgbouncer/usr");
    let remedy = "pgbouncer; or, in target/tools, apt-get download pgbouncer libc-ares2, and dpkg -x both to pgbouncer";
    let program = installed_or(root.join("sbin/pgbouncer"), "pgbouncer", remedy)?;
    let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    Ok((program, root.join(libraries)))
}

/// A program of this machine, or the one that is unpacked there.
fn installed_or(unpacked: PathBuf, name: &str, remedy: &str) -> Result<PathBuf, Missing> {
    command(name, remedy).or_else(|missing| if unpacked.is_file() { Ok(unpacked) } else { Err(missing) })
}
