// SPDX-License-Identifier: Apache-2.0

//! The settings of the collector, each described once.
//!
//! Those up to [`ENABLED_METRICS`] are NIXL's, with the meaning of NIXL 1.5; the others are
//! this project's. Where exporters are looked for is a setting of the loader.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_settings::{Describe, Dialect, FileMode, Malformed, Millis, Setting, Value, one_of};
// With `degrade` an unusable setting keeps its default and an exporter's events are dropped and counted; with `fail` the
// collector is not created, as in NIXL.
pub use nixl_telemetry_settings::{ON_ERROR, OnError};

/// Whether telemetry is on. Unset: only if the program asks for it.
pub static ENABLE: Setting<bool> = Setting::optional(
    "NIXL_TELEMETRY_ENABLE",
    "Turns telemetry on or off; if unset, it is on only where the program asks for it.",
);

/// How many events make a batch, and, where somebody sets it, how many of one thread wait between two flushes.
///
/// In NIXL it bounds what all threads together may have waiting, and its default of 4096 loses most events at full
/// speed. Here the default bounds batches alone, so that nothing is lost that the budget has room for.
pub static BUFFER_SIZE: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_BUFFER_SIZE",
    "4096",
    "Events handed to exporters at once, at most, and never more than 4096. If set, also the events of one thread that may \
     wait for a flush, beyond which they are dropped and counted; if unset, only NIXL_TELEMETRY_MEMORY_BUDGET bounds them. \
     Also the slots of a ring file of BUFFER, a power of two.",
)
.unit("events")
.check("a decimal or 0x-hex number from 1 to 18446744073709551615", |size| *size > 0);

/// How long an event waits at most until it is exported.
pub static RUN_INTERVAL: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_RUN_INTERVAL",
    "100",
    "Time from the first event after a flush to the next flush; 0 flushes at once. A buffer half full does not wait.",
);

/// Which exporters get the events.
pub static EXPORTER: Setting<String> = Setting::optional(
    "NIXL_TELEMETRY_EXPORTER",
    "Exporters by name, separated by commas; NOP discards. If unset or empty: BUFFER where NIXL_TELEMETRY_DIR is set, else NOP.",
);

/// Where NIXL's ring files lie.
pub static DIR: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_DIR",
    "Directory of the ring files of BUFFER; being set, it chooses BUFFER where no exporter is named.",
);

/// What gives way where a ring file is full.
pub static BUFFER_KEEP: Setting<BufferKeep> = Setting::new(
    "NIXL_TELEMETRY_BUFFER_KEEP",
    "oldest",
    "What a full ring file of BUFFER keeps: oldest, with which new events are refused and counted until somebody takes \
     some out, as with NIXL; or newest, for readers that only look.",
);

/// Who may read a ring file.
pub static BUFFER_MODE: Setting<FileMode> = Setting::new(
    "NIXL_TELEMETRY_BUFFER_MODE",
    "600",
    "Permissions of the ring files of BUFFER, in octal; NIXL's own are 644.",
);

/// The values of [`BUFFER_KEEP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKeep {
    /// What happened first.
    Oldest,
    /// What happened last.
    Newest,
}

impl Value for BufferKeep {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "oldest or newest";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[("oldest", Self::Oldest), ("newest", Self::Newest)])
    }
}

/// Which events are recorded at all.
pub static ENABLED_METRICS: Setting<String> = Setting::new(
    "NIXL_TELEMETRY_ENABLED_METRICS",
    "",
    "Names or fnmatch patterns of the events to record, separated by commas, such as agent_tx_*; empty records all.",
);

/// How long the end may take.
pub static SHUTDOWN_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_SHUTDOWN_TIMEOUT",
    "2000",
    "Time the last flush may take before what is left is dropped and counted.",
);

