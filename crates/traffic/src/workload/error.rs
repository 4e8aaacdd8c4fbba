// SPDX-License-Identifier: Apache-2.0

use std::path::PathBuf;

use nixl_telemetry_event::Status;

/// Why a workload could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The workload contradicts itself.
    #[error("{field} is {value}, expected {expected}")]
    Invalid {
        /// The field of [`Workload`](super::Workload).
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// An embedded agent refused, or a transfer of it failed.
    #[error("embedded agent: {0}")]
    Local(#[from] crate::local::Error),
    /// NIXL refused, or a transfer of it failed.
    #[error("NIXL: {0}")]
    Nixl(#[from] nixl_telemetry_nixl::Error),
    /// A file of the workload cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `create`, `open`, `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A provoked mistake was not answered as it should be.
    #[error("the mistake {mistake:?} was answered with {answer}, expected {expected}")]
    Mistake {
        /// What was done.
        mistake: &'static str,
        /// What the agent said.
        answer: String,
        /// What it had to say.
        expected: Status,
    },
}
