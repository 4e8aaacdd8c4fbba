// SPDX-License-Identifier: Apache-2.0

//! The source of all values, and what it answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{env, fmt};

use crate::document::TomlValue;
use crate::file::{CONFIG_FILE, File, Loaded, Place};
use crate::setting::Constraint;
use crate::{Dialect, Error, Setting, Value, Warning};

/// Where settings get their values: overrides, the environment, NIXL's TOML file.
///
/// Cheap to clone; clones share the file once it has been read. The `with_` and `without_` methods make a changed
/// copy, which reads the file anew.
#[derive(Clone)]
pub struct Settings {
    overrides: Arc<BTreeMap<OsString, OsString>>,
    variables: Variables,
    file: Arc<File>,
    dialect: Dialect,
}

/// The environment.
#[derive(Clone)]
enum Variables {
    /// Of this process, asked anew each time: a program may set variables after it has loaded a plugin.
    Process,
    Given(Arc<BTreeMap<OsString, OsString>>),
}

impl Settings {
    /// The environment of this process and NIXL's TOML file, which is read at the first access that needs it.
    pub fn from_process() -> Self {
        Self::new(Variables::Process, Some(PathBuf::from("/etc/nixl.cfg")))
    }

    /// [`from_process`](Self::from_process), once: the file is read at most once for all who use this.
    pub fn process() -> &'static Self {
        static PROCESS: OnceLock<Settings> = OnceLock::new();
        PROCESS.get_or_init(Self::from_process)
    }

    /// An environment of exactly these variables; the process has no say in it.
    ///
    /// A TOML file is looked up as these variables tell, by `NIXL_CONFIG_FILE` and `HOME`, and nowhere else.
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::new(Variables::Given(Arc::new(variables)), None)
    }

    /// No variable and no file.
    pub fn empty() -> Self {
        Self::from_pairs::<OsString, OsString>([])
    }

    /// The same, with `value` for `name` before the environment; the last one of the same name wins.
    #[must_use]
    pub fn with_override(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        Arc::make_mut(&mut self.overrides).insert(name.into(), value.into());
        // The override may be the one that names the file.
        self.file = Arc::new(self.file.unread());
        self
    }

    /// The same, with `text` for the TOML file.
    #[must_use]
    pub fn with_toml(self, text: impl Into<String>) -> Self {
        self.with_place(Place::Text(text.into()))
    }

    /// The same, with `path` in the role of `/etc/nixl.cfg`, and the TOML file looked up in the usual places.
    #[must_use]
    pub fn with_system_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_place(Place::Usual { system: Some(path.into()) })
    }

    /// The same without a TOML file, as in NIXL 1.0 and 1.1.
    #[must_use]
    pub fn without_file(self) -> Self {
        self.with_place(Place::Nowhere)
    }

    /// The same by other rules. In [`Dialect::Legacy`] no file is consulted.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Whose rules hold.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The value of a setting that has a default or cannot be done without.
    ///
    /// # Errors
    /// - [`Error::Missing`] if it has neither a value nor a default.
    /// - [`Error::Malformed`] if its value does not fit.
    /// - [`Error::ReadFile`] or [`Error::ParseFile`] if only the file could tell, and it cannot be used.
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> Result<Found<T>, Error> {
        self.find(setting)?.ok_or_else(|| Error::missing(setting.describe()))
    }

    /// The value of a setting, or its default, or `None` if it has neither, even if it is a required one.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), except [`Error::Missing`].
    pub fn find<T: Value>(&self, setting: &Setting<T>) -> Result<Option<Found<T>>, Error> {
        Ok(self.find_both(setting)?.map(|(found, _)| found))
    }

    /// The value of a name that is known only at run time, such as the one `NIXL_TELEMETRY_RANK_ENV` holds.
    ///
    /// # Errors
    /// Those of [`find`](Self::find).
    pub fn find_named<T: Value>(&self, name: &str) -> Result<Option<Found<T>>, Error> {
        let Some((raw, origin)) = self.raw(name)? else { return Ok(None) };
        let subject = Subject { name, constraint: None, secret: false };
        self.parse(&subject, &raw, origin).map(|(found, _)| Some(found))
    }

    /// Every name that starts with `prefix` and has a value, with its origin; of the file, the top-level keys.
    ///
    /// Comparing it with the list of known settings finds misspelt names. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// [`Error::ReadFile`] or [`Error::ParseFile`] if the file cannot be used.
    pub fn names(&self, prefix: &str) -> Result<BTreeMap<String, Origin>, Error> {
        let mut names = BTreeMap::new();
        let mut add = |name: &OsStr, origin: &Origin| {
            if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) {
                names.insert(name.to_owned(), origin.clone());
            }
        };
        // In rising order of precedence.
        let file = self.load_file()?;
        if let Some(path) = &file.path {
            let origin = Origin::File(path.clone());
            file.document.keys().for_each(|name| add(OsStr::new(name), &origin));
        }
        match &self.variables {
            Variables::Process => env::vars_os().for_each(|(name, _)| add(&name, &Origin::Environment)),
            Variables::Given(given) => given.keys().for_each(|name| add(name, &Origin::Environment)),
        }
        self.overrides.keys().for_each(|name| add(name, &Origin::Override));
        Ok(names)
    }

    /// The TOML file in use, if there is one.
    ///
    /// # Errors
    /// [`Error::ReadFile`] or [`Error::ParseFile`] if there is one that cannot be used.
    pub fn file(&self) -> Result<Option<PathBuf>, Error> {
        Ok(self.load_file()?.path.clone())
    }

    /// [`find`](Self::find), but with the value as it was written.
    pub(crate) fn find_shown<T: Value>(&self, setting: &Setting<T>) -> Result<Option<Found<Shown>>, Error> {
        Ok(self.find_both(setting)?.map(|(Found { origin, warning, .. }, value)| Found { value, origin, warning }))
    }

    fn new(variables: Variables, system: Option<PathBuf>) -> Self {
        let file = Arc::new(File::new(Place::Usual { system }));
        Self { overrides: Arc::default(), variables, file, dialect: Dialect::Current }
    }

    fn with_place(mut self, place: Place) -> Self {
        self.file = Arc::new(File::new(place));
        self
    }

    /// The text of a variable that decides before the file does.
    fn text(&self, name: &OsStr) -> Option<(OsString, Origin)> {
        if let Some(text) = self.overrides.get(name) {
            return Some((text.clone(), Origin::Override));
        }
        let text = match &self.variables {
            Variables::Process => env::var_os(name),
            Variables::Given(given) => given.get(name).cloned(),
        };
        text.map(|text| (text, Origin::Environment))
    }

    fn load_file(&self) -> Result<Arc<Loaded>, Error> {
        match self.dialect {
            Dialect::Legacy => Ok(Arc::default()),
            Dialect::Current => self.file.load(|name| self.text(OsStr::new(name)).map(|(text, _)| text)),
        }
    }

    fn raw(&self, name: &str) -> Result<Option<(Raw, Origin)>, Error> {
        if let Some((text, origin)) = self.text(OsStr::new(name)) {
            return Ok(Some((Raw::Text(text), origin)));
        }
        // These two say where the file is; they are not looked up in it.
        if name == CONFIG_FILE || name == "HOME" {
            return Ok(None);
        }
        let file = self.load_file()?;
        let value = file.document.get(name).cloned();
        Ok(value.zip(file.path.clone()).map(|(value, path)| (Raw::Toml(value), Origin::File(path))))
    }

    fn find_both<T: Value>(&self, setting: &Setting<T>) -> Result<Option<(Found<T>, Shown)>, Error> {
        let description = setting.describe();
        let raw = match (self.raw(description.name)?, description.default) {
            (Some(raw), _) => Some(raw),
            (None, Some(default)) => Some((Raw::Text(default.into()), Origin::Default)),
            (None, None) => None,
        };
        let subject =
            Subject { name: description.name, constraint: setting.constraint.as_ref(), secret: description.secret };
        raw.map(|(raw, origin)| self.parse(&subject, &raw, origin)).transpose()
    }

    fn parse<T: Value>(&self, subject: &Subject<'_, T>, raw: &Raw, origin: Origin) -> Result<(Found<T>, Shown), Error> {
        let shown = if subject.secret { Shown::secret() } else { raw.shown::<T>() };
        let parsed = match raw {
            // A default is written by the rules of today, whatever NIXL it then runs in.
            Raw::Text(text) if origin == Origin::Default => T::from_env(text, Dialect::Current),
            Raw::Text(text) => T::from_env(text, self.dialect),
            Raw::Toml(value) => T::from_toml(value),
        };
        let expected: Cow<'_, str> = match (parsed, subject.constraint) {
            (Ok(value), Some(held)) if !(held.accepts)(&value) => held.expected.into(),
            (Ok(value), _) => return Ok((Found { value, origin, warning: None }, shown)),
            (Err(_), Some(held)) => held.expected.into(),
            (Err(malformed), None) => malformed.into_what(),
        };
        let name = subject.name.to_owned();
        let expected = expected.into_owned();
        match T::fallback(self.dialect) {
            Some((value, taken)) if origin != Origin::Default => {
                let warning = Warning { name, value: shown.clone(), origin: origin.clone(), expected, taken };
                Ok((Found { value, origin, warning: Some(warning) }, shown))
            }
            _ => Err(Error::Malformed { name, value: shown, origin, expected }),
        }
    }
}

