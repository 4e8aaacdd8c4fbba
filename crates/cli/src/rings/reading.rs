// SPDX-License-Identifier: Apache-2.0

//! What `read` and `tail` are asked for.

use std::path::PathBuf;

use nixl_telemetry_ring::Mode;

use crate::rings::printer::Format;
use crate::rings::selection::Selection;
use crate::rings::since::{self, Since};

/// Which events of which files, and in which form.
#[derive(Debug, clap::Args)]
pub(crate) struct Reading {
    /// Ring files, and directories of them
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// How events are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Only events from a time on: 90s, 10m, 2h or 1d ago, or a moment such as 2026-11-26T05:34:28Z or "2026-11-26 05:34"
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    pub(crate) since: Option<Since>,
    /// Take events out as NIXL's own readers do, shown or not, which makes room for new ones [default: change nothing]
    #[arg(long)]
    pub(crate) consume: bool,
}

impl Reading {
    pub(crate) fn mode(&self) -> Mode {
        if self.consume { Mode::Consume } else { Mode::Peek }
    }
}
