// SPDX-License-Identifier: Apache-2.0

//! Where NIXL's TOML file lies, and reading it once.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::document::Document;

/// The variable that names the file.
pub(crate) const CONFIG_FILE: &str = "NIXL_CONFIG_FILE";

/// Where the file comes from.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Where NIXL looks, with this path in the role of `/etc/nixl.cfg`.
    Usual { system: Option<PathBuf> },
    /// A given text.
    Text(String),
    /// There is none.
    Nowhere,
}

/// What was read; an empty document and no path if there is no file.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) path: Option<PathBuf>,
    pub(crate) document: Document,
}

/// A file that is read at the first access and kept once that has succeeded.
#[derive(Debug)]
pub(crate) struct File {
    place: Place,
    loaded: Mutex<Option<Arc<Loaded>>>,
}

impl File {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, loaded: Mutex::new(None) }
    }

    /// The same place, not read yet.
    pub(crate) fn unread(&self) -> Self {
        Self::new(self.place.clone())
    }

    /// The content, with `variable` to look up `NIXL_CONFIG_FILE` and `HOME`.
    pub(crate) fn load(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Arc<Loaded>, Error> {
        // Nothing that can panic leaves the option half written.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*loaded {
            return Ok(Arc::clone(loaded));
        }
        let fresh = Arc::new(self.place.load(variable)?);
        *loaded = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Place {
    fn load(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Loaded, Error> {
        match self {
            Self::Nowhere => Ok(Loaded::default()),
            Self::Text(text) => parse(PathBuf::from("the given TOML"), text.as_bytes()),
            Self::Usual { system } => {
                if let Some(path) = variable(CONFIG_FILE) {
                    return read(PathBuf::from(path), true);
                }
                let home = variable("HOME").map(|home| in_home(&home));
                match home.into_iter().chain(system.clone()).find(|path| exists(path)) {
                    Some(path) => read(path, false),
                    None => Ok(Loaded::default()),
                }
            }
        }
    }
}

fn in_home(home: &OsStr) -> PathBuf {
    Path::new(home).join(".nixl.cfg")
}

/// Whether there is something at `path`; also yes where the system does not tell, so that reading it says why.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn read(path: PathBuf, named: bool) -> Result<Loaded, Error> {
    match fs::read(&path) {
        Ok(bytes) => parse(path, &bytes),
        // For NIXL 1.5.1 a directory reads as an empty file.
        Err(cause) if cause.kind() == ErrorKind::IsADirectory => parse(path, b""),
        Err(cause) => Err(Error::ReadFile { path, named, cause }),
    }
}

fn parse(path: PathBuf, bytes: &[u8]) -> Result<Loaded, Error> {
    match Document::parse(bytes) {
        Ok(document) => Ok(Loaded { path: Some(path), document }),
        Err(refused) => Err(Error::ParseFile { path, line: refused.line, message: refused.message }),
    }
}
