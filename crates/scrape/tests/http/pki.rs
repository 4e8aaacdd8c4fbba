// SPDX-License-Identifier: Apache-2.0

//! Authorities, their certificates, and clients that know them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use nixl_telemetry_scrape::{Options, Server, WebConfig};
use nixl_telemetry_testkit::{Authority, Identity};
use rustls::{
    ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion, crypto::ring, pki_types::ServerName,
};
use tempfile::TempDir;

use crate::support::{Client, PATIENCE, options, serve};

/// Files that a configuration names.
pub(crate) struct Folder(TempDir);

/// A certificate for somebody on this machine.
pub(crate) fn issue(authority: &Authority) -> Identity {
    authority.issue(&["localhost", "127.0.0.1"], 1)
}

/// What a client that trusts this authority uses.
pub(crate) fn client(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.for_rustls();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    Arc::new(config)
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file as whoever renews certificates should: there is no moment in which it is half written.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    pub(crate) fn write_identity(&self, identity: &Identity) {
        self.write("server.crt", &identity.certificate);
        self.write("server.key", &identity.key);
    }

    /// A server with `server.crt`, `server.key` and what else its configuration says of TLS, a line each.
    pub(crate) fn serve_tls(&self, more: &[&str]) -> (Server, SocketAddr) {
        let lines: String = more.iter().map(|line| format!("  {line}\n")).collect();
        let text = format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{lines}");
        serve(configured(&self.write("web.yml", &text)))
    }
}

pub(crate) fn configured(path: &Path) -> Options {
    Options { web: WebConfig::load(path).unwrap(), ..options() }
}

/// A client after its handshake, in which the server may not have believed it; or why there is none.
pub(crate) fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<Client<StreamOwned<ClientConnection, TcpStream>>, String> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| error.to_string())?;
    }
    Ok(Client::over(StreamOwned::new(session, socket)))
}
