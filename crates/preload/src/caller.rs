// SPDX-License-Identifier: Apache-2.0

//! Who calls: the library that holds the address a call returns to. Two NIXLs in one process are two libraries, each
//! judged by itself.

use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nixl_telemetry_abi::host::{Host, Verdict, judge};
use nixl_telemetry_event::Generation;
use nixl_telemetry_log::{debug, warn};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSymbol as _};

use crate::cxx::Scope;
use crate::functions::{Function, is_strange};

/// A NIXL in this process. It stays loaded as long as the process lives.
#[derive(Debug)]
pub(crate) struct Nixl {
    pub(crate) path: PathBuf,
    addresses: Range<usize>,
    /// The release whose collector we stand in for; `None` if its own is left in charge.
    pub(crate) generation: Option<Generation>,
    /// The library's handle.
    pub(crate) scope: Scope,
    /// NIXL's own functions, in the order of [`Function::ALL`]; null for what it does not have.
    real: [*mut c_void; Function::ALL.len()],
    /// Every NIXL that was found before.
    next: *const Nixl,
}

// SAFETY: never changed once it is published; the pointers are to code, and to entries that are never freed.
unsafe impl Sync for Nixl {}

/// The NIXL that was found last.
static NIXLS: AtomicPtr<Nixl> = AtomicPtr::new(ptr::null_mut());

impl Nixl {
    /// The NIXL that holds this address, or `None` if it is another library's, as of a program that measures.
    pub(crate) fn at(address: *const c_void) -> Option<&'static Self> {
        Self::known(address).or_else(|| Self::meet(address))
    }

    /// NIXL's own function.
    pub(crate) fn real(&self, function: Function) -> Option<*mut c_void> {
        Some(self.real[function as usize]).filter(|address| !address.is_null())
    }

    fn known(address: *const c_void) -> Option<&'static Self> {
        // Acquire: pairs with the release in `meet`, so that the entry is whole.
        let mut entry: *const Self = NIXLS.load(Ordering::Acquire);
        // SAFETY: entries are leaked, and their `next` is null or an older entry.
        while let Some(nixl) = unsafe { entry.as_ref() } {
            if nixl.addresses.contains(&address.addr()) {
                return Some(nixl);
            }
            entry = nixl.next;
        }
        None
    }

    #[cold]
    fn meet(address: *const c_void) -> Option<&'static Self> {
        static MEETING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = MEETING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nixl) = Self::known(address) {
            return Some(nixl);
        }
        let module = Module::at(address)?;
        let handle = module.handle()?;
        let symbols = defined(&module.path).unwrap_or_default();
        let verdict = judge(|symbol| symbols.contains(symbol));
        if verdict == Verdict::NoHost {
            return None;
        }
        let path = module.path.display();
        let generation = match understand(verdict, &symbols) {
            Ok(generation) => {
                debug!("{path} is NIXL {}: its telemetry is collected here", generation.releases());
                Some(generation)
            }
            Err(why) => {
                warn!("{path} {why}: its own telemetry collector stays in charge");
                None
            }
        };
        let mut real = [ptr::null_mut(); Function::ALL.len()];
        for (address, function) in real.iter_mut().zip(Function::ALL) {
            if let (true, Ok(name)) = (symbols.contains(function.symbol()), CString::new(function.symbol())) {
                // SAFETY: the handle is open, the name NUL-terminated. The library has the symbol, and comes first in its
                // own handle, so that this is the library's.
                *address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            }
        }
        let next = NIXLS.load(Ordering::Relaxed);
        let nixl = Self { path: module.path, addresses: module.addresses, generation, scope: handle, real, next };
        let nixl: &'static Self = Box::leak(Box::new(nixl));
        NIXLS.store(ptr::from_ref(nixl).cast_mut(), Ordering::Release);
        Some(nixl)
    }
}

/// The generation, if everything about the library is as in a release of it; otherwise what is not.
fn understand(verdict: Verdict, symbols: &BTreeSet<String>) -> Result<Generation, String> {
    use Function as F;
    let generation = match verdict {
        Verdict::Host(Host::Nixl(generation)) => generation,
        Verdict::Ambiguous => {
            return Err("is a development snapshot of NIXL that nothing tells from another".to_owned());
        }
        _ => return Err("is a NIXL of no known release".to_owned()),
    };
    let has = |function: &&Function| symbols.contains(function.symbol());
    let always = [F::Destroy, F::UpdateErrorCount, F::UpdateMemoryRegistered, F::UpdateMemoryDeregistered];
    let (constructors, transfers): (&[_], &[_]) = match generation {
        Generation::V0_9 => (&[F::Construct, F::ConstructWithBackends], &[F::AddPostTime, F::AddXferTime]),
        Generation::V1_1 | Generation::V1_2 | Generation::V1_3 => (&[F::Construct], &[F::AddPostTime, F::AddXferTime]),
        _ => (&[F::Create], &[F::AddXferStats]),
    };
    if let Some(missing) = always.iter().chain(transfers).find(|function| !has(function)) {
        return Err(format!("lacks {}, which NIXL {} has", missing.symbol(), generation.releases()));
    }
    if !constructors.iter().any(|function| has(&function)) {
        return Err(format!("lacks {}, which NIXL {} has", constructors[0].symbol(), generation.releases()));
    }
    if let Some(strange) = symbols.iter().find(|symbol| is_strange(symbol)) {
        return Err(format!("has {strange}, which NIXL {} has not", generation.releases()));
    }
    Ok(generation)
}

