// SPDX-License-Identifier: Apache-2.0

//! Passwords of every kind, TLS of every mode, and certificates of every sort of wrongness.

use std::fs;

use nixl_telemetry_testkit::{Authority, Identity};
use tempfile::TempDir;

use super::victim::Victim;
use super::*;

fn serve(authority: &Authority, server: &Server, name: &str, days: i64) {
    let Identity { certificate, key } = authority.issue(&[name], days);
    server.use_certificate(&certificate, &key, &authority.pem());
}

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whether a batch gets there within this process; what the log of a victim says, if it does not.
fn refuses(database: &Database, pairs: &[(&str, &str)], told: &str) {
    let mut victim = Victim::start(database, &[pairs, &[("SHUTDOWN_TIMEOUT", "1")]].concat());
    victim.export(0..10);
    victim.wait_for("it is tried again");
    let line = victim.lines.last().unwrap();
    assert!(line.contains(told), "{line}, expected {told}");
    assert!(victim.end().iter().all(|line| !line.contains("hunter2")));
}

/// Exports a batch, and tells whether it went through TLS.
fn goes(database: &Database, pairs: &[(&str, &str)]) -> bool {
    let mut host = database.open("a", pairs);
    host.export(&events(0..10));
    database.has(10);
    let role =
        format!("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{}'", database.name);
    let is_secure = database.psql(&role) == "t";
    host.close();
    assert_eq!(database.sums(), sums_to(10));
    database.psql("TRUNCATE nixl_events");
    is_secure
}

#[test]
fn tls_is_as_the_url_and_the_files_say() {
    let Some(database) = Database::own("tls") else { return };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let ca = file(&folder, "ca", &ours.pem());
    let ca = ("TLS_CA_FILE", ca.as_str());
    let mode = |mode: &str| format!("{}?sslmode={mode}", database.url());
    let [disable, prefer, require, verify_ca, verify_full] =
        ["disable", "prefer", "require", "verify-ca", "verify-full"].map(mode);

    // A server without it.
    assert!(!goes(&database, &[]));
    refuses(&database, &[("URL", &require)], "the server has no TLS: expected it, for sslmode says so");
    refuses(&database, &[ca], "the server has no TLS");

    serve(&ours, &database.server, "127.0.0.1", 30);
    assert!(goes(&database, &[]));
    assert!(!goes(&database, &[("URL", &disable)]));
    for url in [&prefer, &require, &verify_ca, &verify_full] {
        assert!(goes(&database, &[("URL", url), ca]));
    }
    let in_url = format!("{verify_full}&sslrootcert={}", ca.1);
    assert!(goes(&database, &[("URL", &in_url)]));
    refuses(
        &database,
        &[("URL", &verify_full)],
        "cannot secure the connection: invalid peer certificate: UnknownIssuer",
    );
    let missing = folder.path().join("missing");
    refuses(&database, &[("TLS_CA_FILE", missing.to_str().unwrap())], "/missing: ");

    // Another's name, another authority, and one that has had its day.
    serve(&ours, &database.server, "db.example", 30);
    assert!(goes(&database, &[("URL", &verify_ca), ca]));
    refuses(&database, &[ca], "certificate not valid for name \"127.0.0.1\"");
    serve(&theirs, &database.server, "127.0.0.1", 30);
    assert!(goes(&database, &[("URL", &require)]));
    refuses(&database, &[ca], "invalid peer certificate: UnknownIssuer");
    refuses(&database, &[("URL", &require), ca], "invalid peer certificate: UnknownIssuer");
    serve(&ours, &database.server, "127.0.0.1", -1);
    refuses(&database, &[ca], "certificate expired");

    // Renewed, while an agent waits.
    let mut victim = Victim::start(&database, &[ca]);
    victim.export(0..10);
    victim.wait_for("certificate expired");
    serve(&ours, &database.server, "127.0.0.1", 30);
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.sums(), sums_to(10));
}

