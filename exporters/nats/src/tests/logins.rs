// SPDX-License-Identifier: Apache-2.0

//! Who this side is for a server, and whom this side takes for one.

use std::fs;
use std::path::Path;

use nixl_telemetry_testkit::{Authority, Identity};

use super::*;

/// Makes an operator, an account and a user, and prints the operator's and the account's JWT, the account's key and what a file
/// of the user's credentials holds.
const DECENTRAL: &str = r#"
import base64, json, os, nkeys
def key(prefix):
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))
    return pair, pair.public_key.decode()
def jwt(signer, issuer, subject, nats):
    encode = lambda bytes: base64.urlsafe_b64encode(bytes).rstrip(b"=")
    parts = {"typ": "JWT", "alg": "ed25519-nkey"}, {"jti": "x", "iat": 1, "iss": issuer, "sub": subject, "nats": nats}
    text = b".".join(encode(json.dumps(part).encode()) for part in parts)
    return (text + b"." + encode(signer.sign(text))).decode()
(operator, operator_id), (account, account_id), (user, user_id) = map(key, (
    nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER))
none = dict(subs=-1, data=-1, payload=-1)
print(jwt(operator, operator_id, operator_id, {"type": "operator", "version": 2}))
print(jwt(operator, operator_id, account_id, {"type": "account", "version": 2, "limits": none | dict(
    imports=-1, exports=-1, wildcards=True, conn=-1, leaf=-1)}))
print(account_id)
print("-----BEGIN NATS USER JWT-----")
print(jwt(account, account_id, user_id, {"type": "user", "version": 2} | none))
print("------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----")
print(user.seed.decode())
print("------END USER NKEY SEED------")
"#;

/// Writes the certificate of an authority, `ca`, and one it makes for a name with its key, `cert` and `key`.
fn write(authority: &Authority, folder: &Path, name: &str, days: i64) {
    let Identity { certificate, key } = authority.issue(&[name], days);
    fs::create_dir_all(folder).unwrap();
    for (file, text) in [("ca", authority.pem()), ("cert", certificate), ("key", key)] {
        fs::write(folder.join(file), text).unwrap();
    }
}

fn assert_refused(result: Result<Connection, String>, because: &str) {
    let error = result.err().expect("it is refused");
    assert!(error.contains(because), "expected {because:?}: {error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn users_tokens_and_keys() {
    let seed = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    let config = "authorization { users: [{ user: me, password: \"p@:,\" }, \
                  { nkey: UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK }] }";
    let Some(server) = server("users", config) else { return };
    let (port, path) = (server.port(), server.folder().join("seed"));
    fs::write(&path, seed).unwrap();
    let file = path.to_str().unwrap();
    connect(&server.url(), &[("USER", "me"), ("PASSWORD", "p@:,")]).unwrap();
    connect(&format!("nats://me:p%40%3A%2C@127.0.0.1:{port}"), &[("USER", "x"), ("PASSWORD", "x")]).unwrap();
    connect(&server.url(), &[("NKEY", file)]).unwrap();
    assert_refused(connect(&server.url(), &[]), "says \"Authorization Violation\" to nobody in particular");
    let wrong = [("USER", "me"), ("PASSWORD", "hunter2")];
    assert_refused(connect(&server.url(), &wrong), "says \"Authorization Violation\" to user \"me\"");
    assert_refused(connect(&server.url(), &[("TOKEN", "hunter2")]), "says \"Authorization Violation\" to a token");
    // The account's of the same bytes.
    fs::write(&path, seed.replace("SUA", "SAA")).unwrap();
    let refused = format!("{file}: expected a line with the seed of a user");
    assert_refused(connect(&server.url(), &[("NKEY", file)]), &refused);

    let Some(server) = testkit::require("nats: a token", Server::start("authorization { token: hunter2 }")) else {
        return;
    };
    connect(&server.url(), &[("TOKEN", "hunter2")]).unwrap();
    connect(&format!("nats://hunter2@127.0.0.1:{}", server.port()), &[]).unwrap();
    assert_refused(connect(&server.url(), &[("TOKEN", "x")]), "Authorization Violation");
}

#[test]
fn credentials_of_a_decentral_account() {
    if testkit::require("nats: credentials", testkit::python(&NATS_PACKAGES)).is_none() {
        return;
    }
    let output = Command::new(python()).args(["-c", DECENTRAL]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut parts = text.splitn(4, '\n');
    let (operator, jwt, account, creds) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let config = format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {account}: {jwt} }}");
    let Some(server) = server("credentials", &config) else { return };
    let path = server.folder().join("user.creds");
    fs::write(&path, creds).unwrap();
    connect(&server.url(), &[("CREDENTIALS", path.to_str().unwrap())]).unwrap();
    assert_refused(connect(&server.url(), &[]), "says \"Authorization Violation\" to nobody in particular");
    // The JWT is one of another key.
    let (head, seed) = creds.split_once("SU").unwrap();
    let other = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    fs::write(&path, format!("{head}{other}\n{}", seed.split_once('\n').unwrap().1)).unwrap();
    let refused = format!("says \"Authorization Violation\" to {}", path.display());
    assert_refused(connect(&server.url(), &[("CREDENTIALS", path.to_str().unwrap())]), &refused);
}