/// The directory of this library.
pub(crate) fn own_directory() -> Option<PathBuf> {
    // Made absolute, since `LD_PRELOAD` may name it in any way.
    let path = Module::at(own_directory as *const c_void)?.path.canonicalize().ok()?;
    path.parent().map(Path::to_owned)
}

/// Every symbol the file defines for others.
fn defined(path: &Path) -> Option<BTreeSet<String>> {
    let bytes = fs::read(path).ok()?;
    let file = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
    let defined = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
    Some(defined.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect())
}

/// A loaded file.
#[derive(Debug, Default)]
struct Module {
    path: PathBuf,
    addresses: Range<usize>,
}

impl Module {
    /// The one that holds an address.
    fn at(address: *const c_void) -> Option<Self> {
        let mut search = Search { address: address.addr(), found: None };
        // SAFETY: the callback matches the signature and is given the search, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        let mut module = search.found?;
        if module.path.as_os_str().is_empty() {
            module.path = std::env::current_exe().ok()?;
        }
        Some(module)
    }

    /// Its handle, which keeps it loaded for good.
    fn handle(&self) -> Option<Scope> {
        let path = CString::new(self.path.clone().into_os_string().into_vec()).ok()?;
        // SAFETY: the path is NUL-terminated. NOLOAD only takes a reference to what is there and runs no code of it.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(handle)
    }
}

struct Search {
    address: usize,
    found: Option<Module>,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> libc::c_int {
    // SAFETY: the loader passes a live record with as many headers as it says and a name that is NUL-terminated or null;
    // `search` is `Module::at`'s. Nothing here panics: the sums wrap.
    unsafe {
        let (info, search) = (&*info, &mut *search.cast::<Search>());
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        let headers = core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        let base = usize::try_from(info.dlpi_addr).unwrap_or(0);
        let segments = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(|header| {
            let start = base.wrapping_add(usize::try_from(header.p_vaddr).unwrap_or(0));
            start..start.wrapping_add(usize::try_from(header.p_memsz).unwrap_or(0))
        });
        if !segments.clone().any(|segment| segment.contains(&search.address)) {
            return 0;
        }
        let start = segments.clone().map(|segment| segment.start).min().unwrap_or(0);
        let end = segments.map(|segment| segment.end).max().unwrap_or(0);
        let name = if info.dlpi_name.is_null() { &[][..] } else { CStr::from_ptr(info.dlpi_name).to_bytes() };
        search.found = Some(Module { path: OsStr::from_bytes(name).into(), addresses: start..end });
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: Verdict, symbols: &[&str], expected: Result<Generation, &str>) {
        let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        let expected = expected.map_err(str::to_owned);
        assert_eq!(understand(verdict, &symbols), expected);
    }

    #[test]
    fn what_is_not_as_released_is_left_alone() {
        let release = |generation| Verdict::Host(Host::Nixl(generation));
        let common = [
            Function::Destroy,
            Function::UpdateErrorCount,
            Function::UpdateMemoryRegistered,
            Function::UpdateMemoryDeregistered,
        ]
        .map(Function::symbol);
        let with = |functions: &[Function]| -> Vec<&str> {
            common.iter().copied().chain(functions.iter().map(|function| function.symbol())).collect()
        };
        let old = [Function::ConstructWithBackends, Function::AddPostTime, Function::AddXferTime];
        let new = [Function::Create, Function::AddXferStats];
        check(release(Generation::V0_9), &with(&old), Ok(Generation::V0_9));
        check(release(Generation::V1_5), &with(&new), Ok(Generation::V1_5));
        check(
            release(Generation::V1_3),
            &with(&old),
            Err(
                "lacks _ZN13nixlTelemetryC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE, which NIXL 1.3.0 - \
                 1.3.2 has",
            ),
        );
        check(
            release(Generation::V1_4),
            &with(&[Function::Create]),
            Err(
                "lacks _ZN13nixlTelemetry12addXferStatsENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbmS4_, which NIXL \
                 1.4.0 - 1.4.1 has",
            ),
        );
        let strange = [with(&new), vec!["_ZN13nixlTelemetry7addPeerEm"]].concat();
        check(
            release(Generation::V1_5),
            &strange,
            Err("has _ZN13nixlTelemetry7addPeerEm, which NIXL 1.5.0 - 1.5.1 has not"),
        );
        check(Verdict::Host(Host::NewerNixl), &with(&new), Err("is a NIXL of no known release"));
    }

    #[test]
    fn an_address_has_a_module() {
        let here = Module::at(check as *const c_void).unwrap();
        assert_eq!(here.path, std::env::current_exe().unwrap());
        assert!(here.addresses.contains(&(check as *const c_void).addr()));
        assert!(Module::at(ptr::null()).is_none());
        assert!(Nixl::at(check as *const c_void).is_none());
    }
}
