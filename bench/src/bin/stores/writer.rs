// SPDX-License-Identifier: Apache-2.0

//! The process that exports: this program again, with the environment the exporter wants.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nixl_telemetry_bench::{Held, median, process::this_program};
use nixl_telemetry_event::{Event, Generation, Kind};

use crate::store::{Store, run};

/// Events of a batch.
pub(crate) const BATCH: u64 = 4096;
const GENERATION: Generation = Generation::V1_5;
/// Batches that come while a store hangs: more than a queue has room for.
const FLOOD: u64 = 1500;

/// What a round took.
pub(crate) struct Round {
    /// Until everything was in the store.
    pub(crate) whole: Duration,
    /// The calls of a batch: the median of all.
    pub(crate) call: Duration,
}

/// What a store that hangs did to its process.
pub(crate) struct Flood {
    /// By so many bytes its memory grew at most.
    pub(crate) grown: u64,
    pub(crate) events: u64,
}

/// Exports so many batches into a store.
pub(crate) fn round(plugin: &Path, store: &dyn Store, batches: u64) -> anyhow::Result<Round> {
    let mut command = command(plugin, store)?;
    command.args(["--batches", &batches.to_string()]);
    // Nothing is dropped, however slow it is.
    let prefix = prefix(store);
    command.env(format!("{prefix}QUEUE_OVERFLOW"), "block:600000");
    command.env(format!("{prefix}SHUTDOWN_TIMEOUT"), "600000").stderr(Stdio::inherit());
    let (said, _) = run(&mut command)?;
    let (whole, call) = said.split_once(' ').context("it says two times")?;
    let [whole, call] = [whole.parse()?, call.parse()?].map(Duration::from_nanos);
    Ok(Round { whole, call })
}

/// Lets a store hang under a flood of events.
pub(crate) fn flooded(plugin: &Path, store: &mut dyn Store) -> anyhow::Result<Flood> {
    let mut command = command(plugin, store)?;
    // That events find no room is what it is about, and that it is memory that bounds them.
    command.env(format!("{}QUEUE_SIZE", prefix(store)), "1000000000");
    command.arg("--flood").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it has a standard output")?).lines();
    let mut line = || lines.next().context("it has ended")?.map_err(anyhow::Error::from);
    line()?;
    // Connected, and its first batch delivered.
    while store.count()? < BATCH {
        ensure!(child.try_wait()?.is_none(), "it has ended");
    }
    let hanging = store.hang()?;
    writeln!(child.stdin.take().context("it has a standard input")?)?;
    let grown = line()?.parse()?;
    child.wait()?;
    drop(hanging);
    Ok(Flood { grown, events: FLOOD * BATCH })
}

fn command(plugin: &Path, store: &dyn Store) -> anyhow::Result<Command> {
    let mut command = this_program()?;
    command.arg("--write").arg(plugin).env("NIXL_TELEMETRY_HOST_GENERATION", GENERATION.as_str());
    for (name, value) in store.settings() {
        command.env(prefix(store) + name, value);
    }
    Ok(command)
}

fn prefix(store: &dyn Store) -> String {
    format!("NIXL_TELEMETRY_{}_", store.exporter().to_ascii_uppercase())
}

/// Be the process: exports, and says how long that took, in nanoseconds, and a batch.
pub(crate) fn write(plugin: &Path, batches: u64) -> anyhow::Result<()> {
    let all = traffic(batches);
    let mut exporter = Held::load(plugin, GENERATION, "decode-1");
    let (begun, mut calls) = (Instant::now(), Vec::with_capacity(all.len()));
    for batch in &all {
        let call = Instant::now();
        exporter.export(batch);
        calls.push(call.elapsed());
    }
    drop(exporter);
    println!("{} {}", begun.elapsed().as_nanos(), median(&calls).as_nanos());
    Ok(())
}

/// Be the process whose store hangs: exports a batch, waits for a line, exports many more, and says by how many bytes it grew.
pub(crate) fn flood(plugin: &Path) -> anyhow::Result<()> {
    let all = traffic(16);
    let mut exporter = Held::load(plugin, GENERATION, "decode-1");
    exporter.export(&all[0]);
    println!("ready");
    std::io::stdin().lines().next().context("nobody says that it hangs")??;
    // From here on the greatest size is that of now.
    fs::write("/proc/self/clear_refs", "5").context("cannot forget how large the process was")?;
    let before = peak()?;
    for batch in all.iter().cycle().take(usize::try_from(FLOOD)?) {
        exporter.export(batch);
    }
    println!("{}", peak()?.saturating_sub(before));
    // Whoever waits for the store waits for ever.
    std::process::exit(0);
}

/// The greatest size this process had, in bytes.
fn peak() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Batches of a busy agent: of each transfer its bytes, that it was one, how long it took and how long its post did. The
/// numbers are made up, but none looks like the one before.
fn traffic(batches: u64) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut batch = || {
        let mut bytes = Vec::new();
        for _ in 0..BATCH / 4 {
            let size = 4096 << random(9);
            let events = [
                Event::new(Kind::TX_BYTES, size),
                Event::new(Kind::TX_REQUESTS_NUM, 1),
                Event::new(Kind::XFER_TIME, 20 + size / 20_000 + random(200)),
                Event::new(Kind::XFER_POST_TIME, 2 + random(12)),
            ];
            for event in events {
                assert!(GENERATION.layout().encode(&event, &mut bytes));
            }
        }
        bytes
    };
    (0..batches).map(|_| batch()).collect()
}
