// SPDX-License-Identifier: Apache-2.0

//! What a setting is: the one place where it is described.

use crate::settings::{Found, Settings, Shown};
use crate::{Error, Value};

/// A typed setting, described once and usually kept in a `static`.
///
/// It holds no value; [`Settings::get`] and [`Settings::find`] look the value up.
#[derive(Debug)]
pub struct Setting<T> {
    description: Description,
    pub(crate) constraint: Option<Constraint<T>>,
}

impl<T: Value> Setting<T> {
    /// A setting with a default, written as it would be in the environment (in [`Dialect::Current`](crate::Dialect)).
    ///
    /// A default that its own type rejects is reported as an error of origin [`Default`](crate::Origin::Default) when
    /// the setting is read without a value; one test that calls [`Describe::inspect`] on an exporter's list with
    /// empty settings finds them all.
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self::with_presence(name, doc, Some(default), false)
    }

    /// A setting without which its owner cannot work.
    pub const fn required(name: &'static str, doc: &'static str) -> Self {
        Self::with_presence(name, doc, None, true)
    }

    /// A setting that may be absent.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Self::with_presence(name, doc, None, false)
    }

    /// The same setting, counted in `unit`. Defaults to the unit of the type, which is mostly none.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.description.unit = unit;
        self
    }

    /// The same setting, whose values are also held to `accepts`; `expected` completes "expected …" in the message.
    ///
    /// Say what the type says too: `"a number greater than 0"`, not `"greater than 0"`.
    pub const fn check(mut self, expected: &'static str, accepts: fn(&T) -> bool) -> Self {
        self.description.expected = expected;
        self.constraint = Some(Constraint { expected, accepts });
        self
    }

    /// The same setting, whose value no message of this crate shows.
    pub const fn secret(mut self) -> Self {
        self.description.secret = true;
        self
    }

    /// What there is to say about the setting.
    pub const fn describe(&self) -> &Description {
        &self.description
    }

    /// The full name of the variable.
    pub const fn name(&self) -> &'static str {
        self.description.name
    }

    const fn with_presence(
        name: &'static str,
        doc: &'static str,
        default: Option<&'static str>,
        required: bool,
    ) -> Self {
        let description = Description {
            name,
            type_name: T::TYPE,
            expected: T::EXPECTED,
            unit: T::UNIT,
            default,
            required,
            secret: false,
            doc,
        };
        Self { description, constraint: None }
    }
}

/// What [`Setting::check`] was told.
#[derive(Debug)]
pub(crate) struct Constraint<T> {
    pub(crate) expected: &'static str,
    pub(crate) accepts: fn(&T) -> bool,
}

/// What there is to say about a setting, without its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The full name of the variable, which is also the path in the TOML file.
    pub name: &'static str,
    /// The type in one word: [`Value::TYPE`].
    pub type_name: &'static str,
    /// What the environment may hold: [`Value::EXPECTED`], or what [`Setting::check`] says.
    pub expected: &'static str,
    /// What is counted, such as `bytes`; empty for none.
    pub unit: &'static str,
    /// The default as it would be written in the environment, if there is one.
    pub default: Option<&'static str>,
    /// Whether the owner cannot work without a value. Never with a default.
    pub required: bool,
    /// Whether messages hide the value.
    pub secret: bool,
    /// What the setting is for, in one sentence.
    pub doc: &'static str,
}

/// A [`Setting`] of any type, so that settings can be listed: `&[&dyn Describe]`.
pub trait Describe: Sync {
    /// What there is to say about the setting.
    fn describe(&self) -> &Description;

    /// The value as it was written, and where, once it has been parsed and found sound; `None` if it is optional and
    /// absent.
    ///
    /// # Errors
    /// Those of [`Settings::get`]: in particular, a required setting must have a value.
    fn inspect(&self, settings: &Settings) -> Result<Option<Found<Shown>>, Error>;
}

impl<T: Value> Describe for Setting<T> {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn inspect(&self, settings: &Settings) -> Result<Option<Found<Shown>>, Error> {
        match settings.find_shown(self)? {
            None if self.description.required => Err(Error::missing(&self.description)),
            found => Ok(found),
        }
    }
}
