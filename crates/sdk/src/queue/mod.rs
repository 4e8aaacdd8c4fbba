// SPDX-License-Identifier: Apache-2.0

//! Between the host's flush thread and something slow: databases, message buses, whatever may be gone for an hour.
//!
//! An exporter of this kind implements [`Sink`], says how a batch is delivered, and is exported as [`Queued`]:
//!
//! ```standalone_crate
//! use std::io::{self, Write as _};
//! use std::net::TcpStream;
//! use nixl_telemetry_sdk::queue::{Delivery, Failed, Queued, Sink};
//! use nixl_telemetry_sdk::{Agent, Describe, Error, Setting, Settings, export_plugin};
//!
//! static ADDRESS: Setting<String> = Setting::new("NIXL_TELEMETRY_ROWS_ADDRESS", "localhost:7000", "Where rows go.");
//!
//! /// Sends rows as lines of text.
//! struct Rows {
//!     address: String,
//!     connection: Option<TcpStream>,
//! }
//!
//! impl Sink for Rows {
//!     const NAME: &'static str = "ROWS";
//!     const SETTINGS: &'static [&'static dyn Describe] = &[&ADDRESS];
//!
//!     fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
//!         Ok(Rows { address: settings.get(&ADDRESS)?.value, connection: None })
//!     }
//!
//!     fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
//!         let (origin, agent) = (batch.origin(), batch.agent().name());
//!         let rows: String = (batch.sequence()..)
//!             .zip(batch)
//!             .map(|(number, event)| format!("{origin} {number} {agent} {} {}\n", event.name(), event.value()))
//!             .collect();
//!         if rows.len() > 1 << 20 {
//!             return Err(Failed::refused("more than the other side ever takes"));
//!         }
//!         // Whatever goes wrong from here on is tried again, over a new connection.
//!         let mut connection = match self.connection.take() {
//!             Some(connection) => connection,
//!             None => TcpStream::connect(&self.address)?,
//!         };
//!         connection.write_all(rows.as_bytes())?;
//!         self.connection = Some(connection);
//!         Ok(())
//!     }
//! }
//!
//! export_plugin!("rows", Queued<Rows>);
//! # fn main() {}
//! ```
//!
//! # What the queue does
//!
//! * **The host never waits for the sink.** `export` copies the batch, which costs some nanoseconds an event, and returns. A
//!   thread of the queue's own calls the sink, one delivery at a time.
//! * **Bounded**: by events (`QUEUE_SIZE`) and memory (`QUEUE_BYTES`), what the sink is being given included. If there is no
//!   room, `QUEUE_OVERFLOW` says what gives way. A batch of the host is taken as a whole or not at all.
//! * **Batches** leave when there are `BATCH_SIZE` events, when the oldest has waited for `BATCH_TIMEOUT`, or when half of the
//!   room is taken.
//! * **What fails is tried again** ([`Failed::retry`], or `?`), after waits that grow ([`Backoff`](crate::Backoff)); what is
//!   [refused](Failed::refused) is not. The log tells once that it goes wrong, and once that it is well again.
//! * **A spool**, if `SPOOL_DIR` names a directory: events wait there, not in memory, outlive the process, and are delivered by
//!   the next one. No failure that may heal costs events then: with `RETRY_ENABLED=n`, too, they stay, and are tried again
//!   after `RETRY_MAX_INTERVAL` or by the next process.
//! * **Events come in order**, also from a spool. While a file of it cannot be opened or read, what is behind it waits. One
//!   that is damaged is delivered up to the damage, and set aside with the ending `.damaged`: for a sink that keeps the
//!   highest number, what is behind the damage would come too late.
//! * **Every loss is counted** with its reason ([`QueueCounts`]).
//!
//! # Settings
//!
//! Their names begin with `NIXL_TELEMETRY_` and [`Sink::NAME`]: `NIXL_TELEMETRY_ROWS_QUEUE_SIZE`. The table in an exporter's
//! README comes from [`Exporter::SETTINGS`] of `Queued<Rows>`.
//!
//! What OpenTelemetry's `sending_queue` and `retry_on_failure` have words for has their defaults:
//!
//! | here | there | default |
//! |---|---|---|
//! | `QUEUE_SIZE` | `sending_queue.queue_size` | 1000000 events; 1000 requests there, of about a thousand events each |
//! | `QUEUE_OVERFLOW` | `sending_queue.block_on_overflow`: false | `drop_newest` |
//! | `BATCH_SIZE` | `sending_queue.batch.min_size` | 8192 |
//! | `BATCH_TIMEOUT` | `sending_queue.batch.flush_timeout` | 200 ms |
//! | `SPOOL_DIR` | `sending_queue.storage` | none |
//! | `SPOOL_FSYNC` | `file_storage.fsync`: false | `never` |
//! | `RETRY_…` | `retry_on_failure.…` | the same |
//!
//! # The end
//!
//! [`flush`](Exporter::flush) delivers what waits, each failure once more, for `SHUTDOWN_TIMEOUT` at most. What is in memory
//! then is lost, counted, and told; what is in the spool stays. A sink that hangs is left behind with its thread. In a forked
//! child a queue does nothing.

