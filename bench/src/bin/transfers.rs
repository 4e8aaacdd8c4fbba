// SPDX-License-Identifier: Apache-2.0

//! What telemetry costs, and sees of, real transfers: one request of an unmodified NIXL, posted again and again.
//!
//! Two agents in one process, memory to memory over UCX, which listens to nothing. Each measurement is a process of its
//! own, with the environment of its mode; the modes take turns.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nixl_telemetry_bench::{machine, median, process::this_program, scrape};
use nixl_telemetry_nixl::{AgentConfig, Library, Operation, Progress, UCX_MEMORY, find};
use nixl_telemetry_testkit as testkit;

/// NIXL's time between two flushes, unless it is set.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
const INITIATOR: &str = "initiator";
const PORT: &str = "NIXL_TELEMETRY_PROMETHEUS_PORT";

/// Drives transfers through a NIXL with its own telemetry and with ours, and prints Markdown tables: transfers per
/// second, and how many of them the exporter has seen.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of a NIXL, such as an unpacked wheel of 1.4 or 1.5
    nixl: PathBuf,
    /// Rounds of each mode, of whose times the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Transfers in a round; the time begins after the first
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    transfers: u32,
    /// Bytes of a transfer; may be given several times
    #[arg(long, default_values_t = [256, 65536], value_parser = clap::value_parser!(u32).range(1..))]
    size: Vec<u32>,
    /// Measure once, in this process, and print nanoseconds and, if a port is set, what is seen there
    #[arg(long, hide = true)]
    once: bool,
}

/// A way to run NIXL.
struct Mode {
    name: &'static str,
    exporter: Option<&'static str>,
    /// Where our collector and our exporters are, if they are in use.
    ours: Option<Ours>,
}

#[derive(Clone)]
struct Ours {
    preload: PathBuf,
    plugins: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.once {
        return once(&arguments);
    }
    let machine = machine();
    let modes = modes();
    for &size in &arguments.size {
        let mut times = vec![Vec::new(); modes.len()];
        let mut seen = vec![Vec::new(); modes.len()];
        for round in 0..arguments.rounds as usize {
            // Each time another one first, so that none always follows the same.
            for turn in 0..modes.len() {
                let index = (round + turn) % modes.len();
                let mode = &modes[index];
                let measured = mode.measure(&arguments, size);
                let (time, saw) = measured.with_context(|| format!("telemetry {:?} cannot be measured", mode.name))?;
                times[index].push(time);
                seen[index].extend(saw);
            }
        }
        let rate = |time: Duration| f64::from(arguments.transfers - 1) / time.as_secs_f64();
        let off = rate(median(&times[0]));
        println!("{size} bytes, {} transfers, {} rounds; {machine}\n", arguments.transfers, arguments.rounds);
        println!("| telemetry | transfers/s | to off | slowest - fastest | seen |\n|---|---|---|---|---|");
        for ((mode, times), seen) in modes.iter().zip(&times).zip(seen) {
            let rates = times.iter().map(|time| rate(*time).round() as u64).collect();
            let rate = rate(median(times));
            println!("| {} | {rate:.0} | {:.2} | {} | {} |", mode.name, rate / off, range(rates), range(seen));
        }
        println!();
    }
    println!("Transfers/s are medians. Seen: transfers the exporter shows, fewest - most in a round; NOP shows none.");
    Ok(())
}

fn modes() -> Vec<Mode> {
    let preload = testkit::preload();
    let plugins = testkit::plugin("csv").parent().expect("a file lies in a folder").to_owned();
    testkit::plugin("prometheus");
    let ours = Some(Ours { preload, plugins });
    vec![
        Mode { name: "off", exporter: None, ours: None },
        Mode { name: "NIXL's, NOP", exporter: Some("NOP"), ours: None },
        Mode { name: "NIXL's, prometheus", exporter: Some("prometheus"), ours: None },
        Mode { name: "ours, NOP", exporter: Some("NOP"), ours: ours.clone() },
        Mode { name: "ours, csv", exporter: Some("csv"), ours: ours.clone() },
        Mode { name: "ours, prometheus", exporter: Some("prometheus"), ours },
    ]
}

