// SPDX-License-Identifier: Apache-2.0

use core::fmt;
use core::ptr::NonNull;

use nixl_telemetry_abi::raw;
use nixl_telemetry_event::{Event, Status};

use crate::batch::Batch;
use crate::guard::{self, Counts};
use crate::{Form, Plugin};

/// A running exporter. `Drop` deletes it, which is its last chance to write what it holds.
///
/// It may be fed and dropped in another thread than the one that created it, as NIXL does, but by one at a time.
pub struct Exporter {
    raw: NonNull<raw::Exporter>,
    batch: Batch,
    plugin: Plugin,
}

// SAFETY: NIXL creates an exporter in one thread, feeds it in a second and deletes it in the first, so that no exporter
// may be bound to a thread. The batch holds pointers only while `export` runs.
unsafe impl Send for Exporter {}

/// What became of the events of one batch; the three counts add up to its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "events may have failed"]
pub struct Exported {
    /// Events the exporter took.
    pub accepted: u64,
    /// Events the exporter refused with an error status, or threw an exception at.
    pub failed: u64,
    /// Events it was not given, because its [`Form`] cannot hold them.
    pub unsupported: u64,
    /// The first thing that went wrong. Without a failed event, it was a batch hook that threw.
    pub first_failure: Option<Failure>,
}

/// How an exporter failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It returned this negative `nixl_status_t`.
    Refused(i32),
    /// It threw: `what()`, or the name of the type if that is no `std::exception`.
    Threw(String),
    /// It lost a batch whose events it had taken; its own log says why.
    Lost,
}

impl Exporter {
    pub(crate) fn new(raw: NonNull<raw::Exporter>, plugin: Plugin) -> Self {
        Self { raw, batch: Batch::new(plugin.form()), plugin }
    }

    /// Hands over one batch: `onBatchBegin`, each event in order, `onBatchEnd`; the first and the last only if
    /// [`Plugin::has_batch_hooks`]. An empty batch is one too, as with NIXL 1.5.
    ///
    /// An event that fails does not keep the next from being tried, and an exporter that threw goes on being used.
    /// Events without a timestamp carry 0 where the form has one; NIXL up to 1.0.1 would stamp them.
    pub fn export(&mut self, events: &[Event<'_>]) -> Exported {
        let known_slots = match (self.plugin.form(), self.plugin.has_batch_hooks()) {
            (Form::Rich, _) => 6,
            (_, true) => 5,
            (_, false) => 3,
        };
        let raw = self.raw;
        let (counts, unsupported) = self.batch.with(events, |events| {
            // SAFETY: the exporter is alive and borrowed exclusively; slots are known to exist where they are called;
            // the events are in the form of the plugin.
            unsafe { guard::export(raw, known_slots, events) }
        });
        let Counts { accepted, failed, first_failure } = counts;
        Exported { accepted, failed, unsupported, first_failure }
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
                Some(status) => write!(f, "refused an event with {status}"),
                None => write!(f, "refused an event with status {code}"),
            },
            Self::Threw(what) => write!(f, "threw: {what}"),
            Self::Lost => f.write_str("lost a batch it had taken (its own log line says why)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_words() {
        let table = [
            (Failure::Refused(-8), "refused an event with NIXL_ERR_UNKNOWN"),
            (Failure::Refused(-99), "refused an event with status -99"),
            (Failure::Threw("disk full".to_owned()), "threw: disk full"),
        ];
        for (failure, words) in table {
            assert_eq!(failure.to_string(), words);
        }
    }
}
