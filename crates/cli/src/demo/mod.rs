// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry demo`: real transfers, their telemetry through an exporter, and what became of every event.
//!
//! Exporters, and NIXL itself, take their settings from the environment their process was started with. So the command
//! comes in two parts: [`prepare`] makes that environment and starts this program again in its own place; [`session`] is
//! what then runs.

mod csv;
mod local;
mod prepare;
mod progress;
mod real;
mod report;
mod session;

use std::env;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use nixl_telemetry_host::settings::EXPORTER;
use nixl_telemetry_traffic::workload::{Sizes, Workload};

use crate::common::end::Outcome;
use crate::common::{help, human, nixl};

/// Run real transfers and export their telemetry
///
/// Two agents of this process write to and read from each other's memory and files, check every byte that arrives, and
/// make every mistake they know. What they record goes through an exporter plugin, loaded as NIXL loads it, and what the
/// exporter wrote is counted.
///
/// The agents are embedded ones, which need nothing installed, or those of a real NIXL. The latter gets this collector
/// instead of its own, as by `nixl-telemetry run`; nothing of it is installed or changed.
///
/// Telemetry is turned on, and NIXL_TELEMETRY_ON_ERROR is `fail` unless it is set: here, an exporter that cannot be had
/// is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = help::after(EXAMPLES, &[nixl_telemetry_host::settings::SETTINGS, nixl_telemetry_loader::SETTINGS]),
)]
pub(crate) struct Arguments {
    /// Whose agents transfer
    #[arg(long, value_enum, default_value_t = Agent::Local)]
    agent: Agent,
    #[command(flatten)]
    nixl: nixl::Choice,
    /// Exporters by name, separated by commas [default: what NIXL_TELEMETRY_EXPORTER says, or csv]
    #[arg(long, value_name = "NAME[,NAME]", value_parser = NonEmptyStringValueParser::new())]
    exporter: Option<String>,
    /// A directory to look for plugins in first; may be repeated
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// An environment variable for the agents and the exporter, over those of this environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// The file of the exporter csv, short for --set NIXL_TELEMETRY_CSV_FILE=PATH [default: a new temporary file]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// How many transfers
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    transfers: Option<u64>,
    /// How long to transfer, if not all transfers are done before [default: 3, if --transfers is not given]
    #[arg(long, value_name = "SECS", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Bytes of a transfer: SIZE, MIN-MAX, or several SIZEs with commas, taken by turns; K, M and G are 1024-fold
    #[arg(long, value_name = "SIZE", default_value = "4K,64K,1M", value_parser = parse_sizes)]
    size: Sizes,
    /// Threads that transfer at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    threads: usize,
    /// The most transfers per second, 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u32,
    /// Make no mistakes
    #[arg(long)]
    no_errors: bool,
    #[command(flatten)]
    prepared: Prepared,
}

/// What the first part of the command tells the second.
#[derive(Debug, Default, clap::Args)]
struct Prepared {
    /// The environment is made
    #[arg(long, hide = true)]
    prepared: bool,
    /// The folder of the NIXL that was found
    #[arg(long, hide = true, value_name = "DIR")]
    prepared_nixl: Option<PathBuf>,
    /// A file to remove in the end if it is empty then
    #[arg(long, hide = true, value_name = "PATH")]
    discard: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Agent {
    /// Embedded agents, which need nothing installed
    Local,
    /// A real NIXL, 0.10.1 or newer: memory over UCX, files over POSIX, all within this machine
    Nixl,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry demo                                        three seconds, into a temporary file
  nixl-telemetry demo --transfers 1000 --output events.csv
  nixl-telemetry demo --size 1-16M --threads 4 --duration 10
  nixl-telemetry demo --exporter NOP                         how fast it is without exporting
  nixl-telemetry demo --set NIXL_TELEMETRY_BUFFER_SIZE=16    what happens if the buffer is too small
  nixl-telemetry demo --agent nixl --nixl /opt/venv          the same through a real NIXL

Exit codes: 0 every event is accounted for, 1 not so, 130 ended by Ctrl-C (the table is printed all the same).";

/// How long a run is if nothing says so.
const DURATION: Duration = Duration::from_secs(3);
/// Share of transfers to and from files, in percent.
const FILE_PERCENT: u8 = 25;

pub(crate) fn run(arguments: Arguments) -> Outcome {
    if arguments.prepared.prepared { session::run(&arguments) } else { prepare::run(&arguments) }
}

impl Arguments {
    /// The exporters as NIXL_TELEMETRY_EXPORTER has to name them.
    fn exporter(&self) -> String {
        let set = self.settings.iter().rev().find(|(key, _)| key == EXPORTER.name()).map(|(_, value)| value.clone());
        let chosen = set.or_else(|| self.exporter.clone()).or_else(|| env::var(EXPORTER.name()).ok());
        // Set to nothing is not set.
        chosen.filter(|names| !names.trim().is_empty()).unwrap_or_else(|| "csv".to_owned())
    }

    /// The exporters, one by one.
    fn exporters(&self) -> Vec<String> {
        let names = self.exporter();
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    fn writes_csv(&self) -> bool {
        self.exporters().iter().any(|name| name == "csv")
    }

    fn workload(&self) -> Workload {
        Workload {
            transfers: self.transfers.unwrap_or(u64::MAX),
            sizes: self.size.clone(),
            file_percent: FILE_PERCENT,
            threads: self.threads,
            provoke_errors: !self.no_errors,
            max_rate: NonZeroU32::new(self.rate),
            ..Workload::default()
        }
    }

    /// When to stop even if not all transfers are done.
    fn time_limit(&self) -> Option<Duration> {
        self.duration.or_else(|| self.transfers.is_none().then_some(DURATION))
    }
}

/// `KEY=VALUE`, for the option `--set`.
pub(crate) fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(|| "expected seconds above 0, such as 10 or 0.5".to_owned())
}

fn parse_sizes(text: &str) -> Result<Sizes, String> {
    let size = |text: &str| match human::parse_bytes(text)? {
        0 => Err("0: expected at least 1 byte".to_owned()),
        bytes if bytes > 1 << 30 => Err(format!("{text}: expected at most 1G")),
        bytes => Ok(bytes),
    };
    if let Some((min, max)) = text.split_once('-') {
        let (min, max) = (size(min)?, size(max)?);
        return if min <= max {
            Ok(Sizes::Range { min, max })
        } else {
            Err("expected MIN-MAX with MIN <= MAX".to_owned())
        };
    }
    text.split(',').map(size).collect::<Result<_, _>>().map(Sizes::List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_or_several_or_a_range() {
        assert_eq!(parse_sizes("4K"), Ok(Sizes::List(vec![4096])));
        assert_eq!(parse_sizes("1,64K,1M"), Ok(Sizes::List(vec![1, 65_536, 1 << 20])));
        assert_eq!(parse_sizes("1-16M"), Ok(Sizes::Range { min: 1, max: 16 << 20 }));
        for text in ["", "0", "2G", "1,", "5-4", "1-", "-", "x"] {
            assert!(parse_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_have_a_key() {
        assert_eq!(parse_setting("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_setting("A="), Ok(("A".to_owned(), String::new())));
        for text in ["", "A", "=b", "A=\0"] {
            assert!(parse_setting(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_above_nothing() {
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "inf", "NaN", "1s", "", "1e30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
