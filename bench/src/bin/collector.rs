// SPDX-License-Identifier: Apache-2.0

//! Recording, through the C++ symbols NIXL calls: the collector of a NIXL wheel against ours that is preloaded.
//!
//! Each collector is measured in a process of its own, with the environment the case asks for, and the two take turns.
//! What became of the events is counted beforehand, in processes that differ by their exporter alone.

use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nixl_telemetry_bench::collector::{Collector, Functions};
use nixl_telemetry_bench::counter::{self, Counter, Counts};
use nixl_telemetry_bench::{machine, median, process::this_program};
use nixl_telemetry_nixl::find;
use nixl_telemetry_testkit as testkit;

/// Calls of each thread in a round.
const EACH: u64 = 100_000;
const THREADS: [u64; 4] = [1, 2, 4, 8];

const CAPTION: &str = "\
ns: what a thread waits for one call, the wall time of 100,000 in a row; medians. Called through the same exported
C++ symbols, exporter NOP. A fresh collector for each round: create and destroy are not included, memory touched for
the first time and threads that wake up are. Warm: one collector for all rounds, each timed right after one that is
not. Kept: NIXL's with a buffer for all events of a round and no flush within it, ours at its default settings, flushes
included. Full: no buffer has room for a transfer, and all are counted as dropped. Filtered: only errors are wanted.";

/// Times NIXL's telemetry collector and ours through the C++ symbols that both export, and prints a Markdown table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of a NIXL 1.4 or 1.5, such as an unpacked wheel
    nixl: PathBuf,
    /// Rounds of each case, of whose times the median counts
    #[arg(long, default_value_t = 41, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Serve rounds of the case of this number, on the library given instead of a folder
    #[arg(long, hide = true)]
    serve: Option<usize>,
}

struct Case {
    name: &'static str,
    call: Call,
    fate: Fate,
    /// Whether all rounds have one collector, and each is timed right after another one that is not: as in the midst of
    /// an agent's work. Otherwise each round has a collector of its own.
    warm: bool,
    upstream: &'static [(&'static str, &'static str)],
    ours: &'static [(&'static str, &'static str)],
}

/// What is called.
#[derive(Clone, Copy)]
enum Call {
    /// A transfer: four events.
    Transfer,
    /// One event.
    TxBytes,
}

/// What has to become of the events.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Dropped,
    Filtered,
}

const NEVER: (&str, &str) = ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000");
/// Events of a transfer, times calls, times threads, and the calls that warm up.
const AMPLE: &[(&str, &str)] = &[("NIXL_TELEMETRY_BUFFER_SIZE", "3200032"), NEVER];
const DEFAULT: &[(&str, &str)] = &[];
const TINY: &[(&str, &str)] = &[("NIXL_TELEMETRY_BUFFER_SIZE", "1"), NEVER];
const ERRORS_ONLY: &[(&str, &str)] = &[("NIXL_TELEMETRY_ENABLED_METRICS", "agent_err_*")];

const ADD_TRANSFER: Case =
    Case { name: "transfer kept", call: Call::Transfer, fate: Fate::Kept, warm: false, upstream: AMPLE, ours: DEFAULT };

const TX_BYTES: Case = Case { name: "one event kept", call: Call::TxBytes, ..ADD_TRANSFER };

const CASES: [Case; 6] = [
    ADD_TRANSFER,
    Case { name: "transfer kept, warm", warm: true, ..ADD_TRANSFER },
    Case { name: "transfer, buffer full", fate: Fate::Dropped, upstream: TINY, ours: TINY, ..ADD_TRANSFER },
    Case {
        name: "transfer, all filtered",
        fate: Fate::Filtered,
        upstream: ERRORS_ONLY,
        ours: ERRORS_ONLY,
        ..ADD_TRANSFER
    },
    TX_BYTES,
    Case { name: "one event kept, warm", warm: true, ..TX_BYTES },
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(case) = arguments.serve {
        return serve(CASES.get(case).context("there is no such case")?, &arguments.nixl);
    }
    let upstream = find(Some(&arguments.nixl))?.libnixl();
    let ours = testkit::preload();

    let machine = machine();
    for (number, case) in CASES.iter().enumerate() {
        let worker = |library, settings, exporter| Worker::start(number, library, settings, exporter);
        for (library, settings) in [(&upstream, case.upstream), (&ours, case.ours)] {
            let mut counting = worker(library, settings, counter::NAME)?;
            for threads in THREADS {
                let (_, counts) = counting.round(threads)?;
                case.check(threads, counts)
                    .with_context(|| format!("{}, {threads} threads, {}", case.name, library.display()))?;
            }
        }
        if number == 0 {
            println!("{machine}\n\n| call | threads | NIXL's | ours | ratio |\n|---|---|---|---|---|");
        }
        let mut rivals = [worker(&upstream, case.upstream, "NOP")?, worker(&ours, case.ours, "NOP")?];
        for threads in THREADS {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..arguments.rounds {
                for (rival, times) in rivals.iter_mut().zip(&mut times) {
                    times.push(rival.round(threads)?.0);
                }
            }
            let [upstream, ours] = times.map(|times| median(&times).as_nanos() as f64 / EACH as f64);
            println!("| {} | {threads} | {upstream:.1} ns | {ours:.1} ns | 1/{:.1} |", case.name, upstream / ours);
        }
    }
    println!("\n{CAPTION}");
    Ok(())
}

