// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry flight`: what the exporter flight has kept.

pub(crate) mod dump;
pub(crate) mod list;
mod recorder;

use clap::Subcommand;

/// About flight recorders, the files of the exporter flight
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Arguments),
    Dump(dump::Arguments),
}
