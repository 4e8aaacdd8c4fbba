// SPDX-License-Identifier: Apache-2.0

//! The parquet plugin in a release of NIXL: what DuckDB finds in its files is what happened.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixl_telemetry_e2e::{Sandbox, Totals, on_small_disk, preloaded, truth};
use nixl_telemetry_testkit as testkit;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// Events by agent and name, as DuckDB counts and adds them up in all files below a folder; `None` if there is no DuckDB.
fn totals(test: &str, folder: &Path) -> Option<Totals> {
    const SCRIPT: &str = "import duckdb, json, sys
rows = duckdb.execute('''SELECT agent, event, count(*), sum(value), count(*) = count(DISTINCT (origin, sequence)),
    min(timestamp) > '2026-01-01' FROM read_parquet($1) GROUP BY ALL''', [sys.argv[1]]).fetchall()
assert all(row[4] and row[5] for row in rows), rows
print(json.dumps([row[:4] for row in rows]))";
    let python = testkit::require(test, testkit::python(&["pyarrow==26.0.1", "duckdb==2.0.1"]))?;
    let output = Command::new(python).args(["-c", SCRIPT]).arg(folder.join("**/*.parquet")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<(String, String, u64, u64)> = serde_json::from_slice(&output.stdout).unwrap();
    let mut totals = Totals::new();
    for (agent, event, count, sum) in rows {
        totals.entry(agent).or_default().insert(event, (count, sum));
    }
    Some(totals)
}

#[test]
fn nixl_1_5_1() {
    let test = "parquet in NIXL 1.5.1";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("parquet"));
    for more in
        [&[][..], &[("NIXL_TELEMETRY_PARQUET_PARTITION", "date,agent"), ("NIXL_TELEMETRY_PARQUET_BATCH_SIZE", "500")]]
    {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let variables = [
            ("NIXL_TELEMETRY_ENABLE", "y"),
            ("NIXL_TELEMETRY_EXPORTER", "parquet"),
            ("NIXL_TELEMETRY_PARQUET_DIR", folder.path().to_str().unwrap()),
            ("NIXL_TELEMETRY_PARQUET_SPOOL_DIR", spool.to_str().unwrap()),
            ("NIXL_TELEMETRY_PARQUET_SHUTDOWN_TIMEOUT", "60000"),
        ];
        let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &[&variables, more].concat());
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("PARQUET"), "{log}");
        let truth = truth(&output);
        assert_eq!(truth["initiator"]["agent_xfer_time"].0, TRANSFERS);
        let Some(found) = totals(test, folder.path()) else { return };
        assert_eq!(found, truth, "{more:?}");
        assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
    }
}

/// With our collector in the process nothing is lost, although the agents are destroyed at once.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let test = "parquet preloaded";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = preloaded(Path::new(DRIVER), &release, TRANSFERS, "parquet")
        .env("NIXL_TELEMETRY_PARQUET_DIR", folder.path())
        .output()
        .unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    let Some(found) = totals(test, folder.path()) else { return };
    assert_eq!(found, expected);
}

/// A file system with room for some of it: whole files up to there, and the agent lives on.
#[test]
fn a_full_disk_leaves_whole_files() {
    let test = "parquet on a full disk";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("parquet"));
    let copy = tempfile::tempdir().unwrap();
    let script =
        format!("'{DRIVER}' '{}' 3000 1500 && cp -a /mnt/. '{}'", sandbox.path().display(), copy.path().display());
    let Some(mut shell) = on_small_disk(test, &script) else { return };
    let output = shell
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "parquet")
        .env("NIXL_TELEMETRY_RUN_INTERVAL", "10")
        .env("NIXL_TELEMETRY_PARQUET_DIR", "/mnt")
        .env("NIXL_TELEMETRY_PARQUET_BATCH_SIZE", "100")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("No space left on device (os error 28): expected a directory that can be written"), "{log}");
    let files: Vec<_> = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().all(|file| file.extension().is_some_and(|is| is == "parquet")), "{files:?}");
    let Some(found) = totals(test, copy.path()) else { return };
    let events = found.values().flat_map(|events| events.values()).map(|(count, _)| count).sum::<u64>();
    assert!(events > 100 && events < 12_000, "{found:?}");
}
