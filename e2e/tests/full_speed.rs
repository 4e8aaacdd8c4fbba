// SPDX-License-Identifier: Apache-2.0

//! Our collector inside unmodified releases of NIXL that go as fast as they can, at default settings: every single event is
//! in the file, although the agents are destroyed at once.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use nixl_telemetry_e2e::{csv_totals, nixl_command, truth};
use nixl_telemetry_testkit as testkit;

fn release_program(package: &str, program: &str) -> PathBuf {
    testkit::artifact(&["--release", "--package", package, "--bin", program], program)
}

/// The program that transfers, in a NIXL with our collector, preloaded by hand.
fn by_hand(files: &Path) -> Command {
    let mut command = nixl_command(&release_program("nixl-telemetry-e2e", "nixl-telemetry-e2e-reposts"));
    command
        .env("LD_PRELOAD", testkit::preload())
        .env("NIXL_TELEMETRY_PLUGIN_PATH", testkit::plugin("csv").parent().unwrap())
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "csv")
        .env("NIXL_TELEMETRY_CSV_FILE", files);
    command
}

/// The same through the command, which has beside it whatever it needs.
fn through_run(files: &Path) -> Command {
    let program = release_program("nixl-telemetry-cli", "nixl-telemetry");
    let beside = program.parent().unwrap();
    assert_eq!(
        [testkit::preload(), testkit::plugin("csv")].map(|path| path.parent().unwrap().to_owned()),
        [beside, beside]
    );
    let mut command = nixl_command(&program);
    command
        .args(["run", "--exporter", "csv", "--set", &format!("NIXL_TELEMETRY_CSV_FILE={}", files.display()), "--"])
        .arg(release_program("nixl-telemetry-e2e", "nixl-telemetry-e2e-reposts"));
    command
}

/// All of so many transfers is in the files, as NIXL itself measured it.
fn holds_all(version: &str, transfers: u64, bytes: u64, command: impl FnOnce(&Path) -> Command) {
    /// One at a time, so that none is slowed down by another.
    static TURN: Mutex<()> = Mutex::new(());
    let test = format!("NIXL {version} at full speed");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&folder.path().join("{agent}.csv"));
    let output = command.arg(release).args([transfers.to_string(), bytes.to_string()]).output().unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, transfers);
    assert_eq!(expected["initiator"]["agent_tx_bytes"], (transfers / 2, transfers / 2 * bytes));
    assert_eq!(csv_totals(folder.path(), expected.keys()), expected, "NIXL {version}, {bytes} bytes");
}

#[test]
fn a_hundred_thousand_of_1_5_1() {
    holds_all("1.5.1", 100_000, 256, by_hand);
    holds_all("1.5.1", 100_000, 65536, by_hand);
}

#[test]
fn a_hundred_thousand_of_1_4_1() {
    holds_all("1.4.1", 100_000, 256, by_hand);
    holds_all("1.4.1", 100_000, 65536, by_hand);
}

#[test]
fn a_hundred_thousand_of_each_older_generation() {
    for version in ["0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2"] {
        holds_all(version, 100_000, 256, by_hand);
    }
}

#[test]
fn more_than_a_million_through_run() {
    holds_all("1.5.1", 1_200_000, 256, through_run);
}
