// SPDX-License-Identifier: Apache-2.0

//! What the end-to-end tests share: a NIXL release of one's own, work on it, and what it did.

#![forbid(unsafe_code)]

pub mod dashboards;
pub mod page;
pub mod prometheus;
mod rows;
pub mod strand;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nixl_telemetry_event::{Event, Layout};
use nixl_telemetry_testkit as testkit;
use tempfile::TempDir;

pub use rows::{Row, count_rows, csv_totals, read_rows};

/// Events by agent and name: how many, and the sum of their values.
pub type Totals = BTreeMap<String, BTreeMap<String, (u64, u64)>>;

/// A copy of a NIXL release, made of hard links, so that plugins can be put into it.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// Links an unpacked release into a new folder.
    ///
    /// # Panics
    /// If it cannot be linked.
    pub fn new(release: &Path) -> Self {
        // Beside the release: hard links do not cross file systems.
        let beside = release.parent().expect("a release lies in a folder");
        let folder = tempfile::Builder::new().prefix(".sandbox-").tempdir_in(beside).expect("the folder is writable");
        let status = Command::new("cp").arg("-al").arg(release.join(".")).arg(folder.path()).status().expect("cp runs");
        assert!(status.success(), "linking {}", release.display());
        Self { folder }
    }

    /// The folder of the copy.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where this release looks for plugins.
    pub fn plugins(&self) -> PathBuf {
        self.path().join(".nixl_cu12.mesonpy.libs/plugins")
    }

    /// Puts a plugin into the release, under its own file name.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn add_plugin(&self, plugin: &Path) {
        let name = plugin.file_name().expect("a plugin is a file");
        fs::copy(plugin, self.plugins().join(name)).expect("the plugin can be copied");
    }

    /// Puts a plugin in the place of the release's own of that name. The release the copy was made of keeps its file.
    ///
    /// # Panics
    /// If it cannot be copied, or there is none of that name.
    pub fn replace_plugin(&self, plugin: &Path) {
        let place = self.plugins().join(plugin.file_name().expect("a plugin is a file"));
        // The name only: behind it is the file that the release has, too.
        fs::remove_file(&place).expect("the release has such a plugin");
        self.add_plugin(plugin);
    }

    /// Runs the driver on this release with these variables and nothing else of NIXL's in the environment.
    ///
    /// # Panics
    /// If the driver cannot be started.
    pub fn drive(&self, driver: &Path, transfers: u64, linger_ms: u64, variables: &[(&str, &str)]) -> Output {
        self.command(driver, transfers, linger_ms, variables).output().expect("the driver runs")
    }

    /// The command that [`drive`](Self::drive) runs.
    pub fn command(&self, driver: &Path, transfers: u64, linger_ms: u64, variables: &[(&str, &str)]) -> Command {
        let mut command = nixl_command(driver);
        command.arg(self.path()).args([transfers.to_string(), linger_ms.to_string()]).envs(variables.iter().copied());
        command
    }
}

/// A command without the NIXL variables and configuration of whoever runs the tests.
pub fn nixl_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NIXL_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent");
    command
}

/// The driver on a release with our collector preloaded, which finds this exporter; the agents are destroyed as soon as they are
/// done, and then have all the time they need.
pub fn preloaded(driver: &Path, release: &Path, transfers: u64, exporter: &str) -> Command {
    let mut command = nixl_command(driver);
    command
        .arg(release)
        .args([&transfers.to_string(), "0"])
        .env("LD_PRELOAD", testkit::preload())
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin(exporter).parent().expect("a file lies in a folder"))
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", exporter)
        .env("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "60000")
        .env(format!("NIXL_TELEMETRY_{}_SHUTDOWN_TIMEOUT", exporter.to_uppercase()), "50000");
    command
}

/// A shell that runs the script where `/mnt` is a file system of 64 KiB which nobody else sees; `None` if this machine
/// allows none, see [`testkit::require`].
pub fn on_small_disk(test: &str, script: &str) -> Option<Command> {
    const MOUNT: &str = "mount -t tmpfs -o size=64k none /mnt";
    let shell = |script: &str| {
        let mut command = nixl_command(Path::new("unshare"));
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    let possible = shell(MOUNT).output().is_ok_and(|output| output.status.success());
    let missing = || testkit::Missing::new("a private tmpfs", "unshare --user --map-root-user --mount, mount -t tmpfs");
    testkit::require(test, possible.then_some(()).ok_or_else(missing))?;
    Some(shell(&format!("{MOUNT} && {script}")))
}

/// Runs an ignored test of the calling test program in a process of its own, with these variables, and returns what it
/// logged.
///
/// # Panics
/// If the test fails, or there is no test of this name.
pub fn run_apart(test: &str, variables: &[(&str, &Path)]) -> String {
    let output = nixl_command(&std::env::current_exe().expect("a test program has a path"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .envs(variables.iter().copied())
        .output()
        .expect("the test program runs");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let passed = String::from_utf8_lossy(&output.stdout).contains("test result: ok. 1 passed");
    assert!(output.status.success() && passed, "{test}: {output:?}");
    log
}

/// What the driver printed.
///
/// # Panics
/// If it failed, or says that it does not know how long transfers took.
pub fn truth(output: &Output) -> Totals {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Adds an event to the totals.
pub fn add(totals: &mut Totals, agent: &str, event: &str, value: u64) {
    let total = totals.entry(agent.to_owned()).or_default().entry(event.to_owned()).or_default();
    *total = (total.0 + 1, total.1 + value);
}

/// Adds the events in a ring file that NIXL's BUFFER exporter wrote and nobody consumed.
///
/// # Panics
/// If the file is not such a ring.
pub fn add_ring(totals: &mut Totals, agent: &str, path: &Path, layout: Layout) {
    const HEADER: usize = 40;
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let field = |offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"));
    let (written, read, capacity) = (field(0), field(8), field(24));
    assert_eq!(bytes.len() as u64, HEADER as u64 + layout.size() as u64 * capacity, "{}", path.display());
    assert!(read == 0 && written < capacity - 1, "{}: {written} of {capacity} slots are written", path.display());
    for slot in bytes[HEADER..].chunks_exact(layout.size()).take(usize::try_from(written).expect("a small ring")) {
        let event: Event<'_> = layout.decode(slot).expect("a whole slot");
        add(totals, agent, &event.name().to_string(), event.value());
    }
}
