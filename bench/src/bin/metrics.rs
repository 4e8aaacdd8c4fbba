// SPDX-License-Identifier: Apache-2.0

//! The exporters prometheus and prometheus_mp against NIXL's of the same names: what an event costs, and what a scrape takes.
//!
//! Each exporter is held by a process of its own, with the environment it wants, and called through its vtable as NIXL's
//! flush calls it, with batches of 4096 events. The processes take turns. What they show in the end has to be what they were
//! given: a rival that loses events is no rival. Scrapes keep their connection where the server does, as Prometheus does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nixl_telemetry_bench::{Held, NOP, machine, median, process::this_program, scrape, transfers};
use nixl_telemetry_event::Generation;
use nixl_telemetry_testkit as testkit;

const BATCH: usize = 4096;
/// Batches a process exports when it is its turn.
const TURN: u64 = 20;
const GENERATION: Generation = Generation::V1_5;
/// What is in a batch: every fourth event is of a write.
const BATCH_TX_BYTES: u64 = BATCH as u64 / 4 * 65536;

/// Feeds exporters and scrapes them, NIXL's and ours, and prints Markdown tables.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of a NIXL 1.5, such as an unpacked wheel
    nixl: PathBuf,
    /// Turns of each exporter, of 20 batches each; the median of all batches counts
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Scrapes of each endpoint, taking turns
    #[arg(long, default_value_t = 401, value_parser = clap::value_parser!(u32).range(1..))]
    scrapes: u32,
    /// Agents behind one endpoint in the second table of scrapes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    ranks: u32,
    /// Hold so many exporters of a plugin, in this process, and do what standard input says
    #[arg(long, hide = true, num_args = 2, value_names = ["PLUGIN", "AGENTS"])]
    hold: Vec<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let [plugin, agents] = &arguments.hold[..] {
        return hold(plugin, agents.to_string_lossy().parse()?);
    }
    let libraries = arguments.nixl.join(".nixl_cu12.mesonpy.libs");
    let theirs = |name: &str| libraries.join(format!("plugins/libtelemetry_exporter_{name}.so"));
    let machine = machine();

    let sides = [
        ("NIXL's NOP: the calls alone", libraries.join("libnixl.so")),
        ("NIXL's prometheus", theirs("prometheus")),
        ("our prometheus", testkit::plugin("prometheus")),
        ("NIXL's prometheus_mp", theirs("prometheus_mp")),
        ("our prometheus_mp", testkit::plugin("prometheus_mp")),
    ];
    let mut held = sides.iter().map(|(_, plugin)| Side::start(plugin, 1)).collect::<anyhow::Result<Vec<_>>>()?;
    println!("Exporting, batches of {BATCH} events; {machine}\n");
    let mut times = vec![Vec::new(); held.len()];
    for _ in 0..arguments.rounds {
        for (side, times) in held.iter_mut().zip(&mut times) {
            times.extend(side.export()?);
        }
    }
    let nanoseconds = |times: &[Duration]| median(times).as_nanos() as f64 / BATCH as f64;
    let calls = nanoseconds(&times[0]);
    println!("| exporter | ns per event | to NIXL's | without the calls | to NIXL's |\n|---|---|---|---|---|");
    let mut rival = None;
    for ((name, _), times) in sides.iter().zip(&times) {
        let (whole, own) = (nanoseconds(times), (nanoseconds(times) - calls).max(0.0));
        let to = |ours: f64, theirs: f64| if ours > 0.0 { format!("1/{:.1}", theirs / ours) } else { "-".into() };
        let (to_whole, to_own) = match rival.take() {
            Some((theirs, theirs_own)) => (to(whole, theirs), to(own, theirs_own)),
            None => (String::new(), String::new()),
        };
        println!("| {name} | {whole:.2} | {to_whole} | {own:.2} | {to_own} |");
        rival = name.starts_with("NIXL's prometheus").then_some((whole, own));
    }
    for (side, (name, _)) in held.iter().zip(&sides).skip(1) {
        side.check(1, name)?;
    }

    println!("\nScraping one agent; {} scrapes\n", arguments.scrapes);
    scrapes(&arguments, &sides[1..], &held[1..])?;
    drop(held);

    let ranks = arguments.ranks;
    println!("\nScraping {ranks} agents; {} scrapes\n", arguments.scrapes);
    let mut held =
        sides[1..].iter().map(|(_, plugin)| Side::start(plugin, ranks)).collect::<anyhow::Result<Vec<_>>>()?;
    for (side, (name, _)) in held.iter_mut().zip(&sides[1..]) {
        side.export()?;
        side.check(ranks, name)?;
    }
    scrapes(&arguments, &sides[1..], &held)
}

