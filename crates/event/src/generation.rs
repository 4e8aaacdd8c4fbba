// SPDX-License-Identifier: Apache-2.0

use core::{fmt, str::FromStr};

use crate::Layout;

/// A binary generation of NIXL: the releases among which an exporter plugin sees no difference.
///
/// Named after the first release (PyPI wheel) of each. Git tags of the same number may differ from the wheels, so a
/// generation is recognised by symbols and never by a version string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0.9.0 to 1.0.1: events with timestamp, category and name.
    V0_9,
    /// 1.1.0: the timestamp is gone.
    V1_1,
    /// 1.2.0: the name became a number.
    V1_2,
    /// 1.3.0 to 1.3.2: the category is gone.
    V1_3,
    /// 1.4.0 and 1.4.1: dropped events are counted.
    V1_4,
    /// 1.5.0 and 1.5.1: batches are announced.
    V1_5,
}

impl Generation {
    /// Every generation, oldest first.
    pub const ALL: [Self; 6] = [Self::V0_9, Self::V1_1, Self::V1_2, Self::V1_3, Self::V1_4, Self::V1_5];

    /// The layout of its events.
    pub const fn layout(self) -> Layout {
        match self {
            Self::V0_9 => Layout::L56,
            Self::V1_1 => Layout::L48,
            Self::V1_2 => Layout::L16c,
            Self::V1_3 | Self::V1_4 | Self::V1_5 => Layout::L16,
        }
    }

    /// The plugin API version its host demands, exactly.
    pub const fn plugin_api(self) -> u32 {
        match self {
            Self::V0_9 => 1,
            _ => 2,
        }
    }

    /// The version number in its ring files. 2 is ambiguous: 1.1 and 1.2 differ in stride.
    pub const fn ring_version(self) -> i32 {
        match self {
            Self::V0_9 => 1,
            Self::V1_1 | Self::V1_2 => 2,
            Self::V1_3 => 3,
            Self::V1_4 | Self::V1_5 => 4,
        }
    }

    /// Whether its host calls `onBatchBegin` and `onBatchEnd` around a flush.
    pub const fn has_batch_hooks(self) -> bool {
        matches!(self, Self::V1_5)
    }

    /// Whether its host reports `agent_telemetry_events_dropped`.
    pub const fn counts_drops(self) -> bool {
        matches!(self, Self::V1_4 | Self::V1_5)
    }

    /// The first release, as `NIXL_TELEMETRY_HOST_GENERATION` spells it: `0.9`, `1.1`, … `1.5`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_9 => "0.9",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::V1_4 => "1.4",
            Self::V1_5 => "1.5",
        }
    }

    /// The releases it covers, for people: `0.9.0 - 1.0.1`.
    pub const fn releases(self) -> &'static str {
        match self {
            Self::V0_9 => "0.9.0 - 1.0.1",
            Self::V1_1 => "1.1.0",
            Self::V1_2 => "1.2.0",
            Self::V1_3 => "1.3.0 - 1.3.2",
            Self::V1_4 => "1.4.0 - 1.4.1",
            Self::V1_5 => "1.5.0 - 1.5.1",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no [`Generation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseGenerationError;

impl fmt::Display for ParseGenerationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of 0.9, 1.1, 1.2, 1.3, 1.4, 1.5")
    }
}

impl core::error::Error for ParseGenerationError {}

impl FromStr for Generation {
    type Err = ParseGenerationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|generation| generation.as_str() == text).ok_or(ParseGenerationError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_table() {
        use Layout::{L16, L16c, L48, L56};
        let expected = [
            ("0.9", L56, 1, 1, false, false),
            ("1.1", L48, 2, 2, false, false),
            ("1.2", L16c, 2, 2, false, false),
            ("1.3", L16, 2, 3, false, false),
            ("1.4", L16, 2, 4, false, true),
            ("1.5", L16, 2, 4, true, true),
        ];
        for (generation, (text, layout, api, ring, hooks, drops)) in Generation::ALL.into_iter().zip(expected) {
            assert_eq!(generation.to_string(), text);
            assert_eq!(text.parse(), Ok(generation));
            assert_eq!((generation.layout(), generation.plugin_api()), (layout, api), "{text}");
            assert_eq!(generation.ring_version(), ring, "{text}");
            assert_eq!((generation.has_batch_hooks(), generation.counts_drops()), (hooks, drops), "{text}");
            assert!(generation.releases().starts_with(text), "{text}");
        }
        for text in ["", "1.0", "1.5.1", "2"] {
            assert_eq!(text.parse::<Generation>(), Err(ParseGenerationError), "{text}");
        }
    }
}
