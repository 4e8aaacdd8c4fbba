// SPDX-License-Identifier: Apache-2.0

//! How an agent is created.

use std::ffi::c_int;
use std::time::Duration;

use crate::sys;

/// How an agent is created.
///
/// NIXL's listener, which exchanges metadata over TCP, is not offered: it listens on every interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Whether backends make progress on a thread of their own. Without it, they do so only while a status is polled.
    /// Defaults to true.
    pub progress_thread: bool,
    /// How long that thread sleeps between rounds, in whole microseconds. Defaults to 0, as in NIXL: it only yields.
    pub progress_delay: Duration,
    /// Whether NIXL measures transfers even if the environment does not turn telemetry on. Defaults to false.
    ///
    /// Up to 1.3.2 this only makes [`Transfer::telemetry`](crate::Transfer::telemetry) work; from 1.4.0 it turns all of
    /// telemetry on, with the configured exporter, unless the environment turns it off.
    pub capture_telemetry: bool,
    /// How the agent keeps threads apart. Defaults to [`ThreadSync::Strict`].
    pub thread_sync: ThreadSync,
}

impl Default for AgentConfig {
    fn default() -> AgentConfig {
        AgentConfig {
            progress_thread: true,
            progress_delay: Duration::ZERO,
            capture_telemetry: false,
            thread_sync: ThreadSync::Strict,
        }
    }
}

impl AgentConfig {
    pub(crate) fn raw(&self) -> sys::AgentConfig {
        sys::AgentConfig {
            progress_thread: self.progress_thread,
            listen_thread: false,
            listen_port: 0,
            thread_sync: self.thread_sync.raw(),
            workers: 1,
            progress_delay_us: u64::try_from(self.progress_delay.as_micros()).unwrap_or(u64::MAX),
            listen_delay_us: 0,
            capture_telemetry: self.capture_telemetry,
        }
    }
}

/// How an agent keeps threads apart that use it at the same time.
///
/// NIXL's third way, no locks, leaves that to its user, as the language does not for a `Sync` type; it is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadSync {
    /// One call at a time.
    Strict,
    /// Calls that change the agent exclude all others; transfers run side by side.
    ReadWrite,
}

impl ThreadSync {
    fn raw(self) -> c_int {
        match self {
            ThreadSync::Strict => sys::SYNC_STRICT,
            ThreadSync::ReadWrite => sys::SYNC_READ_WRITE,
        }
    }
}
