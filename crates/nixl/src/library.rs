// SPDX-License-Identifier: Apache-2.0

//! The one NIXL of this process.

use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix;

use crate::agent::Agent;
use crate::config::AgentConfig;
use crate::error::{Error, LibraryError};
use crate::sys::Functions;

/// The NIXL that this process has loaded.
///
/// Copies are cheap and all stand for the same library, which stays loaded until the process ends.
#[derive(Clone, Copy)]
pub struct Library {
    loaded: &'static Loaded,
}

struct Loaded {
    path: PathBuf,
    functions: Functions,
}

/// The library that is loaded, if one is. Also the lock that keeps two threads from loading two.
static LOADED: Mutex<Option<&'static Loaded>> = Mutex::new(None);

impl Library {
    /// Loads `libnixl_capi.so` from this file, or finds that this very file is loaded already.
    ///
    /// `libnixl.so` and the rest of NIXL are found by the loader, which looks beside the file first. Loading runs the
    /// library's initialisers, so the file should be one that the user meant; [`find()`](crate::find()) gives those of
    /// installed releases.
    ///
    /// # Errors
    ///
    /// [`LibraryError`] if the file cannot be loaded, is not a usable C API of NIXL, or if this process has opened
    /// another one before. A library that was loaded and then found unusable also stays loaded, but does not count as
    /// opened.
    pub fn open(path: &Path) -> Result<Library, LibraryError> {
        // The same file may be named in several ways. If it is not there, the loader says it best.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match *loaded {
            Some(loaded) if loaded.path == path => Ok(Library { loaded }),
            Some(loaded) => Err(LibraryError::Another { opened: loaded.path.clone(), wanted: path }),
            None => {
                let functions = load(&path)?;
                let fresh: &'static Loaded = Box::leak(Box::new(Loaded { path, functions }));
                *loaded = Some(fresh);
                Ok(Library { loaded: fresh })
            }
        }
    }

    /// The file it was loaded from, with symbolic links resolved.
    pub fn path(self) -> &'static Path {
        &self.loaded.path
    }

    /// Creates an agent.
    ///
    /// This is where NIXL reads the telemetry settings in the environment.
    ///
    /// # Errors
    ///
    /// [`Error::Nul`] for an impossible name; [`Error::Call`] if NIXL refuses, as it does for an empty name, for any
    /// bad telemetry setting (from 1.0.0) and if the exporter cannot be created (from 1.4.0).
    pub fn agent(self, name: &str, config: &AgentConfig) -> Result<Agent, Error> {
        Agent::create(&self.loaded.functions, name, config)
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Library").field(&self.loaded.path).finish()
    }
}

fn load(path: &Path) -> Result<Functions, LibraryError> {
    // RTLD_LOCAL, as Python does it: what holds here then holds for NIXL's usual host. RTLD_NOW, so that a library with
    // parts missing fails here and not in the middle of a transfer.
    // SAFETY: the initialisers of NIXL and of what it is linked to have no requirements. That the file is NIXL is the
    // caller's statement; the crate's documentation says so.
    let library = unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) }
        .map_err(|source| LibraryError::Load { path: path.to_owned(), source })?;
    let library = libloading::Library::from(library);
    let symbol = |symbol| LibraryError::Symbol { path: path.to_owned(), symbol };
    // SAFETY: in every release with a C API, and in its stubs, this function takes nothing and returns a C++ bool.
    let is_stub = unsafe { library.get::<unsafe extern "C" fn() -> bool>("nixl_capi_is_stub") }
        .map(|function| unsafe { function() });
    // SAFETY: the library is a C API of NIXL, and the next statement but one keeps it loaded for ever.
    let functions = unsafe { Functions::load(&library) };
    // NIXL and UCX have started threads by now or will, and plugins have registered destructors.
    mem::forget(library);
    if is_stub.map_err(|_| symbol("nixl_capi_is_stub"))? {
        return Err(LibraryError::Stub { path: path.to_owned() });
    }
    functions.map_err(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_the_loaders_to_tell() {
        let error = Library::open(Path::new("/nowhere/libnixl_capi.so")).unwrap_err();
        assert!(matches!(error, LibraryError::Load { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with("cannot load /nowhere/libnixl_capi.so: "), "{message}");
    }

    #[test]
    fn a_library_that_is_not_nixl_is_refused_and_does_not_count_as_opened() {
        for _ in 0..2 {
            let error = Library::open(Path::new("libm.so.6")).unwrap_err();
            assert_eq!(
                error.to_string(),
                "libm.so.6 has no function nixl_capi_is_stub; expected the C API of NIXL 0.10.1 or newer"
            );
        }
    }
}