impl Case {
    /// Whether the events of a round met their fate. What is not exported and not counted as dropped is lost.
    fn check(&self, threads: u64, counts: Counts) -> anyhow::Result<()> {
        let events = match self.call {
            Call::Transfer => 4,
            Call::TxBytes => 1,
        };
        let all = events * (EACH + 1) * threads;
        let expected = match self.fate {
            Fate::Kept => Counts { exported: all, dropped: 0 },
            Fate::Dropped => Counts { exported: 0, dropped: all },
            Fate::Filtered => Counts::default(),
        };
        ensure!(counts == expected, "{all} events became {counts:?}: expected {expected:?}");
        Ok(())
    }
}

const ENDED: &str = "the measuring process ended; what it printed above says why";

/// A process that runs rounds of one case on one library.
struct Worker {
    process: Child,
    asked: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(case: usize, library: &Path, settings: &[(&str, &str)], exporter: &str) -> anyhow::Result<Self> {
        let plugins = counter::plugin();
        let plugins = plugins.parent().context("a plugin lies in a folder")?;
        let mut process = this_program()?
            .arg(library)
            .args(["--serve", &case.to_string()])
            .env("NIXL_TELEMETRY_ENABLE", "y")
            .env("NIXL_TELEMETRY_EXPORTER", exporter)
            // Both look here.
            .env("NIXL_PLUGIN_DIR", plugins)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run this program again")?;
        let asked = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("it was asked for")?);
        Ok(Self { process, asked, answers })
    }

    /// Mean time of a thread, and what became of the events, which only the exporter that counts knows.
    fn round(&mut self, threads: u64) -> anyhow::Result<(Duration, Counts)> {
        let asked = self.asked.as_mut().context("it is open until the worker is dropped")?;
        writeln!(asked, "{threads}").context(ENDED)?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, ENDED);
        let numbers: Vec<u64> = answer.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [nanos, exported, dropped] = numbers[..] else {
            anyhow::bail!("the measuring process answered {answer:?}: expected three numbers");
        };
        Ok((Duration::from_nanos(nanos), Counts { exported, dropped }))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when it is asked no more.
        self.asked = None;
        let _ = self.process.wait();
    }
}

/// Answers each line of standard input, a number of threads, with the result of a round.
fn serve(case: &Case, library: &Path) -> anyhow::Result<()> {
    let functions = Functions::load(library)?;
    let counter = Counter::load(&counter::plugin())?;
    let mut warm = None;
    for line in stdin().lines() {
        let threads = line?.parse()?;
        let collector = match warm.take() {
            Some(collector) => collector,
            None => Collector::create(functions)?,
        };
        if case.warm {
            case.call.time(threads, &collector);
            collector.flush();
        }
        let before = counter.counts();
        let taken = case.call.time(threads, &collector);
        // NIXL's collector forgets what it has not exported when it is destroyed.
        collector.flush();
        if case.warm {
            warm = Some(collector);
        } else {
            drop(collector);
        }
        let counts = counter.counts() - before;
        println!("{} {} {}", taken.as_nanos(), counts.exported, counts.dropped);
    }
    Ok(())
}

impl Call {
    /// Times it on so many threads.
    fn time(self, threads: u32, collector: &Collector) -> Duration {
        match self {
            Self::Transfer => time(threads, |i| collector.add_transfer(i.cast_signed())),
            Self::TxBytes => time(threads, |i| collector.add_tx_bytes(i)),
        }
    }
}

/// Runs `record` on so many threads, each with the numbers 0 to `EACH`, and returns the mean time of a thread.
fn time(threads: u32, record: impl Fn(u64) + Sync) -> Duration {
    let barrier = Barrier::new(threads as usize);
    let run = || {
        // What a thread needs once is not part of a call.
        record(0);
        barrier.wait();
        let start = Instant::now();
        (1..=EACH).for_each(&record);
        start.elapsed()
    };
    let total: Duration = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("it records")).sum()
    });
    total / threads
}
