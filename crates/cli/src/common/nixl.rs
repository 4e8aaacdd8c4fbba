// SPDX-License-Identifier: Apache-2.0

//! Which NIXL a command is about.

use std::path::PathBuf;

use anyhow::anyhow;
use nixl_telemetry_nixl::{Found, Place};

/// Which NIXL a command is about.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// Where NIXL is: the folder of libnixl.so, a site-packages folder, or a virtual environment
    ///
    /// Without it: the active virtual environment, the packages of python3, LD_LIBRARY_PATH, the cache of ldconfig; the
    /// first that has one.
    #[arg(long, value_name = "DIR")]
    nixl: Option<PathBuf>,
}

impl Choice {
    /// Whether somebody said which.
    pub(crate) fn is_made(&self) -> bool {
        self.nixl.is_some()
    }

    /// Every place it could be in, in the order in which they count.
    pub(crate) fn places(&self) -> Vec<Place> {
        nixl_telemetry_nixl::places(self.nixl.as_deref()).collect()
    }

    /// The first NIXL there is.
    ///
    /// # Errors
    /// If there is none, with every place that was looked at.
    pub(crate) fn find(&self) -> anyhow::Result<Found> {
        nixl_telemetry_nixl::find(self.nixl.as_deref())
            .map_err(|error| anyhow!("no NIXL found; `--nixl DIR` says where it is; looked at:{}", error.looked_at()))
    }
}
