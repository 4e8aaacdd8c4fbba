// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry spool`: what exporters with a queue keep on disk until their sink has it.

pub(crate) mod cat;
mod found;
pub(crate) mod ls;
pub(crate) mod replay;
pub(crate) mod rm;
mod which;

use clap::Subcommand;

/// About spools, the files in which events wait for a database or a message bus
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(ls::Arguments),
    Cat(cat::Arguments),
    Replay(replay::Arguments),
    Rm(rm::Arguments),
}
