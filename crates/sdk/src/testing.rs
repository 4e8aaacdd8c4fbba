// SPDX-License-Identifier: Apache-2.0

//! A host for the tests of an exporter: no shared library, no NIXL, no thread.

use nixl_telemetry_event::Event;
use nixl_telemetry_settings::Settings;

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
        for event in events {
            self.0.push(event);
        }
        self.0.close_batch();
    }

    /// The agent the exporter was opened for.
    pub const fn agent(&self) -> &Agent {
        self.0.agent()
    }

    /// Ends the exporter as a host does, and tells what became of the events.
    pub fn close(mut self) -> Counts {
        self.0.finish()
    }
}
