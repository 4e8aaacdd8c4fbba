// SPDX-License-Identifier: Apache-2.0

//! How a command ends: its exit code, and what is said about it.

use std::io;
use std::process::ExitCode;

use crate::common::terminal::{self, Style};

/// How a command ended that had nothing go wrong on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did what it was asked to.
    Done,
    /// It finished, and what it found is a failure; it has said so.
    Failed,
    /// It was told to stop by this signal.
    Stopped(i32),
}

/// What a command returns.
pub(crate) type Outcome = anyhow::Result<End>;

/// Says on standard error what went wrong, if anything did.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::FAILURE,
        Ok(End::Stopped(signal)) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
        // Whoever read the output has had enough of it.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(Style::Bad, "error", &message(&error));
            ExitCode::FAILURE
        }
    }
}

/// A command was called in a way that `clap` cannot know to be wrong.
pub(crate) fn usage(kind: clap::error::ErrorKind, message: &str) -> ! {
    use clap::CommandFactory as _;
    crate::Arguments::command().error(kind, message).exit()
}

/// The whole chain of causes in one line; those that the message before already ends with are left out.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.ends_with(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<terminal::Unprintable>().is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        let check = |error: anyhow::Error, expected: &str| assert_eq!(message(&error), expected);
        check(anyhow::anyhow!("no such thing"), "no such thing");
        let lost: anyhow::Result<()> = Err(anyhow::anyhow!("disk full"));
        check(lost.context("cannot write x").unwrap_err(), "cannot write x: disk full");
        let said: anyhow::Result<()> = Err(anyhow::anyhow!("disk full"));
        check(said.context("cannot write x: disk full").unwrap_err(), "cannot write x: disk full");
    }

    #[test]
    fn only_a_closed_pipe_of_ours_is_no_failure() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&terminal::Unprintable(broken()).into()));
        assert!(!is_closed_pipe(&terminal::Unprintable(io::Error::other("full")).into()));
        assert!(!is_closed_pipe(&broken().into()));
    }
}
