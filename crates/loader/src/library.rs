// SPDX-License-Identifier: Apache-2.0

//! Opening libraries, and the table of those that are open.
//!
//! The dynamic linker maps a file once per process, however often and under whatever path it is opened. A plugin's
//! `init` and `fini` are therefore counted per mapping: the first handle initialises, the last one finalises, and a
//! later one initialises again. No lock is held while foreign code runs.

use core::ffi::c_void;
use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nixl_telemetry_abi::raw;
use nixl_telemetry_event::Layout;

use crate::guard::{self, Caught};
use crate::inspect::{InspectError, Inspection, inspect};
use crate::{Form, LoadError};

/// A plugin that is initialised. `Drop` finalises it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) inspection: Arc<Inspection>,
    pub(crate) api_version: u32,
    /// The events it takes; `None` where only the release tells that it was made for.
    pub(crate) form: Option<Form>,
    /// Whether it has the batch hooks; `None` as above.
    pub(crate) batch_hooks: Option<bool>,
    /// What `init` or `negotiate` returned; valid for as long as the process lives, since nothing is ever unmapped.
    object: NonNull<raw::Plugin>,
    create: raw::CreateFn,
    fini: Option<raw::FiniFn>,
    key: Key,
}

// SAFETY: the plugin object is read-only for a host, and NIXL, too, calls `create_exporter` of one plugin from several
// threads at once; `fini` runs once, in whichever thread drops the last handle.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

/// The dynamic linker's handle, which is the same for the same mapping.
type Key = usize;

/// A mapping; it stays in the table when its plugin is finalised, since it stays in memory.
struct Mapping {
    /// Of the file that is mapped. The file of that path may be another one by now.
    inspection: Arc<Inspection>,
    state: State,
}

enum State {
    /// Not initialised.
    Idle,
    /// Being initialised by some thread.
    Initialising,
    /// Initialised; or, if nothing is left to upgrade, being finalised by the thread that dropped the last handle.
    Live(Weak<Loaded>),
}

/// Every library that was ever opened.
struct Table {
    mappings: Mutex<BTreeMap<Key, Mapping>>,
    /// Told whenever a state changes.
    changed: Condvar,
}

static TABLE: Table = Table { mappings: Mutex::new(BTreeMap::new()), changed: Condvar::new() };

/// What a library exports.
struct Symbols {
    init: raw::InitFn,
    negotiate: Option<raw::NegotiateFn>,
    fini: Option<raw::FiniFn>,
}

impl Loaded {
    /// The plugin in this file, initialised; shared with everybody who has it.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
        let inspection = inspect(path).map_err(|error| match error {
            InspectError::Read { .. } => {
                LoadError::NotASharedObject { path: path.to_owned(), what: format!("it {error}") }
            }
            InspectError::NotASharedObject { what } => LoadError::NotASharedObject { path: path.to_owned(), what },
        })?;
        // A path without a slash would be searched for among the system's libraries.
        let full = path.canonicalize().map_err(|error| LoadError::NotASharedObject {
            path: path.to_owned(),
            what: format!("it cannot be found: {error}"),
        })?;
        let handle = open(path, &full)?;
        let key = handle.addr().get();
        let inspection = match TABLE.enter(key, inspection) {
            Entered::Live(loaded) => return Ok(loaded),
            Entered::Initialise(inspection) => inspection,
        };
        // From here on, other threads that want this plugin wait for `settle`.
        let loaded = initialise(path, full, handle, inspection).map(Arc::new);
        TABLE.settle(key, loaded.as_ref().map_or(State::Idle, |loaded| State::Live(Arc::downgrade(loaded))));
        loaded
    }

    /// Name and version in the plugin object.
    pub(crate) fn declared(&self) -> (String, String) {
        // SAFETY: a plugin object has room for both, if only to follow NIXL's declaration of it, and lives as long as the
        // process. One that is shorter does no harm unless somebody asks.
        let object = unsafe { self.object.as_ref() };
        (read_string(&object.name), read_string(&object.version))
    }

    /// Calls `create_exporter`; the exporter must be deleted before the plugin is dropped.
    pub(crate) fn create(&self, agent: &str, max_events: u64) -> Result<Option<NonNull<raw::Exporter>>, Caught> {
        // SAFETY: the pointer comes from the plugin object, and the plugin is initialised as long as this value lives.
        unsafe { guard::create(self.create, agent, max_events) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some(fini) = self.fini {
            // SAFETY: init succeeded, and exporters hold a handle, so that none is left. What a fini throws is of no
            // use to anybody, and must not keep the host from going on.
            let _ = unsafe { guard::fini(fini) };
        }
        TABLE.settle(self.key, State::Idle);
    }
}

