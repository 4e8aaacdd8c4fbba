// SPDX-License-Identifier: Apache-2.0

//! Events per second from NIXL's flush into a store, beside the store's own bulk path, fed with the same rows by its own client.
//!
//! A round of ours is a process that exports batches of 4096 events through the exporter's vtable, as NIXL 1.5 calls it, and
//! deletes the exporter: the time ends when that returns, since everything is delivered by then, as the store's client
//! counts. A round of theirs brings the rows of our first round, made ready before, into the same store, which is as empty.
//! What the calls take meanwhile is what NIXL's flush thread waits.
//!
//! Then the store hangs, or is away, while six million events come, and the process says how much its memory grew by. A queue
//! must not take more than its `QUEUE_BYTES`, and what it has in hand.
//!
//! `cargo run --release --bin stores`, from the folder `bench`.

mod jsonl;
mod nats;
mod parquet;
mod postgres;
mod sqlite;
mod store;
mod writer;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Parser;
use nixl_telemetry_bench::{machine, median};
use nixl_telemetry_testkit::{self as testkit, Missing};

use crate::store::Store;
use crate::writer::{BATCH, Flood, Round};

/// What a process may take beyond what waits: a delivery in the form the store wants it, and buffers of its client.
const OVERHEAD: u64 = 16 << 20;

/// Writes events into stores, through exporters and by their own clients, and prints Markdown tables.
#[derive(Debug, Parser)]
struct Arguments {
    /// Stores to measure [default: all there are programs for]
    #[arg(value_parser = ["jsonl", "nats", "nats-jetstream", "parquet", "postgres", "sqlite"])]
    stores: Vec<String>,
    /// Batches of 4096 events in a round, few enough to find room in a queue
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    batches: u64,
    /// Rounds of each side, taking turns; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Folder of the exporters' plugins [default: they are built]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Be the process that exports, to this plugin
    #[arg(long, hide = true, value_name = "PLUGIN")]
    write: Option<PathBuf>,
    /// Be the process whose store hangs, once it is told to go on
    #[arg(long, hide = true, requires = "write")]
    flood: bool,
}

/// What makes a store, if its programs are there.
type Start = fn() -> Result<Box<dyn Store>, Missing>;

const STORES: [(&str, Start); 6] = [
    ("jsonl", jsonl::start),
    ("nats", nats::start),
    ("nats-jetstream", nats::start_jetstream),
    ("parquet", parquet::start),
    ("postgres", postgres::start),
    ("sqlite", sqlite::start),
];

/// What was measured of a store.
struct Measured {
    row: String,
    flood: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(plugin) = &arguments.write {
        return if arguments.flood { writer::flood(plugin) } else { writer::write(plugin, arguments.batches) };
    }
    println!(
        "{} events in batches of {BATCH}, {} rounds; {}\n",
        arguments.batches * BATCH,
        arguments.rounds,
        machine()
    );
    let mut measured = Vec::new();
    for (name, start) in STORES {
        if !arguments.stores.is_empty() && !arguments.stores.iter().any(|wanted| wanted == name) {
            continue;
        }
        match start() {
            Ok(store) => measured.push(measure(name, store, &arguments)?),
            Err(missing) => eprintln!("{name} is left out: {missing}"),
        }
    }
    println!(
        "| store | ours, events/s | its own client | events/s | ratio | a call, ns an event |\n|---|---|---|---|---|---|"
    );
    measured.iter().for_each(|measured| println!("{}", measured.row));
    println!("\n| store | while it hangs | memory grows by | at most |\n|---|---|---|---|");
    measured.iter().filter_map(|measured| measured.flood.as_ref()).for_each(|row| println!("{row}"));
    Ok(())
}

fn measure(name: &str, mut store: Box<dyn Store>, arguments: &Arguments) -> anyhow::Result<Measured> {
    let plugin = match &arguments.plugins {
        Some(folder) => folder.join(format!("libtelemetry_exporter_{}.so", store.exporter())),
        None => testkit::plugin(store.exporter()),
    };
    let rows = arguments.batches * BATCH;
    let (mut ours, mut theirs, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        store.clear()?;
        let Round { whole, call } = writer::round(&plugin, store.as_ref(), arguments.batches)?;
        let count = store.count()?;
        ensure!(count == rows, "{name} has {count} events of ours: expected {rows}");
        ours.push(whole);
        calls.push(call);
        if round == 0 {
            store.keep()?;
        }
        store.clear()?;
        theirs.push(store.bulk()?);
        let count = store.count()?;
        ensure!(count == rows, "{name} has {count} events by its own client: expected {rows}");
    }
    let rate = |times| rows as f64 / median(times).as_secs_f64();
    let (our_rate, their_rate) = (rate(&ours), rate(&theirs));
    let call = median(&calls).as_nanos() as f64 / BATCH as f64;
    let (rival, ratio) = (store.rival(), our_rate / their_rate);
    let row = format!("| {name} | {our_rate:.0} | {rival} | {their_rate:.0} | {ratio:.2} | {call:.1} |");
    store.clear()?;
    let flood = match store.queue_bytes() {
        None => None,
        Some(queue_bytes) => {
            let Flood { grown, events } = writer::flooded(&plugin, store.as_mut())?;
            let most = queue_bytes + OVERHEAD;
            ensure!(grown <= most, "{name} has grown by {grown} bytes while its store hung: expected {most} at most");
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            Some(format!("| {name} | {events} events | {:.1} MiB | {:.0} MiB |", mib(grown), mib(most)))
        }
    };
    Ok(Measured { row, flood })
}
