// SPDX-License-Identifier: Apache-2.0

use core::fmt;

use crate::{Category, Status};

/// What an agent's event is a reading of: `nixl_telemetry_event_type_t`.
///
/// A number rather than an enum: a release newer than this crate may send one that is not in the table, and it
/// survives, printed as `unknown_event_<n>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u32);

/// The unit of an event's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Bytes of memory or payload.
    Bytes,
    /// A count of requests; NIXL always sends 1.
    Requests,
    /// Microseconds, truncated.
    Microseconds,
    /// A count of errors; NIXL always sends 1.
    Errors,
    /// A count of telemetry events.
    Events,
}

struct Row {
    name: &'static str,
    unit: Unit,
    category: Option<Category>,
    status: Option<Status>,
}

/// Declares the constants, [`Kind::ALL`] and the table behind the methods from one list.
macro_rules! kinds {
    ($($(#[$doc:meta])* $code:literal $constant:ident $name:literal $unit:ident $category:expr, $status:expr;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

            /// Every kind of NIXL 1.5, in the order of their numbers.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$constant),*];

            /// The kind with this base event name, or `None`.
            ///
            /// The names are those of NIXL's allowlist, `agent_tx_bytes` for instance. `NIXL_ERR_NOT_FOUND` and its kin,
            /// which old releases put into error events, are no kind names; see [`Status::error_from_name`].
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self($code)),)*
                    _ => None,
                }
            }
        }

        static TABLE: [Row; [$($code),*].len()] = [$(
            Row { name: $name, unit: Unit::$unit, category: $category, status: $status }
        ),*];
    };
}

kinds! {
    /// Bytes a write of this agent sent, once per request.
    0 TX_BYTES "agent_tx_bytes" Bytes Some(Category::TRANSFER), None;
    /// Bytes a read of this agent received, once per request.
    1 RX_BYTES "agent_rx_bytes" Bytes Some(Category::TRANSFER), None;
    /// One completed write request.
    2 TX_REQUESTS_NUM "agent_tx_requests_num" Requests Some(Category::TRANSFER), None;
    /// One completed read request.
    3 RX_REQUESTS_NUM "agent_rx_requests_num" Requests Some(Category::TRANSFER), None;
    /// Bytes registered by one call.
    4 MEMORY_REGISTERED "agent_memory_registered" Bytes Some(Category::MEMORY), None;
    /// Bytes deregistered by one call.
    5 MEMORY_DEREGISTERED "agent_memory_deregistered" Bytes Some(Category::MEMORY), None;
    /// Time from the post until completion was observed, once per request.
    6 XFER_TIME "agent_xfer_time" Microseconds Some(Category::PERFORMANCE), None;
    /// Time until the backend's post call returned, once per request.
    7 XFER_POST_TIME "agent_xfer_post_time" Microseconds Some(Category::PERFORMANCE), None;
    /// One [`Status::NotPosted`].
    8 ERR_NOT_POSTED "agent_err_not_posted" Errors Some(Category::ERROR), Some(Status::NotPosted);
    /// One [`Status::InvalidParam`].
    9 ERR_INVALID_PARAM "agent_err_invalid_param" Errors Some(Category::ERROR), Some(Status::InvalidParam);
    /// One [`Status::Backend`].
    10 ERR_BACKEND "agent_err_backend" Errors Some(Category::ERROR), Some(Status::Backend);
    /// One [`Status::NotFound`].
    11 ERR_NOT_FOUND "agent_err_not_found" Errors Some(Category::ERROR), Some(Status::NotFound);
    /// One [`Status::Mismatch`].
    12 ERR_MISMATCH "agent_err_mismatch" Errors Some(Category::ERROR), Some(Status::Mismatch);
    /// One [`Status::NotAllowed`].
    13 ERR_NOT_ALLOWED "agent_err_not_allowed" Errors Some(Category::ERROR), Some(Status::NotAllowed);
    /// One [`Status::RepostActive`].
    14 ERR_REPOST_ACTIVE "agent_err_repost_active" Errors Some(Category::ERROR), Some(Status::RepostActive);
    /// One [`Status::Unknown`].
    15 ERR_UNKNOWN "agent_err_unknown" Errors Some(Category::ERROR), Some(Status::Unknown);
    /// One [`Status::NotSupported`].
    16 ERR_NOT_SUPPORTED "agent_err_not_supported" Errors Some(Category::ERROR), Some(Status::NotSupported);
    /// One [`Status::RemoteDisconnect`].
    17 ERR_REMOTE_DISCONNECT "agent_err_remote_disconnect" Errors Some(Category::ERROR), Some(Status::RemoteDisconnect);
    /// One [`Status::Canceled`].
    18 ERR_CANCELED "agent_err_canceled" Errors Some(Category::ERROR), Some(Status::Canceled);
    /// One [`Status::NoTelemetry`].
    19 ERR_NO_TELEMETRY "agent_err_no_telemetry" Errors Some(Category::ERROR), Some(Status::NoTelemetry);
    /// Events dropped since the previous flush (releases 1.4 and later, which have no categories any more).
    20 TELEMETRY_EVENTS_DROPPED "agent_telemetry_events_dropped" Events None, None;
}

