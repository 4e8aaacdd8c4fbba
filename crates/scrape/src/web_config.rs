// SPDX-License-Identifier: Apache-2.0

//! The web configuration file of Prometheus' exporters.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    auth::{self, Users},
    tls::{ClientAuth, Source, Tls, TlsError, TlsSettings},
};

/// The highest cost of a password's hash: to verify one takes the server's one thread about a second.
const HIGHEST_COST: u32 = 14;

/// The headers that may be set, and their values, if not any.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

/// TLS, users and headers of a server. The default is none of them.
///
/// Read from a file as
/// [Prometheus' exporter toolkit](https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md)
/// describes it:
///
/// ```yaml
/// tls_server_config:
///   cert_file: server.crt
///   key_file: server.key
///   client_auth_type: RequireAndVerifyClientCert
///   client_ca_file: clients.crt
/// basic_auth_users:
///   prometheus: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG
/// ```
///
/// Other than there, `http2` is without effect, as HTTP/1.1 is spoken here; `client_allowed_sans` and `rate_limit` are
/// errors, as they would not be obeyed; so are TLS before 1.2, a bcrypt cost above 14, and cipher suites and curves that
/// are not offered. Users are read once; certificates whenever their files have changed.
#[derive(Default)]
pub struct WebConfig {
    tls: Option<Tls>,
    users: Users,
    /// Headers on every answer, each with its end of line.
    headers: String,
}

/// A web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read.
    #[error("cannot read the web configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("the web configuration {} is no YAML: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// The value of a key cannot be used, or nobody knows the key.
    #[error("the web configuration {}: {key}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key, with those it is under, as in `tls_server_config.cert_file`.
        key: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

impl WebConfig {
    /// Reads a file and the certificates it names. Their paths count from the folder the file is in.
    ///
    /// # Errors
    /// If the file cannot be read, is not YAML, or has a key or value that is not understood; if certificates cannot be
    /// read, or are none. The error says which.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, WebConfigError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| WebConfigError::Read { path: path.to_owned(), source })?;
        let documents = YamlLoader::load_from_str(&text)
            .map_err(|error| WebConfigError::Syntax { path: path.to_owned(), problem: error.to_string() })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let document = match &documents[..] {
            [] => &Yaml::Null,
            [document] => document,
            _ => {
                let problem = "there is more than one document".to_owned();
                return Err(WebConfigError::Syntax { path: path.to_owned(), problem });
            }
        };
        Self::read(document, folder).map_err(|TlsError { key, problem }| WebConfigError::Invalid {
            path: path.to_owned(),
            key,
            problem,
        })
    }

    /// Whether connections use TLS, and so `https`.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether clients need a name and password.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    pub(crate) fn into_parts(self) -> (Option<Tls>, Users, String) {
        (self.tls, self.users, self.headers)
    }

    fn read(document: &Yaml, folder: &Path) -> Result<Self, TlsError> {
        let mut config = Self::default();
        for (name, node) in Node::root(document).fields()? {
            match name.as_str() {
                "tls_server_config" => config.tls = read_tls(&node, folder)?.map(Tls::load).transpose()?,
                "http_server_config" => config.headers = read_http(&node)?,
                "basic_auth_users" => config.users = read_users(&node)?,
                "rate_limit" => return Err(node.error("rate limits are not supported")),
                _ => return Err(node.unknown("tls_server_config, http_server_config or basic_auth_users")),
            }
        }
        Ok(config)
    }
}

impl fmt::Debug for WebConfig {
    /// Without hashes and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("has_tls", &self.has_tls())
            .field("users", &self.users.len())
            .field("headers", &self.headers)
            .finish()
    }
}

fn read_users(node: &Node<'_>) -> Result<Users, TlsError> {
    let mut users = Users::new();
    for (name, node) in node.fields()? {
        if name.is_empty() || name.contains(':') {
            return Err(node.error("the name of a user is not empty and has no colon"));
        }
        let hash = node.text()?.unwrap_or_default();
        match auth::cost(hash) {
            Some(4..=HIGHEST_COST) => users.push((name, hash.to_owned())),
            Some(cost) => {
                let problem = format!("the hash has a cost of {cost}; one from 4 to {HIGHEST_COST} was expected");
                return Err(node.error(problem));
            }
            // The value is a secret, if not a good one.
            None => return Err(node.error("the value is no hash of bcrypt, such as `htpasswd -nBC 10 \"\"` makes")),
        }
    }
    Ok(users)
}