#[test]
fn a_certificate_may_stand_for_a_password() {
    let Some(database) = Database::own("by_cert") else { return };
    database.psql("GRANT certified TO by_cert");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    serve(&ours, &database.server, "127.0.0.1", 30);
    let url = format!("postgres://by_cert@127.0.0.1:{}", database.server.port());
    let ca = file(&folder, "ca", &ours.pem());
    let files = |authority: &Authority, name: &str| {
        let Identity { certificate, key } = authority.issue(&[name], 30);
        [file(&folder, "certificate", &certificate), file(&folder, "key", &key)]
    };
    let pairs = |[certificate, key]: &[String; 2]| {
        [("URL", &url), ("TLS_CA_FILE", &ca), ("TLS_CERT_FILE", certificate), ("TLS_KEY_FILE", key)]
            .map(|(name, value)| (name, value.clone()))
    };
    let borrowed = |pairs: &[(&'static str, String); 4]| pairs.clone();
    for (authority, name, told) in [
        (&ours, "somebody", "certificate authentication failed for user \"by_cert\" (SQLSTATE 28000)"),
        (&theirs, "by_cert", "received fatal alert"),
    ] {
        let pairs = borrowed(&pairs(&files(authority, name)));
        refuses(&database, &pairs.each_ref().map(|(name, value)| (*name, value.as_str())), told);
    }
    let without = [("URL", url.as_str()), ("TLS_CA_FILE", ca.as_str())];
    refuses(&database, &without, "connection requires a valid client certificate (SQLSTATE 28000)");
    let pairs = pairs(&files(&ours, "by_cert"));
    assert!(goes(&database, &pairs.each_ref().map(|(name, value)| (*name, value.as_str()))));
}

#[test]
fn passwords_of_every_kind_are_shown_as_they_may_be() {
    let Some(database) = Database::shared("kinds_of_passwords") else { return };
    assert!(!goes(&database, &[]));
    // md5.
    database.psql("SET password_encryption = md5; ALTER ROLE kinds_of_passwords PASSWORD 'hunter2'");
    let bare = format!("postgres://kinds_of_passwords@127.0.0.1:{}", database.server.port());
    assert!(!goes(&database, &[("URL", &bare), ("PASSWORD", "hunter2")]));
    refuses(&database, &[("URL", &bare)], "the server wants a password: expected one in the URL");
    // At the socket only scram-sha-256 is taken, from a file that has the wrong one at first.
    database.psql("ALTER ROLE kinds_of_passwords PASSWORD 'hunter2'");
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "password", "wrong\n");
    let (socket, port) = (database.server.socket_directory().display(), database.server.port());
    let url = format!("postgres:///?user=kinds_of_passwords&host={socket}&port={port}");
    let from_file = [("URL", url.as_str()), ("PASSWORD_FILE", path.as_str())];
    let mut victim = Victim::start(&database, &from_file);
    victim.export(0..10);
    victim.wait_for("password authentication failed for user");
    fs::write(&path, "hunter2\nnot this\n").unwrap();
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.sums(), sums_to(10));
}

/// Whoever asks for the password as it is gets it if somebody vouches for who that is.
#[test]
fn a_password_as_it_is_goes_only_to_whom_it_is_for() {
    let Some(database) = Database::own("as_it_is") else { return };
    database.psql("GRANT plain TO as_it_is");
    let told = "the server wants the password as it is, and nobody vouches for it: expected sslmode=verify-full";
    refuses(&database, &[], told);
    let ours = Authority::new("ours");
    serve(&ours, &database.server, "127.0.0.1", 30);
    refuses(&database, &[], told);
    refuses(&database, &[("URL", &format!("{}?sslmode=require", database.url()))], told);
    let folder = tempfile::tempdir().unwrap();
    let ca = file(&folder, "ca", &ours.pem());
    assert!(goes(&database, &[("TLS_CA_FILE", &ca)]));
    let verify_ca = format!("{}?sslmode=verify-ca", database.url());
    assert!(goes(&database, &[("URL", &verify_ca), ("TLS_CA_FILE", &ca)]));
}