enum Entered {
    Live(Arc<Loaded>),
    Initialise(Arc<Inspection>),
}

impl Table {
    /// The plugin of this mapping if it is initialised; otherwise the caller shall initialise it, and then
    /// [`settle`](Table::settle).
    fn enter(&self, key: Key, inspection: Inspection) -> Entered {
        let mut guard = self.lock();
        let mut inspection = Some(inspection);
        loop {
            let mapping = guard.entry(key).or_insert_with(|| Mapping {
                inspection: Arc::new(inspection.take().unwrap_or_default()),
                state: State::Idle,
            });
            match &mapping.state {
                State::Idle => {
                    mapping.state = State::Initialising;
                    return Entered::Initialise(Arc::clone(&mapping.inspection));
                }
                State::Live(loaded) => {
                    if let Some(loaded) = loaded.upgrade() {
                        return Entered::Live(loaded);
                    }
                }
                State::Initialising => {}
            }
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn settle(&self, key: Key, state: State) {
        if let Some(mapping) = self.lock().get_mut(&key) {
            mapping.state = state;
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Mapping>> {
        // Every change of the table is a single assignment, so that a panic elsewhere leaves it sound.
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maps a library for good, as NIXL does: a plugin may have threads, thread-local data and exit handlers that outlive it.
fn open(path: &Path, full: &Path) -> Result<NonNull<c_void>, LoadError> {
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: loading a library runs its constructors, about which nothing can be known. That is what a plugin is: its
    // user vouches for it by naming it.
    let library = unsafe { Library::open(Some(full), flags) };
    let library = library.map_err(|error| LoadError::Dlopen { path: path.to_owned(), message: dlerror(&error) })?;
    Ok(NonNull::new(library.into_raw()).expect("a handle that was opened is not null"))
}

/// The dynamic linker's own words, without the wrapping.
fn dlerror(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source } => source.to_string(),
        other => other.to_string(),
    }
}

/// Resolves the symbols of a plugin. What is optional must be its own: `dlsym` also finds what its dependencies export.
fn symbols(handle: NonNull<c_void>, inspection: &Inspection) -> Option<Symbols> {
    // SAFETY: the handle was opened and never closed.
    let library = unsafe { Library::from_raw(handle.as_ptr()) };
    let negotiate = inspection.negotiates.then_some(raw::NEGOTIATE_SYMBOL);
    let fini = inspection.exports_fini.then_some(raw::FINI_SYMBOL);
    // SAFETY: these names mean these functions wherever they are exported; that is NIXL's and this project's interface.
    let symbols = unsafe {
        let init = library.get::<raw::InitFn>(raw::INIT_SYMBOL).ok().map(|symbol| *symbol);
        init.map(|init| Symbols {
            init,
            negotiate: negotiate.and_then(|name| library.get(name).ok()).map(|symbol| *symbol),
            fini: fini.and_then(|name| library.get(name).ok()).map(|symbol| *symbol),
        })
    };
    // Only borrowed: the mapping keeps its reference, which NODELETE would make up for anyway.
    let _ = library.into_raw();
    symbols
}

fn initialise(
    path: &Path,
    full: PathBuf,
    handle: NonNull<c_void>,
    inspection: Arc<Inspection>,
) -> Result<Loaded, LoadError> {
    let path = || path.to_owned();
    let Some(symbols) = symbols(handle, &inspection) else { return Err(LoadError::NoInit { path: path() }) };
    let threw = |caught| {
        let (Caught::BindFailed(what) | Caught::Threw(what)) = caught;
        LoadError::InitThrew { path: path(), what }
    };

    let negotiated = match symbols.negotiate {
        // SAFETY: the symbol is the function of that name in a library that stays loaded.
        Some(negotiate) => unsafe { guard::negotiate(negotiate) }.map_err(threw)?,
        None => None,
    };
    let (object, is_negotiated) = match negotiated {
        Some(object) => (object, true),
        // SAFETY: as above.
        None => match unsafe { guard::init(symbols.init) }.map_err(threw)? {
            Some(object) => (object, false),
            None => return Err(LoadError::InitNull { path: path() }),
        },
    };

    // The object may be shorter than ours: NIXL reads no more than version and function.
    // SAFETY: the plugin returned the object for its host to read, valid for as long as the process lives.
    let api_version = unsafe { (&raw const (*object.as_ptr()).api_version).read() };
    let Some(form) = form(api_version, is_negotiated, &inspection) else {
        let expected = if is_negotiated { NEGOTIATED_EXPECTED } else { "1 or 2" };
        return Err(LoadError::ApiVersion { path: path(), got: api_version, expected });
    };
    // SAFETY: as for the version.
    let Some(create) = (unsafe { (&raw const (*object.as_ptr()).create).read() }) else {
        if let Some(fini) = symbols.fini {
            // SAFETY: init succeeded, and there are no exporters. As to what it throws, see `Drop`.
            let _ = unsafe { guard::fini(fini) };
        }
        return Err(LoadError::NullCreate { path: path() });
    };
    let batch_hooks = batch_hooks(api_version, &inspection);
    let key = handle.addr().get();
    Ok(Loaded { path: full, inspection, api_version, form, batch_hooks, object, create, fini: symbols.fini, key })
}

const NEGOTIATED: u32 = raw::negotiated_api_version(raw::RichEvent::VERSION);
const NEGOTIATED_EXPECTED: &str = "1380515841, which is what negotiation is about";
const _: () = assert!(NEGOTIATED == 1_380_515_841);

/// The events a plugin of this version takes, if anything tells; the outer `None` for a version nobody knows.
fn form(api_version: u32, negotiated: bool, inspection: &Inspection) -> Option<Option<Form>> {
    let known = inspection.upstream.and_then(|upstream| upstream.layout);
    match (api_version, negotiated) {
        (NEGOTIATED, true) => Some(Some(Form::Rich)),
        (1, false) => Some(Some(Form::Layout(Layout::L56))),
        // A stripped plugin may have been made for any release from 1.1 on.
        (2, false) => Some(known.filter(|layout| *layout != Layout::L56).map(Form::Layout)),
        _ => None,
    }
}

/// Whether a plugin of this version has the batch hooks, if anything tells.
fn batch_hooks(api_version: u32, inspection: &Inspection) -> Option<bool> {
    let known = inspection.slots.map(|slots| slots >= crate::inspect::SLOTS_WITH_HOOKS);
    match api_version {
        NEGOTIATED => Some(true),
        2 => known,
        // They came long after the first version had gone.
        _ => Some(known.unwrap_or(false)),
    }
}

/// The text of a `std::string` in a plugin object, or nothing if it is not filled in.
fn read_string(string: &raw::CxxString) -> String {
    /// Names and versions are short; a longer one is taken for memory nobody filled in.
    const LONGEST: usize = 1024;
    if string.data.is_null() || string.len > LONGEST {
        return String::new();
    }
    // SAFETY: a filled string points to `len` characters that live as long as the plugin object.
    let bytes = unsafe { core::slice::from_raw_parts(string.data.cast::<u8>(), string.len) };
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_forms() {
        let unknown = Inspection::default();
        let table = [
            (0, false, None),
            (1, false, Some(Some(Form::Layout(Layout::L56)))),
            (2, false, Some(None)),
            (3, false, None),
            (NEGOTIATED, false, None),
            (NEGOTIATED, true, Some(Some(Form::Rich))),
            (NEGOTIATED + 1, true, None),
            (1, true, None),
            (2, true, None),
        ];
        for (version, negotiated, expected) in table {
            assert_eq!(form(version, negotiated, &unknown), expected, "{version} {negotiated}");
        }
    }

    #[test]
    fn versions_and_hooks() {
        let table = [
            (1, None, Some(false)),
            (1, Some(5), Some(true)),
            (2, None, None),
            (2, Some(3), Some(false)),
            (2, Some(5), Some(true)),
            (NEGOTIATED, None, Some(true)),
        ];
        for (version, slots, expected) in table {
            let inspection = Inspection { slots, ..Inspection::default() };
            assert_eq!(batch_hooks(version, &inspection), expected, "{version} {slots:?}");
        }
    }
}