fn read_http(node: &Node<'_>) -> Result<String, TlsError> {
    let mut headers = String::new();
    for (name, node) in node.fields()? {
        match name.as_str() {
            "http2" => {
                node.boolean()?;
            }
            "headers" => {
                for (name, node) in node.fields()? {
                    headers += &read_header(&name, &node)?;
                }
            }
            _ => return Err(node.unknown("http2 or headers")),
        }
    }
    Ok(headers)
}

fn read_header(name: &str, node: &Node<'_>) -> Result<String, TlsError> {
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        return Err(node.unknown(&HEADERS.map(|(name, _)| name).join(", ")));
    };
    let value = node.text()?.unwrap_or_default();
    if value.is_empty() {
        return Ok(String::new());
    }
    if !allowed.is_empty() && !allowed.contains(&value) {
        return Err(node.error(format!("{value:?} is not allowed; {} was expected", allowed.join(" or "))));
    }
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(node.error(format!("{value:?} is no header: it has to be one line of ASCII")));
    }
    Ok(format!("{name}: {value}\r\n"))
}

fn read_tls(node: &Node<'_>, folder: &Path) -> Result<Option<TlsSettings>, TlsError> {
    let (mut certificate, mut key, mut client_ca, mut client_auth) = (None, None, None, ClientAuth::None);
    let (mut oldest, mut newest) = (&TLS12, &TLS13);
    let mut provider = ring::default_provider();
    let mut prefers_own_order = true;
    let fields = node.fields()?;
    for (name, node) in &fields {
        match name.as_str() {
            "cert" => set(&mut certificate, node, node.inline()?)?,
            "cert_file" => set(&mut certificate, node, node.file(folder)?)?,
            "key" => set(&mut key, node, node.inline()?)?,
            "key_file" => set(&mut key, node, node.file(folder)?)?,
            "client_ca" => set(&mut client_ca, node, node.inline()?)?,
            "client_ca_file" => set(&mut client_ca, node, node.file(folder)?)?,
            "client_auth_type" => client_auth = read_client_auth(node)?,
            "min_version" => oldest = read_version(node, &TLS12)?,
            "max_version" => newest = read_version(node, &TLS13)?,
            "cipher_suites" => restrict_suites(&mut provider, node)?,
            "curve_preferences" => restrict_groups(&mut provider, node)?,
            "prefer_server_cipher_suites" => prefers_own_order = node.boolean()?.unwrap_or(true),
            "client_allowed_sans" => return Err(node.error("names in certificates of clients are not looked at")),
            _ => return Err(node.unknown("a key of Prometheus' exporter toolkit")),
        }
    }
    // Like the toolkit: whoever says nothing about certificates gets no TLS.
    if certificate.is_none() && key.is_none() && client_ca.is_none() && client_auth == ClientAuth::None {
        return Ok(None);
    }
    let certificate = certificate.ok_or_else(|| node.error("one of cert_file and cert is needed"))?;
    let key = key.ok_or_else(|| node.error("one of key_file and key is needed"))?;
    match (client_auth, &client_ca) {
        (ClientAuth::None, Some(_)) => return Err(node.error("client_ca_file is of no use without a client_auth_type")),
        (ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify, None) => {
            return Err(node.error("client_auth_type needs a client_ca_file to verify by"));
        }
        _ => {}
    }
    let versions = match (oldest.version == TLS12.version, newest.version == TLS13.version) {
        (true, true) => vec![&TLS12, &TLS13],
        (true, false) => vec![&TLS12],
        (false, true) => vec![&TLS13],
        (false, false) => return Err(node.error("min_version is above max_version")),
    };
    let provider = Arc::new(provider);
    Ok(Some(TlsSettings { certificate, key, client_ca, client_auth, versions, provider, prefers_own_order }))
}

/// Sets what can be given in two ways, but once.
fn set(slot: &mut Option<Source>, node: &Node<'_>, source: Option<Source>) -> Result<(), TlsError> {
    match source {
        Some(_) if slot.is_some() => Err(node.error("is given twice, inline and as a file")),
        Some(source) => {
            *slot = Some(source);
            Ok(())
        }
        None => Ok(()),
    }
}

fn read_client_auth(node: &Node<'_>) -> Result<ClientAuth, TlsError> {
    match node.text()?.unwrap_or_default() {
        "" | "NoClientCert" => Ok(ClientAuth::None),
        "RequestClientCert" => Ok(ClientAuth::Request),
        // The second is what the toolkit called it once.
        "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAny),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
        other => Err(node.error(format!(
            "{other:?} is unknown; NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
             RequireAndVerifyClientCert was expected"
        ))),
    }
}

