// SPDX-License-Identifier: Apache-2.0

//! The types a setting can have.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use crate::document::TomlValue;
use crate::rules::{self, Dialect};

/// A type that a setting can have.
///
/// Only [`from_env`](Value::from_env) has to be written. An exporter's own type, say a choice between two words:
///
/// ```
/// use nixl_telemetry_settings::{Dialect, Malformed, Setting, Settings, Value, one_of};
/// use std::ffi::OsStr;
///
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// enum Format { Csv, Json }
///
/// impl Value for Format {
///     const TYPE: &'static str = "format";
///     const EXPECTED: &'static str = "csv or json";
///
///     fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
///         one_of(text, &[("csv", Format::Csv), ("json", Format::Json)])
///     }
/// }
///
/// static FORMAT: Setting<Format> = Setting::new("NIXL_TELEMETRY_ROWS_FORMAT", "csv", "How rows are written.");
///
/// let settings = Settings::from_pairs([("NIXL_TELEMETRY_ROWS_FORMAT", "xml")]);
/// assert_eq!(
///     settings.get(&FORMAT).unwrap_err().to_string(),
///     r#"NIXL_TELEMETRY_ROWS_FORMAT is "xml" (environment): expected one of csv, json"#,
/// );
/// ```
pub trait Value: Sized {
    /// The type in one word, for tables and help.
    const TYPE: &'static str;
    /// What the environment may hold, as a phrase that follows "expected".
    const EXPECTED: &'static str;
    /// What is counted, where the type already says so. Defaults to none.
    const UNIT: &'static str = "";

    /// Parses a value of the environment, an override or a default.
    ///
    /// # Errors
    /// If the text is not such a value.
    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed>;

    /// Parses a value of the TOML file. Defaults to a TOML string that is read like the environment.
    ///
    /// # Errors
    /// If the value has another type or is out of range.
    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        match value {
            TomlValue::String(text) => Self::from_env(OsStr::new(text), Dialect::Current),
            _ => Err(Malformed::expected(format!("{}, as a string", Self::EXPECTED))),
        }
    }

    /// What messages show of a text, without the parts that may be secret. Defaults to all of it.
    fn show(text: &str) -> Cow<'_, str> {
        text.into()
    }

    /// What is taken, with a [`Warning`](crate::Warning), instead of a malformed value of the environment, and the word
    /// for it. Defaults to nothing: the malformed value is an error.
    fn fallback(dialect: Dialect) -> Option<(Self, &'static str)> {
        let _ = dialect;
        None
    }
}

/// A value that does not fit; says what was expected.
///
/// It does not repeat the value: [`Error`](crate::Error) does, unless the setting is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    expected: Cow<'static, str>,
}

impl Malformed {
    /// The complaint whose message ends in "expected `what`".
    pub fn expected(what: impl Into<Cow<'static, str>>) -> Self {
        Self { expected: what.into() }
    }

    /// The complaint that [`Value::EXPECTED`] of `T` was expected.
    pub fn of<T: Value>() -> Self {
        Self::expected(T::EXPECTED)
    }

    /// What was expected.
    pub fn what(&self) -> &str {
        &self.expected
    }

    pub(crate) fn into_what(self) -> Cow<'static, str> {
        self.expected
    }
}

/// The meaning of the word in `words` that is exactly `text`.
///
/// # Errors
/// If there is none; the complaint lists the words in their order.
pub fn one_of<T: Copy>(text: &OsStr, words: &[(&str, T)]) -> Result<T, Malformed> {
    match words.iter().find(|(word, _)| text == *word) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(Malformed::expected(format!("one of {}", words.join(", "))))
        }
    }
}

/// A length of time in whole milliseconds.
///
/// In the environment an unsigned number; in the TOML file an integer or a local time, of which the part below a
/// millisecond is dropped (`00:00:01` is 1000).
///
/// A negative integer is malformed here. NIXL 1.5.1 lets one pass in the file, though not in the environment, and a
/// length of time below zero has no meaning there either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The same length of time as the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// Permissions of a file, in octal digits, as `chmod` takes them: `600`, `0640`.
///
/// In the TOML file a string of such digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileMode(pub u32);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        millis.duration()
    }
}

