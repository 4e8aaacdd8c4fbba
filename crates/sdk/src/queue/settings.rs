// SPDX-License-Identifier: Apache-2.0

//! The settings every queue has, under a prefix of its sink's.
//!
//! A setting is a value with a name that is known when the plugin is compiled. The name of a queue's setting is put together
//! from [`Sink::NAME`], and Rust's macros cannot do that for a name they get from a trait; constant evaluation can. So an
//! author writes the name once, and gets sixteen described settings.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_settings::{Describe, Dialect, Malformed, Millis, Setting, Settings, TomlValue, Value};

use crate::{Backoff, Error, absolute, queue::Sink};

/// No wait is longer, whatever was set: there are times that cannot be added to the clock.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a queue was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) limits: Limits,
    /// Whether what fails is tried again, if it is in memory.
    pub(super) retries: bool,
    pub(super) backoff: Backoff,
    pub(super) shutdown_timeout: Duration,
    pub(super) spool: Option<SpoolConfig>,
}

/// How much waits, for how long, and what gives way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) overflow: Overflow,
    pub(super) batch_size: usize,
    pub(super) batch_timeout: Duration,
}

/// Where and how a queue outlives its process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpoolConfig {
    pub(super) directory: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) fsync: Fsync,
}

/// What gives way when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    DropNewest,
    DropOldest,
    /// The host waits, at most this long; then the newest gives way.
    Block(Duration),
}

/// When the spool waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fsync {
    Never,
    Segment,
    Batch,
}

/// A number with a fraction, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Factor(f64);

impl Config {
    /// What the settings of this sink say.
    ///
    /// # Errors
    /// If one of them does not fit.
    pub(super) fn of<S: Sink>(settings: &Settings) -> Result<Self, Error> {
        let millis = |setting: &Setting<Millis>| settings.get(setting).map(|found| found.value.duration());
        let limits = Limits {
            events: settings.get(&Named::<S>::QUEUE_SIZE)?.value,
            bytes: settings.get(&Named::<S>::QUEUE_BYTES)?.value,
            overflow: settings.get(&Named::<S>::QUEUE_OVERFLOW)?.value,
            batch_size: usize::try_from(settings.get(&Named::<S>::BATCH_SIZE)?.value)?,
            batch_timeout: millis(&Named::<S>::BATCH_TIMEOUT)?,
        };
        let max_elapsed_time = match millis(&Named::<S>::RETRY_MAX_ELAPSED_TIME)? {
            Duration::ZERO => Duration::MAX,
            time => time,
        };
        let mut backoff = Backoff::default();
        backoff.initial_interval = millis(&Named::<S>::RETRY_INITIAL_INTERVAL)?;
        backoff.max_interval = millis(&Named::<S>::RETRY_MAX_INTERVAL)?;
        backoff.max_elapsed_time = max_elapsed_time;
        backoff.multiplier = settings.get(&Named::<S>::RETRY_MULTIPLIER)?.value.0;
        backoff.randomization_factor = settings.get(&Named::<S>::RETRY_RANDOMIZATION_FACTOR)?.value.0;
        let retries = settings.get(&Named::<S>::RETRY_ENABLED)?.value;
        let (max_bytes, fsync) =
            (settings.get(&Named::<S>::SPOOL_MAX_BYTES)?.value, settings.get(&Named::<S>::SPOOL_FSYNC)?.value);
        let max_age = settings.find(&Named::<S>::SPOOL_MAX_AGE)?.map(|found| found.value.duration());
        let directory = settings.find(&Named::<S>::SPOOL_DIR)?;
        let directory = directory.map(|found| absolute(Named::<S>::SPOOL_DIR.name(), &found.value)).transpose()?;
        Ok(Self {
            limits,
            retries,
            backoff,
            shutdown_timeout: millis(&Named::<S>::SHUTDOWN_TIMEOUT)?.min(DAY),
            spool: directory.map(|directory| SpoolConfig { directory, max_bytes, max_age, fsync }),
        })
    }
}

/// The settings of the queue of a sink.
pub(super) struct Named<S>(PhantomData<S>);

