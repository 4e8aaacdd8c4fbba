// SPDX-License-Identifier: Apache-2.0

use std::ffi::OsStr;

use crate::{Dialect, Malformed, Setting, Value, one_of};

/// What an unusable setting or exporter does: `NIXL_TELEMETRY_ON_ERROR`.
///
/// Shared by the host and by every exporter, which may run in a host that does not know the variable.
pub static ON_ERROR: Setting<OnError> = Setting::new(
    "NIXL_TELEMETRY_ON_ERROR",
    "degrade",
    "What an unusable setting or exporter does: degrade logs it and carries on without, discarding the exporter's \
     events; fail refuses to start, and with it, in NIXL 1.4 and later, the agent.",
);

/// What an unusable setting or exporter does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Log an error and carry on without it: telemetry never takes the process down.
    #[default]
    Degrade,
    /// Refuse, so that whoever asked fails.
    Fail,
}

impl Value for OnError {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "degrade or fail";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[("degrade", Self::Degrade), ("fail", Self::Fail)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn degrade_is_the_default_and_words_are_exact() {
        let on = |value| Settings::from_pairs([("NIXL_TELEMETRY_ON_ERROR", value)]).get(&ON_ERROR);
        assert_eq!(Settings::empty().get(&ON_ERROR).unwrap().value, OnError::Degrade);
        assert_eq!(on("degrade").unwrap().value, OnError::Degrade);
        assert_eq!(on("fail").unwrap().value, OnError::Fail);
        assert_eq!(
            on("panic").unwrap_err().to_string(),
            r#"NIXL_TELEMETRY_ON_ERROR is "panic" (environment): expected one of degrade, fail"#
        );
    }
}
