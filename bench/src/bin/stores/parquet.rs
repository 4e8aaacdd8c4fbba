// SPDX-License-Identifier: Apache-2.0

//! parquet: files, beside pyarrow's `write_table` of a table in memory, brought to the disk as ours are.

use std::any::Any;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nixl_telemetry_testkit::{Missing, python};
use tempfile::TempDir;

use crate::store::{Store, run};

const WRITE: &str = "
import os, sys, time
import pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
begun = time.perf_counter_ns()
with open(sys.argv[2], 'wb') as file:
    pq.write_table(table, file, compression='zstd')
    os.fsync(file.fileno())
print(time.perf_counter_ns() - begun)
";
const COUNT: &str = "
import pathlib, sys
import pyarrow.parquet as pq
print(sum(pq.read_metadata(path).num_rows for path in pathlib.Path(sys.argv[1]).glob('*.parquet')))
";

struct Parquet {
    folder: TempDir,
    python: PathBuf,
}

/// A directory that is somewhere else for the time being.
struct Away {
    here: PathBuf,
    away: PathBuf,
}

pub(crate) fn start() -> Result<Box<dyn Store>, Missing> {
    let python = python(&["pyarrow==26.0.1", "duckdb==2.0.1"])?;
    Ok(Box::new(Parquet { folder: tempfile::tempdir().expect("a temporary folder"), python }))
}

impl Parquet {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, text: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-c", text]);
        command
    }
}

impl Store for Parquet {
    fn exporter(&self) -> &'static str {
        "parquet"
    }

    fn rival(&self) -> &'static str {
        "pyarrow write_table of a ready table"
    }

    fn settings(&self) -> Vec<(&'static str, OsString)> {
        vec![("DIR", self.path("events").into())]
    }

    fn queue_bytes(&self) -> Option<u64> {
        Some(128 << 20)
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        let events = self.path("events");
        if events.exists() {
            fs::remove_dir_all(&events)?;
        }
        Ok(fs::create_dir(events)?)
    }

    fn count(&mut self) -> anyhow::Result<u64> {
        Ok(run(self.script(COUNT).arg(self.path("events")))?.0.parse()?)
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        Ok(fs::rename(self.path("events"), self.path("ready"))?)
    }

    fn bulk(&mut self) -> anyhow::Result<Duration> {
        let to = self.path("events").join("all.parquet");
        let (said, _) = run(self.script(WRITE).arg(self.path("ready")).arg(to))?;
        Ok(Duration::from_nanos(said.parse()?))
    }

    fn hang(&mut self) -> anyhow::Result<Box<dyn Any>> {
        let (here, away) = (self.path("events"), self.path("away"));
        fs::rename(&here, &away)?;
        Ok(Box::new(Away { here, away }))
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::rename(&self.away, &self.here);
    }
}