/// Each setting once: its constant, the end of its name, its type, its default, or `-` for none, and what it is for.
macro_rules! settings {
    ($($constant:ident: $type:ty = $default:tt, $doc:literal $(, $method:ident($($argument:expr),*))?;)*) => {
        impl<S: Sink> Named<S> {
            $(
                pub(super) const $constant: Setting<$type> = {
                    const { assert!(is_upper_case(S::NAME), "the NAME of a sink has capital letters, digits and underscores") };
                    settings!(@make $type, name_of!(S, $constant), $default, $doc)$(.$method($($argument),*))?
                };
            )*

            const OWN: &'static [&'static dyn Describe] = &[$(&Self::$constant),*];
        }
    };
    (@make $type:ty, $name:expr, -, $doc:literal) => { Setting::<$type>::optional($name, $doc) };
    (@make $type:ty, $name:expr, $default:expr, $doc:literal) => { Setting::<$type>::new($name, $default, $doc) };
}

/// `NIXL_TELEMETRY_`, the sink's name, `_`, and the setting's.
macro_rules! name_of {
    ($sink:ident, $constant:ident) => {
        const { &Text::of($sink::NAME, stringify!($constant)) }.as_str()
    };
}

settings! {
    QUEUE_SIZE: u64 = (S::QUEUE_SIZE), "Events that may wait in memory for the sink.", check("a number from 1", |events| *events > 0);
    QUEUE_BYTES: u64 = (S::QUEUE_BYTES), "Memory that may be taken by what waits.", unit("bytes");
    QUEUE_OVERFLOW: Overflow = "drop_newest",
        "What gives way when there is no room: drop_newest, drop_oldest, or block:MS, with which the host waits up to so many \
         milliseconds before the newest gives way.";
    BATCH_SIZE: u32 = (S::BATCH_SIZE), "Events delivered at once at most, and for which delivery waits no longer.",
        check("a number from 1", |events| *events > 0);
    BATCH_TIMEOUT: Millis = (S::BATCH_TIMEOUT), "Time a batch may wait to become full.";
    RETRY_ENABLED: bool = "true", "Whether what could not be delivered is tried again.";
    RETRY_INITIAL_INTERVAL: Millis = "5000", "Wait before the first attempt that follows a failure.";
    RETRY_MAX_INTERVAL: Millis = "30000", "Longest wait between attempts.";
    RETRY_MAX_ELAPSED_TIME: Millis = "300000",
        "Time after which a batch is given up, 0 for never; what is in the spool is kept until it is too old.";
    RETRY_MULTIPLIER: Factor = "1.5", "How much longer each wait is than the one before.";
    RETRY_RANDOMIZATION_FACTOR: Factor = "0.5", "By which part of itself a wait may be shorter or longer, from 0 to 1.",
        check("a number from 0 to 1", |factor| factor.0 <= 1.0);
    SHUTDOWN_TIMEOUT: Millis = "2000", "Time the end of an agent may wait for the last deliveries.";
    SPOOL_DIR: PathBuf = -,
        "Directory, which only its owner may write, for what waits: it is then kept on disk in place of memory, and delivered \
         by the next process if this one dies. None by default.";
    SPOOL_MAX_BYTES: u64 = "1073741824", "Disk that may be taken by what waits.", unit("bytes");
    SPOOL_MAX_AGE: Millis = -, "Age at which what is in the spool is dropped.";
    SPOOL_FSYNC: Fsync = "never",
        "When the host waits for the disk, so that a crash of the machine loses nothing: never, segment, after each file, or \
         batch, after each batch. A crash of the process loses nothing either way.";
}

impl<S: Sink> Named<S> {
    /// The sink's own settings, then those of its queue.
    pub(super) const ALL: &'static [&'static dyn Describe] = Self::BOTH.split_at(S::SETTINGS.len() + Self::OWN.len()).0;

    const BOTH: &'static [&'static dyn Describe; MOST_SETTINGS] = &{
        let (mut both, own) = ([Self::OWN[0]; MOST_SETTINGS], S::SETTINGS);
        assert!(own.len() + Self::OWN.len() <= MOST_SETTINGS, "a sink has too many settings");
        let mut at = 0;
        while at < own.len() + Self::OWN.len() {
            both[at] = if at < own.len() { own[at] } else { Self::OWN[at - own.len()] };
            at += 1;
        }
        both
    };
}

