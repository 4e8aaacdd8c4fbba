// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry collect-status`: how a running `collect` is.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::collect::socket;
use crate::collect::status::Status;
use crate::common::end::{End, Outcome};
use crate::common::terminal::{Stream, print};

/// Ask a running collect how it is
///
/// Connects to the socket of `collect --status PATH`, and prints what it says: whether it is healthy, what is wrong if it is
/// not, and what became of the events of each agent at each exporter. Healthy is whose exporters could all be made and took
/// their last batch, whose rings and directories can be read, and whose plugins come back.
///
/// The socket is for the user that collect runs as. As a probe of Kubernetes, or a check of systemd, only the exit code
/// matters.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The socket
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Print the JSON object it answers with
    #[arg(long)]
    json: bool,
    /// Print nothing
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry collect-status /run/nixl-telemetry-collect/status
  nixl-telemetry collect-status --json /run/nixl-telemetry-collect/status

Exit codes: 0 it is healthy; 1 it is not, or nobody answers.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let answer = socket::ask(&arguments.path)?;
    let status: Status = serde_json::from_str(&answer)
        .with_context(|| format!("{} does not answer as collect does", arguments.path.display()))?;
    if arguments.json {
        print(&(answer.trim_end().to_owned() + "\n"))?;
    } else if !arguments.quiet {
        print(&status.text(Stream::Out))?;
    }
    Ok(if status.healthy { End::Done } else { End::Failed })
}
