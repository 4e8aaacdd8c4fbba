// SPDX-License-Identifier: Apache-2.0

//! What may be set, and how it makes a [`Config`].

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_dial::Certificates;
use nixl_telemetry_sdk::{Describe, Dialect, Error, Malformed, Millis, Setting, Settings, Value, absolute, one_of};

use crate::credentials::Login;
use crate::servers::Servers;
use crate::subject::Template;

static URL: Setting<Servers> = Setting::new(
    "NIXL_TELEMETRY_NATS_URL",
    "nats://localhost:4222",
    "Servers of one cluster, separated by commas and tried in this order: nats:// is TLS only if the server wants it, tls:// \
     always. May hold user:password@ or token@, percent-encoded.",
);
static SUBJECT: Setting<Template> = Setting::new(
    "NIXL_TELEMETRY_NATS_SUBJECT",
    "nixl.telemetry.{agent}.{origin}",
    "Subject of the messages; {agent}, {hostname}, {pid} and {origin} are replaced, other bytes than letters, digits, - and _ \
     in them written as %XX.",
);
static FORMAT: Setting<Format> = Setting::new(
    "NIXL_TELEMETRY_NATS_FORMAT",
    "jsonl",
    "What messages hold: jsonl, lines of JSON, or msgpack, MessagePack.",
);
static MESSAGE_SIZE: Setting<u32> = Setting::new(
    "NIXL_TELEMETRY_NATS_MESSAGE_SIZE",
    "2048",
    "Events in a message at most; fewer, if they are more bytes than the server or the stream takes.",
)
.check("a number from 1", |events| *events > 0);
static JETSTREAM: Setting<bool> = Setting::new(
    "NIXL_TELEMETRY_NATS_JETSTREAM",
    "false",
    "Whether each message has to be acknowledged by a stream, and is not sent twice; otherwise it is for those who listen at \
     the time.",
);
static STREAM: Setting<StreamName> = Setting::optional(
    "NIXL_TELEMETRY_NATS_STREAM",
    "The stream that has to take the messages, made if it is missing. None by default: whichever takes the subject. Needs \
     JETSTREAM.",
);
static STREAM_MAX_BYTES: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_NATS_STREAM_MAX_BYTES",
    "1073741824",
    "Size of a stream that is made; where it is full, the oldest messages go. 0 is as large as the server allows.",
)
.unit("bytes");
static USER: Setting<String> = Setting::optional("NIXL_TELEMETRY_NATS_USER", "User to log in as; needs PASSWORD.");
static PASSWORD: Setting<String> =
    Setting::optional("NIXL_TELEMETRY_NATS_PASSWORD", "The user's password; needs USER.").secret();
static TOKEN: Setting<String> = Setting::optional("NIXL_TELEMETRY_NATS_TOKEN", "Token to log in with.").secret();
static CREDENTIALS: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_NATS_CREDENTIALS",
    "File of a JWT and the seed of its key to log in with, .creds; read at each connection.",
);
static NKEY: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_NATS_NKEY",
    "File of the seed of a key to log in with, SU…; read at each connection.",
);
static TLS_CA_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_NATS_TLS_CA_FILE",
    "File of certificates in PEM that vouch for the server, in place of the system's.",
);
static TLS_CERT_FILE: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_NATS_TLS_CERT_FILE",
    "File of the certificate this side shows, and those it derives from, in PEM; needs TLS_KEY_FILE.",
);
static TLS_KEY_FILE: Setting<PathBuf> =
    Setting::optional("NIXL_TELEMETRY_NATS_TLS_KEY_FILE", "File of its private key in PEM; needs TLS_CERT_FILE.");
static CONNECT_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_NATS_CONNECT_TIMEOUT",
    "2000",
    "Time to connect to a server, and for each of its answers until one is logged in.",
)
.check("milliseconds from 1", |time| time.0 > 0);
static ACK_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_NATS_ACK_TIMEOUT",
    "5000",
    "Time to wait for the next acknowledgement, or any other answer.",
)
.check("milliseconds from 1", |time| time.0 > 0);

