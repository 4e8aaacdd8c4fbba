// SPDX-License-Identifier: Apache-2.0

//! The `nixl-telemetry` command.
//!
//! One file a command; what several of them use is under `common`. What a command has to say goes to standard output
//! in one piece, errors and progress to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 called the wrong way, 130 and 143 ended by Ctrl-C and SIGTERM; `run` becomes the
//! program it runs, and ends as that does.

#![forbid(unsafe_code)]

mod collect;
mod common;
mod demo;
mod detect;
mod flight;
mod install;
mod plugin;
mod read;
mod recover;
mod rings;
mod run;
mod spool;
mod stats;
mod tail;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Telemetry of NIXL: see it work, look at plugins, put them into a NIXL, run programs with it, recover what they left,
/// read NIXL's ring files.
#[derive(Debug, Parser)]
#[command(name = "nixl-telemetry", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry demo                            real transfers, their telemetry in a CSV file
  nixl-telemetry nixl detect                     which NIXL is here, and of which generation
  nixl-telemetry install csv                     put the exporter csv into that NIXL
  nixl-telemetry run --exporter csv -- python3 server.py
                                                 a program, with this collector in its NIXL
  nixl-telemetry recover /var/lib/telemetry      what such programs had not exported when they died
  nixl-telemetry top /tmp/telemetry              what agents do now, from NIXL's ring files
  nixl-telemetry tail /tmp/telemetry             the events in NIXL's ring files, as they come
  nixl-telemetry collect --consume --from /run/nixl --exporter csv
                                                 a sidecar: NIXL's ring files through exporters
  nixl-telemetry flight dump /var/lib/telemetry  what agents with the exporter flight did last
  nixl-telemetry spool ls /var/lib/telemetry     what waits for databases and message buses
  nixl-telemetry demo --agent nixl               the same transfers through NIXL itself
  nixl-telemetry plugin inspect libtelemetry_exporter_csv.so";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    #[command(subcommand)]
    Plugin(plugin::Command),
    #[command(subcommand)]
    Nixl(Nixl),
    Install(install::install::Arguments),
    Uninstall(install::uninstall::Arguments),
    Run(run::Arguments),
    Recover(recover::Arguments),
    Read(read::Arguments),
    Tail(tail::Arguments),
    Top(top::Arguments),
    Stats(stats::Arguments),
    Collect(collect::Arguments),
    CollectStatus(collect::ask::Arguments),
    #[command(subcommand)]
    Flight(flight::Command),
    #[command(subcommand)]
    Spool(spool::Command),
}

/// About the NIXL of this machine.
#[derive(Debug, Subcommand)]
enum Nixl {
    Detect(detect::Arguments),
}

fn main() -> ExitCode {
    common::end::report(match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Plugin(plugin::Command::Inspect(arguments)) => plugin::inspect::run(&arguments),
        Command::Plugin(plugin::Command::List(arguments)) => plugin::list::run(&arguments),
        Command::Plugin(plugin::Command::Probe(arguments)) => plugin::probe::run(&arguments),
        Command::Nixl(Nixl::Detect(arguments)) => detect::run(&arguments),
        Command::Install(arguments) => install::install::run(&arguments),
        Command::Uninstall(arguments) => install::uninstall::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Read(arguments) => read::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Collect(arguments) => collect::run(&arguments),
        Command::CollectStatus(arguments) => collect::ask::run(&arguments),
        Command::Flight(flight::Command::List(arguments)) => flight::list::run(&arguments),
        Command::Flight(flight::Command::Dump(arguments)) => flight::dump::run(&arguments),
        Command::Spool(spool::Command::Ls(arguments)) => spool::ls::run(&arguments),
        Command::Spool(spool::Command::Cat(arguments)) => spool::cat::run(&arguments),
        Command::Spool(spool::Command::Replay(arguments)) => spool::replay::run(&arguments),
        Command::Spool(spool::Command::Rm(arguments)) => spool::rm::run(&arguments),
    })
}
