// SPDX-License-Identifier: Apache-2.0

//! Tasks of this workspace: `cargo xtask <task>`.

#![forbid(unsafe_code)]

mod dashboards;
mod demo;
mod fuzz;
mod wheels;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>

  dashboards                       write deploy/grafana/*.json, made of the metrics' table and a layout
  demo [ARGUMENT…]                 build, then run `nixl-telemetry demo` with these arguments
  fuzz [--seconds N] [TARGET…]     try made-up bytes on what reads foreign ones (60 s a target); --keep adds what was
                                   found to the corpus
  wheels [--from DIR] [VERSION…]   unpack NIXL releases under .nixl/, for the tests that run them
";

/// What a task returns: nothing, or one sentence for the person who ran it.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("dashboards") => dashboards::run(arguments),
        Some("demo") => demo::run(arguments),
        Some("fuzz") => fuzz::run(arguments),
        Some("wheels") => wheels::run(arguments),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("there is no task `{other}`\n\n{USAGE}")),
        None => Err(format!("no task given\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
