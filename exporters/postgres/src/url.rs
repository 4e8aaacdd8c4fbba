// SPDX-License-Identifier: Apache-2.0

//! Where the database is: a URL, read as libpq reads it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use nixl_telemetry_sdk::{Dialect, Malformed, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where libpq of Debian and its kin looks for a server when no host is named.
const SOCKETS: &str = "/var/run/postgresql";
const PORT: u16 = 5432;
/// What stays as it is in a URL that is shown.
const SHOWN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// `postgres://user:password@host:port/database?sslmode=…`
#[derive(Clone, PartialEq)]
pub(crate) struct Url {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    pub(crate) ssl_mode: Option<SslMode>,
    /// `sslrootcert`; `None` if it is absent.
    pub(crate) root: Option<Root>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) application_name: Option<String>,
    /// Settings of the session, such as `-c synchronous_commit=off`.
    pub(crate) options: Option<String>,
}

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of a socket.
    Unix(PathBuf),
}

/// Who vouches for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Those whom the system trusts.
    System,
    /// Those in this file.
    File(PathBuf),
}

/// Whether there is TLS, and how much of the server's certificate is looked at: libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    const WORDS: [(&str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl Url {
    /// # Errors
    /// What was expected.
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        let whole = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let (address, query) = split(whole.ok_or(Self::EXPECTED)?, '?');
        let (authority, database) = split(address, '/');
        // Who writes an @ into a password that is not encoded is understood nevertheless.
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = split(login, ':');
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("a ] after an address that begins with [")?;
                (host, port.strip_prefix(':'))
            }
            None => split(place, ':'),
        };
        let mut host = decode(host)?;
        let mut port = port.map(decode).transpose()?;
        let mut user = decode(user)?;
        let mut password = password.map(decode).transpose()?;
        let mut database = database.map(decode).transpose()?;
        let (mut ssl_mode, mut root, mut certificate, mut key) = (None, None, None, None);
        let (mut application_name, mut options) = (None, None);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("parameters of the form name=value")?;
            let value = decode(value)?;
            match name {
                "host" => host = value,
                "port" => port = Some(value),
                "user" => user = value,
                "password" => password = Some(value),
                "dbname" => database = Some(value),
                "sslmode" => {
                    let words = || SslMode::WORDS.map(|(word, _)| word).join(", ");
                    let mode = SslMode::WORDS.into_iter().find(|(word, _)| *word == value);
                    ssl_mode = Some(mode.ok_or_else(|| format!("sslmode to be one of {}", words()))?.1);
                }
                "sslrootcert" if value == "system" => root = Some(Root::System),
                "sslrootcert" => root = Some(Root::File(value.into())),
                "sslcert" => certificate = Some(value.into()),
                "sslkey" => key = Some(value.into()),
                "application_name" => application_name = Some(value),
                "options" => options = Some(value),
                _ => {
                    return Err(
                        "no parameters but host, port, user, password, dbname, sslmode, sslrootcert, sslcert, \
                                sslkey, application_name and options"
                            .into(),
                    );
                }
            }
        }
        if host.contains(',') {
            return Err("one host".into());
        }
        if user.is_empty() {
            return Err("a user, as in postgres://user@host/database".into());
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => PORT,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("a port from 1 to 65535")?,
        };
        let host = match host.as_str() {
            "" => Host::Unix(SOCKETS.into()),
            path if path.starts_with('/') => Host::Unix(path.into()),
            _ => Host::Tcp(host),
        };
        let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        let password = password.filter(|password| !password.is_empty());
        Ok(Self { host, port, user, password, database, ssl_mode, root, certificate, key, application_name, options })
    }

    /// The socket in a directory, as the server names it.
    pub(crate) fn socket(&self, directory: &Path) -> PathBuf {
        directory.join(format!(".s.PGSQL.{}", self.port))
    }
}

/// Without password and parameters.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text: &str| utf8_percent_encode(text, SHOWN).to_string();
        write!(f, "postgres://{}@", encode(&self.user))?;
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Tcp(host) => write!(f, "{}", encode(host))?,
            Host::Unix(path) => write!(f, "{}", encode(&path.to_string_lossy()))?,
        }
        write!(f, ":{}/{}", self.port, encode(&self.database))
    }
}