fn read_version(
    node: &Node<'_>,
    default: &'static SupportedProtocolVersion,
) -> Result<&'static SupportedProtocolVersion, TlsError> {
    match node.text()? {
        None | Some("") => Ok(default),
        Some("TLS12") => Ok(&TLS12),
        Some("TLS13") => Ok(&TLS13),
        Some(other) => Err(node.error(format!("{other:?} is not spoken; TLS12 or TLS13 was expected"))),
    }
}

/// Keeps the suites of TLS 1.2 that are listed, in that order. Those of TLS 1.3 are always offered, as in Go.
fn restrict_suites(provider: &mut CryptoProvider, node: &Node<'_>) -> Result<(), TlsError> {
    let is_newest = |suite: &rustls::SupportedCipherSuite| suite.version().version == TLS13.version;
    let (mut suites, known): (Vec<_>, Vec<_>) = provider.cipher_suites.iter().copied().partition(is_newest);
    let names = node.list()?;
    for name in &names {
        match known.iter().find(|suite| format!("{:?}", suite.suite()) == *name) {
            Some(suite) => suites.push(*suite),
            None if ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
                .contains(name) => {}
            None => {
                let known: Vec<_> = known.iter().map(|suite| format!("{:?}", suite.suite())).collect();
                return Err(node.error(format!("{name:?} is not offered; there are {}", known.join(", "))));
            }
        }
    }
    if !names.is_empty() {
        provider.cipher_suites = suites;
    }
    Ok(())
}

/// Keeps the groups that are listed, in that order.
fn restrict_groups(provider: &mut CryptoProvider, node: &Node<'_>) -> Result<(), TlsError> {
    let mut groups = Vec::new();
    for name in node.list()? {
        groups.push(match name {
            "X25519" => ring::kx_group::X25519,
            "CurveP256" => ring::kx_group::SECP256R1,
            "CurveP384" => ring::kx_group::SECP384R1,
            _ => return Err(node.error(format!("{name:?} is not offered; there are X25519, CurveP256 and CurveP384"))),
        });
    }
    if !groups.is_empty() {
        provider.kx_groups = groups;
    }
    Ok(())
}

/// A value, and the keys it is under.
struct Node<'a> {
    key: String,
    value: &'a Yaml,
}

impl<'a> Node<'a> {
    fn root(value: &'a Yaml) -> Self {
        Self { key: String::new(), value }
    }

    /// The keys of a mapping and what they are for; none if there is nothing.
    fn fields(&self) -> Result<Vec<(String, Self)>, TlsError> {
        let mapping = match self.value {
            Yaml::Null => return Ok(Vec::new()),
            Yaml::Hash(mapping) => mapping,
            _ => return Err(self.error("keys and values were expected")),
        };
        let field = |(name, value): (&'a Yaml, &'a Yaml)| {
            let name =
                name.as_str().ok_or_else(|| self.error(format!("the key {name:?} is no text; quotes make it one")))?;
            let key = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
            Ok((name.to_owned(), Self { key, value }))
        };
        mapping.iter().map(field).collect()
    }

    fn text(&self) -> Result<Option<&'a str>, TlsError> {
        match self.value {
            Yaml::Null => Ok(None),
            Yaml::String(text) => Ok(Some(text)),
            _ => Err(self.error("a text was expected; quotes make it one")),
        }
    }

    fn boolean(&self) -> Result<Option<bool>, TlsError> {
        match self.value {
            Yaml::Null => Ok(None),
            Yaml::Boolean(value) => Ok(Some(*value)),
            _ => Err(self.error("true or false was expected")),
        }
    }

    fn list(&self) -> Result<Vec<&'a str>, TlsError> {
        let texts = match self.value {
            Yaml::Null => return Ok(Vec::new()),
            Yaml::Array(values) => values.iter().map(Yaml::as_str).collect(),
            _ => None,
        };
        texts.ok_or_else(|| self.error("a list of texts was expected"))
    }

    fn inline(&self) -> Result<Option<Source>, TlsError> {
        let pem = self.text()?.filter(|pem| !pem.is_empty());
        Ok(pem.map(|pem| Source::Inline { key: self.key.clone(), pem: pem.to_owned() }))
    }

    fn file(&self, folder: &Path) -> Result<Option<Source>, TlsError> {
        let path = self.text()?.filter(|path| !path.is_empty());
        Ok(path.map(|path| Source::File { key: self.key.clone(), path: folder.join(path) }))
    }

    fn unknown(&self, expected: &str) -> TlsError {
        self.error(format!("nobody knows this key; {expected} was expected"))
    }

    fn error(&self, problem: impl Into<String>) -> TlsError {
        let key = if self.key.is_empty() { "the document".to_owned() } else { self.key.clone() };
        TlsError { key, problem: problem.into() }
    }
}