fn scrapes(arguments: &Arguments, sides: &[(&str, PathBuf)], held: &[Side]) -> anyhow::Result<()> {
    let mut clients: Vec<_> = held.iter().map(|side| scrape::Client::new(side.port)).collect();
    let (mut times, mut shown) = (vec![Vec::new(); held.len()], vec![(0, false); held.len()]);
    let mut page = String::new();
    for _ in 0..arguments.scrapes {
        for ((client, times), shown) in clients.iter_mut().zip(&mut times).zip(&mut shown) {
            let start = Instant::now();
            let kept = client.get(&mut page)?;
            times.push(start.elapsed());
            *shown = (page.len(), kept);
        }
    }
    println!("| endpoint | bytes | connection | median | to NIXL's |\n|---|---|---|---|---|");
    let mut rival = None;
    for (((name, _), times), (bytes, kept)) in sides.iter().zip(&times).zip(shown) {
        let micros = median(times).as_secs_f64() * 1e6;
        let to = rival.take().map_or(String::new(), |theirs: f64| format!("1/{:.1}", theirs / micros));
        println!("| {name} | {bytes} | {} | {micros:.0} us | {to} |", if kept { "kept" } else { "a new one" });
        rival = name.starts_with("NIXL's").then_some(micros);
    }
    Ok(())
}

/// Exporters in a process of their own.
struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
    batches: u64,
    _stores: tempfile::TempDir,
}

impl Side {
    fn start(plugin: &Path, agents: u32) -> anyhow::Result<Self> {
        let (port, stores) = (testkit::free_port(), tempfile::tempdir()?);
        let mut child = this_program()?
            .arg(plugin)
            .arg("--hold")
            .arg(plugin)
            .arg(agents.to_string())
            .env("NIXL_TELEMETRY_HOST_GENERATION", GENERATION.as_str())
            .env("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y")
            .env("NIXL_TELEMETRY_PROMETHEUS_PORT", port.to_string())
            .env("NIXL_TELEMETRY_MULTIPROC_DIR", stores.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("it has a standard input")?;
        let output = BufReader::new(child.stdout.take().context("it has a standard output")?);
        let mut side = Self { child, input, output, port, batches: 0, _stores: stores };
        ensure!(side.line()? == "ready", "{} cannot be held", plugin.display());
        Ok(side)
    }

    /// A turn: the time of each batch.
    fn export(&mut self) -> anyhow::Result<Vec<Duration>> {
        writeln!(self.input)?;
        self.batches += TURN;
        self.line()?.split(' ').map(|nanos| Ok(Duration::from_nanos(nanos.parse()?))).collect()
    }

    /// Whether what is shown is what was exported.
    fn check(&self, agents: u32, name: &str) -> anyhow::Result<()> {
        let seen = scrape::counter(self.port, "agent_tx_bytes_total")?;
        let given = self.batches * BATCH_TX_BYTES * u64::from(agents);
        ensure!(seen == given, "{name} shows {seen} bytes: expected {given}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exports a turn for each line of standard input: to the first exporter with a look at the clock, then to the others.
fn hold(plugin: &Path, agents: u32) -> anyhow::Result<()> {
    let load = |number: u32| {
        let agent = format!("agent-{number}");
        let is_nixl = plugin.file_name().is_some_and(|name| name == "libnixl.so");
        if is_nixl { Held::built_in(plugin, NOP, GENERATION, &agent) } else { Held::load(plugin, GENERATION, &agent) }
    };
    let mut held: Vec<Held> = (0..agents).map(load).collect();
    let events = transfers(GENERATION, BATCH);
    println!("ready");
    for _ in std::io::stdin().lines() {
        let mut nanos = Vec::new();
        for _ in 0..TURN {
            let start = Instant::now();
            held[0].export(&events);
            nanos.push(start.elapsed().as_nanos().to_string());
            held[1..].iter_mut().for_each(|other| other.export(&events));
        }
        println!("{}", nanos.join(" "));
    }
    Ok(())
}
