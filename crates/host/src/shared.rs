// SPDX-License-Identifier: Apache-2.0

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, mem, process};

use nixl_telemetry_log::warn;
use nixl_telemetry_thread::Thread;

use crate::Counts;
use crate::builder::Recipe;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::record::Record;
use crate::staging::Staging;
use nixl_telemetry_event::Allowlist;

/// What a collector, its recorders and its flush thread have in common.
pub(crate) struct Shared {
    pub(crate) agent: Arc<str>,
    /// What tells the collector from others, in other processes, too.
    pub(crate) origin: u64,
    pub(crate) allowlist: Allowlist,
    /// Whether exporters are told of drops.
    pub(crate) reports_drops: bool,
    pub(crate) clock: Clock,
    pub(crate) staging: Staging,
    pub(crate) ledger: Ledger,
    pub(crate) shutdown_timeout: Duration,
    /// The flush thread, until the collector is shut down.
    pub(crate) thread: Mutex<Option<Thread<()>>>,
    /// The process it belongs to. After a fork, the child has another.
    pub(crate) process: u32,
    pub(crate) inheritance: Inheritance,
}

/// What a forked child makes of its parent's collector: one like it, with nothing in it.
pub(crate) struct Inheritance {
    recipe: Option<Recipe>,
    /// Of this process; whichever thread needs it first makes it.
    heir: OnceLock<Option<Arc<Shared>>>,
    is_being_made: AtomicBool,
}

impl Inheritance {
    pub(crate) fn of(recipe: Recipe) -> Self {
        Self { recipe: Some(recipe), ..Self::none() }
    }

    /// Nothing to inherit.
    pub(crate) fn none() -> Self {
        Self { recipe: None, heir: OnceLock::new(), is_being_made: AtomicBool::new(false) }
    }
}

impl Shared {
    /// Whether this is a forked child, and the collector its parent's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.process != process::id()
    }

    /// The collector this process has in the place of this one: itself, or in a forked child its heir, if there is one.
    pub(crate) fn here(self: &Arc<Self>) -> Option<Arc<Self>> {
        if self.is_elsewhere() { self.heir() } else { Some(Arc::clone(self)) }
    }

    /// The same, but an heir that has not been needed so far is not made.
    pub(crate) fn here_already(self: &Arc<Self>) -> Option<Arc<Self>> {
        if !self.is_elsewhere() {
            return Some(Arc::clone(self));
        }
        self.inheritance.heir.get()?.as_ref()?.here_already()
    }

    /// The collector of this forked child, which is made now if it is needed for the first time. `None` if there can be
    /// none, or somebody else is just making it: nobody waits here, since whom one waits for may not exist in a child.
    #[cold]
    pub(crate) fn heir(&self) -> Option<Arc<Self>> {
        let Inheritance { recipe, heir, is_being_made } = &self.inheritance;
        if heir.get().is_none() && !is_being_made.swap(true, Ordering::AcqRel) {
            // Nobody else sets it.
            let _ = heir.set(recipe.as_ref().and_then(Recipe::inherit));
        }
        // The child of a child has one more.
        heir.get()?.as_ref()?.here()
    }

    /// Records for a thread that has no ring of its own.
    pub(crate) fn offer_in_common(&self, record: &Record, events: u64) {
        self.staging.push_in_common(record, |told| self.clock.read(told).0, events);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.ledger.counts(&self.staging)
    }

    /// Exports what was recorded, and destroys the exporters. Only the first call does.
    pub(crate) fn shut_down(&self) {
        if self.is_elsewhere() {
            // There is no such thread here, and a lock it held at the fork stays locked.
            return;
        }
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            // Somebody else is at it: the end of an agent, which the exit of the process must not cut off.
            return self.ledger.wait_ended(self.shutdown_timeout);
        };
        self.staging.close();
        match self.ledger.wait_finished(&self.staging, self.shutdown_timeout) {
            // The flush thread catches the panics of exporters, and has no others.
            Ok(()) => drop(thread.join()),
            Err(abandoned) => warn!(
                "agent {}: exporter {} did not finish within {} ms: left behind, {} events are dropped",
                self.agent,
                abandoned.exporter,
                self.shutdown_timeout.as_millis(),
                abandoned.events,
            ),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_elsewhere() {
            // There is no such thread here that could be let go.
            mem::forget(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("agent", &self.agent).finish_non_exhaustive()
    }
}
