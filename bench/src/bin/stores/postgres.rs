// SPDX-License-Identifier: Apache-2.0

//! postgres: a table, beside `\copy` of the program `psql` into the same one.

use std::any::Any;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nixl_telemetry_testkit::{Missing, Postgres as Server};
use tempfile::TempDir;

use crate::store::{Store, run};

struct Postgres {
    server: Server,
    folder: TempDir,
}

/// Processes that do nothing for the time being.
struct Stopped(Vec<String>);

pub(crate) fn start() -> Result<Box<dyn Store>, Missing> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Ok(Box::new(Postgres { server: Server::start()?, folder }))
}

impl Postgres {
    fn ready(&self) -> PathBuf {
        self.folder.path().join("ready.csv")
    }

    fn ask(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// Whether there is a table, which the exporter makes.
    fn has_table(&self) -> bool {
        self.ask("SELECT to_regclass('nixl_events') IS NOT NULL") == "t"
    }

    fn copy(&self, how: &str) -> anyhow::Result<Duration> {
        let copy = format!("\\copy nixl_events {how} '{}' (FORMAT csv)", self.ready().display());
        Ok(run(self.server.psql_command("postgres").args(["-c", &copy]))?.1)
    }
}

impl Store for Postgres {
    fn exporter(&self) -> &'static str {
        "postgres"
    }

    fn rival(&self) -> &'static str {
        "psql \\copy of ready CSV"
    }

    fn settings(&self) -> Vec<(&'static str, OsString)> {
        let (socket, port) = (self.server.socket_directory().display(), self.server.port());
        vec![("URL", format!("postgres:///postgres?user=postgres&host={socket}&port={port}").into())]
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        if self.has_table() {
            self.ask("TRUNCATE nixl_events, nixl_events_agents, nixl_events_kinds");
        }
        // So that neither side writes back what the other has written.
        self.ask("CHECKPOINT");
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<u64> {
        Ok(if self.has_table() { self.ask("SELECT count(*) FROM nixl_events").parse()? } else { 0 })
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        self.copy("TO").map(drop)
    }

    fn bulk(&mut self) -> anyhow::Result<Duration> {
        self.copy("FROM")
    }

    fn hang(&mut self) -> anyhow::Result<Box<dyn Any>> {
        let clients = "backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let clients = self.ask(&format!("SELECT pid FROM pg_stat_activity WHERE {clients}"));
        // Its first line is who takes connections.
        let main = fs::read_to_string(self.server.socket_directory().join("data/postmaster.pid"))?;
        let main = main.lines().next().context("it does not run")?;
        let stopped = Stopped(clients.lines().chain([main]).map(str::to_owned).collect());
        stopped.signal("-STOP")?;
        Ok(Box::new(stopped))
    }
}

impl Stopped {
    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        run(Command::new("kill").arg(signal).args(&self.0)).map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.signal("-CONT");
    }
}