/// As it is shown.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Value for Url {
    const TYPE: &'static str = "url";
    const EXPECTED: &'static str = "a URL such as postgres://user@host:5432/database?sslmode=verify-full";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        Self::parse(text.trim()).map_err(Malformed::expected)
    }

    /// Nobody knows where the password is in what is no such URL.
    fn show(text: &str) -> Cow<'_, str> {
        Self::parse(text.trim()).map_or("<secret>".into(), |url| url.to_string().into())
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn decode(text: &str) -> Result<String, Cow<'static, str>> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "text in UTF-8 behind every %XX")?;
    if text.contains('\0') { Err("no %00".into()) } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_libpq_has_it() {
        for (text, shown) in [
            ("postgres://u@h", "postgres://u@h:5432/u"),
            ("postgresql://u:p@h:1/d", "postgres://u@h:1/d"),
            ("postgres://u@[::1]:2/d", "postgres://u@[::1]:2/d"),
            ("postgres://u@", "postgres://u@%2Fvar%2Frun%2Fpostgresql:5432/u"),
            ("postgres:///d?user=u&host=/run/x&port=7", "postgres://u@%2Frun%2Fx:7/d"),
            ("postgres://u@%2Frun%2Fx/d", "postgres://u@%2Frun%2Fx:5432/d"),
            ("postgres://a%40b:p%3A%2F@h/d%20e", "postgres://a%40b@h:5432/d%20e"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            let again = Url::parse(shown).unwrap();
            assert_eq!(Url { password: None, ..url }, again, "{shown}");
        }
        assert_eq!(Url::parse("postgres://u:p%3A%2F@h").unwrap().password.as_deref(), Some("p:/"));
        assert_eq!(Url::parse("postgres://u:p@q@h").unwrap().password.as_deref(), Some("p@q"));
        assert_eq!(Url::parse("postgres://u@h?password=%26").unwrap().password.as_deref(), Some("&"));
        let url = Url::parse("postgres://u@/").unwrap();
        assert_eq!(url.socket(Path::new("/x")), Path::new("/x/.s.PGSQL.5432"));
    }

    #[test]
    fn parameters_are_libpqs() {
        let url = Url::parse(
            "postgres://u@h/d?sslmode=verify-ca&sslrootcert=/ca&sslcert=/c&sslkey=/k&application_name=a&options=-c%20x=y",
        )
        .unwrap();
        assert_eq!((url.ssl_mode, url.root), (Some(SslMode::VerifyCa), Some(Root::File("/ca".into()))));
        assert_eq!((url.certificate, url.key), (Some("/c".into()), Some("/k".into())));
        assert_eq!((url.application_name.as_deref(), url.options.as_deref()), (Some("a"), Some("-c x=y")));
        assert_eq!(Url::parse("postgres://u@h?sslrootcert=system").unwrap().root, Some(Root::System));
    }

    #[test]
    fn what_is_no_such_url_is_not_shown() {
        for (text, expected) in [
            ("host=h password=hunter2", Url::EXPECTED),
            ("mysql://u:hunter2@h", Url::EXPECTED),
            ("postgres://u:hunter2", "a user, as in postgres://user@host/database"),
            ("postgres://u:hunter2@h:99999/d", "a port from 1 to 65535"),
            ("postgres://u:hunter2@h:0/d", "a port from 1 to 65535"),
            ("postgres://u:hunter2@a:1,b:2/d", "a port from 1 to 65535"),
            ("postgres://u:hunter2@a,b/d", "one host"),
            ("postgres://u:hunter2@[::1/d", "a ] after an address that begins with ["),
            ("postgres://u:hunter2%FF@h/d", "text in UTF-8 behind every %XX"),
            ("postgres://u:hunter2%00@h/d", "no %00"),
            ("postgres://u:hunter2@h/d?sslmode", "parameters of the form name=value"),
            (
                "postgres://u:hunter2@h/d?sslmode=on",
                "sslmode to be one of disable, prefer, require, verify-ca, verify-full",
            ),
            ("postgres://u:hun?ter2@h/d", "parameters of the form name=value"),
        ] {
            let error = Url::from_env(OsStr::new(text), Dialect::Current).unwrap_err();
            assert_eq!(error.what(), expected, "{text}");
            assert_eq!(Url::show(text), "<secret>");
        }
        let error = Url::parse("postgres://u@h?passfile=x").unwrap_err();
        assert!(error.starts_with("no parameters but host, port"), "{error}");
        assert_eq!(Url::show("postgres://u:hunter2@h/d?password=hunter2"), "postgres://u@h:5432/d");
        assert_eq!(format!("{:?}", Url::parse("postgres://u:hunter2@h").unwrap()), "Url(postgres://u@h:5432/u)");
    }
}
