// SPDX-License-Identifier: Apache-2.0

//! Web configuration files, good and bad.

use nixl_telemetry_scrape::{WebConfig, WebConfigError};
use nixl_telemetry_testkit::Authority;

use crate::{
    pki::{Folder, configured, issue},
    support::{Client, serve},
};

/// What loading a file with this text says, without the path of the folder.
fn problem(folder: &Folder, text: &str) -> String {
    let error = WebConfig::load(folder.write("web.yml", text)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path("").display().to_string().trim_end_matches('/')), "")
}

#[test]
fn everything_bad_is_named() {
    let folder = Folder::new();
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let identity = issue(&authority);
    folder.write_identity(&identity);
    folder.write("ca.crt", &authority.pem());
    folder.write("other.key", &issue(&other).key);
    folder.write("empty.crt", "nothing\n");
    let tls = |more: &str| format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  {more}\n");
    for (text, expected) in [
        // Files.
        ("a: [", "the web configuration web.yml is no YAML: "),
        ("a: 1\na: 2\n", "the web configuration web.yml is no YAML: "),
        ("---\n{}\n---\n{}\n", "the web configuration web.yml is no YAML: there is more than one document"),
        ("- a\n", "web.yml: the document: keys and values were expected"),
        ("7: x\n", "web.yml: the document: the key Integer(7) is no text; quotes make it one"),
        // Keys nobody knows.
        ("tls_config: {}\n", "web.yml: tls_config: nobody knows this key; tls_server_config, http_server_config or"),
        (&tls("certfile: x"), "web.yml: tls_server_config.certfile: nobody knows this key"),
        ("http_server_config: {http3: true}\n", "web.yml: http_server_config.http3: nobody knows this key"),
        // Keys that would not be obeyed.
        ("rate_limit: {burst: 1}\n", "web.yml: rate_limit: rate limits are not supported"),
        (&tls("client_allowed_sans: [a]"), "tls_server_config.client_allowed_sans: names in certificates of clients"),
        // Types.
        ("tls_server_config: text\n", "web.yml: tls_server_config: keys and values were expected"),
        (&tls("min_version: 12"), "tls_server_config.min_version: a text was expected; quotes make it one"),
        (&tls("cipher_suites: [1]"), "tls_server_config.cipher_suites: a list of texts was expected"),
        (&tls("prefer_server_cipher_suites: often"), "prefer_server_cipher_suites: true or false was expected"),
        // TLS.
        ("tls_server_config: {key_file: server.key}\n", "tls_server_config: one of cert_file and cert is needed"),
        ("tls_server_config: {cert_file: server.crt}\n", "tls_server_config: one of key_file and key is needed"),
        (&tls("cert: x"), "tls_server_config.cert: is given twice, inline and as a file"),
        (
            "tls_server_config: {cert_file: no.crt, key_file: server.key}\n",
            "tls_server_config.cert_file: no.crt: No such",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: no.key}\n",
            "tls_server_config.key_file: no.key: No such",
        ),
        (
            "tls_server_config: {cert_file: empty.crt, key_file: server.key}\n",
            "tls_server_config.cert_file: empty.crt: no certificate in PEM",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: empty.crt}\n",
            "tls_server_config.key_file: empty.crt: no private key in PEM",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: other.key}\n",
            "tls_server_config.cert_file: server.crt: cannot be used with the key: ",
        ),
        ("tls_server_config: {cert: x, key: y}\n", "tls_server_config.cert: no certificate in PEM"),
        (
            &tls("client_auth_type: Sometimes"),
            "client_auth_type: \"Sometimes\" is unknown; NoClientCert, RequestClientCert",
        ),
        (&tls("client_auth_type: RequireAndVerifyClientCert"), "client_auth_type needs a client_ca_file to verify by"),
        (&tls("client_ca_file: ca.crt"), "client_ca_file is of no use without a client_auth_type"),
        (
            &tls("client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: empty.crt"),
            "tls_server_config.client_ca_file: empty.crt: no certificate in PEM",
        ),
        (
            &tls("min_version: TLS11"),
            "tls_server_config.min_version: \"TLS11\" is not spoken; TLS12 or TLS13 was expected",
        ),
        (&tls("max_version: SSL3"), "tls_server_config.max_version: \"SSL3\" is not spoken"),
        (&tls("min_version: TLS13\n  max_version: TLS12"), "tls_server_config: min_version is above max_version"),
        (
            &tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
            "cipher_suites: \"TLS_RSA_WITH_AES_128_CBC_SHA\" is not offered; there are TLS_ECDHE_",
        ),
        (
            &tls("curve_preferences: [CurveP521]"),
            "\"CurveP521\" is not offered; there are X25519, CurveP256 and CurveP384",
        ),
        // Users.
        ("basic_auth_users: {alice: secret}\n", "basic_auth_users.alice: the value is no hash of bcrypt"),
        ("basic_auth_users: {alice: }\n", "basic_auth_users.alice: the value is no hash of bcrypt"),
        (
            "basic_auth_users: {'a:b': $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}\n",
            "basic_auth_users.a:b: the name of a user is not empty and has no colon",
        ),
        (
            "basic_auth_users: {alice: $2y$18$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}\n",
            "basic_auth_users.alice: the hash has a cost of 18; one from 4 to 14 was expected",
        ),
        // Headers.
        (
            "http_server_config: {headers: {X-Powered-By: us}}\n",
            "http_server_config.headers.X-Powered-By: nobody knows this key; Content-Security-Policy, X-Frame-Options",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: maybe}}\n",
            "http_server_config.headers.X-Frame-Options: \"maybe\" is not allowed; deny or sameorigin was expected",
        ),
        (
            "http_server_config: {headers: {X-XSS-Protection: \"1\\r\\nSet-Cookie: x\"}}\n",
            "http_server_config.headers.X-XSS-Protection: \"1\\r\\nSet-Cookie: x\" is no header",
        ),
    ] {
        let problem = problem(&folder, text);
        assert!(problem.contains(expected), "{text}\n{problem}\n{expected}");
        assert!(problem.starts_with("the web configuration web.yml"), "{problem}");
    }
    let missing = WebConfig::load(folder.path("none.yml")).unwrap_err();
    assert!(matches!(&missing, WebConfigError::Read { path, .. } if path.ends_with("none.yml")), "{missing}");
    // A secret that is no hash stays one.
    assert!(!problem(&folder, "basic_auth_users: {alice: secret}\n").contains("secret"));
}

