// SPDX-License-Identifier: Apache-2.0

//! What may be set, and how it makes a [`Config`].

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_dial::{Certificates, Verify};
use nixl_telemetry_sdk::{Describe, Error, Millis, Setting, Settings, absolute};

use crate::failure::Failure;
use crate::schema::Table;
use crate::url::{Host, Root, SslMode, Url};

static URL: Setting<Url> = Setting::required(
    "NIXL_TELEMETRY_POSTGRES_URL",
    "Where the database is, in libpq's words: postgres://user:password@host:port/database?sslmode=verify-full. A host that is a \
     path is the directory of a Unix socket.",
);
pub(crate) static PASSWORD: Setting<String> =
    Setting::optional("NIXL_TELEMETRY_POSTGRES_PASSWORD", "The password, in place of the URL's.").secret();
pub(crate) static PASSWORD_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_POSTGRES_PASSWORD_FILE",
    "File whose first line is the password, in place of the URL's; it is read for each connection, so that it may change.",
);
static TLS_CA_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_POSTGRES_TLS_CA_FILE",
    "File of certificates in PEM that vouch for the server, in place of the URL's sslrootcert; with it, sslmode is verify-full \
     unless the URL says otherwise.",
);
static TLS_CERT_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_POSTGRES_TLS_CERT_FILE",
    "File of the certificate this side shows, and those it derives from, in PEM, in place of the URL's sslcert; needs the key.",
);
static TLS_KEY_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_POSTGRES_TLS_KEY_FILE",
    "File of its private key in PEM, in place of the URL's sslkey.",
);
static TABLE: Setting<Table> = Setting::new(
    "NIXL_TELEMETRY_POSTGRES_TABLE",
    "nixl_events",
    "The table of events, table or schema.table, to the letter. Those beside it have its name and an ending.",
);
pub(crate) static CREATE_TABLE: Setting<bool> = Setting::new(
    "NIXL_TELEMETRY_POSTGRES_CREATE_TABLE",
    "true",
    "Whether tables that are missing are created; with TimescaleDB the table of events becomes a hypertable.",
);
static CONNECT_TIMEOUT: Setting<Millis> =
    Setting::new("NIXL_TELEMETRY_POSTGRES_CONNECT_TIMEOUT", "10000", "Time a connection may take to be made.")
        .check("milliseconds from 1 to 86400000", is_possible);
static TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_POSTGRES_TIMEOUT",
    "30000",
    "Time a statement may take, waiting for locks included, before the server cancels it and it is tried again.",
)
.check("milliseconds from 1 to 86400000", is_possible);

pub(crate) static SETTINGS: &[&dyn Describe] = &[
    &URL,
    &PASSWORD,
    &PASSWORD_FILE,
    &TLS_CA_FILE,
    &TLS_CERT_FILE,
    &TLS_KEY_FILE,
    &TABLE,
    &CREATE_TABLE,
    &CONNECT_TIMEOUT,
    &TIMEOUT,
];

fn is_possible(time: &Millis) -> bool {
    (1..=86_400_000).contains(&time.0)
}

/// Where to, and how. Secret in part, so that it has no `Debug`.
pub(crate) struct Config {
    pub(crate) url: Url,
    password: Password,
    pub(crate) tls: Security,
    pub(crate) certificates: Certificates,
    pub(crate) table: Table,
    pub(crate) creates: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
}

/// Whether a connection is in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Never,
    /// If the server has it.
    Perhaps(Verify),
    Always(Verify),
}

enum Password {
    None,
    Text(String),
    File(PathBuf),
}

