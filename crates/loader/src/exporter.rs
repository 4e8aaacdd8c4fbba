// SPDX-License-Identifier: Apache-2.0

use core::fmt;
use core::ptr::NonNull;

use nixl_telemetry_abi::raw;
use nixl_telemetry_event::{Event, Status};

use crate::encoder::{Encoder, encode_id, encode_total};
use crate::guard::{self, Counts, Slots};
use crate::{Batch, Form, Plugin};

/// A running exporter. `Drop` deletes it, which is its last chance to write what it holds.
///
/// It may be fed and dropped in another thread than the one that created it, as NIXL does, but by one at a time.
pub struct Exporter {
    raw: NonNull<raw::Exporter>,
    slots: Slots,
    takes_totals: bool,
    encoder: Encoder,
    plugin: Plugin,
}

// SAFETY: NIXL creates an exporter in one thread, feeds it in a second and deletes it in the first, so that no exporter
// may be bound to a thread. The encoder holds pointers only while a batch is handed over.
unsafe impl Send for Exporter {}

/// What became of one batch.
///
/// `accepted`, `failed` and `unsupported` add up to the number of its events; `aggregated` and `aggregates_failed` to the
/// counts of its totals, if the exporter takes totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "events may have failed"]
pub struct Exported {
    /// Events the exporter took.
    pub accepted: u64,
    /// Events the exporter refused with an error status, or threw an exception at.
    pub failed: u64,
    /// Events it was not given, because its [`Form`] cannot hold them.
    pub unsupported: u64,
    /// Events behind the totals the exporter took.
    pub aggregated: u64,
    /// Events behind totals it refused, threw an exception at, or took and lost.
    pub aggregates_failed: u64,
    /// The first thing that went wrong. If nothing failed, it was a batch hook that threw.
    pub first_failure: Option<Failure>,
}

/// How an exporter failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It returned this negative `nixl_status_t`.
    Refused(i32),
    /// It threw: `what()`, or the name of the type if that is no `std::exception`.
    Threw(String),
    /// It lost events or totals it had taken; its own log says why.
    Lost,
}

impl Exporter {
    pub(crate) fn new(raw: NonNull<raw::Exporter>, plugin: Plugin) -> Self {
        let slots = match (plugin.form(), plugin.has_batch_hooks()) {
            (Form::Rich, _) => Slots::Negotiated,
            (_, true) => Slots::Hooks,
            (_, false) => Slots::Events,
        };
        let features = match slots {
            // SAFETY: the exporter is alive, known to nobody else, and was negotiated.
            Slots::Negotiated => unsafe { guard::features(raw) },
            Slots::Events | Slots::Hooks => 0,
        };
        let takes_totals = features & raw::FEATURE_TOTALS != 0;
        Self { raw, slots, takes_totals, encoder: Encoder::new(plugin.form()), plugin }
    }

    /// Whether it can do something with [`Batch::totals`].
    pub fn takes_totals(&self) -> bool {
        self.takes_totals
    }

    /// Hands over a batch that is nothing but these events: [`export_batch`](Self::export_batch).
    pub fn export(&mut self, events: &[Event<'_>]) -> Exported {
        self.export_batch(&Batch { events, ..Batch::default() })
    }

    /// Hands over one batch: `onBatchBegin`, each event in order, `onBatchEnd`; the first and the last only if
    /// [`Plugin::has_batch_hooks`]. An empty batch is one too, as with NIXL 1.5. A negotiated plugin is told its identity
    /// before it begins, and given its totals before it ends.
    ///
    /// An event that fails does not keep the next from being tried, and an exporter that threw goes on being used.
    /// Events without a timestamp carry 0 where the form has one; NIXL up to 1.0.1 would stamp them.
    pub fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
        let Self { raw, slots, takes_totals, .. } = *self;
        let totals = if takes_totals { batch.totals } else { &[] };
        let totals: Vec<_> = totals.iter().map(encode_total).collect();
        let id = batch.id.as_ref().map(encode_id);
        let (counts, unsupported) = self.encoder.with(batch.events, |events| {
            // SAFETY: the exporter is alive and borrowed exclusively; slots are known to exist where they are called;
            // the events are in the form of the plugin; totals are there only if it takes them; what the identity borrows
            // outlives the call.
            unsafe { guard::export(raw, slots, events, &totals, id.as_ref()) }
        });
        let Counts { accepted, failed, aggregated, aggregates_failed, first_failure } = counts;
        Exported { accepted, failed, unsupported, aggregated, aggregates_failed, first_failure }
    }

    /// The plugin it came from.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // SAFETY: this is the only deletion, and the plugin is alive until after it. What a destructor throws is of no
        // use to anybody.
        let _ = unsafe { guard::delete(self.raw) };
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("raw", &self.raw).field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => match Status::from_code(*code) {
                Some(status) => write!(f, "refused an event or a total with {status}"),
                None => write!(f, "refused an event or a total with status {code}"),
            },
            Self::Threw(what) => write!(f, "threw: {what}"),
            Self::Lost => f.write_str("lost what it had taken (its own log line says why)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_words() {
        let table = [
            (Failure::Refused(-8), "refused an event or a total with NIXL_ERR_UNKNOWN"),
            (Failure::Refused(-99), "refused an event or a total with status -99"),
            (Failure::Threw("disk full".to_owned()), "threw: disk full"),
        ];
        for (failure, words) in table {
            assert_eq!(failure.to_string(), words);
        }
    }
}
