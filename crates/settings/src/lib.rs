// SPDX-License-Identifier: Apache-2.0

//! Typed settings from the process environment and NIXL's TOML file.
//!
//! A setting is described once, as a `static`: its name, type, unit, default and one sentence. Everything else derives
//! from that: reading it, `--help`, the table in the documentation, and the check that a given environment is sound.
//!
//! ```
//! use nixl_telemetry_settings::{Describe, Millis, Origin, Setting, Settings};
//! use std::path::PathBuf;
//!
//! static FILE: Setting<PathBuf> = Setting::required("NIXL_TELEMETRY_CSV_FILE", "File the rows are appended to.");
//! static EVERY: Setting<Millis> = Setting::new("NIXL_TELEMETRY_CSV_EVERY", "500", "Time between two writes.");
//! static TAG: Setting<String> = Setting::optional("NIXL_TELEMETRY_CSV_TAG", "Text put before each row.");
//!
//! // An exporter would say `Settings::process()`.
//! let settings = Settings::from_pairs([("NIXL_TELEMETRY_CSV_FILE", "/tmp/rows.csv")])
//!     .with_toml("NIXL_TELEMETRY_CSV_EVERY = 00:00:01");
//!
//! assert_eq!(settings.get(&FILE)?.value, PathBuf::from("/tmp/rows.csv"));
//! assert_eq!(settings.get(&EVERY)?.value, Millis(1000));
//! assert_eq!(settings.get(&FILE)?.origin, Origin::Environment);
//! assert!(settings.find(&TAG)?.is_none());
//!
//! static ALL: &[&dyn Describe] = &[&FILE, &EVERY, &TAG];
//! println!("{}", nixl_telemetry_settings::markdown_table(ALL));
//! # Ok::<(), nixl_telemetry_settings::Error>(())
//! ```
//!
//! # Where a value comes from
//!
//! The first of these that holds the name decides, whether or not its value is well formed:
//!
//! 1. an override ([`Settings::with_override`]);
//! 2. the environment, where an empty string is a value like any other;
//! 3. NIXL's TOML file: the file named by `NIXL_CONFIG_FILE` if that is set (it must be readable), else
//!    `$HOME/.nixl.cfg` if it exists, else `/etc/nixl.cfg` if it exists. The name is a path of keys, so that `a.b` is
//!    key `b` of table `a`. Types are strict: a bool is a TOML boolean, a number a TOML integer;
//! 4. the default of the setting.
//!
//! A malformed value is an [`Error`] that names the setting, the value, where it came from and what was expected. It
//! is never replaced by a default, as in NIXL 1.0 and later. [`Dialect::Legacy`] has the rules of NIXL 0.9 and 0.10.
//!
//! # Where it differs from NIXL
//!
//! - A negative number of milliseconds in the file is malformed; NIXL 1.5.1 accepts it.
//! - Of TOML 1.1, which NIXL 1.5.1 refuses, line breaks and trailing commas in inline tables and the escapes `\e` and
//!   `\x` are accepted.
//! - A name is split at each dot and at nothing else: brackets do not index an array.
//!
//! # What this crate does not do
//!
//! It contains no unsafe code, never changes the environment, writes no file and prints nothing.

#![forbid(unsafe_code)]

mod common;
mod document;
mod error;
mod file;
mod help;
pub mod rules;
mod setting;
mod settings;
mod value;

pub use common::{ON_ERROR, OnError};
pub use document::TomlValue;
pub use error::{Error, Warning};
pub use help::{help_text, markdown_table};
pub use rules::Dialect;
pub use setting::{Describe, Description, Setting};
pub use settings::{Found, Origin, Settings, Shown};
pub use value::{FileMode, Malformed, Millis, Value, one_of};