const MOST_SETTINGS: usize = 80;

/// A text that is put together while a plugin is compiled.
struct Text {
    bytes: [u8; 96],
    len: usize,
}

impl Text {
    const fn of(sink: &str, setting: &str) -> Self {
        let text = Self { bytes: [0; 96], len: 0 };
        text.with("NIXL_TELEMETRY_").with(sink).with("_").with(setting)
    }

    const fn with(mut self, part: &str) -> Self {
        let mut at = 0;
        while at < part.len() {
            self.bytes[self.len] = part.as_bytes()[at];
            self.len += 1;
            at += 1;
        }
        self
    }

    const fn as_str(&self) -> &str {
        match str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("parts that are text make a text"),
        }
    }
}

const fn is_upper_case(name: &str) -> bool {
    let (bytes, mut at) = (name.as_bytes(), 0);
    while at < bytes.len() {
        if !matches!(bytes[at], b'A'..=b'Z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

impl Value for Overflow {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "drop_newest, drop_oldest or block:MS with a number of milliseconds";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        match (text, text.strip_prefix("block:")) {
            ("drop_newest", _) => Ok(Self::DropNewest),
            ("drop_oldest", _) => Ok(Self::DropOldest),
            (_, Some(millis)) if millis.bytes().all(|byte| byte.is_ascii_digit()) => millis
                .parse()
                .map(|millis| Self::Block(Duration::from_millis(millis)))
                .map_err(|_| Malformed::of::<Self>()),
            _ => Err(Malformed::of::<Self>()),
        }
    }
}

impl Value for Fsync {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "never, segment or batch";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        nixl_telemetry_settings::one_of(
            text,
            &[("never", Self::Never), ("segment", Self::Segment), ("batch", Self::Batch)],
        )
    }
}

impl Value for Factor {
    const TYPE: &'static str = "number";
    const EXPECTED: &'static str = "a number from 0 to 100, such as 1.5";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let number = text.to_str().and_then(|text| text.parse().ok());
        number.and_then(Self::new).ok_or_else(Malformed::of::<Self>)
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        let number = match value {
            TomlValue::Float(number) => Some(*number),
            // More than 32 bits of a factor mean nothing.
            TomlValue::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            _ => None,
        };
        number.and_then(Self::new).ok_or_else(Malformed::of::<Self>)
    }
}

impl Factor {
    fn new(number: f64) -> Option<Self> {
        (0.0..=100.0).contains(&number).then_some(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_settings::markdown_table;

    use super::*;
    use crate::{
        Agent, Exporter,
        queue::{Delivery, Failed, Queued},
    };

    struct Rows;

    static URL: Setting<String> = Setting::required("NIXL_TELEMETRY_ROWS_URL", "Where rows go.");

    impl Sink for Rows {
        const NAME: &'static str = "ROWS";
        const SETTINGS: &'static [&'static dyn Describe] = &[&URL];

        fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
            Ok(Self)
        }

        fn deliver(&mut self, _: &Delivery<'_>) -> Result<(), Failed> {
            Ok(())
        }
    }

    #[test]
    fn names_and_defaults_are_told_by_the_table() {
        let all = Queued::<Rows>::SETTINGS;
        let names: Vec<_> = all.iter().map(|setting| setting.describe().name).collect();
        let own = "QUEUE_SIZE QUEUE_BYTES QUEUE_OVERFLOW BATCH_SIZE BATCH_TIMEOUT RETRY_ENABLED RETRY_INITIAL_INTERVAL \
                   RETRY_MAX_INTERVAL RETRY_MAX_ELAPSED_TIME RETRY_MULTIPLIER RETRY_RANDOMIZATION_FACTOR SHUTDOWN_TIMEOUT \
                   SPOOL_DIR SPOOL_MAX_BYTES SPOOL_MAX_AGE SPOOL_FSYNC";
        let expected: Vec<_> =
            ["URL"].into_iter().chain(own.split(' ')).map(|name| format!("NIXL_TELEMETRY_ROWS_{name}")).collect();
        assert_eq!(names, expected);
        let table = markdown_table(all);
        assert!(table.contains("| `NIXL_TELEMETRY_ROWS_QUEUE_BYTES` | u64, bytes | `33554432` | Memory"), "{table}");
        for setting in &all[1..] {
            setting.inspect(&Settings::empty()).unwrap();
        }
    }

