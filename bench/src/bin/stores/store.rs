// SPDX-License-Identifier: Apache-2.0

//! What has to be known of a store to measure it.

use std::any::Any;
use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// A place events go to, and the fastest way into it that its own client has.
pub(crate) trait Store {
    /// The exporter that brings events here.
    fn exporter(&self) -> &'static str;

    /// What its own client does, for people.
    fn rival(&self) -> &'static str;

    /// What the exporter has to be told, without `NIXL_TELEMETRY_` and its name.
    fn settings(&self) -> Vec<(&'static str, OsString)>;

    /// The exporter's `QUEUE_BYTES`, if it has a queue.
    fn queue_bytes(&self) -> Option<u64> {
        Some(32 << 20)
    }

    /// Makes it as it was before the first event.
    fn clear(&mut self) -> anyhow::Result<()>;

    /// How many events are in it, as its own client counts.
    fn count(&mut self) -> anyhow::Result<u64>;

    /// Takes what is in it as what its own client is to be given.
    fn keep(&mut self) -> anyhow::Result<()>;

    /// Lets its own client bring what was kept; the time that takes.
    fn bulk(&mut self) -> anyhow::Result<Duration>;

    /// Makes it hang, or takes it away, until what is returned is dropped.
    fn hang(&mut self) -> anyhow::Result<Box<dyn Any>> {
        Ok(Box::new(()))
    }
}

/// Runs a program to its end; what it says, and how long it took.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<(String, Duration)> {
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("{command:?} does not run"))?;
    let time = begun.elapsed();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok((String::from_utf8(output.stdout)?.trim_end().to_owned(), time))
}