/// The memory for events that wait.
pub static MEMORY_BUDGET: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_MEMORY_BUDGET",
    "67108864",
    "Memory that events waiting for a flush may take in one process; what finds no room is dropped and counted.",
)
.unit("bytes")
.check("a decimal or 0x-hex number from 65536 to 18446744073709551615", |bytes| *bytes >= 65536);

/// What becomes of an event for which there is no room.
pub static OVERFLOW: Setting<Overflow> = Setting::new(
    "NIXL_TELEMETRY_OVERFLOW",
    "drop_newest",
    "What gives way where events find no room: drop_newest, drop_oldest, or block:MS, with which the recording thread waits \
     up to MS milliseconds and then drops the newest. Totals of what is dropped stay exact.",
);

/// Where rings live that survive their process.
pub static JOURNAL_DIR: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_JOURNAL_DIR",
    "Directory of this user alone for journals, files in which waiting events outlive a process that dies; \
     `nixl-telemetry recover` exports them. If unset, they are lost with it.",
);

/// When an event is said to have been recorded.
pub static TIMESTAMPS: Setting<Timestamps> = Setting::new(
    "NIXL_TELEMETRY_TIMESTAMPS",
    "coarse",
    "Time of an event: precise reads the clock for each; coarse is up to about 1 ms old and free; batch is the time of \
     its flush.",
);

/// The values of [`TIMESTAMPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// The clock is read for each record.
    Precise,
    /// A time up to about a millisecond old, kept by a thread while many events are recorded.
    Coarse,
    /// The time at which its batch was taken.
    Batch,
}

impl Value for Timestamps {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "precise, coarse or batch";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[("precise", Self::Precise), ("coarse", Self::Coarse), ("batch", Self::Batch)])
    }
}

/// The values of [`OVERFLOW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The event that finds no room is dropped.
    DropNewest,
    /// The oldest of the same thread are dropped to make room.
    DropOldest,
    /// The recording thread waits this long for room; then the event is dropped.
    Block(Duration),
}

impl Value for Overflow {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "drop_newest, drop_oldest or block:MS with a decimal number of milliseconds";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        let Some(ms) = text.to_str().and_then(|text| text.strip_prefix("block:")) else {
            return one_of(text, &[("drop_newest", Self::DropNewest), ("drop_oldest", Self::DropOldest)])
                .map_err(|_| Malformed::of::<Self>());
        };
        let ms = Millis::from_env(OsStr::new(ms), dialect).map_err(|_| Malformed::of::<Self>())?;
        Ok(Self::Block(ms.duration()))
    }
}

/// All of them, for `--help`, documentation and checks.
pub static SETTINGS: &[&dyn Describe] = &[
    &ENABLE,
    &BUFFER_SIZE,
    &RUN_INTERVAL,
    &EXPORTER,
    &DIR,
    &BUFFER_KEEP,
    &BUFFER_MODE,
    &ENABLED_METRICS,
    &ON_ERROR,
    &SHUTDOWN_TIMEOUT,
    &MEMORY_BUDGET,
    &OVERFLOW,
    &TIMESTAMPS,
    &JOURNAL_DIR,
];

#[cfg(test)]
mod tests {
    use nixl_telemetry_settings::Settings;

    use super::*;

    #[test]
    fn the_documentation_has_the_settings_as_they_are() {
        let table = nixl_telemetry_settings::markdown_table(SETTINGS);
        let text = include_str!("../../../docs/collector.md");
        assert!(text.contains(&table), "docs/collector.md lacks this table:\n{table}");
    }

    #[test]
    fn every_default_is_sound() {
        for setting in SETTINGS {
            let found = setting.inspect(&Settings::empty());
            assert!(found.is_ok(), "{found:?}");
        }
    }