impl Config {
    /// # Errors
    /// Names the setting, its value and what was expected.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        // They are read again for each connection.
        let file = |setting: &Setting<PathBuf>, of_url: Option<PathBuf>| {
            let path = settings.find(setting)?.map(|found| found.value).or(of_url);
            path.map(|path| absolute(setting.name(), &path)).transpose()
        };
        let mut url = settings.get(&URL)?.value;
        let text = settings.find(&PASSWORD)?.map(|found| found.value);
        let password = match (text, file(&PASSWORD_FILE, None)?) {
            (Some(_), Some(_)) => return Err(both(&PASSWORD, &PASSWORD_FILE, "one of them")),
            (Some(text), None) => Password::Text(text),
            (None, Some(path)) => Password::File(path),
            (None, None) => url.password.take().map_or(Password::None, Password::Text),
        };
        let (root, of_url) = match url.root.take() {
            Some(Root::File(path)) => (None, Some(path)),
            root => (root, None),
        };
        let root = file(&TLS_CA_FILE, of_url)?.map(Root::File).or(root);
        let certificate = file(&TLS_CERT_FILE, url.certificate.take())?;
        let client = match (certificate, file(&TLS_KEY_FILE, url.key.take())?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(both(&TLS_CERT_FILE, &TLS_KEY_FILE, "both of them, or neither")),
        };
        let tls = security(&url, root.as_ref());
        let ca = match root {
            Some(Root::File(path)) => Some(path),
            Some(Root::System) | None => None,
        };
        Ok(Self {
            url,
            password,
            tls,
            certificates: Certificates { ca, client },
            table: settings.get(&TABLE)?.value,
            creates: settings.get(&CREATE_TABLE)?.value,
            connect_timeout: settings.get(&CONNECT_TIMEOUT)?.value.duration(),
            timeout: settings.get(&TIMEOUT)?.value.duration(),
        })
    }

    /// The password as it is now.
    ///
    /// # Errors
    /// If there is none, or its file cannot be read.
    pub(crate) fn password(&self) -> Result<String, Failure> {
        match &self.password {
            Password::None => Err(Failure::NoPassword),
            Password::Text(text) => Ok(text.clone()),
            Password::File(path) => match fs::read_to_string(path) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
                Err(error) => Err(Failure::PasswordFile { path: path.clone(), error }),
            },
        }
    }
}

/// As libpq has it, but that a file of authorities which was named is made use of in full.
fn security(url: &Url, root: Option<&Root>) -> Security {
    if matches!(url.host, Host::Unix(_)) {
        return Security::Never;
    }
    let verify = if root.is_some() { Verify::Authority } else { Verify::Nothing };
    match (url.ssl_mode, root) {
        (None, Some(_)) | (Some(SslMode::VerifyFull), _) => Security::Always(Verify::Full),
        (Some(SslMode::VerifyCa), _) => Security::Always(Verify::Authority),
        (Some(SslMode::Require), _) => Security::Always(verify),
        (None | Some(SslMode::Prefer), _) => Security::Perhaps(verify),
        (Some(SslMode::Disable), _) => Security::Never,
    }
}

