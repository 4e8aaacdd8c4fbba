// SPDX-License-Identifier: Apache-2.0

//! What is said about files on standard error, while their events go to standard output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nixl_telemetry_ring::{Batch, Follower, Lost, Mode, ReadError};

use crate::common::human;
use crate::common::terminal::{Style, complain};
use crate::rings::selection::Selection;

/// What is said once for each file.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    full: BTreeSet<PathBuf>,
    contended: BTreeSet<PathBuf>,
}

impl Remarks {
    /// Says what a batch and its file tell of losses.
    pub(crate) fn batch(&mut self, follower: &Follower, batch: &Batch, mode: Mode) {
        let path = follower.path();
        if batch.restarted() {
            self.forget(path);
            restarted(path);
        }
        if batch.lost().is_some() {
            warn(path, &format!("lost {}: overwritten before they were read", lost(batch.lost())));
        }
        if batch.contended() && self.contended.insert(path.to_owned()) {
            warn(path, "is consumed by somebody else, too: each event goes to one of the two");
        }
        let header = follower.reader().and_then(|reader| reader.header().ok());
        if header.is_some_and(|header| header.is_full()) && self.full.insert(path.to_owned()) {
            warn(
                path,
                match mode {
                    Mode::Peek => "is full: NIXL drops new events until somebody takes some out, as --consume does",
                    Mode::Consume => "was full: NIXL dropped the events that came while it was",
                },
            );
        }
    }

    /// The next file of this path is another.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.full.remove(path);
        self.contended.remove(path);
    }
}

/// `1 event`, `2 events`, `at least 2 events`.
pub(crate) fn lost(Lost { events, or_more }: Lost) -> String {
    let at_least = if or_more { "at least " } else { "" };
    format!("{at_least}{}", self::events(events))
}

/// `1 event`, `2 events`.
pub(crate) fn events(number: u64) -> String {
    format!("{} event{}", human::count(number), if number == 1 { "" } else { "s" })
}

/// Says that nobody can tell what was lost.
pub(crate) fn restarted(path: &Path) {
    warn(path, "was begun anew by its writer: what it held, and was not read yet, is gone");
}

/// Says why a file, or a directory, cannot be read.
pub(crate) fn unreadable(path: &Path, error: &ReadError) {
    let path = name(path);
    let message = match error {
        ReadError::Io(_) => format!("cannot read {path}: {error}"),
        _ => format!("{path} {error}"),
    };
    complain(Style::Bad, "error", &message);
}

/// Says that a file that was named is not there, but may come.
pub(crate) fn absent(path: &Path) {
    warn(path, "is not there yet");
}

/// Says that there is nothing to read in a directory, where some might expect it.
pub(crate) fn no_rings(directory: &Path, others: u64, selection: &Selection) {
    let which = if selection.wants_every_agent() { "" } else { " of such agents" };
    let message = match others {
        0 => format!("has no ring files{which}"),
        1 => format!("has no ring files{which}, but another file"),
        others => format!("has no ring files{which}, but {} other files", human::count(others)),
    };
    warn(directory, &message);
}

/// Says how many events are left out because nobody knows when they were.
pub(crate) fn left_out(number: u64) {
    if number > 0 {
        let message =
            format!("--since leaves out {} without a time: only files of ring version 1 have times", events(number));
        complain(Style::Odd, "warning", &message);
    }
}

/// Says something that is as it should be.
pub(crate) fn note(message: &str) {
    complain(Style::Good, "note", message);
}

/// A path as one line.
pub(crate) fn name(path: &Path) -> String {
    human::line(&path.display().to_string())
}

fn warn(path: &Path, message: &str) {
    complain(Style::Odd, "warning", &format!("{} {message}", name(path)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_exact_or_at_least() {
        let table = [(1, false, "1 event"), (1234, false, "1,234 events"), (63, true, "at least 63 events")];
        for (events, or_more, expected) in table {
            assert_eq!(lost(Lost { events, or_more }), expected);
        }
    }
}
