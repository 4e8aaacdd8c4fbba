// SPDX-License-Identifier: Apache-2.0

//! Which host is calling: decided by the symbols of its library, never by a version string.
//!
//! Releases 1.1.0, 1.2.0 and 1.3.0 to 1.5.1 demand the same plugin API version and hand out three different events
//! under it. What tells them apart is the collector's own functions, whose mangled names carry their parameter types.

use core::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
};
use std::{
    ffi::{CString, OsStr},
    fmt,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nixl_telemetry_event::Generation;
use nixl_telemetry_log as log;

/// Overrides the detection, for hosts without symbols: a statically linked NIXL, a test harness.
pub const GENERATION_VARIABLE: &str = "NIXL_TELEMETRY_HOST_GENERATION";

/// Whom a plugin is talking to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A NIXL of this generation.
    Nixl(Generation),
    /// A NIXL newer than this crate: treated like the newest known one, tolerating kinds it does not know.
    NewerNixl,
    /// A host that negotiated rich events: this project's own.
    Negotiated,
}

impl Host {
    /// Its generation, for a newer NIXL that of the newest known one; `None` for this project's own.
    pub const fn generation(self) -> Option<Generation> {
        match self {
            Self::Nixl(generation) => Some(generation),
            Self::NewerNixl => Some(Generation::V1_5),
            Self::Negotiated => None,
        }
    }

    /// The plugin API version this host compares for equality.
    pub const fn plugin_api(self) -> u32 {
        match self {
            Self::Nixl(generation) => generation.plugin_api(),
            Self::NewerNixl => Generation::V1_5.plugin_api(),
            Self::Negotiated => crate::raw::negotiated_api_version(crate::raw::RichEvent::VERSION),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nixl(generation) => write!(f, "NIXL {}", generation.releases()),
            Self::NewerNixl => f.write_str("a NIXL newer than 1.5"),
            Self::Negotiated => f.write_str("a host with rich events"),
        }
    }
}

/// The exact symbols that tell generations apart, identical on x86-64 and AArch64.
pub mod symbols {
    /// Defined by every NIXL that loads telemetry plugins.
    pub const HOST: &str =
        "_ZN17nixlPluginManager19loadTelemetryPluginERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
    /// `updateData(type, value)`: events are a type and a value.
    pub const UPDATE_TYPE: &str = "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_tm";
    /// `updateData(type, category, value)`: events have a category besides.
    pub const UPDATE_TYPE_CATEGORY: &str =
        "_ZN13nixlTelemetry10updateDataE27nixl_telemetry_event_type_t25nixl_telemetry_category_tm";
    /// `updateData(name, category, value)`: events have names.
    pub const UPDATE_NAME: &str = "_ZN13nixlTelemetry10updateDataERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE25nixl_telemetry_category_tm";
    /// `discoverPluginsFromList`: 1.1.0 and later.
    pub const DISCOVER: &str =
        "_ZN17nixlPluginManager23discoverPluginsFromListERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
    /// `updateRequestStats`: 1.1.0 and later.
    pub const REQUEST_STATS: &str =
        "_ZN12nixlXferReqH18updateRequestStatsEP13nixlTelemetry28nixl_telemetry_stat_status_t";
    /// `exportDroppedEvents`: 1.4.0 and later.
    pub const DROPPED: &str = "_ZN13nixlTelemetry19exportDroppedEventsEv";
    /// `nixlTelemetryExporter::onBatchBegin`: 1.5.0 and later.
    pub const BATCH: &str = "_ZN21nixlTelemetryExporter12onBatchBeginEv";
}

/// What the symbols of a library say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A NIXL this crate knows, or one newer than all it knows.
    Host(Host),
    /// No NIXL, or one older than telemetry plugins.
    NoHost,
    /// A snapshot of NIXL's main branch between 2026-03-17 and 2026-04-21, whose event cannot be told from outside.
    Ambiguous,
}

/// Decides by a function that tells whether the library defines a symbol.
pub fn judge(defines: impl Fn(&str) -> bool) -> Verdict {
    let generation = if !defines(symbols::HOST) {
        return Verdict::NoHost;
    } else if defines(symbols::UPDATE_TYPE) {
        if defines(symbols::BATCH) {
            Generation::V1_5
        } else if defines(symbols::DROPPED) {
            Generation::V1_4
        } else {
            Generation::V1_3
        }
    } else if defines(symbols::UPDATE_TYPE_CATEGORY) {
        Generation::V1_2
    } else if defines(symbols::UPDATE_NAME) {
        if defines(symbols::DISCOVER) {
            Generation::V1_1
        } else if !defines(symbols::REQUEST_STATS) {
            Generation::V0_9
        } else {
            return Verdict::Ambiguous;
        }
    } else {
        return Verdict::Host(Host::NewerNixl);
    };
    Verdict::Host(Host::Nixl(generation))
}

