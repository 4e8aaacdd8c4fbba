// SPDX-License-Identifier: Apache-2.0

//! sqlite: a database, beside `.import` of the program `sqlite3`, into the same tables and with the same pragmas.

use std::any::Any;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nixl_telemetry_testkit::{Missing, command};
use tempfile::TempDir;

use crate::store::{Store, run};

struct Sqlite {
    folder: TempDir,
    /// What makes the tables.
    schema: String,
}

/// A client that has the database to itself, and does nothing with it.
struct Holder(Child);

pub(crate) fn start() -> Result<Box<dyn Store>, Missing> {
    command("sqlite3", "sqlite3")?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    Ok(Box::new(Sqlite { folder, schema: String::new() }))
}

impl Sqlite {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sqlite3(&self) -> Command {
        let mut command = Command::new("sqlite3");
        command.args(["-batch", "-bail", "-cmd", ".timeout 60000"]).arg(self.path("events.db"));
        command
    }
}

impl Store for Sqlite {
    fn exporter(&self) -> &'static str {
        "sqlite"
    }

    fn rival(&self) -> &'static str {
        "sqlite3 .import of ready CSV"
    }

    fn settings(&self) -> Vec<(&'static str, OsString)> {
        vec![("FILE", self.path("events.db").into())]
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path != self.path("ready.csv") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<u64> {
        // Before the first event there is no table.
        let (said, _) = run(self.sqlite3().arg("SELECT count(*) FROM sqlite_schema WHERE name = 'events'"))?;
        if said == "0" {
            return Ok(0);
        }
        Ok(run(self.sqlite3().arg("SELECT count(*) FROM events"))?.0.parse()?)
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        self.schema = run(self.sqlite3().arg(".schema"))?.0;
        let ready = fs::File::create(self.path("ready.csv"))?;
        let status = self.sqlite3().args(["-csv", "SELECT * FROM events"]).stdout(ready).status()?;
        anyhow::ensure!(status.success(), "sqlite3 cannot write CSV");
        Ok(())
    }

    fn bulk(&mut self) -> anyhow::Result<Duration> {
        run(self.sqlite3().args(["PRAGMA journal_mode = WAL", &self.schema]))?;
        let import = format!(".import --csv {} events", self.path("ready.csv").display());
        Ok(run(self.sqlite3().args(["PRAGMA synchronous = NORMAL", &import]))?.1)
    }

    fn hang(&mut self) -> anyhow::Result<Box<dyn Any>> {
        let mut child = self.sqlite3().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("it has a standard input")?;
        writeln!(input, "BEGIN EXCLUSIVE;\nSELECT 'held';")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("it has a standard output")?).read_line(&mut said)?;
        anyhow::ensure!(said == "held\n", "the database cannot be held");
        child.stdin = Some(input);
        Ok(Box::new(Holder(child)))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
