// SPDX-License-Identifier: Apache-2.0

use std::sync::atomic::{AtomicU64, Ordering};

use nixl_telemetry_abi::plugin::CreateParams;
use nixl_telemetry_event::Generation;

/// The agent an exporter serves, and the process it lives in.
#[derive(Clone, Debug)]
pub struct Agent {
    name: String,
    hostname: String,
    pid: u32,
    instance: u64,
    max_events_buffered: u64,
    host: String,
    generation: Option<Generation>,
}

impl Agent {
    /// An agent of this name, in this process.
    pub fn new(name: impl Into<String>) -> Self {
        Self::of_host(name.into(), 4096, "no host".into())
    }

    pub(crate) fn from_params(params: &CreateParams<'_>) -> Self {
        let name = String::from_utf8_lossy(params.agent_name).into_owned();
        let generation = params.host.generation();
        Self { generation, ..Self::of_host(name, params.max_events_buffered, params.host.to_string()) }
    }

    fn of_host(name: String, max_events_buffered: u64, host: String) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        Self {
            name,
            hostname: hostname(),
            pid: std::process::id(),
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            max_events_buffered,
            host,
            generation: None,
        }
    }

    /// The agent's name. Bytes that are not UTF-8 are replaced by U+FFFD. Names need not be unique.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's name, `unknown` if it has none.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The same agent as another process had it, for what bears a process's number and is to be as that process would
    /// have made it.
    pub fn in_process(&self, pid: u32) -> Self {
        Self { pid, ..self.clone() }
    }

    /// The agent of another process, as that process left it written down.
    pub(crate) fn of_another(&self, name: String, hostname: String, pid: u32, instance: u64) -> Self {
        Self { name, hostname, pid, instance, ..self.clone() }
    }

    /// A number that tells this agent from others in the process, whatever their names: 0, 1, 2, ….
    pub const fn instance(&self) -> u64 {
        self.instance
    }

    /// The host's `NIXL_TELEMETRY_BUFFER_SIZE`: the most events a flush of stock NIXL can bring.
    pub const fn max_events_buffered(&self) -> u64 {
        self.max_events_buffered
    }

    /// The host that was recognised, for people: `NIXL 1.5.0 - 1.5.1`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The generation of the NIXL that is the host, of one newer than all that are known the newest known; `None` if the
    /// host is this project's own, or there is none.
    pub const fn generation(&self) -> Option<Generation> {
        self.generation
    }
}

fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unknown".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_told_apart_by_instance() {
        let (a, b) = (Agent::new("twin"), Agent::new("twin"));
        assert_eq!((a.name(), a.pid()), ("twin", std::process::id()));
        assert_ne!(a.instance(), b.instance());
        let elsewhere = a.in_process(7);
        assert_eq!((elsewhere.name(), elsewhere.pid(), elsewhere.instance()), ("twin", 7, a.instance()));
        let uname = std::process::Command::new("uname").arg("-n").output().unwrap().stdout;
        assert_eq!(a.hostname(), String::from_utf8(uname).unwrap().trim());
    }
}
