// SPDX-License-Identifier: Apache-2.0

//! NIXL telemetry events as metrics: counters, gauges and histograms, under NIXL's own names.
//!
//! ```text
//! events ──▶ Tally ──publish──▶ Live ──read──▶ Snapshot ──▶ text, OpenMetrics, protobuf
//!            one thread's own    atomics        one moment
//! ```
//!
//! A [`Tally`] folds events into plain numbers, a nanosecond or two each. Once a batch, a [`Publisher`] adds it to what
//! is [`Live`], and readers copy that into a [`Snapshot`], in which every batch is there as a whole or not at all; but for
//! sums of events that have only a name, which may be a batch ahead or behind. A reader never makes the publisher wait.
//!
//! * [`FAMILIES`]: every metric there is, with its name, HELP and source; the one table everything else derives from.
//! * [`Buckets`]: the bounds of classic histograms; [`exponential`]: the buckets of native ones.
//! * [`Labels`]: what tells series apart, escaped once.
//! * [`encode`](mod@encode): snapshots as Prometheus reads them, in three formats; [`wire`]: the writer of protobuf beneath.
//!
//! Values are integers, exact to the last digit. A counter goes on from zero when it passes 2<sup>64</sup>, which a
//! monitoring system takes for the restart of a process.
//!
//! ```
//! use std::sync::Arc;
//! use nixl_telemetry_event::{Event, Kind};
//! use nixl_telemetry_metrics::{Buckets, Live, Snapshot, Tally};
//!
//! let buckets = Arc::new(Buckets::default());
//! let (mut publisher, live) = Live::new(Arc::clone(&buckets), 0);
//! let mut tally = Tally::new(Arc::clone(&buckets));
//! tally.fold(&Event::new(Kind::TX_BYTES, u64::MAX - 1));
//! tally.fold(&Event::new(Kind::XFER_TIME, 12));
//! publisher.publish(&mut tally, 1);
//!
//! let mut snapshot = Snapshot::new(buckets);
//! live.read(&mut snapshot);
//! assert_eq!(snapshot.counter(Kind::TX_BYTES), 18_446_744_073_709_551_614);
//! assert_eq!(snapshot.histogram(Kind::XFER_TIME).unwrap().count(), 1);
//! ```

#![forbid(unsafe_code)]

mod buckets;
pub mod encode;
mod escape;
pub mod exponential;
mod family;
mod labels;
mod live;
mod named;
mod snapshot;
mod tally;
pub mod wire;
mod words;

pub use buckets::{Buckets, BucketsError};
pub use family::{FAMILIES, Family, Source, Type};
pub use labels::{Labels, LabelsError};
pub use live::{Live, Publisher};
pub use named::Named;
pub use snapshot::{Account, Exponential, Histogram, Snapshot};
pub use tally::Tally;

use nixl_telemetry_event::Kind;

/// Number of kinds NIXL 1.5 knows, and the length of arrays that are indexed by [`Kind::code`].
pub const KINDS: usize = Kind::ALL.len();

/// The kinds whose values have a histogram, in the order in which histograms are kept.
pub const TIMES: [Kind; 2] = [Kind::XFER_TIME, Kind::XFER_POST_TIME];
