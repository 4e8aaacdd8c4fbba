// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry plugin …`

pub(crate) mod fit;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod probe;

use clap::Subcommand;

/// Look at exporter plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Inspect(inspect::Arguments),
    List(list::Arguments),
    Probe(probe::Arguments),
}
