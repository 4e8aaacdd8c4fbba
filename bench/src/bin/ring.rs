// SPDX-License-Identifier: Apache-2.0

//! The ring file: our writer and our readers against NIXL's, on the same files.
//!
//! * **writer**: NIXL's exporter BUFFER, of the wheel's own libnixl.so, called through its vtable as its flush calls it, and
//!   our writer given the same batch. Between two rounds a reader takes everything out, unmeasured. What both wrote is
//!   compared slot by slot.
//! * **reader**: a file of a million events, read by NIXL's C++ reader (of the wheel), by its Python reader (see
//!   `ring_reader.py`), by ours into totals, and by `nixl-telemetry`; and how long copying that file takes.
//! * **tail**: how long after it was written `nixl-telemetry tail` has printed an event, of events that come now and then.
//!
//! `cargo run --release --bin ring -- ../.nixl/1.5.1`, from the folder `bench`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, hint, thread};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nixl_telemetry_bench::{BUFFER, Held, machine, median, process, transfers};
use nixl_telemetry_event::{Event, Generation, Kind, Layout};
use nixl_telemetry_ring::{Batch, Mode, Options, Reader, Writer};
use nixl_telemetry_testkit as testkit;

/// NIXL's ring files: ours against its own writer and readers
#[derive(Parser)]
struct Arguments {
    /// Folder of an unpacked NIXL 1.4 or 1.5 wheel
    release: PathBuf,
    /// Rounds of the writers
    #[arg(long, default_value_t = 501)]
    rounds: usize,
    /// Where the files lie [default: where temporary files go]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The environment is made, and this is the command
    #[arg(long, hide = true)]
    prepared: Option<PathBuf>,
}

/// Events of a round of the writers: what the default ring holds.
const BATCH: usize = 4095;
/// Rounds of one writer before it is the other's turn.
const TURN: usize = 20;
/// Slots of the file that is read.
const SLOTS: u64 = 1 << 20;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Some(command) = &arguments.prepared else { return again(&arguments) };
    let directory = PathBuf::from(env::var_os("NIXL_TELEMETRY_DIR").context("set before")?);
    println!("{}\n", machine());
    writers(&arguments, &directory)?;
    readers(&arguments, command, &directory)?;
    latency(command, &directory)
}

