// SPDX-License-Identifier: Apache-2.0

use core::fmt;

use crate::Kind;

/// The result of a NIXL operation: `nixl_status_t`, identical in every release since 0.9.0.
///
/// Negative values are errors, and each error has an event kind of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Status {
    /// The request is still running.
    InProgress = 1,
    /// The request is complete.
    Success = 0,
    /// The request was never posted.
    NotPosted = -1,
    /// An argument is null, empty or contradicts another.
    InvalidParam = -2,
    /// The backend failed.
    Backend = -3,
    /// A remote agent, a registration or a backend is unknown.
    NotFound = -4,
    /// Two sides of a request do not fit each other.
    Mismatch = -5,
    /// The operation is forbidden here.
    NotAllowed = -6,
    /// The request was posted again while it was running.
    RepostActive = -7,
    /// The cause is not known.
    Unknown = -8,
    /// No backend offers this.
    NotSupported = -9,
    /// The remote agent has gone.
    RemoteDisconnect = -10,
    /// The request was given up.
    Canceled = -11,
    /// Statistics were asked for while telemetry is off.
    NoTelemetry = -12,
}

/// The errors, in the order of their codes and of their kinds: code, name, label of `agent_errors_total{status=…}`.
const ERRORS: [(Status, &str, &str); 12] = [
    (Status::NotPosted, "NIXL_ERR_NOT_POSTED", "not_posted"),
    (Status::InvalidParam, "NIXL_ERR_INVALID_PARAM", "invalid_param"),
    (Status::Backend, "NIXL_ERR_BACKEND", "backend"),
    (Status::NotFound, "NIXL_ERR_NOT_FOUND", "not_found"),
    (Status::Mismatch, "NIXL_ERR_MISMATCH", "mismatch"),
    (Status::NotAllowed, "NIXL_ERR_NOT_ALLOWED", "not_allowed"),
    (Status::RepostActive, "NIXL_ERR_REPOST_ACTIVE", "repost_active"),
    (Status::Unknown, "NIXL_ERR_UNKNOWN", "unknown"),
    (Status::NotSupported, "NIXL_ERR_NOT_SUPPORTED", "not_supported"),
    (Status::RemoteDisconnect, "NIXL_ERR_REMOTE_DISCONNECT", "remote_disconnect"),
    (Status::Canceled, "NIXL_ERR_CANCELED", "canceled"),
    (Status::NoTelemetry, "NIXL_ERR_NO_TELEMETRY", "no_telemetry"),
];

impl Status {
    /// Every error status, in the order of the kinds `agent_err_not_posted` to `agent_err_no_telemetry`.
    pub const ERRORS: [Status; 12] = {
        let mut errors = [Status::NotPosted; 12];
        let mut i = 0;
        while i < errors.len() {
            errors[i] = ERRORS[i].0;
            i += 1;
        }
        errors
    };

    /// The status with this code, or `None` for a code NIXL does not define.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            1 => Some(Self::InProgress),
            0 => Some(Self::Success),
            -12..=-1 => Some(ERRORS[(-code - 1) as usize].0),
            _ => None,
        }
    }

    /// The value of `nixl_status_t`.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// Whether the status is an error, in other words negative.
    pub const fn is_error(self) -> bool {
        self.code() < 0
    }

    /// The enumerator's name, `NIXL_ERR_NOT_FOUND` for instance.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "NIXL_IN_PROG",
            Self::Success => "NIXL_SUCCESS",
            _ => ERRORS[self.error_index()].1,
        }
    }

    /// The error with this name, as events of releases up to 1.1 carry it, or `None` if it names no error.
    pub fn error_from_name(name: &str) -> Option<Self> {
        ERRORS.iter().find(|(_, known, _)| *known == name).map(|(status, ..)| *status)
    }

    /// The value of the `status` label of `agent_errors_total`, `not_found` for instance; `None` if this is no error.
    pub const fn label(self) -> Option<&'static str> {
        if self.is_error() { Some(ERRORS[self.error_index()].2) } else { None }
    }

    /// The kind of event that reports this error: 7 minus the code; `None` if this is no error.
    pub const fn kind(self) -> Option<Kind> {
        if self.is_error() { Some(Kind::from_code((7 - self.code()) as u32)) } else { None }
    }

    const fn error_index(self) -> usize {
        (-self.code() - 1) as usize
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_labels_and_kinds_are_nixls() {
        let table = [
            (1, "NIXL_IN_PROG", None, None),
            (0, "NIXL_SUCCESS", None, None),
            (-1, "NIXL_ERR_NOT_POSTED", Some("not_posted"), Some(8)),
            (-2, "NIXL_ERR_INVALID_PARAM", Some("invalid_param"), Some(9)),
            (-3, "NIXL_ERR_BACKEND", Some("backend"), Some(10)),
            (-4, "NIXL_ERR_NOT_FOUND", Some("not_found"), Some(11)),
            (-5, "NIXL_ERR_MISMATCH", Some("mismatch"), Some(12)),
            (-6, "NIXL_ERR_NOT_ALLOWED", Some("not_allowed"), Some(13)),
            (-7, "NIXL_ERR_REPOST_ACTIVE", Some("repost_active"), Some(14)),
            (-8, "NIXL_ERR_UNKNOWN", Some("unknown"), Some(15)),
            (-9, "NIXL_ERR_NOT_SUPPORTED", Some("not_supported"), Some(16)),
            (-10, "NIXL_ERR_REMOTE_DISCONNECT", Some("remote_disconnect"), Some(17)),
            (-11, "NIXL_ERR_CANCELED", Some("canceled"), Some(18)),
            (-12, "NIXL_ERR_NO_TELEMETRY", Some("no_telemetry"), Some(19)),
        ];
        for (code, name, label, kind) in table {
            let status = Status::from_code(code).unwrap_or_else(|| panic!("{code} is a status"));
            assert_eq!(status.code(), code);
            assert_eq!((status.name(), status.label()), (name, label));
            assert_eq!(status.kind().map(Kind::code), kind);
            assert_eq!(status.is_error(), code < 0);
            assert_eq!(Status::error_from_name(name), (code < 0).then_some(status));
        }
    }

    #[test]
    fn other_codes_and_names_are_no_status() {
        for code in [2, -13, i32::MIN, i32::MAX] {
            assert_eq!(Status::from_code(code), None);
        }
        for name in ["", "NIXL_ERR_", "nixl_err_not_found", "NIXL_ERR_NOT_FOUND "] {
            assert_eq!(Status::error_from_name(name), None);
        }
    }
}
