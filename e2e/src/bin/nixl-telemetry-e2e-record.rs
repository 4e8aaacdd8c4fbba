// SPDX-License-Identifier: Apache-2.0

//! Two threads record transfers as fast as they can, into a collector of the settings in the environment; then prints as JSON
//! what they recorded, what the collector counted, and what sinks saw of it.
//!
//! `nixl-telemetry-e2e-record MILLISECONDS [metrics] [slow]`

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nixl_telemetry_event::{Event, Kind, Status};
use nixl_telemetry_host::{Batch, Collector, Counts, Direction, Exported, Sink, Transfer};
use nixl_telemetry_settings::Settings;
use serde_json::{Value, json};

/// How long the slow sink takes for a batch.
const SLOW: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let duration = arguments.next().context("the arguments are MILLISECONDS [metrics] [slow]")?;
    let duration = Duration::from_millis(duration.parse()?);
    let (metrics, slow) = (Arc::<Mutex<Metrics>>::default(), Arc::<Mutex<Metrics>>::default());
    let mut builder = Collector::builder("recording").settings(Settings::from_process());
    for name in arguments {
        let sink: Box<dyn Sink> = match name.as_str() {
            "metrics" => Box::new(Adds(Arc::clone(&metrics))),
            "slow" => Box::new(Dawdles(Arc::clone(&slow))),
            _ => bail!("there is no sink {name}"),
        };
        builder = builder.sink(name, sink);
    }
    let collector = builder.build()?.context("telemetry is off")?;

    let (stop, mut recorded, mut unbalanced) = (AtomicBool::new(false), Recorded::default(), Vec::new());
    let mut looks = 0_u64;
    let recorder = collector.recorder();
    let mut producer = collector.producer().context("there is no room for a ring")?;
    thread::scope(|scope| {
        // One records as NIXL's rare events are recorded, the other as transfers are.
        let threads = [
            scope.spawn(|| {
                record(&stop, |what| match what {
                    What::Transfer(transfer) => recorder.transfer(transfer),
                    What::Event(kind, value) => recorder.event(kind, value),
                    What::Error(status) => recorder.error(status),
                })
            }),
            scope.spawn(|| {
                record(&stop, |what| match what {
                    What::Transfer(transfer) => producer.transfer(transfer),
                    What::Event(kind, value) => producer.event(kind, value),
                    What::Error(status) => producer.error(status),
                })
            }),
        ];
        let start = Instant::now();
        while start.elapsed() < duration {
            let counts = collector.counts();
            looks += 1;
            if !counts.is_balanced() {
                unbalanced.push(format!("{counts:?}"));
            }
            thread::sleep(Duration::from_micros(500));
        }
        stop.store(true, Relaxed);
        threads.into_iter().for_each(|thread| recorded.join(&thread.join().expect("no thread panics")));
    });
    let counts = collector.close();
    if !counts.is_balanced() {
        unbalanced.push(format!("{counts:?}"));
    }

    let seen = |metrics: &Mutex<Metrics>| metrics.lock().expect("no sink panics").told();
    let result = json!({
        "recorded": recorded.told(),
        "counts": told(&counts),
        "looks": looks,
        "unbalanced": unbalanced,
        "metrics": seen(&metrics),
        "slow": seen(&slow),
    });
    println!("{result}");
    Ok(())
}

/// What is recorded at once.
enum What {
    Transfer(Transfer),
    Event(Kind, u64),
    Error(Status),
}

/// By kind: how many events, and the sum of their values.
#[derive(Default)]
struct Recorded([(u64, u128); Kind::ALL.len()]);

impl Recorded {
    fn add(&mut self, kind: Kind, count: u64, sum: u128) {
        let (events, value) = &mut self.0[kind.code() as usize];
        (*events, *value) = (*events + count, *value + sum);
    }

    fn join(&mut self, other: &Self) {
        Kind::ALL.into_iter().zip(other.0).for_each(|(kind, (count, sum))| self.add(kind, count, sum));
    }

    /// Sums are text: they may have more than 64 bits.
    fn told(&self) -> BTreeMap<String, (u64, String)> {
        let all = Kind::ALL.into_iter().zip(self.0).filter(|(_, (count, _))| *count > 0);
        all.map(|(kind, (count, sum))| (kind.to_string(), (count, sum.to_string()))).collect()
    }
}