/// NIXL reads its settings from the environment: this program again, with one that is made.
fn again(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let status = process::this_program()?
        .args(env::args_os().skip(1))
        .arg("--prepared")
        .arg(testkit::artifact(&["--release", "--package", "nixl-telemetry-cli"], "nixl-telemetry"))
        .env("NIXL_TELEMETRY_DIR", folder.path())
        .status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn writers(arguments: &Arguments, directory: &Path) -> anyhow::Result<()> {
    let library = arguments.release.join(".nixl_cu12.mesonpy.libs/libnixl.so");
    let mut theirs = Held::built_in(&library, BUFFER, Generation::V1_5, "theirs");
    let mut ours = Writer::create(directory, "ours", Options::default()).map_err(|(_, error)| error)?;
    let bytes = transfers(Generation::V1_5, BATCH);
    let events: Vec<_> = bytes.chunks_exact(16).map(|slot| Layout::L16.decode(slot).expect("whole")).collect();
    let [their_file, our_file] = ["theirs", "ours"].map(|name| {
        File::options().read(true).write(true).open(directory.join(name)).expect("the writers have made them")
    });
    let take_out = |file: &File| {
        let mut positions = [0; 8];
        file.read_exact_at(&mut positions, 0).and_then(|()| file.write_all_at(&positions, 8)).expect("a ring file");
    };
    let mut refused = 0;
    let (mut their_times, mut our_times) = (Vec::new(), Vec::new());
    // In turns of a few rounds each: who writes finds in the cache what it wrote before, and what it is given, as one who
    // flushes does.
    for _ in 0..arguments.rounds.div_ceil(TURN) {
        for _ in 0..TURN {
            their_times.push(timed(|| theirs.export(&bytes)));
            take_out(&their_file);
        }
        for _ in 0..TURN {
            our_times.push(timed(|| refused += ours.push(hint::black_box(&events)).refused));
            take_out(&our_file);
        }
    }
    ensure!(refused == 0, "{refused} events were refused");
    let (theirs, ours) = (fs::read(directory.join("theirs"))?, fs::read(directory.join("ours"))?);
    ensure!(theirs[..40] == ours[..40], "the headers differ");
    for (theirs, ours) in theirs[40..].chunks_exact(16).zip(ours[40..].chunks_exact(16)) {
        ensure!(Layout::L16.decode(theirs) == Layout::L16.decode(ours), "the events differ");
    }
    let [theirs, ours] = [&their_times, &our_times].map(|times| median(times).as_nanos() as f64 / BATCH as f64);
    println!("| writer, ns an event | median of {} |\n|---|---|", our_times.len());
    println!("| NIXL's BUFFER | {theirs:.2} |\n| ours | {ours:.2} (1/{:.1}) |\n", theirs / ours);
    Ok(())
}

fn readers(arguments: &Arguments, command: &Path, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("full");
    let fill = || -> anyhow::Result<u64> {
        let options = Options { capacity: SLOTS, ..Options::default() };
        let mut writer = Writer::at(path.clone(), options)?;
        let events: Vec<_> = (0..SLOTS - 1).map(event).collect();
        let pushed = writer.push(&events);
        ensure!(pushed.refused == 0);
        Ok(pushed.written)
    };
    let events = fill()?;
    let rate = |took: Duration| events as f64 / took.as_secs_f64();

    let copied = best(|| {
        let mut bytes = vec![0; 1 << 22];
        let mut file = File::open(&path).expect("it is there");
        while file.read(&mut bytes).expect("it is read") > 0 {}
        hint::black_box(&bytes);
    });
    let totals = best(|| {
        let (mut batch, mut sums, mut seen) = (Batch::new(), [0u128; 32], 0);
        let mut reader = Reader::open(&path, Mode::Peek).expect("a ring");
        loop {
            reader.read(&mut batch).expect("a ring");
            if batch.is_empty() {
                break;
            }
            for event in batch.events() {
                let code = event.kind().map_or(31, Kind::code);
                sums[(code & 31) as usize] += u128::from(event.value());
            }
            seen += batch.len() as u64;
        }
        assert_eq!(seen, events);
        assert_eq!(hint::black_box(sums)[0], u128::from(SLOTS / 4) * 65536);
    });
    let cpp = drained(&path, testkit::nixl_reader(&arguments.release, directory).arg(&path))?;
    fill()?;
    let python = drained(&path, Command::new("python3").arg("ring_reader.py").arg("--telemetry_path").arg(&path))?;
    fill()?;
    let file = directory.join("out");
    let mut commands = Vec::new();
    for words in [
        ["read", "--format", "json"],
        ["read", "--format", "csv"],
        ["read", "--format", "text"],
        ["stats", "--json", ""],
    ] {
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let took = best(|| {
            let out = File::create(&file).expect("room for the output");
            let status = Command::new(command).args(&words).arg(&path).stdout(out).stderr(Stdio::null()).status();
            assert!(status.expect("it runs").success());
        });
        commands.push((format!("`nixl-telemetry {}` into a file", words.join(" ")), took));
    }
    println!("| reader of {events} events | events/s | |\n|---|---|---|");
    println!("| NIXL's Python reader | {:.0} | 1 |", rate(python));
    let row = |what: &str, took: Duration| {
        println!("| {what} | {:.0} | {:.0} times |", rate(took), python.as_secs_f64() / took.as_secs_f64());
    };
    row("NIXL's C++ reader, into /dev/null", cpp);
    for (what, took) in &commands {
        row(what, *took);
    }
    row("ours, into totals", totals);
    row("copying the file", copied);
    Ok(())
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Writes events with pauses, and waits for the line of each.
fn latency(command: &Path, directory: &Path) -> anyhow::Result<()> {
    let mut writer = Writer::at(directory.join("live"), Options::default())?;
    let mut tail = Kill(
        Command::new(command)
            .args(["tail", "--quiet", "--format", "json"])
            .arg(writer.path())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut lines = BufReader::new(tail.0.stdout.take().context("a pipe")?).lines();
    let mut print = |value| -> anyhow::Result<Duration> {
        let start = Instant::now();
        ensure!(writer.push(&[Event::new(Kind::TX_BYTES, value)]).written == 1);
        let line = lines.next().context("tail goes on")??;
        ensure!(line.contains(&format!("\"value\":{value},")), "{line}");
        Ok(start.elapsed())
    };
    // The first waits for the start of the process.
    print(0)?;
    let mut times = Vec::new();
    for value in 1..=60 {
        // Of no regular length, so that they meet all moments between two looks.
        thread::sleep(Duration::from_millis(10 + value * 37 % 50));
        times.push(print(value)?);
    }
    let most = times.iter().max().expect("sixty");
    println!("\n| tail, from the writer to the line | median of {} | most |\n|---|---|---|", times.len());
    println!("| | {:.1} ms | {:.1} ms |", median(&times).as_secs_f64() * 1e3, most.as_secs_f64() * 1e3);
    Ok(())
}

/// What a ring holds: transfers of 64 KiB.
fn event(i: u64) -> Event<'static> {
    match i % 4 {
        0 => Event::new(Kind::TX_BYTES, 65536),
        1 => Event::new(Kind::TX_REQUESTS_NUM, 1),
        2 => Event::new(Kind::XFER_TIME, 100 + i % 9000),
        _ => Event::new(Kind::XFER_POST_TIME, 3 + i % 90),
    }
}

/// The shortest of seven times.
fn best(mut work: impl FnMut()) -> Duration {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .expect("seven")
}

/// How long a reader takes until it has taken everything out, from the first event on.
fn drained(path: &Path, command: &mut Command) -> anyhow::Result<Duration> {
    let reader = Reader::open(path, Mode::Peek)?;
    let mut child = Kill(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut start = None;
    loop {
        let header = reader.header()?;
        if header.read_pos > 0 && start.is_none() {
            start = Some(Instant::now());
        }
        if let Some(start) = start.filter(|_| header.unread() == 0) {
            return Ok(start.elapsed());
        }
        if let Some(status) = child.0.try_wait()? {
            anyhow::bail!("a reader ended with {status}, {} events before the end", header.unread());
        }
        ensure!(Instant::now() < deadline, "a reader has {} events to go after 300 s", header.unread());
        thread::sleep(Duration::from_millis(1));
    }
}

/// A reader that goes on for ever.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // It has ended, or is ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
