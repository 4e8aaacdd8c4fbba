// SPDX-License-Identifier: Apache-2.0

use std::sync::OnceLock;

/// How much a line matters, in NIXL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing below the end of the process is logged.
    Fatal,
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something happened.
    Info,
    /// For developers.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    /// The level with this name in any case, as `NIXL_LOG_LEVEL` spells it, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, Level); 6] = [
            ("FATAL", Level::Fatal),
            ("ERROR", Level::Error),
            ("WARN", Level::Warn),
            ("INFO", Level::Info),
            ("DEBUG", Level::Debug),
            ("TRACE", Level::Trace),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, level)| level)
    }

    /// The first letter of a line. NIXL writes DEBUG and TRACE as `I` too.
    pub(crate) const fn letter(self) -> char {
        match self {
            Self::Fatal => 'F',
            Self::Error => 'E',
            Self::Warn => 'W',
            Self::Info | Self::Debug | Self::Trace => 'I',
        }
    }
}

/// The least important level that is logged: `NIXL_LOG_LEVEL` when first asked, WARN if it is unset or names no level.
///
/// NIXL itself complains about a name it does not know, so this crate does not.
pub fn max_level() -> Level {
    static MAX: OnceLock<Level> = OnceLock::new();
    *MAX.get_or_init(|| {
        std::env::var("NIXL_LOG_LEVEL").ok().as_deref().and_then(Level::from_name).unwrap_or(Level::Warn)
    })
}

/// Whether lines of this level are logged.
pub fn enabled(level: Level) -> bool {
    level <= max_level()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_nixls_in_any_case() {
        let table = [
            ("TRACE", Some(Level::Trace)),
            ("debug", Some(Level::Debug)),
            ("Info", Some(Level::Info)),
            ("WARN", Some(Level::Warn)),
            ("WARNING", None),
            ("error", Some(Level::Error)),
            ("FATAL", Some(Level::Fatal)),
            ("", None),
            ("off", None),
        ];
        for (name, level) in table {
            assert_eq!(Level::from_name(name), level, "{name:?}");
        }
    }

    #[test]
    fn levels_order_by_importance() {
        assert!(Level::Error < Level::Warn && Level::Warn < Level::Info);
        assert_eq!([Level::Fatal, Level::Error, Level::Warn, Level::Trace].map(Level::letter), ['F', 'E', 'W', 'I']);
    }
}
