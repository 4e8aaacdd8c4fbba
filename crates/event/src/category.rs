// SPDX-License-Identifier: Apache-2.0

use core::fmt;

/// The group an event belongs to, as releases up to 1.2 transmit it.
///
/// A number rather than an enum, so that one this crate does not know survives. Releases from 1.3 on transmit no
/// category; [`Kind::category`](crate::Kind::category) supplies the former one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Category(u32);

const NAMES: [&str; 9] = [
    "NIXL_TELEMETRY_MEMORY",
    "NIXL_TELEMETRY_TRANSFER",
    "NIXL_TELEMETRY_CONNECTION",
    "NIXL_TELEMETRY_BACKEND",
    "NIXL_TELEMETRY_ERROR",
    "NIXL_TELEMETRY_PERFORMANCE",
    "NIXL_TELEMETRY_SYSTEM",
    "NIXL_TELEMETRY_CUSTOM",
    // NIXL's own name table has an entry for its end marker.
    "NIXL_TELEMETRY_MAX",
];

impl Category {
    /// Memory registered and deregistered.
    pub const MEMORY: Self = Self(0);
    /// Bytes and requests moved.
    pub const TRANSFER: Self = Self(1);
    /// Reserved by NIXL, never emitted.
    pub const CONNECTION: Self = Self(2);
    /// Events a backend emits under a name of its own (emitted by hosts 0.9 and 0.10, and by this project's host).
    pub const BACKEND: Self = Self(3);
    /// Errors by status.
    pub const ERROR: Self = Self(4);
    /// Transfer and post times.
    pub const PERFORMANCE: Self = Self(5);
    /// Reserved by NIXL, never emitted.
    pub const SYSTEM: Self = Self(6);
    /// Reserved by NIXL, never emitted.
    pub const CUSTOM: Self = Self(7);

    /// The category with this number, known or not.
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The number NIXL transmits.
    pub const fn code(self) -> u32 {
        self.0
    }

    /// The enumerator's name, `NIXL_TELEMETRY_TRANSFER` for instance, or NIXL's `BAD_CATEGORY` for an unknown number.
    pub const fn name(self) -> &'static str {
        if (self.0 as usize) < NAMES.len() { NAMES[self.0 as usize] } else { "BAD_CATEGORY" }
    }

    /// The name without its prefix: `TRANSFER`.
    pub fn short_name(self) -> &'static str {
        let name = self.name();
        name.strip_prefix("NIXL_TELEMETRY_").unwrap_or(name)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_nixls() {
        let table = [
            (Category::MEMORY, 0, "NIXL_TELEMETRY_MEMORY", "MEMORY"),
            (Category::TRANSFER, 1, "NIXL_TELEMETRY_TRANSFER", "TRANSFER"),
            (Category::CONNECTION, 2, "NIXL_TELEMETRY_CONNECTION", "CONNECTION"),
            (Category::BACKEND, 3, "NIXL_TELEMETRY_BACKEND", "BACKEND"),
            (Category::ERROR, 4, "NIXL_TELEMETRY_ERROR", "ERROR"),
            (Category::PERFORMANCE, 5, "NIXL_TELEMETRY_PERFORMANCE", "PERFORMANCE"),
            (Category::SYSTEM, 6, "NIXL_TELEMETRY_SYSTEM", "SYSTEM"),
            (Category::CUSTOM, 7, "NIXL_TELEMETRY_CUSTOM", "CUSTOM"),
            (Category::from_code(8), 8, "NIXL_TELEMETRY_MAX", "MAX"),
            (Category::from_code(9), 9, "BAD_CATEGORY", "BAD_CATEGORY"),
            (Category::from_code(u32::MAX), u32::MAX, "BAD_CATEGORY", "BAD_CATEGORY"),
        ];
        for (category, code, name, short) in table {
            assert_eq!((category.code(), category.name(), category.short_name()), (code, name, short));
            assert_eq!(category.to_string(), name);
        }
    }
}
