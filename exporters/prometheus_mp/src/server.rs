// SPDX-License-Identifier: Apache-2.0

//! The servers of this process: one for each directory and address, which its agents share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nixl_telemetry_scrape::{Options, Server, StartError};
use nixl_telemetry_sdk::{Error, info, lock_shared, warn};

use crate::election::Election;
use crate::ranks::Ranks;
use crate::service::{Service, TIDY};

/// A server, and the process that has it: a forked child has none.
struct Known {
    pid: u32,
    directory: PathBuf,
    address: SocketAddr,
    server: Weak<Server>,
}

static SERVERS: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// The server for a directory, started if this process has none at the first of these addresses. It ends when the last
/// one who has it lets go.
///
/// It may stand by for a while, or for ever. `stale` and `options` are those of whoever comes first.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn serve(directory: PathBuf, stale: Duration, options: Options) -> Result<Arc<Server>, Error> {
    let pid = std::process::id();
    let address = *options.addresses.first().ok_or(StartError::NoAddress)?;
    let mut servers = lock_shared(&SERVERS)?;
    servers.retain(|known| known.pid == pid && known.server.strong_count() > 0);
    let known = servers.iter().find(|known| known.directory == directory && known.address == address);
    if let Some(server) = known.and_then(|known| known.server.upgrade()) {
        return Ok(server);
    }
    let election = Election::new(&directory, address);
    warn_of_others(&election, &directory, address);
    let service = Service::new(election, Ranks::new(directory.clone(), stale), address);
    let server = Arc::new(Server::start(Options { tick: Some(TIDY), ..options }, service)?);
    if !server.is_listening() {
        info!("exporter prometheus_mp: stands by until {address} can be served for {}", directory.display());
    }
    servers.push(Known { pid, directory, address, server: Arc::downgrade(&server) });
    Ok(server)
}

/// Ranks that disagree about the port are all served twice.
fn warn_of_others(election: &Election, directory: &Path, address: SocketAddr) {
    let others = election.others().unwrap_or_default();
    if !others.is_empty() {
        warn!(
            "exporter prometheus_mp: {} is served at {} as well as at {address}: each shows all ranks, so that who \
             scrapes both counts everything twice",
            directory.display(),
            others.join(", "),
        );
    }
}
