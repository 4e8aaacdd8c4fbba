// SPDX-License-Identifier: Apache-2.0

//! What is in files now, read to its end and no further.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use nixl_telemetry_ring::{Change, Follower, Mode, ReadError, Watcher};
use rustix::io::Errno;

use crate::rings::backlog::Backlog;
use crate::rings::remark;
use crate::rings::selection::Selection;

/// What was found behind the paths of a call.
#[derive(Debug)]
struct Found<'a> {
    named: &'a [PathBuf],
    /// For each directory, how many rings it has, sound or not, and how many other files.
    directories: BTreeMap<&'a Path, (u64, u64)>,
    backlog: Backlog,
    is_failure: bool,
}

/// Visits each ring that there is, and its events; says what is wrong with the others. True if nothing is.
///
/// `visit` hears that a ring [came](Change::Came), even if it is empty, and of [events](Change::Events). Events that are
/// written meanwhile may be among them; a writer that goes on for ever does not keep this from ending.
pub(crate) fn once<E>(
    paths: &[PathBuf],
    selection: &Selection,
    mode: Mode,
    mut visit: impl FnMut(&Follower, Change<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut watcher = Watcher::new(paths.iter().map(PathBuf::as_path), mode);
    let directories = paths.iter().filter(|path| path.is_dir()).map(|path| (path.as_path(), (0, 0)));
    let mut found =
        Found { named: paths, directories: directories.collect(), backlog: Backlog::default(), is_failure: false };
    loop {
        let wants = |agent: &str| selection.wants_agent(agent);
        let is_new = watcher.poll_agents(true, wants, |follower, change| {
            if found.add(follower, &change) { visit(follower, change) } else { Ok(()) }
        })?;
        if !is_new || found.backlog.is_read() {
            break;
        }
    }
    for (directory, (rings, others)) in &found.directories {
        if *rings == 0 {
            remark::no_rings(directory, *others, selection);
        }
    }
    Ok(!found.is_failure)
}

impl Found<'_> {
    /// Takes a change into account. True if it is about a ring that can be read.
    fn add(&mut self, follower: &Follower, change: &Change<'_>) -> bool {
        let path = follower.path();
        match change {
            Change::Came => {
                self.backlog.begin(follower);
                self.count(path, (1, 0));
            }
            Change::Events(batch) => {
                self.backlog.take(follower, batch);
            }
            Change::Gone if self.named.iter().any(|named| named == path) => {
                self.fail(path, &io::Error::from(Errno::NOENT).into());
            }
            Change::Gone => self.backlog.forget(path),
            Change::Unreadable(error) => self.fail(path, error),
            Change::Readable => {}
            Change::Foreign(_) => self.count(path, (0, 1)),
        }
        matches!(change, Change::Came | Change::Events(_))
    }

    fn fail(&mut self, path: &Path, error: &ReadError) {
        self.is_failure = true;
        self.backlog.forget(path);
        self.count(path, (1, 0));
        remark::unreadable(path, error);
    }

    /// Counts a file for its directory, if that was named; or the directory itself.
    fn count(&mut self, path: &Path, (rings, others): (u64, u64)) {
        let directory = if self.directories.contains_key(path) { Some(path) } else { path.parent() };
        if let Some(counts) = directory.and_then(|directory| self.directories.get_mut(directory)) {
            counts.0 += rings;
            counts.1 += others;
        }
    }
}
