// SPDX-License-Identifier: Apache-2.0

//! The exporter that counts, in C++, which NIXL's collector takes as well as ours.

use std::ops::Sub;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nixl_telemetry_testkit as testkit;

/// Its name, for `NIXL_TELEMETRY_EXPORTER`.
pub const NAME: &str = "counter";

/// Builds the plugin, or finds it built.
///
/// # Panics
/// If it does not compile.
pub fn plugin() -> PathBuf {
    testkit::compile_cpp(
        "libtelemetry_exporter_counter.so",
        &[Path::new("bench/src/counter.cpp")],
        &["-shared", "-fvisibility=hidden", "-I", "include/v2", "-ldl"],
    )
}

/// What became of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events the collector handed out.
    pub exported: u64,
    /// Events it said it has dropped.
    pub dropped: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { exported: self.exported - before.exported, dropped: self.dropped - before.dropped }
    }
}

/// The counts of this process.
#[derive(Clone, Copy, Debug)]
pub struct Counter(unsafe extern "C" fn(*mut u64, *mut u64));

impl Counter {
    /// Those of the plugin, whoever else loads it.
    ///
    /// # Errors
    /// If the plugin cannot be loaded.
    pub fn load(plugin: &Path) -> anyhow::Result<Self> {
        // SAFETY: the plugin is the one of this program, without initialisers; the type is the function's.
        unsafe {
            let library = Library::open(Some(plugin), RTLD_NOW | RTLD_LOCAL)
                .with_context(|| format!("cannot load {}", plugin.display()))?;
            let counts = *library.get(b"bench_counts").context("the plugin was built from src/counter.cpp")?;
            std::mem::forget(library);
            Ok(Self(counts))
        }
    }

    /// Everything so far.
    pub fn counts(self) -> Counts {
        let mut counts = Counts::default();
        // SAFETY: the library stays loaded, and both are places for a number.
        unsafe { (self.0)(&raw mut counts.exported, &raw mut counts.dropped) };
        counts
    }
}