/// Finds out who called a plugin's `init`, from the address the call returns to.
///
/// In this order: the override of [`GENERATION_VARIABLE`], unless empty; the library that holds the address;
/// `libnixl.so` if it is loaded; any loaded library whose name starts like that; the main program, if it exports its
/// symbols. `None`, after a log line that says what was found and what was expected, if none of them is a NIXL, or the
/// first that is one is [`Verdict::Ambiguous`]. The answer for a calling library is remembered.
pub fn detect(return_address: *const c_void) -> Option<Host> {
    if let Some(text) = std::env::var_os(GENERATION_VARIABLE).filter(|text| !text.is_empty()) {
        match text.to_str().unwrap_or_default().parse() {
            Ok(generation) => return Some(Host::Nixl(generation)),
            Err(expected) => {
                log::error!("{GENERATION_VARIABLE} is {text:?}: {expected}; looking at the host's symbols instead");
            }
        }
    }
    static LAST: Mutex<Option<(Module, Host)>> = Mutex::new(None);
    let caller = module_of(return_address);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(caller), Some((known, host))) = (&caller, &*last)
        && caller == known
    {
        return Some(*host);
    }
    let host = search(caller.as_ref())?;
    *last = caller.map(|caller| (caller, host));
    Some(host)
}

fn search(caller: Option<&Module>) -> Option<Host> {
    let by_address = caller.map(|module| module.path.clone());
    let candidates = by_address.into_iter().chain([PathBuf::from("libnixl.so")]).chain(loaded_nixls());
    let libraries = candidates.filter_map(|path| Some((Loaded::open(&path)?, path)));
    let program = Loaded::main_program().map(|program| (program, PathBuf::from("the main program")));
    for (library, path) in libraries.chain(program) {
        match judge(|symbol| library.defines(symbol)) {
            Verdict::Host(host) => {
                log::debug!("host: {host}, by the symbols of {}", path.display());
                return Some(host);
            }
            // Whatever else is loaded says nothing about this one.
            Verdict::Ambiguous => {
                log::error!(
                    "{} is a development snapshot of NIXL whose events cannot be told from its symbols; \
                     set {GENERATION_VARIABLE} to 0.9 or 1.1",
                    path.display()
                );
                return None;
            }
            Verdict::NoHost => {}
        }
    }
    let caller = caller.map_or_else(|| "an unknown module".to_owned(), |module| module.path.display().to_string());
    log::error!(
        "the caller, {caller}, is no NIXL with telemetry plugins, and none is loaded; \
         set {GENERATION_VARIABLE} to 0.9, 1.1, 1.2, 1.3, 1.4 or 1.5 if the host has no symbols"
    );
    None
}

#[derive(PartialEq, Eq)]
struct Module {
    path: PathBuf,
    base: usize,
}

/// The module that holds an address, or `None` if the loader knows none.
fn module_of(address: *const c_void) -> Option<Module> {
    // SAFETY: `Dl_info` is pointers, for which zeros are a value; the struct is a live local. `dladdr` accepts any
    // address. The name it returns lives as long as the module, which is executing a call to us, and is copied here.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        if libc::dladdr(address, &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let path = OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes()).into();
        Some(Module { path, base: info.dli_fbase.addr() })
    }
}

/// The file that contains this code, by the path under which it was loaded.
pub fn this_library() -> Option<PathBuf> {
    Some(module_of(this_library as *const c_void)?.path)
}

/// Keeps the library that contains this code loaded until the process ends, whatever its host does.
///
/// For libraries that start threads: a host up to 1.0.0 unmaps a plugin at the end even if an exporter was leaked.
pub fn stay_loaded() {
    if let Some(path) = this_library().and_then(|path| CString::new(path.into_os_string().into_vec()).ok()) {
        std::mem::forget(Loaded::reference(path.as_ptr(), libc::RTLD_NODELETE));
    }
}

/// Paths of the loaded libraries called `libnixl.so*`.
pub fn loaded_nixls() -> Vec<PathBuf> {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> libc::c_int {
        // SAFETY: the loader passes a live record; `found` is the vector below. Nothing here can panic but for lack
        // of memory, which aborts.
        let (name, found) = unsafe { ((*info).dlpi_name, &mut *found.cast::<Vec<PathBuf>>()) };
        if !name.is_null() {
            // SAFETY: the loader's names are NUL-terminated and live during the call.
            let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()));
            if path.file_name().is_some_and(|file| file.as_bytes().starts_with(b"libnixl.so")) {
                found.push(path.to_owned());
            }
        }
        0
    }
    let mut found = Vec::new();
    // SAFETY: the callback matches the signature and gets the vector it expects, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// A library that was loaded before, held so that it can be asked for symbols.