/// Names only: values may be secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Settings");
        out.field("overrides", &self.overrides.keys());
        match &self.variables {
            Variables::Process => out.field("variables", &"of the process"),
            Variables::Given(given) => out.field("variables", &given.keys()),
        };
        out.field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// What is asked for, without the default.
struct Subject<'a, T> {
    name: &'a str,
    constraint: Option<&'a Constraint<T>>,
    secret: bool,
}

/// A value before it is parsed.
enum Raw {
    Text(OsString),
    Toml(TomlValue),
}

impl Raw {
    fn shown<T: Value>(&self) -> Shown {
        match self {
            Self::Text(text) => Shown::quoted(&T::show(&text.to_string_lossy())),
            Self::Toml(TomlValue::String(text)) => Shown::quoted(&T::show(text)),
            Self::Toml(value) => Shown(value.to_string()),
        }
    }
}

/// A value and where it came from.
///
/// Its `Debug` shows the value of a secret setting too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
    /// Set if the value that was written is malformed and was replaced, which only [`Dialect::Legacy`] does. The
    /// caller logs it.
    pub warning: Option<Warning>,
}

/// Where a value came from; its `Display` is `override`, `environment`, the path of the file, or `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// [`Settings::with_override`].
    Override,
    /// The environment.
    Environment,
    /// The TOML file at this path.
    File(PathBuf),
    /// The setting itself.
    Default,
}

impl Origin {
    /// The file, if the value came from it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Override => f.write_str("override"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was written, fit for one line of a log: quoted, control characters escaped, bytes that are not UTF-8
/// replaced, cut after 80 characters, and hidden if it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    const LONGEST: usize = 80;

    fn quoted(text: &str) -> Self {
        let mut shown = String::from('"');
        shown.extend(text.chars().take(Self::LONGEST).flat_map(char::escape_debug));
        shown.push_str(if text.chars().nth(Self::LONGEST).is_some() { "…\"" } else { "\"" });
        Self(shown)
    }

    fn secret() -> Self {
        Self("<secret>".to_owned())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
