// SPDX-License-Identifier: Apache-2.0

//! What may be set.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use nixl_telemetry_sdk::{
    Agent, Describe, Dialect, Error, FileMode, Malformed, Millis, PathTemplate, Setting, Settings, Value, absolute,
    one_of,
};

pub(crate) static FILE: Setting<PathTemplate> = Setting::required(
    "NIXL_TELEMETRY_SQLITE_FILE",
    "Database the events go into; {agent}, {hostname} and {pid} are replaced, other bytes than letters, digits, -, _ and . \
     in them written as %XX.",
);
pub(crate) static MODE: Setting<FileMode> =
    Setting::new("NIXL_TELEMETRY_SQLITE_MODE", "600", "Permissions of a database that is created, in octal.")
        .check("permissions in octal digits with which the owner may read and write, from 600 to 777", |mode| {
            mode.0 & 0o600 == 0o600
        });
pub(crate) static SYNCHRONOUS: Setting<Synchronous> = Setting::new(
    "NIXL_TELEMETRY_SQLITE_SYNCHRONOUS",
    "normal",
    "When SQLite waits for the disk: off, never, normal, when the log is moved into the database, or full, at each \
     transaction.",
);
pub(crate) static BUSY_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_SQLITE_BUSY_TIMEOUT",
    "1000",
    "Time to wait for others who write; then the delivery is tried again.",
)
.check("milliseconds as a number from 0 to 60000", |timeout| timeout.0 <= 60_000);
pub(crate) static MAX_AGE: Setting<Millis> =
    Setting::new("NIXL_TELEMETRY_SQLITE_MAX_AGE", "0", "Age at which events are deleted; 0 keeps them.");
pub(crate) static MAX_SIZE: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_SQLITE_MAX_SIZE",
    "0",
    "Size of the database at which the oldest events are deleted; 0 has no limit.",
)
.unit("bytes")
.check("0 or a number from 8388608", |size| *size == 0 || *size >= 8 << 20);

pub(crate) const ALL: &[&dyn Describe] = &[&FILE, &MODE, &SYNCHRONOUS, &BUSY_TIMEOUT, &MAX_AGE, &MAX_SIZE];

/// What was set.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Absolute: the process may change its directory.
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) limits: Limits,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) age: Option<Duration>,
    /// In bytes.
    pub(crate) size: Option<u64>,
}

/// When SQLite waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synchronous {
    Off,
    Normal,
    Full,
}

impl Options {
    /// What the settings say for this agent.
    ///
    /// # Errors
    /// If one of them has no value or none that is allowed.
    pub(crate) fn of(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let path = absolute(FILE.name(), &settings.get(&FILE)?.value.resolve(agent))?;
        let (age, size) = (settings.get(&MAX_AGE)?.value.duration(), settings.get(&MAX_SIZE)?.value);
        Ok(Self {
            path,
            mode: settings.get(&MODE)?.value.0,
            synchronous: settings.get(&SYNCHRONOUS)?.value,
            busy_timeout: settings.get(&BUSY_TIMEOUT)?.value.duration(),
            limits: Limits { age: (!age.is_zero()).then_some(age), size: (size > 0).then_some(size) },
        })
    }
}

impl Synchronous {
    /// The word for it, which is SQLite's.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

impl Value for Synchronous {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "off, normal or full";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[Self::Off, Self::Normal, Self::Full].map(|choice| (choice.word(), choice)))
    }
}
