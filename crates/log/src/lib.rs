// SPDX-License-Identifier: Apache-2.0

//! Log lines as NIXL writes them, rate-limited, for code that runs inside an inference process.
//!
//! NIXL logs through abseil, in C++; this crate does not reach into it but writes the same line to the same place, so
//! that both read as one log and obey one switch, `NIXL_LOG_LEVEL`:
//!
//! ```text
//! W1123 10:36:19.824418    7911 csv.rs:42] NIXL_TELEMETRY_CSV_FILE …
//! ```
//!
//! Letter of the level (DEBUG and TRACE print as `I`, as NIXL's do), month and day, local time, kernel thread id, file
//! and line. A line is one `write` to standard error, so lines of several threads do not mix; and no lock of ours or of Rust's
//! library is taken, which in a forked child nobody might be there to give back.
//!
//! Every call site has a budget: [`BURST`] lines in [`WINDOW`]; what exceeds it is counted, and the next line that
//! passes tells how many were left out. An exporter whose sink is down for hours costs a few lines a minute. What many
//! objects say at one call site can have a budget for each, by [`log_on!`].
//!
//! ```
//! use nixl_telemetry_log::{info, warn};
//!
//! let path = "/var/log/nixl.csv";
//! info!("opened {path}");
//! warn!("{path}: no space left, events are dropped");
//! ```

#![deny(unsafe_code)]

mod level;
mod limit;
mod line;

use std::any::Any;
use std::fmt::Arguments;
use std::time::SystemTime;

pub use level::{Level, enabled, max_level};
pub use limit::{BURST, Site, WINDOW};

/// Writes one line if the site's budget allows; the macros call it after checking the level.
#[doc(hidden)]
pub fn write(site: &Site, level: Level, file: &str, line_number: u32, message: Arguments<'_>) {
    let Some(left_out) = site.admit(line::since_boot()) else { return };
    let text = line::format(level, SystemTime::now(), line::thread_id(), file, line_number, message, left_out);
    line::write(&text);
}

/// What a panic said, for a line that tells of it.
///
/// The payload is forgotten rather than dropped: dropping it may panic again.
pub fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    };
    std::mem::forget(payload);
    text
}

/// Logs at a [`Level`] given as its variant: `log!(Warn, "…")`. The arguments are evaluated only if the level is on.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        {
            static SITE: $crate::Site = $crate::Site::new();
            $crate::log_on!(&SITE, $level, $($message)+);
        }
    };
}

/// Logs as [`log!`] does, within the budget of this [`Site`] instead of the call's: `log_on!(&self.site, Warn, "…")`.
///
/// For what each of several objects has to say, so that none silences another; and, with a new site for each line, for what
/// an object says once and nobody must miss.
///
/// ```
/// use nixl_telemetry_log::{Site, log_on};
///
/// for exporter in ["csv", "jsonl", "prometheus", "otlp", "parquet", "nats", "sqlite"] {
///     log_on!(&Site::new(), Info, "{exporter} has ended");
/// }
/// ```
#[macro_export]
macro_rules! log_on {
    ($site:expr, $level:ident, $($message:tt)+) => {
        if $crate::enabled($crate::Level::$level) {
            $crate::write($site, $crate::Level::$level, file!(), line!(), format_args!($($message)+));
        }
    };
}

/// Logs what went wrong and needs somebody's attention.
#[macro_export]
macro_rules! error { ($($message:tt)+) => { $crate::log!(Error, $($message)+) }; }

/// Logs what is not as it should be; shown by default.
#[macro_export]
macro_rules! warn { ($($message:tt)+) => { $crate::log!(Warn, $($message)+) }; }

/// Logs what happened; hidden by default.
#[macro_export]
macro_rules! info { ($($message:tt)+) => { $crate::log!(Info, $($message)+) }; }

/// Logs what a developer wants to see; hidden by default.
#[macro_export]
macro_rules! debug { ($($message:tt)+) => { $crate::log!(Debug, $($message)+) }; }

/// Logs every step; hidden by default.
#[macro_export]
macro_rules! trace { ($($message:tt)+) => { $crate::log!(Trace, $($message)+) }; }

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use super::*;

    #[test]
    fn a_panic_says_what_it_was_given() {
        struct Grenade;

        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }

        let text = |body: fn()| panic_text(catch_unwind(body).unwrap_err());
        assert_eq!(text(|| panic!("as it is")), "as it is");
        assert_eq!(text(|| panic!("formatted {}", 7)), "formatted 7");
        assert_eq!(text(|| panic_any(Grenade)), "no message");
    }
}
