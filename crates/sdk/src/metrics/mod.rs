// SPDX-License-Identifier: Apache-2.0

//! What exporters share that show sums instead of events: Prometheus, OTLP and their kin.
//!
//! Such an exporter implements [`MetricsExporter`] and is exported as [`Aggregated`]:
//!
//! ```standalone_crate
//! use std::sync::{Arc, LazyLock, Mutex};
//! use nixl_telemetry_sdk::{Agent, Error, Kind, Settings, export_plugin};
//! use nixl_telemetry_sdk::metrics::{Aggregated, Buckets, HISTOGRAM_BUCKETS, MetricsExporter, Tally};
//!
//! /// Logs what each batch moved.
//! struct Moved {
//!     buckets: Arc<Buckets>,
//!     bytes: u64,
//! }
//!
//! impl MetricsExporter for Moved {
//!     fn open(_agent: &Agent, settings: &Settings) -> Result<Self, Error> {
//!         Ok(Moved { buckets: settings.get(&HISTOGRAM_BUCKETS)?.value.into(), bytes: 0 })
//!     }
//!
//!     fn buckets(&self) -> Arc<Buckets> {
//!         Arc::clone(&self.buckets)
//!     }
//!
//!     fn publish(&mut self, tally: &mut Tally) {
//!         self.bytes += tally.sum(Kind::TX_BYTES) + tally.sum(Kind::RX_BYTES);
//!         tally.clear();
//!     }
//!
//!     fn flush(&mut self) -> Result<(), Error> {
//!         nixl_telemetry_sdk::info!("{} bytes moved", self.bytes);
//!         Ok(())
//!     }
//! }
//!
//! export_plugin!("moved", Aggregated<Moved>);
//! # fn main() {}
//! ```

mod labels;

use std::sync::Arc;

use nixl_telemetry_settings::{Describe, Dialect, Malformed, Setting, Settings, Value};

pub use labels::{AGENT_LABEL, AgentLabel, ExtraLabels, LABELS};
pub use nixl_telemetry_metrics::{
    Account, Buckets, BucketsError, Exponential, FAMILIES, Family, Histogram, KINDS, Labels, LabelsError, Live, Named,
    Publisher, Snapshot, Source, TIMES, Tally, Type, exponential,
};

use crate::{Agent, Batch, Error, Exporter};

/// An exporter that shows sums: counters, last values and distributions of one agent.
///
/// Where it is called, and what becomes of its errors and panics, is as with [`Exporter`].
pub trait MetricsExporter: Sized + Send + 'static {
    /// The settings this exporter reads. None by default.
    const SETTINGS: &'static [&'static dyn Describe] = &[];

    /// Opens the exporter of one agent.
    ///
    /// # Errors
    /// As [`Exporter::open`].
    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error>;

    /// The bounds of classic histograms. Asked once.
    fn buckets(&self) -> Arc<Buckets>;

    /// Takes the sums of a batch, and leaves the tally empty: [`Publisher::publish`] does. Must not wait.
    fn publish(&mut self, tally: &mut Tally);

    /// Delivers what has not been delivered yet: the last call before the exporter is dropped. Does nothing by default.
    ///
    /// # Errors
    /// An error is logged.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Makes an [`Exporter`] of a [`MetricsExporter`]: folds the events, one by one as the host brings them, and hands over
/// their sums once a batch. Takes totals too.
#[derive(Debug)]
pub struct Aggregated<E> {
    exporter: E,
    /// For batches that come as such, which they do where another exporter holds this one.
    tally: Option<Tally>,
}

impl<E: MetricsExporter> Exporter for Aggregated<E> {
    const SETTINGS: &'static [&'static dyn Describe] = E::SETTINGS;
    const TOTALS: bool = true;
    const FOLDS: bool = true;

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        Ok(Self { exporter: E::open(agent, settings)?, tally: None })
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let Self { exporter, tally } = self;
        let tally = tally.get_or_insert_with(|| Tally::new(exporter.buckets()));
        batch.iter().for_each(|event| tally.fold(&event));
        exporter.publish(tally);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.exporter.flush()
    }

    fn tally(&self) -> Option<Box<Tally>> {
        Some(Box::new(Tally::new(self.exporter.buckets())))
    }

    fn publish(&mut self, tally: &mut Tally) -> Result<(), Error> {
        self.exporter.publish(tally);
        debug_assert!(tally.is_empty(), "publish leaves the tally empty");
        Ok(())
    }
}

