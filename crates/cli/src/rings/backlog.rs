// SPDX-License-Identifier: Apache-2.0

//! What files held when they were first looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nixl_telemetry_ring::{Batch, Follower};

/// For each file, how many of the events that were in it at first are still to be read.
#[derive(Debug, Default)]
pub(crate) struct Backlog(BTreeMap<PathBuf, u64>);

impl Backlog {
    /// Counts what is in a file that was opened just now.
    pub(crate) fn begin(&mut self, follower: &Follower) {
        let header = follower.reader().and_then(|reader| reader.header().ok());
        if let Some(unread) = header.map(|header| header.unread()).filter(|unread| *unread > 0) {
            self.0.insert(follower.path().to_owned(), unread);
        }
    }

    /// How many events of a batch, from its beginning, were there at first.
    pub(crate) fn take(&mut self, follower: &Follower, batch: &Batch) -> usize {
        let Some(left) = self.0.get_mut(follower.path()) else { return 0 };
        if batch.restarted() {
            self.forget(follower.path());
            return 0;
        }
        *left = left.saturating_sub(batch.lost().events);
        let old = usize::try_from(*left).unwrap_or(usize::MAX).min(batch.len());
        *left -= old as u64;
        if *left == 0 {
            self.forget(follower.path());
        }
        old
    }

    /// Expects nothing more of a file.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// Whether all was read.
    pub(crate) fn is_read(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::{Event, Kind};
    use nixl_telemetry_ring::{Mode, Options, Polled, Writer};

    use super::*;

    #[test]
    fn what_is_written_later_does_not_belong_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), "a", Options::default()).unwrap();
        let mut push = |events: usize| assert_eq!(writer.push(&vec![Event::new(Kind::TX_BYTES, 1); events]).refused, 0);
        push(5);
        let (mut follower, mut batch) = (Follower::new(directory.path().join("a"), Mode::Peek), Batch::new());
        let mut poll = |follower: &mut Follower| {
            assert!(matches!(follower.poll(&mut batch), Polled::Events));
            batch.len()
        };
        assert_eq!(poll(&mut follower), 5);
        push(3);
        let mut backlog = Backlog::default();
        // Eight, of which five are read.
        backlog.begin(&follower);
        assert!(!backlog.is_read());
        let mut batch = Batch::new();
        follower = Follower::new(directory.path().join("a"), Mode::Peek);
        push(2);
        assert!(matches!(follower.poll(&mut batch), Polled::Events));
        assert_eq!((batch.len(), backlog.take(&follower, &batch)), (10, 8));
        assert!(backlog.is_read());
        assert_eq!(backlog.take(&follower, &batch), 0);
    }
}