impl Value for bool {
    const TYPE: &'static str = "bool";
    const EXPECTED: &'static str = "y, yes, on, 1, true, enable or n, no, off, 0, false, disable";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        let expected = match dialect {
            Dialect::Current => Self::EXPECTED,
            Dialect::Legacy => "y, yes, 1, on or n, no, 0, off",
        };
        rules::parse_bool(&text.to_string_lossy(), dialect).ok_or(Malformed::expected(expected))
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        match value {
            TomlValue::Boolean(value) => Ok(*value),
            _ => Err(Malformed::expected("true or false")),
        }
    }

    /// NIXL 0.9 and 0.10 take any other text as off.
    fn fallback(dialect: Dialect) -> Option<(Self, &'static str)> {
        match dialect {
            Dialect::Current => None,
            Dialect::Legacy => Some((false, "off")),
        }
    }
}

macro_rules! unsigned {
    ($($type:ident up to $max:literal;)*) => {$(
        impl Value for $type {
            const TYPE: &'static str = stringify!($type);
            const EXPECTED: &'static str = concat!("a decimal or 0x-hex number from 0 to ", $max);

            fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
                // A byte that is not UTF-8 becomes a character that is no digit, which is all that matters here.
                let number = rules::parse_unsigned(&text.to_string_lossy(), dialect);
                number.and_then(|number| Self::try_from(number).ok()).ok_or_else(|| match dialect {
                    Dialect::Current => Malformed::of::<Self>(),
                    Dialect::Legacy => Malformed::expected(concat!("a decimal number from 0 to ", $max)),
                })
            }

            fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
                value
                    .as_integer()
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or(Malformed::expected(concat!("an integer from 0 to ", $max)))
            }
        }
    )*};
}

unsigned! {
    u16 up to "65535";
    u32 up to "4294967295";
    u64 up to "18446744073709551615";
}

impl Value for i64 {
    const TYPE: &'static str = "i64";
    const EXPECTED: &'static str = "a decimal number from -9223372036854775808 to 9223372036854775807";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        rules::parse_signed(&text.to_string_lossy(), dialect).ok_or(Malformed::of::<Self>())
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        value.as_integer().ok_or(Malformed::expected("an integer"))
    }
}

impl Value for Millis {
    const TYPE: &'static str = "u64";
    const EXPECTED: &'static str = "milliseconds as a decimal or 0x-hex number from 0 to 18446744073709551615";
    const UNIT: &'static str = "ms";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        u64::from_env(text, dialect)
            .map(Self)
            .map_err(|malformed| Malformed::expected(format!("milliseconds as {}", malformed.what())))
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        let millis = match value {
            TomlValue::Integer(number) => u64::try_from(*number).ok(),
            TomlValue::LocalTime(time) => u64::try_from(time.as_millis()).ok(),
            _ => None,
        };
        millis.map(Self).ok_or(Malformed::expected("milliseconds as an integer from 0 or a local time"))
    }
}

impl Value for FileMode {
    const TYPE: &'static str = "mode";
    const EXPECTED: &'static str = "permissions of a file in octal digits, from 0 to 777";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let digits = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
        mode.filter(|mode| *mode <= 0o777).map(Self).ok_or(Malformed::of::<Self>())
    }
}

impl Value for String {
    const TYPE: &'static str = "string";
    const EXPECTED: &'static str = "text in UTF-8";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        text.to_str().map(str::to_owned).ok_or(Malformed::of::<Self>())
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        value.as_str().map(str::to_owned).ok_or(Malformed::expected("a string"))
    }
}

/// Keeps every byte, whether or not it is UTF-8.
impl Value for PathBuf {
    const TYPE: &'static str = "path";
    const EXPECTED: &'static str = "a path";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        Ok(Self::from(text))
    }

    fn from_toml(value: &TomlValue) -> Result<Self, Malformed> {
        value.as_str().map(Self::from).ok_or(Malformed::expected("a path as a string"))
    }
}