pub(crate) static SETTINGS: &[&dyn Describe] = &[
    &URL,
    &SUBJECT,
    &FORMAT,
    &MESSAGE_SIZE,
    &JETSTREAM,
    &STREAM,
    &STREAM_MAX_BYTES,
    &USER,
    &PASSWORD,
    &TOKEN,
    &CREDENTIALS,
    &NKEY,
    &TLS_CA_FILE,
    &TLS_CERT_FILE,
    &TLS_KEY_FILE,
    &CONNECT_TIMEOUT,
    &ACK_TIMEOUT,
];

/// What the settings say.
pub(crate) struct Config {
    pub(crate) servers: Servers,
    pub(crate) subject: Template,
    pub(crate) format: Format,
    pub(crate) message_size: u64,
    /// `None` is core NATS.
    pub(crate) jetstream: Option<JetStream>,
    /// For servers whose URL says nothing.
    pub(crate) login: Option<Login>,
    pub(crate) certificates: Certificates,
    pub(crate) connect_timeout: Duration,
    pub(crate) ack_timeout: Duration,
}

/// What is asked of streams.
pub(crate) struct JetStream {
    pub(crate) stream: Option<String>,
    /// Of one that is made.
    pub(crate) max_bytes: u64,
}

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    JsonLines,
    MessagePack,
}

/// The name of a stream, which is a token of subjects.
struct StreamName(String);

impl Config {
    /// What these settings say.
    ///
    /// # Errors
    /// If one of them does not fit, alone or with the others.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let millis = |setting: &Setting<Millis>| settings.get(setting).map(|found| found.value.duration());
        let stream = settings.find(&STREAM)?.map(|found| found.value.0);
        let is_jetstream = settings.get(&JETSTREAM)?.value;
        if stream.is_some() && !is_jetstream {
            return Err(format!("{} is set, but {} is false: expected true", STREAM.name(), JETSTREAM.name()).into());
        }
        let max_bytes = settings.get(&STREAM_MAX_BYTES)?.value;
        let client = match both(settings, &TLS_CERT_FILE, &TLS_KEY_FILE)? {
            Some((cert, key)) => Some((absolute(TLS_CERT_FILE.name(), &cert)?, absolute(TLS_KEY_FILE.name(), &key)?)),
            None => None,
        };
        Ok(Self {
            servers: settings.get(&URL)?.value,
            subject: settings.get(&SUBJECT)?.value,
            format: settings.get(&FORMAT)?.value,
            message_size: settings.get(&MESSAGE_SIZE)?.value.into(),
            jetstream: is_jetstream.then_some(JetStream { stream, max_bytes }),
            login: login(settings)?,
            certificates: Certificates { ca: file(settings, &TLS_CA_FILE)?, client },
            connect_timeout: millis(&CONNECT_TIMEOUT)?,
            ack_timeout: millis(&ACK_TIMEOUT)?,
        })
    }
}

/// How to log in, where no URL says it.
fn login(settings: &Settings) -> Result<Option<Login>, Error> {
    let user = both(settings, &USER, &PASSWORD)?.map(|(user, password)| Login::User { user, password });
    let token = settings.find(&TOKEN)?.map(|found| Login::Token(found.value));
    let credentials = file(settings, &CREDENTIALS)?.map(Login::Credentials);
    let key = file(settings, &NKEY)?.map(Login::NKey);
    let ways = [(USER.name(), user), (TOKEN.name(), token), (CREDENTIALS.name(), credentials), (NKEY.name(), key)];
    let mut given: Vec<_> = ways.into_iter().filter_map(|(name, login)| Some((name, login?))).collect();
    if given.len() > 1 {
        let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
        return Err(format!("{} are set: expected one of them", names.join(" and ")).into());
    }
    Ok(given.pop().map(|(_, login)| login))
}

/// Where a file is that is read at each connection.
fn file(settings: &Settings, setting: &Setting<PathBuf>) -> Result<Option<PathBuf>, Error> {
    settings.find(setting)?.map(|found| absolute(setting.name(), &found.value)).transpose()
}

/// Two settings of which none is of use without the other.
fn both<T: Value>(settings: &Settings, one: &Setting<T>, other: &Setting<T>) -> Result<Option<(T, T)>, Error> {
    let missing = |missing: &Setting<T>, given: &Setting<T>| {
        format!("{} is not set, but {} is: expected both or neither", missing.name(), given.name())
    };
    match (settings.find(one)?, settings.find(other)?) {
        (Some(first), Some(second)) => Ok(Some((first.value, second.value))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing(other, one).into()),
        (None, Some(_)) => Err(missing(one, other).into()),
    }
}

