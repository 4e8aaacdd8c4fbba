// SPDX-License-Identifier: Apache-2.0

//! Connections to a server that is somebody, by what is known of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nixl_telemetry_dial::{Certificates, Stream, Tls, TlsError, Verify, connect};
use nixl_telemetry_testkit::{Authority, Identity};
use rustls::{ServerConnection, StreamOwned};

/// A server that sends back what it gets, and wants certificates of clients if there is somebody to vouch for them.
fn serve(authority: &Authority, name: &str, days: i64, clients: Option<&Authority>) -> SocketAddr {
    let config = authority.issue(&[name], days).server(clients);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).unwrap();
            }
        }
    });
    address
}

/// Files in a folder that outlives the test's use of them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A file of this name, in a folder of its own.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = tempfile::tempdir_in(&self.0).unwrap().keep().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// What comes back, or what is wrong.
fn talk(address: SocketAddr, host: &str, certificates: &Certificates, verify: Verify) -> Result<String, String> {
    let socket = connect("127.0.0.1", address.port(), Duration::from_secs(10)).unwrap();
    let tls = Tls::new(certificates, verify).unwrap();
    let talk = || {
        let mut stream = tls.connect(socket, host)?;
        assert!(matches!(stream, Stream::Tls(_)));
        stream.write_all(b"ping")?;
        stream.flush()?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        stream.close();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    talk().map_err(|error: std::io::Error| error.to_string())
}

#[test]
fn how_much_is_looked_at_is_how_much_must_be_right() {
    let (ours, theirs, files) = (Authority::new("one"), Authority::new("other"), Files::new());
    let trusting = |authority: &Authority, name: &str| Certificates {
        ca: Some(files.write(name, &authority.pem())),
        client: None,
    };
    let (right, wrong) = (trusting(&ours, "ours"), trusting(&theirs, "theirs"));
    let sound = serve(&ours, "db.example", 1, None);
    let expired = serve(&ours, "db.example", -1, None);
    let (full, authority, nothing) = (Verify::Full, Verify::Authority, Verify::Nothing);
    let table = [
        (sound, "db.example", &right, full, Ok("ping")),
        (sound, "127.0.0.1", &right, full, Err("not valid for name")),
        (sound, "db.example", &wrong, full, Err("UnknownIssuer")),
        (expired, "db.example", &right, full, Err("expired")),
        (sound, "127.0.0.1", &right, authority, Ok("ping")),
        (sound, "db.example", &wrong, authority, Err("UnknownIssuer")),
        (expired, "127.0.0.1", &right, authority, Err("expired")),
        (sound, "127.0.0.1", &wrong, nothing, Ok("ping")),
        (expired, "127.0.0.1", &wrong, nothing, Ok("ping")),
        (sound, "no host", &right, full, Err("\"no host\" is the name of no host")),
    ];
    for (address, host, certificates, verify, expected) in table {
        match (talk(address, host, certificates, verify), expected) {
            (Ok(said), Ok(expected)) => assert_eq!(said, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{host} {verify:?}: {error}"),
            (result, expected) => panic!("{host} {verify:?}: {result:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_server_may_want_to_know_who_we_are() {
    let (servers, clients, files) = (Authority::new("one"), Authority::new("other"), Files::new());
    let address = serve(&servers, "127.0.0.1", 1, Some(&clients));
    let ca = Some(files.write("ca", &servers.pem()));
    assert!(talk(address, "127.0.0.1", &Certificates { ca: ca.clone(), client: None }, Verify::Full).is_err());
    for (authority, is_known) in [(&servers, false), (&clients, true)] {
        let Identity { certificate, key } = authority.issue(&["agent"], 1);
        let client = Some((files.write("certificate", &certificate), files.write("key", &key)));
        let said = talk(address, "127.0.0.1", &Certificates { ca: ca.clone(), client }, Verify::Full);
        assert_eq!(said.is_ok(), is_known, "{said:?}");
    }
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (authority, files) = (Authority::new("one"), Files::new());
    let Identity { certificate, key } = authority.issue(&["agent"], 1);
    let other_key = authority.issue(&["agent"], 1).key;
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ca = |content: &str| Certificates { ca: Some(files.write("ca", content)), client: None };
    let client = |certificate: &str, key: &str| Certificates {
        client: Some((files.write("certificate", certificate), files.write("key", key))),
        ..ca(&authority.pem())
    };
    let gone = Certificates { ca: Some(PathBuf::from("/no/such/file")), client: None };
    let table: [(Certificates, &str, &str); 6] = [
        (gone, "/no/such/file", "No such file"),
        (ca("nothing"), "ca", "no certificate in PEM"),
        (ca(broken), "ca", "none of its certificates can vouch for anybody"),
        (client("nothing", &key), "certificate", "no certificate in PEM"),
        (client(&certificate, "nothing"), "key", ""),
        (client(&certificate, &other_key), "certificate", "key: "),
    ];
    for (certificates, name, problem) in table {
        let error = Tls::new(&certificates, Verify::Full).unwrap_err();
        let TlsError::File { path, .. } = &error else { panic!("{error}") };
        assert!(path.ends_with(Path::new(name)) && error.to_string().contains(problem), "{error}");
    }
}
