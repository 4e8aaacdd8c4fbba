// SPDX-License-Identifier: Apache-2.0

//! What the host waits for a queue to take a batch, beside an exporter that does nothing with it.
//!
//! `cargo run --release --bin queue`, from the folder `bench`.

use std::path::Path;
use std::thread;

use nixl_telemetry_bench::{machine, median, take_turns};
use nixl_telemetry_sdk::queue::{Delivery, Failed, Queued, Sink};
use nixl_telemetry_sdk::{Agent, Batch, Error, Event, Exporter, Kind, Settings, testing::TestHost};

const ROUNDS: usize = 301;
/// Events of a round, in whatever batches.
const EVENTS: usize = 65_536;

/// Does nothing.
struct Nothing;

/// Takes everything, and looks at it.
struct Taker(u64);

/// Never comes back.
struct Hanger;

impl Exporter for Nothing {
    fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
        Ok(Self)
    }

    fn export(&mut self, _: &Batch<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Sink for Taker {
    const NAME: &'static str = "BENCH";

    fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
        Ok(Self(0))
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        self.0 = batch.iter().map(|event| event.value()).fold(self.0, u64::wrapping_add);
        Ok(())
    }
}

impl Sink for Hanger {
    const NAME: &'static str = "BENCH";

    fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
        Ok(Self)
    }

    fn deliver(&mut self, _: &Delivery<'_>) -> Result<(), Failed> {
        loop {
            thread::park();
        }
    }
}

fn main() {
    println!("{}\n", machine());
    println!(
        "| batches of | nothing | memory | memory, sink hangs | spool | spool, sink hangs |\n|---|---|---|---|---|---|"
    );
    for size in [16, 256, 4096] {
        measure(size);
    }
}

fn measure(size: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let event = |value| Event::new(Kind::TX_BYTES, value).at(value);
    let batch: Vec<_> = (0..size as u64).map(event).collect();
    let mut nothing = TestHost::<Nothing>::open("nothing", &Settings::empty()).expect("it opens");
    let mut queues = [open::<Taker>("taker", None), open::<Taker>("spooled taker", Some(folder.path()))];
    let mut hanging = [open::<Hanger>("hanger", None), open::<Hanger>("spooled hanger", Some(folder.path()))];
    let round = |export: &mut dyn FnMut()| (0..EVENTS / size).for_each(|_| export());
    let [memory, spool] = &mut queues;
    let [memory_hangs, spool_hangs] = &mut hanging;
    let times = take_turns(
        ROUNDS,
        &mut [
            &mut || round(&mut || nothing.export(&batch)),
            &mut || round(&mut || memory.export(&batch)),
            &mut || round(&mut || memory_hangs.export(&batch)),
            &mut || round(&mut || spool.export(&batch)),
            &mut || round(&mut || spool_hangs.export(&batch)),
        ],
    );
    let per_event = times.iter().map(|times| median(times).as_nanos() as f64 / EVENTS as f64);
    let cells: Vec<_> = per_event.map(|time| format!("{time:.2} ns")).collect();
    println!("| {size} | {} |", cells.join(" | "));
    for queue in queues {
        let counts = queue.close();
        assert_eq!((counts.taken, counts.failed), ((EVENTS * ROUNDS) as u64, 0), "everything was taken");
    }
    for queue in hanging {
        assert_eq!(queue.close().exported, (EVENTS * ROUNDS) as u64, "what is new displaces what is old");
    }
}

fn open<S: Sink>(agent: &str, spool: Option<&Path>) -> TestHost<Queued<S>> {
    let mut settings = Settings::from_pairs([
        ("NIXL_TELEMETRY_BENCH_QUEUE_OVERFLOW", "drop_oldest"),
        ("NIXL_TELEMETRY_BENCH_SHUTDOWN_TIMEOUT", "100"),
        ("NIXL_TELEMETRY_BENCH_SPOOL_MAX_BYTES", "67108864"),
    ]);
    if let Some(directory) = spool {
        settings = settings.with_override("NIXL_TELEMETRY_BENCH_SPOOL_DIR", directory);
    }
    TestHost::open(agent, &settings).expect("it opens")
}