impl Value for Format {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "jsonl or msgpack";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[("jsonl", Self::JsonLines), ("msgpack", Self::MessagePack)])
    }
}

impl Value for StreamName {
    const TYPE: &'static str = "name";
    const EXPECTED: &'static str = "the name of a stream, of letters, digits, - and _";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let is_legal = |text: &&str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        text.to_str().filter(is_legal).map(|text| Self(text.into())).ok_or_else(Malformed::of::<Self>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let pairs = pairs.iter().map(|(name, value)| (format!("NIXL_TELEMETRY_NATS_{name}"), *value));
        Config::new(&Settings::from_pairs(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_fit() {
        let config = config(&[]).unwrap();
        assert_eq!(config.servers.0[0].to_string(), "nats://localhost:4222");
        assert_eq!((config.format, config.message_size, config.login), (Format::JsonLines, 2048, None));
        assert_eq!(config.subject.pattern(), "nixl.telemetry.*.*");
        assert!(config.jetstream.is_none());
    }

    #[test]
    fn one_can_log_in_in_one_way() {
        let login = |pairs: &[(&str, &str)]| config(pairs).map(|config| config.login);
        let user = Login::User { user: "me".into(), password: "hunter2".into() };
        assert_eq!(login(&[("USER", "me"), ("PASSWORD", "hunter2")]), Ok(Some(user)));
        assert_eq!(login(&[("TOKEN", "x")]), Ok(Some(Login::Token("x".into()))));
        assert_eq!(login(&[("CREDENTIALS", "/c")]), Ok(Some(Login::Credentials("/c".into()))));
        assert_eq!(login(&[("NKEY", "/n")]), Ok(Some(Login::NKey("/n".into()))));
        let here = |name: &str| std::env::current_dir().unwrap().join(name);
        assert_eq!(login(&[("CREDENTIALS", "c")]), Ok(Some(Login::Credentials(here("c")))));
        assert_eq!(login(&[("NKEY", "n")]), Ok(Some(Login::NKey(here("n")))));
        let tls = config(&[("TLS_CA_FILE", "a"), ("TLS_CERT_FILE", "b"), ("TLS_KEY_FILE", "c")]).unwrap().certificates;
        assert_eq!((tls.ca, tls.client), (Some(here("a")), Some((here("b"), here("c")))));
        let error = login(&[("TOKEN", "hunter2"), ("NKEY", "/n")]).unwrap_err();
        assert_eq!(error, "NIXL_TELEMETRY_NATS_TOKEN and NIXL_TELEMETRY_NATS_NKEY are set: expected one of them");
    }

    #[test]
    fn bad_values_are_named() {
        for (pairs, message) in [
            (
                &[("URL", "http://me:hunter2@c")][..],
                r#"_URL is "http://<secret>@c" (environment): expected nats:// or"#,
            ),
            (&[("SUBJECT", "a.*")], r#"_SUBJECT is "a.*" (environment): expected tokens separated by dots"#),
            (&[("FORMAT", "xml")], "expected one of jsonl, msgpack"),
            (&[("MESSAGE_SIZE", "0")], r#"_MESSAGE_SIZE is "0" (environment): expected a number from 1"#),
            (
                &[("STREAM", "a.b"), ("JETSTREAM", "y")],
                r#"_STREAM is "a.b" (environment): expected the name of a stream"#,
            ),
            (&[("STREAM", "a")], "_STREAM is set, but NIXL_TELEMETRY_NATS_JETSTREAM is false: expected true"),
            (
                &[("PASSWORD", "hunter2")],
                "_USER is not set, but NIXL_TELEMETRY_NATS_PASSWORD is: expected both or neither",
            ),
            (&[("TLS_CERT_FILE", "/c")], "_TLS_KEY_FILE is not set, but NIXL_TELEMETRY_NATS_TLS_CERT_FILE is"),
            (&[("ACK_TIMEOUT", "0")], "expected milliseconds from 1"),
        ] {
            let error = config(pairs).err().expect("it does not fit");
            assert!(error.starts_with("NIXL_TELEMETRY_NATS_") && error.contains(message), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