#[test]
fn servers_are_who_they_say_and_so_is_this_side() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("one"), Authority::new("other"));
    let at = |name: &str| folder.path().join(name);
    write(&ours, &at("server"), "127.0.0.1", 1);
    write(&ours, &at("client"), "agent", 1);
    write(&ours, &at("expired"), "127.0.0.1", -1);
    write(&ours, &at("elsewhere"), "db.example", 1);
    write(&theirs, &at("theirs"), "agent", 1);
    let file = |name: &str| at(name).to_str().unwrap().to_owned();
    let tls = |name: &str, more: &str| {
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\" {more} }}",
            file(&format!("{name}/cert")),
            file(&format!("{name}/key"))
        )
    };
    let (ca, wrong_ca) = (file("server/ca"), file("theirs/ca"));
    let ca = ("TLS_CA_FILE", ca.as_str());

    let Some(mut server) = server("TLS", &tls("server", "")) else { return };
    let secure = |server: &Server| format!("tls://127.0.0.1:{}", server.port());
    // That of nats:// does what the server wants.
    connect(&server.url(), &[ca]).unwrap();
    connect(&secure(&server), &[ca]).unwrap();
    assert_refused(
        connect(&secure(&server), &[("TLS_CA_FILE", &wrong_ca)]),
        "TLS: invalid peer certificate: UnknownIssuer",
    );
    assert_refused(connect(&secure(&server), &[("TLS_CA_FILE", "/nowhere")]), "TLS: /nowhere: ");
    server.restart_with(&tls("expired", ""));
    assert_refused(connect(&secure(&server), &[ca]), "TLS: invalid peer certificate: certificate expired");
    server.restart_with(&tls("elsewhere", ""));
    assert_refused(connect(&secure(&server), &[ca]), "TLS: invalid peer certificate: certificate not valid for name");

    server.restart_with(&tls("server", &format!(", ca_file: \"{}\", verify: true", ca.1)));
    let client = [("TLS_CERT_FILE", file("client/cert")), ("TLS_KEY_FILE", file("client/key"))];
    let client = [ca, (client[0].0, client[0].1.as_str()), (client[1].0, client[1].1.as_str())];
    connect(&secure(&server), &client).unwrap();
    assert!(connect(&secure(&server), &[ca]).is_err());
    let stranger = [("TLS_CERT_FILE", file("theirs/cert")), ("TLS_KEY_FILE", file("theirs/key"))];
    assert!(
        connect(&secure(&server), &[ca, (stranger[0].0, &stranger[0].1), (stranger[1].0, &stranger[1].1)]).is_err()
    );

    server.restart_with("");
    assert_refused(connect(&secure(&server), &[ca]), "offers no TLS: expected it, since its URL begins with tls://");
    connect(&server.url(), &[ca]).unwrap();
}

#[test]
fn events_come_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    write(&Authority::new("one"), folder.path(), "localhost", 1);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config = format!("{JETSTREAM}\ntls {{ cert_file: \"{}\", key_file: \"{}\" }}", file("cert"), file("key"));
    let Some(mut server) = server("events over TLS", &config) else { return };
    let mut host =
        open(&format!("tls://localhost:{}", server.port()), &[&STORED[..], &[("TLS_CA_FILE", &file("ca"))]].concat());
    export(&mut host, 0..50_000);
    until_delivered(&host, 50_000);
    close(host);
    // The consumer knows nothing of certificates.
    server.restart_with(JETSTREAM);
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..50_000).collect::<Vec<_>>());
}

#[test]
fn who_is_no_nats_server_is_told_from_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let answers = ["HTTP/1.1 400 Bad Request\r\n", "PONG\r\n", "INFO {\"max_payload\":7}\r\n", "INFO nonsense\r\n", ""];
    let thread = thread::spawn(move || {
        for answer in answers {
            std::io::Write::write_all(&mut listener.accept().unwrap().0, answer.as_bytes()).unwrap();
        }
    });
    for because in [
        "\"HTTP/1.1 400 Bad Request\" is no NATS",
        "no INFO at first",
        "is older than NATS 2.2",
        "is older than NATS 2.2",
        "closed the connection",
    ] {
        assert_refused(connect(&url, &[]), because);
    }
    thread.join().unwrap();
}