mod buffer;
mod deliver;
mod delivery;
mod settings;
mod spool;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nixl_telemetry_log as log;
use nixl_telemetry_settings::{Describe, Settings};

use crate::queue::{
    buffer::{Put, Shared},
    deliver::Courier,
    delivery::Source,
    settings::{Config, Named},
    spool::Spool,
};
pub use crate::queue::{
    delivery::{Delivery, Iter, OriginId},
    spool::spools,
};
use crate::{Agent, Batch, Error, Exporter, Worker};

/// Where a queue delivers to: a database, a message bus.
///
/// But for [`open`](Self::open) all calls are on the queue's own thread, one at a time. A sink may wait there as long as it
/// likes, though who waits without end keeps the process from a tidy end.
pub trait Sink: Sized + Send + 'static {
    /// The name in the settings of the queue, `POSTGRES` for those that begin with `NIXL_TELEMETRY_POSTGRES_`: capital letters,
    /// digits and underscores. Its spools bear it too.
    const NAME: &'static str;

    /// The settings the sink itself reads; those of its queue come on top. None by default.
    const SETTINGS: &'static [&'static dyn Describe] = &[];

    /// The default of `BATCH_SIZE`: for how many events an act of delivery pays.
    const BATCH_SIZE: &'static str = "8192";

    /// The default of `BATCH_TIMEOUT`, in milliseconds.
    const BATCH_TIMEOUT: &'static str = "200";

    /// The default of `QUEUE_SIZE`. Half of it is delivered whatever `BATCH_SIZE` says.
    const QUEUE_SIZE: &'static str = "1000000";

    /// The default of `QUEUE_BYTES`. An event takes 24 bytes, twice that while a batch of the host is small.
    const QUEUE_BYTES: &'static str = "33554432";

    /// Makes the sink of one agent, on the agent's thread: looks at settings, and reaches nothing.
    ///
    /// # Errors
    /// As [`Exporter::open`]. That something cannot be reached is no such error: [`deliver`](Self::deliver) tells.
    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error>;

    /// Delivers events, all of them or, as far as it can, none. On return they are where they belong.
    ///
    /// If an earlier attempt may have succeeded in part, or a process that died may have, the delivery is
    /// [repeated](Delivery::is_repeated); its events have their old numbers.
    ///
    /// # Errors
    /// [`Failed::retry`] if it may succeed later, [`Failed::refused`] if it never will, [`Failed::refused_in_part`] if some
    /// of the events never will.
    ///
    /// # Panics
    /// After a panic the sink is dropped, its queue emptied, and what comes then refused. What is in the spool stays there,
    /// but for these events.
    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed>;

    /// Takes leave: the last call before the sink is dropped, unless it has panicked. Does nothing by default.
    fn close(&mut self) {}
}

/// Why a delivery failed, and whether it is worth another attempt.
///
/// An error that meets `?` is.
#[derive(Debug)]
pub struct Failed {
    error: Error,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Retry {
        after: Option<Duration>,
    },
    /// So many events, or all there are.
    Refuse {
        most: u64,
    },
}

impl Failed {
    /// It may succeed later: the same events are delivered again after a wait.
    pub fn retry(error: impl Into<Error>) -> Self {
        Self { error: error.into(), what: What::Retry { after: None } }
    }

    /// The same for who was told when to come back: not earlier than after this time.
    pub fn retry_after(error: impl Into<Error>, after: Duration) -> Self {
        Self { error: error.into(), what: What::Retry { after: Some(after) } }
    }

    /// It will never succeed: these events are dropped and counted.
    pub fn refused(error: impl Into<Error>) -> Self {
        Self::refused_in_part(error, u64::MAX)
    }