/// Records until it is told to stop; mostly transfers of the sort that is most common, and some of all others.
fn record(stop: &AtomicBool, mut into: impl FnMut(What)) -> Recorded {
    let mut recorded = Recorded::default();
    let mut number = 0_u64;
    while !stop.load(Relaxed) {
        number += 1;
        let direction = if number.is_multiple_of(3) { Direction::Read } else { Direction::Write };
        let (bytes, requests) = match direction {
            Direction::Write => (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
            Direction::Read => (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
        };
        // Now and then one whose numbers are large.
        let high = if number.is_multiple_of(97) { u64::MAX - (1 << 40) } else { 0 };
        let transfer = Transfer {
            direction,
            bytes: high + number % 4096,
            post_time_us: number % 16,
            transfer_time_us: (high >> 8) + number % 128,
        };
        let values = [
            (Kind::XFER_POST_TIME, transfer.post_time_us),
            (Kind::XFER_TIME, transfer.transfer_time_us),
            (bytes, transfer.bytes),
            (requests, 1),
        ];
        values.iter().for_each(|(kind, value)| recorded.add(*kind, 1, u128::from(*value)));
        into(What::Transfer(transfer));
        if number.is_multiple_of(1000) {
            recorded.add(Kind::ERR_BACKEND, 1, 1);
            into(What::Error(Status::Backend));
        }
        if number.is_multiple_of(1501) {
            recorded.add(Kind::MEMORY_REGISTERED, 1, number.into());
            into(What::Event(Kind::MEMORY_REGISTERED, number));
        }
    }
    recorded
}

/// What a sink has seen.
#[derive(Default)]
struct Metrics {
    events: Recorded,
    totals: Recorded,
    /// Transfer times by how many bits they have.
    buckets: BTreeMap<u32, u64>,
}

impl Metrics {
    fn see(&mut self, events: &[Event<'_>]) {
        for event in events {
            if let Some(kind) = event.kind() {
                self.events.add(kind, 1, event.value().into());
                if kind == Kind::XFER_TIME {
                    *self.buckets.entry(u64::BITS - event.value().leading_zeros()).or_default() += 1;
                }
            }
        }
    }

    fn told(&self) -> Value {
        let in_buckets = self.buckets.values().sum::<u64>();
        json!({ "events": self.events.told(), "totals": self.totals.told(), "in_buckets": in_buckets })
    }
}

/// Does with events what prometheus does, and takes totals.
struct Adds(Arc<Mutex<Metrics>>);

impl Sink for Adds {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        self.export_batch(&Batch { events: batch, ..Batch::default() })
    }

    fn takes_totals(&self) -> bool {
        true
    }

    fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
        let mut metrics = self.0.lock().expect("nobody panics");
        metrics.see(batch.events);
        batch.totals.iter().for_each(|total| metrics.totals.add(total.kind, total.count, total.sum));
        Exported::whole(batch)
    }
}

/// Takes events one by one, and its time.
struct Dawdles(Arc<Mutex<Metrics>>);

impl Sink for Dawdles {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        thread::sleep(SLOW);
        self.0.lock().expect("nobody panics").see(batch);
        Exported::all(batch)
    }
}

fn told(counts: &Counts) -> Value {
    let exporters = counts.exporters.iter().map(|exporter| {
        let fates = json!({
            "reports": exporter.reports,
            "totals": exporter.totals,
            "exported": exporter.exported,
            "aggregated": exporter.aggregated,
            "failed": exporter.failed,
            "unsupported": exporter.unsupported,
            "unavailable": exporter.unavailable,
            "shutdown_timeout": exporter.shutdown_timeout,
            "pending": exporter.pending,
        });
        (exporter.name.clone(), fates)
    });
    json!({
        "produced": counts.produced,
        "waiting": counts.waiting,
        "queue_full": counts.queue_full,
        "closed": counts.closed,
        "shutdown_timeout": counts.shutdown_timeout,
        "exporters": exporters.collect::<BTreeMap<_, _>>(),
        "drops": counts.drops(),
    })
}
