// SPDX-License-Identifier: Apache-2.0

//! What can be wrong with a setting, or with the file that holds it.

use std::io;
use std::path::PathBuf;

use crate::setting::Description;
use crate::settings::{Origin, Shown};

/// Why a setting has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting without a default has no value.
    #[error("{name} is not set: expected {expected}")]
    Missing {
        /// The name of the setting.
        name: String,
        /// What the environment may hold.
        expected: String,
    },
    /// A value does not fit.
    #[error("{name} is {value} ({origin}): expected {expected}")]
    Malformed {
        /// The name of the setting.
        name: String,
        /// The value as it was written.
        value: Shown,
        /// Where it was written.
        origin: Origin,
        /// What could have been there.
        expected: String,
    },
    /// The TOML file cannot be read. Tried again at the next access.
    #[error("cannot read the settings file {}{}: {cause}", .path.display(), if *.named { " (named by NIXL_CONFIG_FILE)" } else { "" })]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Whether `NIXL_CONFIG_FILE` names it, rather than it lying where NIXL looks by itself.
        named: bool,
        /// What the system said. Part of the message, so that one line of a log tells all, and therefore no source.
        cause: io::Error,
    },
    /// The TOML file is not TOML. Tried again at the next access.
    #[error("settings file {}, line {line}: {message}", .path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, without a quote of the file.
        message: String,
    },
}

impl Error {
    pub(crate) fn missing(description: &Description) -> Self {
        Self::Missing { name: description.name.to_owned(), expected: description.expected.to_owned() }
    }
}

/// A malformed value that was replaced as NIXL of that age does; its `Display` is one line for a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value} ({origin}): expected {expected}; taken as {taken}")]
#[non_exhaustive]
pub struct Warning {
    /// The name of the setting.
    pub name: String,
    /// The value as it was written.
    pub value: Shown,
    /// Where it was written.
    pub origin: Origin,
    /// What could have been there.
    pub expected: String,
    /// What was taken instead.
    pub taken: &'static str,
}
