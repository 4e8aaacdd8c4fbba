// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::Total;
use nixl_telemetry_metrics::Tally;
use nixl_telemetry_settings::{Describe, Settings};

use crate::{Agent, Batch};

/// Why an exporter could not be opened, or a batch could not be exported. Any error converts with `?`.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Turns events into something outside. One value serves one agent.
///
/// All methods run on threads of the process that is observed: the host's flush thread, or, on hosts that announce no
/// batches, a thread of the SDK. Calls on one exporter are serial; exporters of different agents run in parallel.
///
/// Whatever goes wrong in here costs events, never the process. An error is logged (a few lines a minute at most) and
/// the batch is counted as failed. After a panic the exporter is dropped and what follows is discarded.
pub trait Exporter: Sized + Send + 'static {
    /// The settings this exporter reads, for [`markdown_table`](crate::markdown_table) and checks. None by default.
    const SETTINGS: &'static [&'static dyn Describe] = &[];

    /// Whether this exporter can do something with [`totals`](Self::totals). By default it cannot.
    const TOTALS: bool = false;

    /// Opens the exporter of one agent, on the thread that builds the agent.
    ///
    /// # Errors
    /// An error is handled as `NIXL_TELEMETRY_ON_ERROR` says: by default it is logged and the agent's events are
    /// discarded. Say which setting is wrong, its value, and what was expected.
    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error>;

    /// Exports a batch, which is never empty. On return the batch has left the process, or is at least kept by
    /// something that [`flush`](Self::flush) completes.
    ///
    /// # Errors
    /// Everything the batch holds counts as failed.
    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error>;

    /// Takes what a host counted and added up where it had no room for single events; never called unless
    /// [`TOTALS`](Self::TOTALS) says so.
    ///
    /// They stand for other events than those of any batch: a counter has to add both. They come after the
    /// [`export`](Self::export) of their batch, on the same thread, or without one if the batch has no events. Only
    /// this project's host has them.
    ///
    /// # Errors
    /// All of these totals count as failed.
    fn totals(&mut self, totals: &[Total]) -> Result<(), Error> {
        let _ = totals;
        Ok(())
    }

    /// Completes what earlier exports left unfinished: the last call before the exporter is dropped. Does nothing by
    /// default.
    ///
    /// # Errors
    /// An error is logged.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether events are folded into a tally, as they come, in place of [`export`](Self::export):
    /// [`Aggregated`](crate::Aggregated) wants that.
    #[doc(hidden)]
    const FOLDS: bool = false;

    /// The tally to fold events into. Asked once.
    #[doc(hidden)]
    fn tally(&self) -> Option<Box<Tally>> {
        None
    }

    /// Takes the events of a batch out of the tally.
    ///
    /// # Errors
    /// All of them count as failed.
    #[doc(hidden)]
    fn publish(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let _ = tally;
        Ok(())
    }
}