fn both<T, U>(one: &Setting<T>, other: &Setting<U>, expected: &str) -> Error
where
    Setting<T>: Describe,
    Setting<U>: Describe,
{
    format!("{} and {}: expected {expected}", one.describe().name, other.describe().name).into()
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Exporter as _, markdown_table, queue::Queued};

    use super::*;
    use crate::Postgres;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let pairs = pairs.iter().map(|(name, value)| (format!("NIXL_TELEMETRY_POSTGRES_{name}"), *value));
        Config::new(&Settings::from_pairs(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let table = markdown_table(Queued::<Postgres>::SETTINGS);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table), "exporters/postgres/README.md lacks this table:\n{table}");
        for setting in &SETTINGS[1..] {
            setting.inspect(&Settings::empty()).unwrap();
        }
    }

    #[test]
    fn security_is_as_libpq_has_it_and_full_with_an_authority() {
        let (some, every) = (Security::Perhaps, Security::Always);
        for (url, ca, expected) in [
            ("postgres://u@h", None, some(Verify::Nothing)),
            ("postgres://u@h?sslmode=prefer", None, some(Verify::Nothing)),
            ("postgres://u@h?sslmode=prefer", Some("/ca"), some(Verify::Authority)),
            ("postgres://u@h?sslmode=require", None, every(Verify::Nothing)),
            ("postgres://u@h?sslmode=require", Some("/ca"), every(Verify::Authority)),
            ("postgres://u@h?sslmode=verify-ca", None, every(Verify::Authority)),
            ("postgres://u@h?sslmode=verify-full", None, every(Verify::Full)),
            ("postgres://u@h", Some("/ca"), every(Verify::Full)),
            ("postgres://u@h?sslrootcert=/ca", None, every(Verify::Full)),
            ("postgres://u@h?sslrootcert=system", None, every(Verify::Full)),
            ("postgres://u@h?sslmode=disable", Some("/ca"), Security::Never),
            ("postgres://u@/d?sslmode=verify-full", None, Security::Never),
        ] {
            let ca = ca.map(|ca| ("TLS_CA_FILE", ca));
            let pairs: Vec<_> = [("URL", url)].into_iter().chain(ca).collect();
            assert_eq!(config(&pairs).unwrap().tls, expected, "{pairs:?}");
        }
        let files = |pairs| config(pairs).unwrap().certificates;
        let expected = Certificates { ca: Some("/ca".into()), client: Some(("/c".into(), "/k".into())) };
        assert_eq!(files(&[("URL", "postgres://u@h?sslrootcert=/ca&sslcert=/c&sslkey=/k")]), expected);
        assert_eq!(
            files(&[
                ("URL", "postgres://u@h?sslrootcert=/x&sslcert=/x&sslkey=/x"),
                ("TLS_CA_FILE", "/ca"),
                ("TLS_CERT_FILE", "/c"),
                ("TLS_KEY_FILE", "/k"),
            ]),
            expected
        );
    }

    #[test]
    fn files_stay_where_they_are_if_the_process_goes_elsewhere() {
        let here = std::env::current_dir().unwrap();
        let expected = Certificates { ca: Some(here.join("ca")), client: Some((here.join("c"), here.join("k"))) };
        let of_url = config(&[("URL", "postgres://u@h?sslrootcert=ca&sslcert=c&sslkey=k")]).unwrap();
        assert_eq!(of_url.certificates, expected);
        let files = [("TLS_CA_FILE", "ca"), ("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k"), ("PASSWORD_FILE", "p")];
        let of_settings = config(&[&[("URL", "postgres://u@h")][..], &files].concat()).unwrap();
        assert_eq!(of_settings.certificates, expected);
        let error = of_settings.password().unwrap_err().to_string();
        assert!(error.starts_with(here.join("p").to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_password_is_the_urls_a_settings_or_a_files() {
        let url = ("URL", "postgres://u:of-url@h");
        let password = |pairs: &[_]| config(pairs).unwrap().password().map_err(|error| error.to_string());
        assert_eq!(password(&[url]).unwrap(), "of-url");
        assert_eq!(password(&[url, ("PASSWORD", "of-setting")]).unwrap(), "of-setting");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let path = file.to_str().unwrap();
        let config = config(&[url, ("PASSWORD_FILE", path)]).unwrap();
        let error = config.password().unwrap_err().to_string();
        assert!(error.starts_with(path) && error.ends_with("expected a file with the password"), "{error}");
        for text in ["before\n", "after"] {
            fs::write(&file, text).unwrap();
            assert_eq!(config.password().unwrap(), text.trim());
        }
        assert_eq!(
            password(&[("URL", "postgres://u@h")]).unwrap_err(),
            "the server wants a password: expected one in the URL, NIXL_TELEMETRY_POSTGRES_PASSWORD or \
             NIXL_TELEMETRY_POSTGRES_PASSWORD_FILE"
        );
    }

    #[test]
    fn bad_settings_are_named_and_secrets_are_not() {
        let url = ("URL", "postgres://u:hunter2@h");
        for (pairs, expected) in [
            (&[][..], "NIXL_TELEMETRY_POSTGRES_URL is not set"),
            (
                &[("URL", "postgres://u:hunter2@h:x")],
                "NIXL_TELEMETRY_POSTGRES_URL is \"<secret>\" (environment): expected a port from 1 to 65535",
            ),
            (
                &[url, ("PASSWORD", "hunter2"), ("PASSWORD_FILE", "/x")],
                "NIXL_TELEMETRY_POSTGRES_PASSWORD and NIXL_TELEMETRY_POSTGRES_PASSWORD_FILE: expected one of them",
            ),
            (
                &[url, ("TLS_CERT_FILE", "/x")],
                "NIXL_TELEMETRY_POSTGRES_TLS_CERT_FILE and NIXL_TELEMETRY_POSTGRES_TLS_KEY_FILE: expected both of them",
            ),
            (
                &[url, ("TABLE", "a.")],
                "NIXL_TELEMETRY_POSTGRES_TABLE is \"a.\" (environment): expected table or schema",
            ),
            (
                &[url, ("TIMEOUT", "0")],
                "NIXL_TELEMETRY_POSTGRES_TIMEOUT is \"0\" (environment): expected milliseconds from 1",
            ),
        ] {
            let error = config(pairs).err().expect("it is not taken");
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        // What `check` shows.
        let settings = Settings::from_pairs([
            (URL.name(), "postgres://u:hunter2@h?password=hunter2"),
            (PASSWORD.name(), "hunter2"),
        ]);
        for setting in SETTINGS {
            let shown = format!("{:?}", setting.inspect(&settings).unwrap());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
