// SPDX-License-Identifier: Apache-2.0

//! A host for the tests of an exporter: no shared library, no NIXL, no thread.

use nixl_telemetry_event::{BatchId, Event, Status, Total};
use nixl_telemetry_settings::Settings;

pub use nixl_telemetry_event::MemoWords;

use crate::{
    Agent, Error, Exporter,
    pump::{Counts, Pump, contained},
};

/// Feeds an exporter as a host would, and tells what became of the events.
///
/// ```
/// use nixl_telemetry_sdk::{Agent, Batch, Error, Event, Exporter, Kind, Settings, testing::TestHost};
///
/// struct Discard;
///
/// impl Exporter for Discard {
///     fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
///         Ok(Discard)
///     }
///
///     fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
///         if batch.len() > 2 { Err("too many at once".into()) } else { Ok(()) }
///     }
/// }
///
/// let mut host = TestHost::<Discard>::open("agentA", &Settings::empty())?;
/// host.export(&[Event::new(Kind::TX_BYTES, 4096), Event::new(Kind::TX_REQUESTS_NUM, 1)]);
/// host.export(&[Event::new(Kind::TX_BYTES, 1); 3]);
/// let counts = host.close();
/// assert_eq!((counts.taken, counts.exported, counts.failed), (5, 2, 3));
/// # Ok::<(), nixl_telemetry_sdk::Error>(())
/// ```
pub struct TestHost<E: Exporter>(Pump<E>);

impl<E: Exporter> TestHost<E> {
    /// Opens the exporter for an agent of this name.
    ///
    /// # Errors
    /// What [`Exporter::open`] answers, as text, and its panic.
    pub fn open(agent: &str, settings: &Settings) -> Result<Self, Error> {
        let agent = Agent::new(agent);
        match contained(|| E::open(&agent, settings)) {
            Ok(exporter) => Ok(Self(Pump::new("under test", agent, Some(exporter)))),
            Err(failure) => Err(failure.to_string().into()),
        }
    }

    /// Exports these events as one batch (several, if they are more than 4096).
    pub fn export(&mut self, events: &[Event<'_>]) {
        self.export_batch(events, &[], None);
    }

    /// Exports a batch with all this project's host may say about it: its events, its totals, and which it is.
    ///
    /// Totals are left out unless the exporter [takes](Exporter::TOTALS) them, and of more than
    /// [4096](BatchId::MOST_EVENTS) events it is not said which batch they are. What a killed process leaves behind is
    /// played by [`MemoWords`] that are given to two hosts:
    ///
    /// ```
    /// # use nixl_telemetry_sdk::{Agent, Batch, Error, Exporter, Settings};
    /// use nixl_telemetry_sdk::{BatchId, Event, Kind, testing::{MemoWords, TestHost}};
    /// # struct Mine;
    /// # impl Exporter for Mine {
    /// #     fn open(_: &Agent, _: &Settings) -> Result<Self, Error> { Ok(Self) }
    /// #     fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
    /// #         let memo = batch.memo().expect("a memo");
    /// #         assert_eq!(memo.recall(), batch.is_repeated().then_some([5]));
    /// #         memo.set([5]);
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// let (events, memo) = ([Event::new(Kind::TX_BYTES, 4096)], MemoWords::default());
    /// let id = BatchId::new(1, 1).with_memo(&memo);
    /// let mut killed = TestHost::<Mine>::open("agentA", &Settings::empty())?;
    /// killed.export_batch(&events, &[], Some(id));
    /// let mut host = TestHost::<Mine>::open("agentA", &Settings::empty())?;
    /// host.export_batch(&events, &[], Some(id.repeated()));
    /// assert_eq!(host.close().exported, 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn export_batch(&mut self, events: &[Event<'_>], totals: &[Total], id: Option<BatchId<'_>>) {
        for event in events {
            self.0.push(event);
        }
        if E::TOTALS {
            for total in totals {
                // What is refused is counted, and that is what a test looks at.
                let _: Status = self.0.push_total(*total);
            }
        }
        self.0.close_batch(id);
    }

    /// The agent the exporter was opened for.
    pub const fn agent(&self) -> &Agent {
        self.0.agent()
    }

    /// The exporter itself, for what it tells besides; `None` once it has panicked.
    pub const fn exporter(&self) -> Option<&E> {
        self.0.exporter()
    }

    /// Ends the exporter as a host does, and tells what became of the events.
    pub fn close(mut self) -> Counts {
        self.0.finish()
    }
}
