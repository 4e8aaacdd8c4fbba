// SPDX-License-Identifier: Apache-2.0

//! A plugin, held by its vtable.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use nixl_telemetry_abi::raw::{self, CxxString};
use nixl_telemetry_event::{Event, Generation, Kind};

/// What creates the plugin `BUFFER` in a `libnixl.so`.
pub const BUFFER: &str = "_Z24createStaticBUFFERPluginv";
/// What creates the plugin `NOP` in a `libnixl.so`, from 1.4 on.
pub const NOP: &str = "_Z21createStaticNOPPluginv";

/// An exporter held as a NIXL of one generation holds it: no guard, no conversion, a virtual call for each event.
pub struct Held {
    exporter: *mut raw::Exporter,
    generation: Generation,
}

impl Held {
    /// Loads a plugin and creates an exporter.
    ///
    /// A plugin that detects its host is told by `NIXL_TELEMETRY_HOST_GENERATION`, which must be set to `generation`.
    ///
    /// # Panics
    /// If the plugin cannot be loaded, or does not speak the generation's plugin API.
    pub fn load(plugin: &Path, generation: Generation, agent: &str) -> Self {
        Self::create(plugin, raw::INIT_SYMBOL, generation, agent)
    }

    /// Creates an exporter of the plugin that is built into a `libnixl.so`, [`BUFFER`] say.
    ///
    /// # Panics
    /// As above.
    pub fn built_in(libnixl: &Path, creator: &str, generation: Generation, agent: &str) -> Self {
        Self::create(libnixl, creator, generation, agent)
    }

    fn create(library: &Path, init: &str, generation: Generation, agent: &str) -> Self {
        let what = library.display();
        // SAFETY: the benchmark loads plugins it has just built, and NIXLs; their init functions take no arguments.
        unsafe {
            let library = Library::open(Some(library), RTLD_NOW | RTLD_LOCAL).expect("the library loads");
            let init: Symbol<raw::InitFn> = library.get(init.as_bytes()).expect("it exports init");
            let object = init();
            assert!(!object.is_null(), "{what}: init returned null");
            assert_eq!((*object).api_version, generation.plugin_api(), "{what}");
            let mut params = MaybeUninit::<raw::InitParams>::zeroed();
            CxxString::emplace(&raw mut (*params.as_mut_ptr()).agent_name, agent);
            (*params.as_mut_ptr()).max_events_buffered = 4096;
            let mut exporter = ptr::null_mut();
            (*object).create.expect("it creates exporters")(&raw mut exporter, params.as_ptr());
            assert!(!exporter.is_null(), "{what}: create returned null");
            std::mem::forget(library);
            Self { exporter, generation }
        }
    }

    /// Exports one batch, given as the bytes of events in the generation's layout.
    pub fn export(&mut self, batch: &[u8]) {
        // SAFETY: the exporter is alive, and the bytes hold whole events of its layout.
        unsafe {
            let slots = &*(*self.exporter).slots;
            if self.generation.has_batch_hooks() {
                (slots.batch_begin)(self.exporter);
            }
            for event in batch.chunks_exact(self.generation.layout().size()) {
                (slots.export_event)(self.exporter, event.as_ptr().cast::<c_void>());
            }
            if self.generation.has_batch_hooks() {
                (slots.batch_end)(self.exporter);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: created in `load`, deleted once.
        unsafe { ((*(*self.exporter).slots).delete)(self.exporter) };
    }
}

/// `events` events as transfers produce them: post time, transfer time, bytes, requests, and again; ready as bytes.
pub fn transfers(generation: Generation, events: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Aligned as C++ would have them: a Vec<u8> of this size comes from the allocator with 16-byte alignment.
    for i in 0..events as u64 {
        let event = match i % 4 {
            0 => Event::new(Kind::XFER_POST_TIME, 3 + i % 90),
            1 => Event::new(Kind::XFER_TIME, 100 + i % 9000),
            2 => Event::new(Kind::TX_BYTES, 65536),
            _ => Event::new(Kind::TX_REQUESTS_NUM, 1),
        };
        assert!(generation.layout().encode(&event.at(1_764_000_000_000_000 + i / 4), &mut bytes));
    }
    assert_eq!(bytes.as_ptr().align_offset(8), 0);
    bytes
}