#[test]
fn what_says_nothing_changes_nothing() {
    let folder = Folder::new();
    for text in [
        "",
        "# nothing\n",
        "{}\n",
        "tls_server_config:\nbasic_auth_users:\n",
        "tls_server_config: {min_version: TLS13}\n",
    ] {
        let web = WebConfig::load(folder.write("web.yml", text)).unwrap();
        assert!(!web.has_tls() && !web.has_users(), "{text}");
    }
}

#[test]
fn headers_are_on_every_answer() {
    let folder = Folder::new();
    let text = "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    \
                Content-Security-Policy: \"default-src 'self'\"\n    X-XSS-Protection: ''\n    Strict-Transport-Security: \
                max-age=31536000\n";
    let (_server, address) = serve(configured(&folder.write("web.yml", text)));
    let mut client = Client::connect(address);
    for target in ["/metrics", "/", "/none"] {
        let answer = client.get(target);
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-security-policy"), Some("default-src 'self'"));
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
        assert_eq!(answer.header("x-xss-protection"), None);
    }
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.answer().header("x-frame-options"), Some("deny"));
}

#[test]
fn certificates_may_be_in_the_file_itself() {
    let (authority, folder) = (Authority::new("ours"), Folder::new());
    let identity = issue(&authority);
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (certificate, key) = (indented(&identity.certificate), indented(&identity.key));
    let text = format!("tls_server_config:\n  cert: |\n{certificate}  key: |\n{key}");
    let web = WebConfig::load(folder.write("web.yml", &text)).unwrap();
    assert!(web.has_tls());
    assert!(!format!("{web:?}").contains("PRIVATE"), "{web:?}");
}
