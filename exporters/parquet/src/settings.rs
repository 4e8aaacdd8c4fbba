// SPDX-License-Identifier: Apache-2.0

//! What can be set, the queue's own settings aside.

use std::ffi::OsStr;
use std::path::PathBuf;

use nixl_telemetry_sdk::{Describe, Dialect, FileMode, Malformed, Setting, Value, one_of};

pub(crate) static DIR: Setting<PathBuf> = Setting::required(
    "NIXL_TELEMETRY_PARQUET_DIR",
    "Directory of the files, which must exist; a file is named after its first event's time and its agent, other bytes than \
     letters, digits, -, _ and . in it written as %XX.",
);
pub(crate) static PARTITION: Setting<Partition> = Setting::new(
    "NIXL_TELEMETRY_PARQUET_PARTITION",
    "none",
    "Folders the files are kept apart in: none; date, date=2026-11-26 by the UTC day of the events; agent, agent=decode-1; \
     or date,agent, the latter within the former.",
);
pub(crate) static COMPRESSION: Setting<Compression> = Setting::new(
    "NIXL_TELEMETRY_PARQUET_COMPRESSION",
    "zstd",
    "How columns are compressed: zstd, the same as zstd:1, zstd:LEVEL up to 22, or none.",
);
pub(crate) static ROW_GROUP_SIZE: Setting<u32> = Setting::new(
    "NIXL_TELEMETRY_PARQUET_ROW_GROUP_SIZE",
    "122880",
    "Rows of a row group, which readers take at once and skip as a whole.",
)
.unit("rows")
.check("a number from 1 to 16777216", |rows| (1..=1 << 24).contains(rows));
pub(crate) static MODE: Setting<FileMode> = Setting::new(
    "NIXL_TELEMETRY_PARQUET_MODE",
    "600",
    "Permissions of the files, in octal; who may read them may also enter the folders that are made for them.",
)
.check("permissions in octal digits with which the owner may read and write, from 600 to 777", |mode| {
    mode.0 & 0o600 == 0o600
});

pub(crate) static ALL: &[&dyn Describe] = &[&DIR, &PARTITION, &COMPRESSION, &ROW_GROUP_SIZE, &MODE];

/// What files are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) by_date: bool,
    pub(crate) by_agent: bool,
}

/// How columns are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zstd { level: i32 },
}

impl Value for Partition {
    const TYPE: &'static str = "words";
    const EXPECTED: &'static str = "none, date, agent or date,agent";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let words =
            [("none", (false, false)), ("date", (true, false)), ("agent", (false, true)), ("date,agent", (true, true))];
        let (by_date, by_agent) = one_of(text, &words).map_err(|_| Malformed::of::<Self>())?;
        Ok(Self { by_date, by_agent })
    }
}

impl Value for Compression {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "none, zstd, or zstd:LEVEL with a level from 1 to 22";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        match (text, text.strip_prefix("zstd:")) {
            ("none", _) => Ok(Self::None),
            ("zstd", _) => Ok(Self::Zstd { level: 1 }),
            (_, Some(level)) => {
                let level = level.parse().ok().filter(|level| (1..=22).contains(level));
                level.map(|level| Self::Zstd { level }).ok_or_else(Malformed::of::<Self>)
            }
            _ => Err(Malformed::of::<Self>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_they_say() {
        let parse = |text: &str| Compression::from_env(OsStr::new(text), Dialect::Current).ok();
        assert_eq!(parse("none"), Some(Compression::None));
        assert_eq!(parse("zstd"), Some(Compression::Zstd { level: 1 }));
        assert_eq!(parse("zstd:22"), Some(Compression::Zstd { level: 22 }));
        for wrong in ["zstd:", "zstd:0", "zstd:23", "snappy", ""] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let parse = |text: &str| Partition::from_env(OsStr::new(text), Dialect::Current).ok();
        assert_eq!(parse("date,agent"), Some(Partition { by_date: true, by_agent: true }));
        assert_eq!(parse("agent"), Some(Partition { by_date: false, by_agent: true }));
        assert_eq!(parse("agent,date"), None);
    }
}