struct Loaded(*mut c_void);

impl Loaded {
    fn open(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        Self::reference(path.as_ptr(), 0)
    }

    /// The program itself and what it was linked with, as far as it exports symbols.
    fn main_program() -> Option<Self> {
        Self::reference(ptr::null(), 0)
    }

    fn reference(path: *const c_char, flags: c_int) -> Option<Self> {
        // SAFETY: the callers pass null or a NUL-terminated path. NOLOAD only takes a reference to what is there and
        // runs no code of it.
        let handle = unsafe { libc::dlopen(path, libc::RTLD_LAZY | libc::RTLD_NOLOAD | flags) };
        // Lazily: a `Self` of null would close null when dropped.
        (!handle.is_null()).then(|| Self(handle))
    }

    fn defines(&self, symbol: &str) -> bool {
        // SAFETY: the handle is open as long as `self`; the name is NUL-terminated.
        CString::new(symbol).is_ok_and(|symbol| unsafe { !libc::dlsym(self.0, symbol.as_ptr()).is_null() })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: gives back the reference `open` took, once.
        unsafe { libc::dlclose(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the symbols each wheel defines, as `nm -D` prints them.
    #[test]
    fn all_fourteen_releases_are_told_apart() {
        use symbols::*;
        const NAMES: &[&str] = &[HOST, UPDATE_NAME];
        const NAMES_1_1: &[&str] = &[HOST, UPDATE_NAME, DISCOVER, REQUEST_STATS];
        const CATEGORY: &[&str] = &[HOST, UPDATE_TYPE_CATEGORY, DISCOVER, REQUEST_STATS];
        const TYPES: &[&str] = &[HOST, UPDATE_TYPE, DISCOVER, REQUEST_STATS];
        const DROPS: &[&str] = &[HOST, UPDATE_TYPE, DISCOVER, REQUEST_STATS, DROPPED];
        const HOOKS: &[&str] = &[HOST, UPDATE_TYPE, DISCOVER, REQUEST_STATS, DROPPED, BATCH];
        let table = [
            ("0.9.0", NAMES, Generation::V0_9),
            ("0.10.0", NAMES, Generation::V0_9),
            ("0.10.1", NAMES, Generation::V0_9),
            ("1.0.0", NAMES, Generation::V0_9),
            ("1.0.1", NAMES, Generation::V0_9),
            ("1.1.0", NAMES_1_1, Generation::V1_1),
            ("1.2.0", CATEGORY, Generation::V1_2),
            ("1.3.0", TYPES, Generation::V1_3),
            ("1.3.1", TYPES, Generation::V1_3),
            ("1.3.2", TYPES, Generation::V1_3),
            ("1.4.0", DROPS, Generation::V1_4),
            ("1.4.1", DROPS, Generation::V1_4),
            ("1.5.0", HOOKS, Generation::V1_5),
            ("1.5.1", HOOKS, Generation::V1_5),
        ];
        for (release, defined, generation) in table {
            assert_eq!(judge(|symbol| defined.contains(&symbol)), Verdict::Host(Host::Nixl(generation)), "{release}");
        }
    }

    #[test]
    fn what_is_no_release() {
        use symbols::*;
        let table: [(&str, &[&str], Verdict); 5] = [
            ("nothing", &[], Verdict::NoHost),
            ("no plugin loader", &[UPDATE_NAME, UPDATE_TYPE, BATCH], Verdict::NoHost),
            ("newer than all", &[HOST], Verdict::Host(Host::NewerNixl)),
            ("newer, with hooks", &[HOST, BATCH, DROPPED], Verdict::Host(Host::NewerNixl)),
            ("development snapshot", &[HOST, UPDATE_NAME, REQUEST_STATS], Verdict::Ambiguous),
        ];
        for (what, defined, verdict) in table {
            assert_eq!(judge(|symbol| defined.contains(&symbol)), verdict, "{what}");
        }
    }

    #[test]
    fn a_host_compares_its_api_version() {
        let table = [
            (Host::Nixl(Generation::V0_9), 1, Some(Generation::V0_9)),
            (Host::Nixl(Generation::V1_1), 2, Some(Generation::V1_1)),
            (Host::Nixl(Generation::V1_5), 2, Some(Generation::V1_5)),
            (Host::NewerNixl, 2, Some(Generation::V1_5)),
            (Host::Negotiated, 0x5249_0001, None),
        ];
        for (host, api, generation) in table {
            assert_eq!((host.plugin_api(), host.generation()), (api, generation), "{host}");
        }
    }

    #[test]
    fn this_test_program_is_no_host() {
        assert_eq!(search(module_of(this_test_program_is_no_host as *const c_void).as_ref()), None);
        assert!(Loaded::open(Path::new("libc.so.6")).is_some_and(|libc| libc.defines("malloc")));
    }
}
