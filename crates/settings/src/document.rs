// SPDX-License-Identifier: Apache-2.0

//! A TOML document as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use toml::de::{DeInteger, DeTable, DeValue};

/// A value of the TOML file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TomlValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent, infinity or not a number.
    Float(f64),
    /// A string.
    String(String),
    /// A local time such as `00:00:01.5`: the time since midnight, to the nanosecond.
    LocalTime(Duration),
    /// A date, with or without a time, as text.
    DateTime(String),
    /// An array.
    Array(Vec<TomlValue>),
    /// A table.
    Table(BTreeMap<String, TomlValue>),
}

impl TomlValue {
    /// The number, if the value is an integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if the value is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Scalars as TOML writes them, except that strings are bare; arrays and tables by their kind alone.
impl fmt::Display for TomlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => fmt::Debug::fmt(number, f),
            Self::String(text) | Self::DateTime(text) => f.write_str(text),
            Self::LocalTime(time) => {
                let seconds = time.as_secs();
                write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
                match time.subsec_nanos() {
                    0 => Ok(()),
                    nanos => f.write_str(format!(".{nanos:09}").trim_end_matches('0')),
                }
            }
            Self::Array(_) => f.write_str("an array"),
            Self::Table(_) => f.write_str("a table"),
        }
    }
}

/// A whole document.
#[derive(Debug, Default)]
pub(crate) struct Document {
    root: BTreeMap<String, TomlValue>,
}

/// Why a text is not TOML.
#[derive(Debug)]
pub(crate) struct ParseError {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let error = |start: usize, message: &str| ParseError {
            line: 1 + bytes.iter().take(start).filter(|byte| **byte == b'\n').count(),
            message: message.to_owned(),
        };
        let text = str::from_utf8(bytes).map_err(|refused| error(refused.valid_up_to(), "not UTF-8"))?;
        let root = DeTable::parse(text)
            .map_err(|refused| error(refused.span().map_or(0, |span| span.start), refused.message()))?;
        let root = table(root.get_ref()).map_err(|Refused { start, why }| error(start, why))?;
        Ok(Self { root })
    }

    /// The value at `path`, in which each dot descends into a table.
    pub(crate) fn get(&self, path: &str) -> Option<&TomlValue> {
        let mut keys = path.split('.');
        let mut value = self.root.get(keys.next()?)?;
        for key in keys {
            let TomlValue::Table(table) = value else { return None };
            value = table.get(key)?;
        }
        Some(value)
    }

    /// The keys of the top level.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.root.keys().map(String::as_str)
    }
}

/// What NIXL's parser refuses and this one leaves to its caller. It spoils the whole file, whoever asks for what.
struct Refused {
    start: usize,
    why: &'static str,
}

fn table(table: &DeTable<'_>) -> Result<BTreeMap<String, TomlValue>, Refused> {
    table.iter().map(|(key, item)| Ok((key.get_ref().to_string(), value(item)?))).collect()
}

fn value(item: &toml::Spanned<DeValue<'_>>) -> Result<TomlValue, Refused> {
    let refused = |why| Refused { start: item.span().start, why };
    Ok(match item.get_ref() {
        DeValue::Boolean(value) => TomlValue::Boolean(*value),
        DeValue::Integer(number) => TomlValue::Integer(integer(number).ok_or(refused("integer beyond 64 bits"))?),
        // What TOML spells, Rust reads; were it not so, no setting of this crate would notice.
        DeValue::Float(number) => TomlValue::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::String(text) => TomlValue::String(text.to_string()),
        DeValue::Datetime(when) => match (&when.date, &when.time, &when.offset) {
            (_, Some(time), _) if time.second.is_none() => return Err(refused("time without seconds")),
            (None, Some(time), None) => {
                let (hours, minutes) = (u64::from(time.hour), u64::from(time.minute));
                let seconds = 3600 * hours + 60 * minutes + u64::from(time.second.unwrap_or(0));
                TomlValue::LocalTime(Duration::new(seconds, time.nanosecond.unwrap_or(0)))
            }
            _ => TomlValue::DateTime(when.to_string()),
        },
        DeValue::Array(items) => TomlValue::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        DeValue::Table(items) => TomlValue::Table(table(items)?),
    })
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
