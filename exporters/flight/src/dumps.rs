// SPDX-License-Identifier: Apache-2.0

//! The dumps of one recorder: made, and the oldest removed.

use std::fs;
use std::path::{Path, PathBuf};

use nixl_telemetry_ring::{DumpError, DumpName, Dumped, Left, Place, Reason, Writer};
use nixl_telemetry_sdk::{error, warn};

/// Where dumps go, and how many stay.
#[derive(Debug)]
pub(crate) struct Dumps {
    pub(crate) directory: PathBuf,
    pub(crate) mode: u32,
    /// Of each recorder; with 0, none is made.
    pub(crate) most: u32,
}

impl Dumps {
    /// Dumps the ring in which errors have come.
    pub(crate) fn errors(&self, writer: &Writer) {
        self.make(writer.path(), Reason::Errors, |place| writer.dump(place));
    }

    /// Dumps what a process has left that has ended.
    pub(crate) fn previous(&self, left: &Left<'_>) {
        self.make(left.path(), Reason::Previous, |place| left.dump(place));
    }

    /// What goes wrong is a line in the log, and nothing else: the recorder goes on.
    fn make(&self, ring: &Path, reason: Reason, dump: impl FnOnce(&Place<'_>) -> Result<Dumped, DumpError>) {
        if self.most == 0 {
            return;
        }
        match dump(&Place { directory: &self.directory, reason, mode: self.mode }) {
            Ok(Dumped { path, events, .. }) => {
                warn!("exporter flight: {}; kept in {}: {events}", why(reason), path.display());
                self.remove_oldest(&path);
            }
            Err(error) => {
                let (ring, directory) = (ring.display(), self.directory.display());
                error!("exporter flight: {}, but {ring} is not dumped into {directory}: {error}", why(reason));
            }
        }
    }

    /// Removes dumps of the recorder that made this one beyond the limit; those somebody asked for are his.
    fn remove_oldest(&self, newest: &Path) {
        let Some(newest) = newest.file_name().and_then(|name| DumpName::parse(name.to_str()?)) else { return };
        let is_ours = |name: &DumpName| name.recorder == newest.recorder && name.reason != Reason::Request;
        let removed = DumpName::all(&self.directory).and_then(|all| {
            let ours: Vec<_> = all.into_iter().filter(is_ours).collect();
            let beyond = ours.len().saturating_sub(self.most as usize);
            ours[..beyond].iter().try_for_each(|name| fs::remove_file(self.directory.join(name.to_string())))
        });
        if let Err(error) = removed {
            error!("exporter flight: dumps in {} that are too old stay: {error}", self.directory.display());
        }
    }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Errors => "errors came at the rate that is set",
        Reason::Previous => "an earlier process had left events",
        Reason::Request => "somebody asked",
    }
}
