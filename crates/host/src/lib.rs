// SPDX-License-Identifier: Apache-2.0

//! The collector: records telemetry events and feeds them to exporters.
//!
//! A [`Collector`] belongs to one agent. Its [`Recorder`] writes events into a ring of the calling thread's own; one
//! thread of the collector hands them on, batch by batch, to one or several exporters: plugins found by name
//! ([`settings::EXPORTER`]), or a [`Sink`] of the program's own. Which events, how often and to whom is decided by the
//! settings NIXL has, with the meaning of NIXL 1.5, in [`settings`].
//!
//! ```
//! use nixl_telemetry_host::{Collector, Direction, RecordingSink};
//! use nixl_telemetry_settings::Settings;
//!
//! let sink = RecordingSink::new();
//! let collector = Collector::builder("prefill-0")
//!     .settings(Settings::from_pairs([("NIXL_TELEMETRY_ENABLE", "1")]))
//!     .sink("memory", Box::new(sink.clone()))
//!     .build()?
//!     .expect("telemetry is on");
//!
//! let mut transfer = collector.recorder().start(Direction::Write, 4096, 1);
//! transfer.posted();
//! let telemetry = transfer.complete();
//! assert!(telemetry.xfer_us >= telemetry.post_us);
//!
//! let counts = collector.close();
//! assert_eq!((counts.produced, sink.events().len()), (4, 4));
//! assert!(counts.is_balanced());
//! # Ok::<(), nixl_telemetry_host::Error>(())
//! ```
//!
//! # Promises
//! * Recording never fails, and waits for nobody unless [`settings::OVERFLOW`] asks for it.
//! * A record takes no lock, makes no system call and writes no memory that another recording thread writes, but where a
//!   thread records for a collector for the first time, where half of its ring is taken, where the ring grows or is full,
//!   where it looks at the clock, once in a few hundred records, and where it wakes an idle collector. Threads for which the
//!   budget has no ring share one, under a lock. Events of backends look up their name under a lock.
//! * Where records find no room, beyond [`settings::MEMORY_BUDGET`] or a [`settings::BUFFER_SIZE`] that somebody set, detail
//!   is lost and totals are not: how many events of each kind there were, and the exact sum of their values. Sinks that
//!   [take totals](Sink::takes_totals) get them; the others are told how many events were dropped. A transfer's events are
//!   kept or dropped all together.
//! * Events of one thread keep their order. Those of different threads need not: a batch goes thread by thread.
//! * Every event is accounted for: [`Counts`] says how many each exporter took, and how many were dropped where and why.
//! * Nothing an exporter does takes the process down. One that cannot be had, refuses or panics costs its events;
//!   the others go on. One that hangs cannot hold up the end for longer than [`settings::SHUTDOWN_TIMEOUT`].
//! * An idle collector does not wake up.
//! * The end drains: of the collector, and of the process, if it exits without having destroyed the collector.
//! * With [`settings::JOURNAL_DIR`], what was recorded outlives a process that is killed: see [`Abandoned`].
//!
//! # Differences from NIXL's own collector
//! * NIXL loses what was recorded since its last flush, at every end.
//! * Events carry the time they were recorded, as exactly as [`settings::TIMESTAMPS`] asks for.
//! * [`settings::BUFFER_SIZE`] bounds what waits only where somebody sets it, and then for each thread.
//! * Several exporters at once.
//! * An interval of 0 flushes at once instead of spinning, and a ring half full does not wait for the interval.
//! * An unusable setting or exporter does not fail the agent unless [`settings::ON_ERROR`] says so.
//! * Exporters are never called without events. They are destroyed on the thread that called them, after their last
//!   batch, not on the thread that destroys the agent: only so can the end be bounded.
//!
//! # After a fork
//! The parent notices nothing. What the child records goes to a collector of its own, which is made when the child records
//! for the first time, with the same settings and exporters of its own, and begins empty. [`Sink`]s of the program are
//! the parent's, and unavailable in the child. This needs the C library's `fork`; a child made in another way must not record.

#![forbid(unsafe_code)]

mod abandoned;
mod block;
mod budget;
mod buffer;
mod builder;
mod choose;
mod clock;
mod collector;
mod counts;
mod error;
mod exit;
mod flusher;
mod fork;
mod in_flight;
mod journal;
mod lane;
mod ledger;
mod lenient;
mod local;
mod memory;
mod outlet;
mod producer;
mod record;
mod recorder;
mod recording;
pub mod settings;
mod shared;
mod sink;
mod staging;
mod sync;
mod ticker;
mod totals;

pub use abandoned::{Abandoned, Recovered, journals};
pub use builder::Builder;
pub use collector::Collector;
pub use counts::{Counts, ExporterCounts};
pub use error::Error;
pub use exit::drain_before_exit;
pub use in_flight::{InFlight, XferTelemetry};
pub use journal::Broken;
pub use nixl_telemetry_loader::Batch;
pub use producer::Producer;
pub use recorder::{Direction, Recorder, Transfer};
pub use recording::{RecordedEvent, RecordingSink};
pub use sink::{Exported, Nop, Sink};

/// The README, whose code the documentation tests compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
