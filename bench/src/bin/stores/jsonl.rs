// SPDX-License-Identifier: Apache-2.0

//! jsonl: a file of lines, beside `dd`, which copies one.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nixl_telemetry_testkit::Missing;
use tempfile::TempDir;

use crate::store::{Store, run};

struct Jsonl(TempDir);

pub(crate) fn start() -> Result<Box<dyn Store>, Missing> {
    Ok(Box::new(Jsonl(tempfile::tempdir().expect("a temporary folder"))))
}

impl Jsonl {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Store for Jsonl {
    fn exporter(&self) -> &'static str {
        "jsonl"
    }

    fn rival(&self) -> &'static str {
        "dd of ready lines"
    }

    fn settings(&self) -> Vec<(&'static str, OsString)> {
        vec![("FILE", self.path("events").into())]
    }

    fn queue_bytes(&self) -> Option<u64> {
        None
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.0.path())? {
            let path = entry?.path();
            if path != self.path("ready") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<u64> {
        let (said, _) = run(Command::new("wc").arg("-l").arg(self.path("events")))?;
        Ok(said.split(' ').next().unwrap_or_default().parse()?)
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        Ok(fs::rename(self.path("events"), self.path("ready"))?)
    }

    fn bulk(&mut self) -> anyhow::Result<Duration> {
        let (from, to) = (self.path("ready"), self.path("events"));
        let arguments = [format!("if={}", from.display()), format!("of={}", to.display()), "bs=1M".to_owned()];
        Ok(run(Command::new("dd").args(arguments))?.1)
    }
}
