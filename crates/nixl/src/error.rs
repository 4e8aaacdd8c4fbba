// SPDX-License-Identifier: Apache-2.0

//! What can go wrong, with NIXL's answer where it gave one.

use std::ffi::NulError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::sys;

/// Why something could not be done with NIXL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library could not be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// NIXL refused a call.
    ///
    /// NIXL 1.4.1 and older answer nearly every failure with [`CapiStatus::Backend`]; its log, on standard error, says
    /// more. That log is also the only place where a bad telemetry setting is named, when creating an agent fails.
    #[error("nixl_capi_{function} failed: {status}")]
    Call {
        /// The function, without the prefix `nixl_capi_`.
        function: &'static str,
        /// Its answer.
        status: CapiStatus,
    },
    /// A name contains a NUL character, which C strings cannot.
    #[error("a name contains a NUL character: {0}")]
    Nul(#[from] NulError),
    /// A region or a slice would be empty.
    #[error("a region and a slice need at least one byte")]
    Empty,
    /// Bytes outside of a region were asked for.
    #[error("bytes {start}..{end} are not within a region of {length} bytes")]
    Range {
        /// First byte asked for.
        start: usize,
        /// Byte after the last asked for.
        end: usize,
        /// Length of the region.
        length: usize,
    },
    /// The slices of a transfer do not fit together; the text says why.
    #[error("transfer refused: {0}")]
    Slices(&'static str),
    /// A transfer was posted while its previous run was not known to be over, or an agent was to be forgotten while one
    /// to it was not.
    #[error("a transfer is still running; poll its status until it is complete")]
    StillRunning,
    /// A transfer was posted whose remote agent's metadata was loaded again after the transfer was prepared.
    #[error("the remote agent's metadata was loaded again since the transfer was prepared; prepare it anew")]
    Stale,
    /// A transfer was waited for that was not posted, or whose last run failed.
    #[error("the transfer is not running; post it first")]
    NotRunning,
    /// A transfer did not complete in time. It goes on.
    #[error("the transfer did not complete within {0:?}")]
    Timeout(Duration),
}

/// Why a `libnixl_capi.so` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The loader refused the file, or it is not there.
    #[error("cannot load {}: {source}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        source: libloading::Error,
    },
    /// The file lacks a function, so it is not a C API of NIXL 0.10.1 to 1.5.1.
    #[error("{} has no function {symbol}; expected the C API of NIXL 0.10.1 or newer", path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// The file is the placeholder one can link against where NIXL is not installed; its functions do nothing.
    #[error("{} is a stub for linking, not NIXL", path.display())]
    Stub {
        /// The file.
        path: PathBuf,
    },
    /// Another NIXL was opened before; a process can hold only one.
    #[error("cannot open {} after {}: a process can hold only one NIXL", wanted.display(), opened.display())]
    Another {
        /// The file opened first.
        opened: PathBuf,
        /// The file asked for.
        wanted: PathBuf,
    },
}

/// What a function of the C API answered, other than success.
///
/// These numbers are the C API's own; they are not those of `nixl_status_t` in C++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapiStatus {
    /// 1: not finished yet.
    InProgress,
    /// -1: invalid parameter, or a null pointer.
    InvalidParameter,
    /// -2: anything else, which up to 1.4.1 means nearly every failure, and any C++ exception.
    Backend,
    /// -3: invalid state.
    InvalidState,
    /// -4: exception. Defined, but not returned by any release up to 1.5.1.
    Exception,
    /// -5: telemetry is off for this agent.
    NoTelemetry,
    /// -6: not found. From 1.5.0 on.
    NotFound,
    /// Any other number.
    Other(i32),
}

impl CapiStatus {
    /// The status of this number; `None` for 0, which is success.
    pub fn from_code(code: i32) -> Option<CapiStatus> {
        Some(match code {
            sys::SUCCESS => return None,
            sys::IN_PROGRESS => CapiStatus::InProgress,
            -1 => CapiStatus::InvalidParameter,
            -2 => CapiStatus::Backend,
            -3 => CapiStatus::InvalidState,
            -4 => CapiStatus::Exception,
            -5 => CapiStatus::NoTelemetry,
            -6 => CapiStatus::NotFound,
            other => CapiStatus::Other(other),
        })
    }

    /// Its number in the C API.
    pub fn code(self) -> i32 {
        match self {
            CapiStatus::InProgress => sys::IN_PROGRESS,
            CapiStatus::InvalidParameter => -1,
            CapiStatus::Backend => -2,
            CapiStatus::InvalidState => -3,
            CapiStatus::Exception => -4,
            CapiStatus::NoTelemetry => -5,
            CapiStatus::NotFound => -6,
            CapiStatus::Other(code) => code,
        }
    }
}

impl fmt::Display for CapiStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            CapiStatus::InProgress => "in progress",
            CapiStatus::InvalidParameter => "invalid parameter",
            CapiStatus::Backend => "backend error",
            CapiStatus::InvalidState => "invalid state",
            CapiStatus::Exception => "exception",
            CapiStatus::NoTelemetry => "no telemetry",
            CapiStatus::NotFound => "not found",
            CapiStatus::Other(_) => "unknown status",
        };
        write!(out, "{name} ({})", self.code())
    }
}

/// Turns the answer of `function` into a result; only 0 is success.
pub(crate) fn check(function: &'static str, status: sys::Status) -> Result<(), Error> {
    match CapiStatus::from_code(status) {
        None => Ok(()),
        Some(status) => Err(Error::Call { function, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_keeps_its_number() {
        for code in -8..=3 {
            match CapiStatus::from_code(code) {
                None => assert_eq!(code, 0),
                Some(status) => assert_eq!(status.code(), code),
            }
        }
    }

    #[test]
    fn a_refused_call_is_told_in_full() {
        assert!(check("post_xfer_req", 0).is_ok());
        let error = check("create_agent", -2).unwrap_err();
        assert_eq!(error.to_string(), "nixl_capi_create_agent failed: backend error (-2)");
        let error = check("create_agent", -77).unwrap_err();
        assert_eq!(error.to_string(), "nixl_capi_create_agent failed: unknown status (-77)");
    }
}