/// The bounds of classic histograms: NIXL's own setting.
pub static HISTOGRAM_BUCKETS: Setting<BucketList> = Setting::new(
    "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US",
    "",
    "Upper bounds of the classic histograms' buckets in microseconds, rising numbers above 0 separated by commas; if empty, \
     NIXL's 18 from 10 to 10000000.",
);

/// A list of bounds, as [`HISTOGRAM_BUCKETS`] holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketList(Arc<Buckets>);

impl From<BucketList> for Arc<Buckets> {
    fn from(list: BucketList) -> Self {
        list.0
    }
}

impl Value for BucketList {
    const TYPE: &'static str = "list";
    const EXPECTED: &'static str = "rising numbers above 0, separated by commas, such as 10,100,2.5e3";

    fn from_env(text: &std::ffi::OsStr, _: Dialect) -> Result<Self, Malformed> {
        let list = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        let buckets =
            Buckets::parse(list).map_err(|error| Malformed::expected(format!("{} ({error})", Self::EXPECTED)))?;
        Ok(Self(Arc::new(buckets)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use nixl_telemetry_event::{Event, Kind, Total};

    use super::*;
    use crate::testing::TestHost;

    type Published = (u64, u64, u64);

    struct Recorded(Arc<Buckets>);

    static PUBLISHED: Mutex<Vec<Published>> = Mutex::new(Vec::new());

    impl MetricsExporter for Recorded {
        fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
            Ok(Self(settings.get(&HISTOGRAM_BUCKETS)?.value.into()))
        }

        fn buckets(&self) -> Arc<Buckets> {
            Arc::clone(&self.0)
        }

        fn publish(&mut self, tally: &mut Tally) {
            let second = tally.distribution(Kind::XFER_TIME).filter(|(_, classic, _)| *classic == 1);
            let published =
                (tally.sum(Kind::TX_BYTES), tally.last(Kind::TX_BYTES), second.map(|(count, ..)| count).sum());
            PUBLISHED.lock().unwrap().push(published);
            tally.clear();
        }
    }

    #[test]
    fn sums_are_handed_over_once_a_batch() {
        let settings = Settings::from_pairs([("NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US", "5,50")]);
        let mut host = TestHost::<Aggregated<Recorded>>::open("agentA", &settings).unwrap();
        let event = |kind, value| Event::new(kind, value);
        host.export(&[event(Kind::TX_BYTES, 7), event(Kind::XFER_TIME, 6), event(Kind::TX_BYTES, 3)]);
        let total = Total { kind: Kind::TX_BYTES, count: 5, sum: 100 };
        host.export_batch(&[event(Kind::TX_BYTES, 1)], &[total], None);
        host.export_batch(&[], &[total], None);
        host.export_batch(&[], &[], None);
        // More than a buffer would hold is one batch.
        host.export(&[event(Kind::TX_BYTES, 1); 10_000]);
        let counts = host.close();
        assert_eq!(*PUBLISHED.lock().unwrap(), [(10, 3, 1), (101, 1, 0), (100, 1, 0), (10_000, 1, 0)]);
        assert_eq!((counts.taken, counts.exported, counts.failed, counts.aggregated), (10_004, 10_004, 0, 10));
    }

    #[test]
    fn bad_bounds_are_named() {
        let settings = Settings::from_pairs([("NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US", "5,x")]);
        assert_eq!(
            settings.get(&HISTOGRAM_BUCKETS).unwrap_err().to_string(),
            "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US is \"5,x\" (environment): expected rising numbers above 0, separated by \
             commas, such as 10,100,2.5e3 (bound 2 is \"x\": expected a finite number above 0)"
        );
        assert_eq!(Settings::empty().get(&HISTOGRAM_BUCKETS).unwrap().value, BucketList::default());
    }
}