    #[test]
    fn the_defaults_are_nixls() {
        let settings = Settings::empty();
        assert_eq!(settings.find(&ENABLE).unwrap(), None);
        assert_eq!(settings.get(&BUFFER_SIZE).unwrap().value, 4096);
        assert_eq!(settings.get(&RUN_INTERVAL).unwrap().value, Millis(100));
        assert_eq!(settings.get(&ON_ERROR).unwrap().value, OnError::Degrade);
        assert_eq!(settings.get(&SHUTDOWN_TIMEOUT).unwrap().value, Millis(2000));
        assert_eq!(settings.get(&MEMORY_BUDGET).unwrap().value, 64 << 20);
        assert_eq!(settings.get(&TIMESTAMPS).unwrap().value, Timestamps::Coarse);
        assert_eq!(settings.get(&OVERFLOW).unwrap().value, Overflow::DropNewest);
        assert_eq!(settings.find(&JOURNAL_DIR).unwrap(), None);
    }

    #[test]
    fn what_gives_way() {
        for (text, expected) in [
            ("drop_newest", Overflow::DropNewest),
            ("drop_oldest", Overflow::DropOldest),
            ("block:0", Overflow::Block(Duration::ZERO)),
            ("block:1500", Overflow::Block(Duration::from_millis(1500))),
        ] {
            let settings = Settings::from_pairs([("NIXL_TELEMETRY_OVERFLOW", text)]);
            assert_eq!(settings.get(&OVERFLOW).unwrap().value, expected);
        }
    }

    #[test]
    fn what_is_malformed_is_named_with_what_was_expected() {
        let message = |name, value| {
            let settings = Settings::from_pairs([(name, value)]);
            let mut errors = SETTINGS.iter().filter_map(|setting| setting.inspect(&settings).err());
            errors.next().map(|error| error.to_string())
        };
        let table = [
            (
                "NIXL_TELEMETRY_BUFFER_SIZE",
                "0",
                r#"NIXL_TELEMETRY_BUFFER_SIZE is "0" (environment): expected a decimal or 0x-hex number from 1 to 18446744073709551615"#,
            ),
            (
                "NIXL_TELEMETRY_ON_ERROR",
                "panic",
                r#"NIXL_TELEMETRY_ON_ERROR is "panic" (environment): expected one of degrade, fail"#,
            ),
            (
                "NIXL_TELEMETRY_MEMORY_BUDGET",
                "1",
                r#"NIXL_TELEMETRY_MEMORY_BUDGET is "1" (environment): expected a decimal or 0x-hex number from 65536 to 18446744073709551615"#,
            ),
            (
                "NIXL_TELEMETRY_OVERFLOW",
                "block:1s",
                r#"NIXL_TELEMETRY_OVERFLOW is "block:1s" (environment): expected drop_newest, drop_oldest or block:MS with a decimal number of milliseconds"#,
            ),
            (
                "NIXL_TELEMETRY_OVERFLOW",
                "drop",
                r#"NIXL_TELEMETRY_OVERFLOW is "drop" (environment): expected drop_newest, drop_oldest or block:MS with a decimal number of milliseconds"#,
            ),
            (
                "NIXL_TELEMETRY_TIMESTAMPS",
                "fine",
                r#"NIXL_TELEMETRY_TIMESTAMPS is "fine" (environment): expected one of precise, coarse, batch"#,
            ),
            (
                "NIXL_TELEMETRY_SHUTDOWN_TIMEOUT",
                "2s",
                r#"NIXL_TELEMETRY_SHUTDOWN_TIMEOUT is "2s" (environment): expected milliseconds as a decimal or 0x-hex number from 0 to 18446744073709551615"#,
            ),
            (
                "NIXL_TELEMETRY_ENABLE",
                "maybe",
                r#"NIXL_TELEMETRY_ENABLE is "maybe" (environment): expected y, yes, on, 1, true, enable or n, no, off, 0, false, disable"#,
            ),
        ];
        for (name, value, expected) in table {
            assert_eq!(message(name, value).as_deref(), Some(expected));
        }
        assert_eq!(message("NIXL_TELEMETRY_BUFFER_SIZE", "0x10"), None);
    }
}
