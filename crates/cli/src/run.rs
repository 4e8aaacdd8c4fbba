// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry run`: any program, with this project's collector in its NIXL.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, exit};

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use nixl_telemetry_host::settings;

use crate::common::end::Outcome;
use crate::common::terminal::{self, Style};
use crate::common::{help, plugins, preload};

/// Run a program with this collector in its NIXL, instead of NIXL's own
///
/// The program takes the place of this command, under its process id: signals and exit status are its own. Nothing of the
/// NIXL it uses is touched, and a program that uses none runs as ever. Telemetry is turned on, unless --set says otherwise.
/// If the program cannot be started, the exit code is 127 if there is none of that name, and 126 if it is not to be run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[settings::SETTINGS, nixl_telemetry_loader::SETTINGS]))]
pub(crate) struct Arguments {
    /// Exporters to use, separated by commas, short for --set NIXL_TELEMETRY_EXPORTER=NAME
    #[arg(long, value_name = "NAME[,NAME]", value_parser = NonEmptyStringValueParser::new())]
    exporter: Option<String>,
    /// An environment variable for the program; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::demo::parse_setting)]
    settings: Vec<(String, String)>,
    /// Say on standard error what is run with which variables
    #[arg(long, short)]
    verbose: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry run --exporter csv --set NIXL_TELEMETRY_CSV_FILE=/tmp/{agent}.csv -- python3 server.py
  nixl-telemetry run --exporter csv,prometheus vllm serve facebook/opt-125m";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    for name in arguments.exporter.iter().flat_map(|names| names.split(',')).map(str::trim) {
        plugins::check_name(name)?;
    }
    let variables = variables(arguments, &preload::library()?, env::var_os(preload::VARIABLE))?;
    let (program, rest) = arguments.command.split_first().context("clap demands a command")?;
    if arguments.verbose {
        let set = variables.iter().map(|(name, value)| format!("{name}={} ", value.display()));
        let words = arguments.command.iter().map(|word| word.display().to_string()).collect::<Vec<_>>();
        // There is nowhere to report a failure of this.
        let _ = writeln!(io::stderr(), "{}{}", set.collect::<String>(), words.join(" "));
    }
    // Returns only if it fails.
    let error = Command::new(program).args(rest).envs(variables).exec();
    terminal::complain(Style::Bad, "error", &format!("cannot run {}: {error}", program.display()));
    exit(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// What the program gets besides this environment; the last of a name counts.
fn variables(
    arguments: &Arguments,
    library: &Path,
    mut preloaded: Option<OsString>,
) -> anyhow::Result<Vec<(String, OsString)>> {
    let mut variables = vec![(settings::ENABLE.name().to_owned(), "y".into())];
    if let Some(exporter) = &arguments.exporter {
        variables.push((settings::EXPORTER.name().to_owned(), exporter.into()));
    }
    for (name, value) in &arguments.settings {
        if name == preload::VARIABLE {
            preloaded = Some(value.into());
        } else {
            variables.push((name.clone(), value.into()));
        }
    }
    variables.push((preload::VARIABLE.to_owned(), preload::list(library, preloaded.as_deref())?));
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_gets() {
        let check = |exporter: Option<&str>, settings: &[(&str, &str)], preloaded: Option<&str>, expected: &[&str]| {
            let arguments = Arguments {
                exporter: exporter.map(str::to_owned),
                settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                verbose: false,
                command: vec!["true".into()],
            };
            let found = variables(&arguments, Path::new("/x/lib.so"), preloaded.map(Into::into)).unwrap();
            let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
            assert_eq!(found, expected);
        };
        let on = "NIXL_TELEMETRY_ENABLE=y";
        check(None, &[], None, &[on, "LD_PRELOAD=/x/lib.so"]);
        check(
            Some("csv,NOP"),
            &[("A", "b=c"), ("LD_PRELOAD", "/z.so")],
            Some("/y.so"),
            &[on, "NIXL_TELEMETRY_EXPORTER=csv,NOP", "A=b=c", "LD_PRELOAD=/x/lib.so:/z.so"],
        );
    }
}