impl Mode {
    /// The time of one round in a process of its own, and the transfers its exporter has seen, if it shows any.
    fn measure(&self, arguments: &Arguments, size: u32) -> anyhow::Result<(Duration, Option<u64>)> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut process = this_program()?;
        process
            .arg("--once")
            .arg(&arguments.nixl)
            .args(["--transfers", &arguments.transfers.to_string(), "--size", &size.to_string()])
            .env("NIXL_TELEMETRY_ENABLE", if self.exporter.is_some() { "y" } else { "n" })
            .env("NIXL_TELEMETRY_CSV_FILE", folder.path().join("{agent}.csv"))
            .stderr(Stdio::inherit());
        if let Some(exporter) = self.exporter {
            process.env("NIXL_TELEMETRY_EXPORTER", exporter);
        }
        if self.exporter == Some("prometheus") {
            process.env(PORT, testkit::free_port().to_string()).env("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y");
        }
        if let Some(ours) = &self.ours {
            process.env("LD_PRELOAD", &ours.preload).env("NIXL_TELEMETRY_PLUGIN_PATH", &ours.plugins);
        }
        let output = process.output().context("cannot run this program again")?;
        ensure!(output.status.success(), "{}; what it printed above says why", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let nanos = numbers.next().context("the measuring process printed no time")??;
        let seen = match self.exporter {
            Some("csv") => Some(rows(&folder.path().join(format!("{INITIATOR}.csv")))?),
            _ => numbers.next().transpose()?,
        };
        Ok((Duration::from_nanos(nanos), seen))
    }
}

/// The transfers in a file of the exporter csv.
fn rows(file: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the rows in {}", file.display()))?;
    Ok(text.lines().filter(|line| line.split(',').nth(2) == Some("agent_xfer_time")).count() as u64)
}

/// The lowest and the highest number; one if they are the same.
fn range(numbers: Vec<u64>) -> String {
    match (numbers.iter().min(), numbers.iter().max()) {
        (Some(lowest), Some(highest)) if lowest == highest => lowest.to_string(),
        (Some(lowest), Some(highest)) => format!("{lowest} - {highest}"),
        _ => "-".to_owned(),
    }
}

/// Posts one request again and again.
fn once(arguments: &Arguments) -> anyhow::Result<()> {
    let size = arguments.size[0] as usize;
    let library = Library::open(&find(Some(&arguments.nixl))?.capi()?)?;
    // Threads of UCX that never sleep would take a processor each from those that are measured.
    let config = AgentConfig { progress_delay: Duration::from_micros(10), ..AgentConfig::default() };
    let (initiator, target) = (library.agent(INITIATOR, &config)?, library.agent("target", &config)?);
    let source = initiator.backend("UCX", UCX_MEMORY)?.register(size)?;
    let sink = target.backend("UCX", UCX_MEMORY)?.register(size)?;
    source.fill(0xA5);
    initiator.load(&target.metadata()?)?;

    let mut request = initiator.transfer(Operation::Write, &[source.whole()], &[sink.whole()])?;
    let mut post = |times: RangeInclusive<u32>| -> anyhow::Result<Duration> {
        let start = Instant::now();
        for _ in times {
            if request.post()? == Progress::Running {
                request.wait(PATIENCE)?;
            }
        }
        Ok(start.elapsed())
    };
    // The first one connects.
    post(1..=1)?;
    let taken = post(2..=arguments.transfers)?;

    ensure!(sink.read(0..size)?.iter().all(|byte| *byte == 0xA5), "the bytes did not arrive");
    // What an agent has not exported when it is destroyed, NIXL forgets.
    thread::sleep(2 * INTERVAL);
    print!("{}", taken.as_nanos());
    if let Ok(port) = std::env::var(PORT) {
        print!(" {}", scrape::counter(port.parse()?, "agent_tx_requests_num_total")?);
    }
    println!();
    Ok(())
}