impl Kind {
    /// The kind with this number, known or not.
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The number NIXL transmits.
    pub const fn code(self) -> u32 {
        self.0
    }

    /// The base event name, or `None` for an unknown number. [`Display`](fmt::Display) always prints something.
    pub const fn name(self) -> Option<&'static str> {
        match self.row() {
            Some(row) => Some(row.name),
            None => None,
        }
    }

    /// The unit of the value, or `None` for an unknown number.
    pub const fn unit(self) -> Option<Unit> {
        match self.row() {
            Some(row) => Some(row.unit),
            None => None,
        }
    }

    /// The category that releases up to 1.2 gave this kind; `None` for [`Kind::TELEMETRY_EVENTS_DROPPED`], which is
    /// younger than categories, and for an unknown number.
    pub const fn category(self) -> Option<Category> {
        match self.row() {
            Some(row) => row.category,
            None => None,
        }
    }

    /// The error this kind counts, or `None` if it counts none.
    pub const fn status(self) -> Option<Status> {
        match self.row() {
            Some(row) => row.status,
            None => None,
        }
    }

    const fn row(self) -> Option<&'static Row> {
        if (self.0 as usize) < TABLE.len() { Some(&TABLE[self.0 as usize]) } else { None }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "unknown_event_{}", self.0),
        }
    }
}

impl Unit {
    /// The unit in one lower-case word: `bytes`, `requests`, `microseconds`, `errors`, `events`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Requests => "requests",
            Self::Microseconds => "microseconds",
            Self::Errors => "errors",
            Self::Events => "events",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_nixls() {
        // Number, name, unit, former category, status code: written out apart from the table above.
        let expected = [
            (0, "agent_tx_bytes", "bytes", Some(1), None),
            (1, "agent_rx_bytes", "bytes", Some(1), None),
            (2, "agent_tx_requests_num", "requests", Some(1), None),
            (3, "agent_rx_requests_num", "requests", Some(1), None),
            (4, "agent_memory_registered", "bytes", Some(0), None),
            (5, "agent_memory_deregistered", "bytes", Some(0), None),
            (6, "agent_xfer_time", "microseconds", Some(5), None),
            (7, "agent_xfer_post_time", "microseconds", Some(5), None),
            (8, "agent_err_not_posted", "errors", Some(4), Some(-1)),
            (9, "agent_err_invalid_param", "errors", Some(4), Some(-2)),
            (10, "agent_err_backend", "errors", Some(4), Some(-3)),
            (11, "agent_err_not_found", "errors", Some(4), Some(-4)),
            (12, "agent_err_mismatch", "errors", Some(4), Some(-5)),
            (13, "agent_err_not_allowed", "errors", Some(4), Some(-6)),
            (14, "agent_err_repost_active", "errors", Some(4), Some(-7)),
            (15, "agent_err_unknown", "errors", Some(4), Some(-8)),
            (16, "agent_err_not_supported", "errors", Some(4), Some(-9)),
            (17, "agent_err_remote_disconnect", "errors", Some(4), Some(-10)),
            (18, "agent_err_canceled", "errors", Some(4), Some(-11)),
            (19, "agent_err_no_telemetry", "errors", Some(4), Some(-12)),
            (20, "agent_telemetry_events_dropped", "events", None, None),
        ];
        assert_eq!(Kind::ALL.len(), expected.len());
        for (kind, (code, name, unit, category, status)) in Kind::ALL.into_iter().zip(expected) {
            assert_eq!(kind.code(), code);
            assert_eq!(kind.name(), Some(name));
            assert_eq!(kind.to_string(), name);
            assert_eq!(kind.unit().map(Unit::as_str), Some(unit));
            assert_eq!(kind.category().map(Category::code), category);
            assert_eq!(kind.status().map(Status::code), status);
            assert_eq!(kind.status().map_or(Some(kind), Status::kind), Some(kind));
            assert_eq!(Kind::from_name(name), Some(kind));
        }
    }

    #[test]
    fn unknown_numbers_survive() {
        for code in [21, 999, u32::MAX] {
            let kind = Kind::from_code(code);
            assert_eq!(kind.code(), code);
            assert_eq!((kind.name(), kind.unit(), kind.category(), kind.status()), (None, None, None, None));
            assert_eq!(kind.to_string(), format!("unknown_event_{code}"));
        }
        assert_eq!(Kind::from_name("unknown_event_21"), None);
    }
}
