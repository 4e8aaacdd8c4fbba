// SPDX-License-Identifier: Apache-2.0

use std::io;

/// Why a collector was not created, or why it goes without one of its exporters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The agent has no name; exporters tell agents apart by it.
    #[error("the agent name is empty: expected at least one character")]
    InvalidAgentName,
    /// A setting is malformed, or the file that holds it.
    #[error(transparent)]
    Setting(#[from] nixl_telemetry_settings::Error),
    /// An exporter cannot be had.
    #[error("{setting} {wish}: {cause}")]
    Exporter {
        /// The name of the exporter.
        name: String,
        /// The setting that asks for it.
        setting: &'static str,
        /// How it asks, with where it was written.
        wish: String,
        /// What is wrong. Part of the message, so that one line of a log tells all, and therefore no source.
        cause: String,
    },
    /// There is no journal.
    #[error("{setting} {what}: {cause}")]
    Journal {
        /// The setting that asks for it.
        setting: &'static str,
        /// How it asks, with where it was written.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// There is no memory for a ring.
    #[error("there is no memory for events")]
    Memory,
    /// The system gave no thread.
    #[error("cannot start the flush thread: {0}")]
    Thread(io::Error),
}