    /// The same for so many of the events: the others are where they belong.
    pub fn refused_in_part(error: impl Into<Error>, events: u64) -> Self {
        Self { error: error.into(), what: What::Refuse { most: events } }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// Makes an [`Exporter`] of a [`Sink`].
pub struct Queued<S> {
    queue: Arc<Shared>,
    worker: Worker,
    shutdown_timeout: Duration,
    sink: std::marker::PhantomData<fn() -> S>,
}

/// Where the events of a queue are, at one moment:
/// `exported + recovered = delivered + waiting + spooled + dropped.total()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCounts {
    /// Events the host handed over, those included that found no room.
    pub exported: u64,
    /// Events that other processes left in the spool.
    pub recovered: u64,
    /// Events the sink has.
    pub delivered: u64,
    /// Events in memory, on their way to the sink included.
    pub waiting: u64,
    /// Events in the spool, on their way to the sink included.
    pub spooled: u64,
    /// Events that are lost.
    pub dropped: Dropped,
}

/// Events a queue has lost, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// There was no room for them; the host was told.
    pub full: u64,
    /// They gave way to newer ones.
    pub displaced: u64,
    /// The sink will never take them.
    pub refused: u64,
    /// Attempts to deliver them came to an end.
    pub given_up: u64,
    /// They were in the spool for too long.
    pub expired: u64,
    /// Their part of the spool is damaged, was torn by a crash, or was removed by somebody. If it is damaged its file is still
    /// there, under another name. Of what others left behind, as far as that can be told.
    pub unreadable: u64,
    /// The sink panicked over them, or before they came.
    pub panicked: u64,
    /// They were in memory when the agent ended.
    pub shutdown: u64,
}

impl Dropped {
    /// All of them.
    pub const fn total(&self) -> u64 {
        let Self { full, displaced, refused, given_up, expired, unreadable, panicked, shutdown } = *self;
        full + displaced + refused + given_up + expired + unreadable + panicked + shutdown
    }
}

/// The reasons that apply, `12 refused, 3 at the end`.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.full, "without room"),
            (self.displaced, "displaced"),
            (self.refused, "refused"),
            (self.given_up, "given up"),
            (self.expired, "too old"),
            (self.unreadable, "unreadable"),
            (self.panicked, "after a panic"),
            (self.shutdown, "at the end"),
        ];
        let mut comma = "";
        for (events, reason) in reasons.into_iter().filter(|(events, _)| *events > 0) {
            write!(f, "{comma}{events} {reason}")?;
            comma = ", ";
        }
        Ok(())
    }
}

impl<S: Sink> Queued<S> {
    /// Where this queue's events are now. In a forked child, do not ask.
    pub fn counts(&self) -> QueueCounts {
        self.queue.counts()
    }
}

impl<S: Sink> Exporter for Queued<S> {
    const SETTINGS: &'static [&'static dyn Describe] = Named::<S>::ALL;

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let Config { limits, retries, backoff, shutdown_timeout, spool } = Config::of::<S>(settings)?;
        let sink = S::open(agent, settings)?;
        let (name, max_age) =
            (format!("queue {} of agent {}", S::NAME, agent.name()), spool.as_ref().and_then(|spool| spool.max_age));
        let source = Arc::new(Source { origin: OriginId::new(), agent: agent.clone() });
        let spool =
            spool.map(|config| Spool::open(&config, limits.batch_size, S::NAME, Arc::clone(&source))).transpose()?;
        let queue = Arc::new(Shared::new(name, limits, max_age, source, spool));
        let mut courier = Courier::new(sink, Arc::clone(&queue), agent.clone(), retries, backoff);
        let thread = format!("nixl-tlm-{}", S::NAME.to_ascii_lowercase());
        // It is called at once, to look for what others left behind.
        let worker = Worker::start(&thread, Duration::ZERO, move |call| courier.run(call))
            .map_err(|error| format!("no thread to deliver: {error}"))?;
        Ok(Self { queue, worker, shutdown_timeout, sink: std::marker::PhantomData })
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        if self.queue.put(batch)? == Put::Wake {
            self.worker.ask();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.shutdown_timeout;
        let has_ended = self.worker.end(until);
        self.queue.close();
        let (QueueCounts { spooled, dropped, .. }, name) = (self.counts(), self.queue.name());
        if !has_ended {
            log::warn!("{name}: its sink does not return, and is left behind");
        }
        if spooled > 0 {
            log::info!("{name}: {spooled} events stay in the spool");
        }
        match dropped.total() {
            0 => Ok(()),
            events => Err(format!("{events} events are lost: {dropped}").into()),
        }
    }
}

impl<S: Sink> fmt::Debug for Queued<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("queue", &self.queue.name()).field("counts", &self.counts()).finish()
    }
}