    #[test]
    fn without_a_word_it_is_as_opentelemetry_has_it() {
        let config = Config::of::<Rows>(&Settings::empty()).unwrap();
        assert_eq!((config.retries, config.backoff), (true, Backoff::default()));
        let Limits { events, bytes, overflow, batch_size, batch_timeout } = config.limits;
        assert_eq!((events, bytes, overflow), (1_000_000, 32 << 20, Overflow::DropNewest));
        assert_eq!((batch_size, batch_timeout), (8192, Duration::from_millis(200)));
        assert_eq!((config.shutdown_timeout, config.spool), (Duration::from_secs(2), None));
    }

    #[test]
    fn what_is_set_counts() {
        let settings = Settings::from_pairs([
            ("NIXL_TELEMETRY_ROWS_QUEUE_OVERFLOW", "block:250"),
            ("NIXL_TELEMETRY_ROWS_RETRY_MAX_ELAPSED_TIME", "0"),
            ("NIXL_TELEMETRY_ROWS_SPOOL_DIR", "/s"),
            ("NIXL_TELEMETRY_ROWS_SPOOL_FSYNC", "batch"),
            ("NIXL_TELEMETRY_ROWS_SPOOL_MAX_AGE", "1000"),
        ])
        .with_toml("NIXL_TELEMETRY_ROWS_RETRY_MULTIPLIER = 2\nNIXL_TELEMETRY_ROWS_RETRY_RANDOMIZATION_FACTOR = 0.25");
        let config = Config::of::<Rows>(&settings).unwrap();
        assert_eq!(config.limits.overflow, Overflow::Block(Duration::from_millis(250)));
        let backoff = config.backoff;
        assert_eq!((backoff.multiplier, backoff.randomization_factor), (2.0, 0.25));
        assert_eq!(backoff.max_elapsed_time, Duration::MAX);
        let (directory, max_age) = (PathBuf::from("/s"), Some(Duration::from_secs(1)));
        assert_eq!(config.spool, Some(SpoolConfig { directory, max_bytes: 1 << 30, max_age, fsync: Fsync::Batch }));
        let off = Settings::from_pairs([("NIXL_TELEMETRY_ROWS_RETRY_ENABLED", "n")]);
        assert!(!Config::of::<Rows>(&off).unwrap().retries);
        let relative = Settings::from_pairs([("NIXL_TELEMETRY_ROWS_SPOOL_DIR", "s")]);
        let directory = Config::of::<Rows>(&relative).unwrap().spool.unwrap().directory;
        assert_eq!(directory, std::env::current_dir().unwrap().join("s"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (name, value, expected) in [
            ("QUEUE_OVERFLOW", "block:", "drop_newest, drop_oldest or block:MS with a number of milliseconds"),
            ("QUEUE_OVERFLOW", "drop", "drop_newest, drop_oldest or block:MS with a number of milliseconds"),
            ("BATCH_SIZE", "0", "a number from 1"),
            ("RETRY_MULTIPLIER", "-1", "a number from 0 to 100, such as 1.5"),
            ("RETRY_MULTIPLIER", "nan", "a number from 0 to 100, such as 1.5"),
            ("RETRY_RANDOMIZATION_FACTOR", "1.5", "a number from 0 to 1"),
            ("SPOOL_FSYNC", "always", "one of never, segment, batch"),
        ] {
            let name = format!("NIXL_TELEMETRY_ROWS_{name}");
            let error = Config::of::<Rows>(&Settings::from_pairs([(&name, value)])).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} is \"{value}\" (environment): expected {expected}"));
        }
    }
}
