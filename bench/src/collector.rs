// SPDX-License-Identifier: Apache-2.0

//! NIXL's telemetry collector and ours, called through the C++ symbols that both define.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use anyhow::{Context as _, ensure};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nixl_telemetry_abi::raw::CxxString;

const CREATE: &str = "_ZN13nixlTelemetry6createERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
const DESTROY: &str = "_ZN13nixlTelemetryD1Ev";
const ADD_XFER_STATS: &str = "_ZN13nixlTelemetry12addXferStatsENSt6chrono8durationIlSt5ratioILl1ELl1000000EEEEbmS4_";
const UPDATE_TX_BYTES: &str = "_ZN13nixlTelemetry13updateTxBytesEm";
const FLUSH_PENDING_EVENTS: &str = "_ZN13nixlTelemetry18flushPendingEventsEv";
/// `operator delete(void *)`, of the C++ library that the collector allocates with.
const DELETE: &str = "_ZdlPv";

/// The functions of a collector, as NIXL 1.4 and 1.5 call them.
///
/// One that fails throws, as C++ does, and so ends a program of Rust.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    create: unsafe extern "C-unwind" fn(*mut *mut c_void, *const CxxString) -> *mut *mut c_void,
    destroy: unsafe extern "C-unwind" fn(*mut c_void),
    add_xfer_stats: unsafe extern "C-unwind" fn(*mut c_void, i64, bool, u64, i64),
    update_tx_bytes: unsafe extern "C-unwind" fn(*mut c_void, u64),
    flush_pending_events: unsafe extern "C-unwind" fn(*mut c_void),
    delete: unsafe extern "C-unwind" fn(*mut c_void),
}

impl Functions {
    /// Those of a library, which stays loaded and resolves no symbol of any other.
    ///
    /// # Errors
    /// If it cannot be loaded, or lacks one of them, as releases before 1.4 do.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "C++ returns a std::unique_ptr in its own way on each architecture, and this program knows x86-64 only"
        );
        // SAFETY: loading runs initialisers, which a collector's library has none of that need anything.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .with_context(|| format!("cannot load {}", path.display()))?;
        let missing = |symbol| format!("{} lacks {symbol}: expected the collector of NIXL 1.4 or 1.5", path.display());
        macro_rules! function {
            ($symbol:expr) => {
                // SAFETY: the type is that of the only function that has this mangled name.
                *unsafe { library.get($symbol.as_bytes()) }.with_context(|| missing($symbol))?
            };
        }
        let functions = Self {
            create: function!(CREATE),
            destroy: function!(DESTROY),
            add_xfer_stats: function!(ADD_XFER_STATS),
            update_tx_bytes: function!(UPDATE_TX_BYTES),
            flush_pending_events: function!(FLUSH_PENDING_EVENTS),
            delete: function!(DELETE),
        };
        std::mem::forget(library);
        Ok(functions)
    }
}

/// The collector of one agent, called from several threads as NIXL does.
#[derive(Debug)]
pub struct Collector {
    object: *mut c_void,
    functions: Functions,
}

// SAFETY: an agent's threads call its collector at the same time; it looks after itself.
unsafe impl Sync for Collector {}

impl Collector {
    /// Creates one, with the settings in the environment.
    ///
    /// # Errors
    /// If these leave telemetry off.
    pub fn create(functions: Functions) -> anyhow::Result<Self> {
        let mut name = MaybeUninit::<CxxString>::zeroed();
        let mut object = ptr::null_mut();
        // SAFETY: the string is made in place and does not move during the call, for which alone it is needed. A
        // unique_ptr is returned through memory, whose address is the first argument on x86-64.
        unsafe {
            CxxString::emplace(name.as_mut_ptr(), "bench");
            (functions.create)(&raw mut object, name.as_ptr());
        }
        ensure!(!object.is_null(), "the collector says telemetry is off: expected NIXL_TELEMETRY_ENABLE to turn it on");
        Ok(Self { object, functions })
    }

    /// A transfer that wrote 64 KiB: four events.
    #[inline]
    pub fn add_transfer(&self, transfer_us: i64) {
        // SAFETY: the object lives as long as this.
        unsafe { (self.functions.add_xfer_stats)(self.object, transfer_us, true, 65536, 3) }
    }

    /// Bytes sent: one event.
    #[inline]
    pub fn add_tx_bytes(&self, bytes: u64) {
        // SAFETY: the object lives as long as this.
        unsafe { (self.functions.update_tx_bytes)(self.object, bytes) }
    }

    /// Has everything exported that was recorded before, and waits for it.
    pub fn flush(&self) {
        // SAFETY: the object lives as long as this.
        unsafe { (self.functions.flush_pending_events)(self.object) }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // SAFETY: as the agent's unique_ptr does it: destroyed once, with nobody using it, and then freed.
        unsafe {
            (self.functions.destroy)(self.object);
            (self.functions.delete)(self.object);
        }
    }
}
