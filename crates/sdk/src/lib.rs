// SPDX-License-Identifier: Apache-2.0

//! Write a NIXL telemetry exporter in Rust: one struct, one trait, one macro.
//!
//! NIXL's agents emit events: bytes and requests sent and received, memory registered, transfer and post times, errors.
//! An *exporter* turns them into something outside: a file, a metric, a row. It is a shared library that NIXL loads
//! when `NIXL_TELEMETRY_EXPORTER` names it, and one library built with this crate is right on every release from 0.9 to
//! 1.5, and in this project's own host.
//!
//! # A complete exporter
//!
//! ```standalone_crate
//! use std::{fs::File, io::Write, path::PathBuf};
//! use nixl_telemetry_sdk::{Agent, Batch, Describe, Error, Exporter, Setting, Settings, export_plugin};
//!
//! static FILE: Setting<PathBuf> = Setting::required("NIXL_TELEMETRY_LINES_FILE", "File the events are appended to.");
//!
//! struct Lines(File);
//!
//! impl Exporter for Lines {
//!     const SETTINGS: &'static [&'static dyn Describe] = &[&FILE];
//!
//!     fn open(_agent: &Agent, settings: &Settings) -> Result<Self, Error> {
//!         let path = settings.get(&FILE)?.value;
//!         let file = File::options().append(true).create(true).open(&path);
//!         Ok(Lines(file.map_err(|error| format!("{} is {}: {error}", FILE.name(), path.display()))?))
//!     }
//!
//!     fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
//!         let text: String = batch.iter().map(|event| format!("{} {}\n", event.name(), event.value())).collect();
//!         Ok(self.0.write_all(text.as_bytes())?)
//!     }
//! }
//!
//! export_plugin!("lines", Lines);
//! # fn main() {}
//! ```
//!
//! In its `Cargo.toml` stands `crate-type = ["cdylib"]`; what comes out is named `libtelemetry_exporter_lines.so` and
//! put beside NIXL's own plugins.
//!
//! # What the crate does for you
//!
//! * **Batches on every host.** NIXL 1.5 announces the events of a flush, older releases do not. Your `export` gets
//!   batches either way: on old hosts a thread closes one 50 ms after its first event, so that what NIXL exported
//!   reaches your sink within 200 ms, and always before the agent is gone.
//! * **One event.** The four binary forms an event has had arrive as one [`Event`]; a name means the same thing in
//!   every release, and every event of a batch has a timestamp.
//! * **Containment.** A panic in your code ends your exporter, not the process. An error costs the batch, counted and
//!   logged, a few lines a minute at most. If `open` fails, the agent runs without exporter, unless
//!   `NIXL_TELEMETRY_ON_ERROR=fail` says otherwise.
//! * **More from this project's host**: exact [totals](Exporter::totals) where it had no room for every event, and for
//!   what a killed process leaves behind an [identity](Batch::id) and a [memo](Batch::memo), with which a batch that is
//!   exported again does not come twice.
//! * **Settings** ([`Setting`], [`Settings`]) with NIXL's own parsing rules, from the environment and NIXL's TOML file;
//!   described once, for parser and documentation alike.
//! * **A log** ([`error!`], [`warn!`], [`info!`], [`debug!`], [`trace!`]) in NIXL's line format, obeying `NIXL_LOG_LEVEL`.
//! * **Metrics** ([`metrics`]): an exporter that shows sums implements [`MetricsExporter`], and gets them added up.
//! * **A queue** ([`queue`]) for what reaches a database or a message bus: an exporter that implements [`Sink`] is called on a
//!   thread of its own, tries again what fails, and may keep what waits on disk.
//! * **A thread of your own** ([`Worker`]) for what must not be done on the host's, and how long to wait when it fails
//!   ([`Backoff`]). What the exporters of a process share is locked by [`lock_shared`], which knows about fork.
//! * **A host for your tests**: [`testing::TestHost`].
//!
//! # What you should know
//!
//! `export` runs inside somebody's inference process, usually on NIXL's flush thread. While it runs, that agent's
//! events queue up, 4096 of them by default; the rest NIXL drops. So: write to a file if you like, but do not wait for
//! a network there. Exporters of different agents are called in parallel.
//!
//! In a forked child an exporter is inert, and let go without running its destructor, since its files and sockets are
//! the parent's. (NIXL's flush thread does not exist there anyway.)

#![forbid(unsafe_code)]

mod adapter;
mod agent;
mod backoff;
mod batch;
mod exporter;
pub mod metrics;
mod path;
mod pump;
pub mod queue;
mod shared;
mod template;
pub mod testing;
mod timed;
pub mod worker;

pub use nixl_telemetry_event::{
    BatchId, Category, Event, Generation, Kind, Memo, Name, Status, Total, Unit, csv_field, escape_file_name,
};
pub use nixl_telemetry_log::{Site as LogSite, debug, error, info, log_on, trace, warn};
pub use nixl_telemetry_settings::{
    Describe, Dialect, FileMode, Found, Malformed, Millis, Origin, Setting, Settings, TomlValue, Value, markdown_table,
    one_of,
};

pub use crate::{
    agent::Agent,
    backoff::{Backoff, chance},
    batch::{Batch, Iter, KeptBatch, now_us},
    exporter::{Error, Exporter},
    metrics::{Aggregated, MetricsExporter},
    path::absolute,
    pump::Counts,
    queue::{Queued, Sink},
    shared::lock_shared,
    template::PathTemplate,
    worker::Worker,
};

/// Makes a type that implements [`Exporter`] the exporter of this shared library.
///
/// The first argument is the exporter's name, the one `NIXL_TELEMETRY_EXPORTER` and the library's file name carry. The
/// version is that of the crate that uses the macro. It exports the two symbols every NIXL looks for, and a third by
/// which this project's host asks for events with nothing left out.
#[macro_export]
macro_rules! export_plugin {
    ($name:literal, $exporter:ty) => {
        const _: () = {
            enum Plugin {}

            impl $crate::__private::Plugin for Plugin {
                const NAME: &'static str = $name;
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
                type Exporter = $crate::__private::Adapter<$exporter>;

                fn objects() -> &'static $crate::__private::Objects {
                    static OBJECTS: $crate::__private::Objects = $crate::__private::Objects::new();
                    &OBJECTS
                }

                fn create(params: $crate::__private::CreateParams<'_>) -> Option<Self::Exporter> {
                    $crate::__private::create::<$exporter>($name, params)
                }
            }

            $crate::__private::entry_points!(Plugin);
        };
    };
}

#[doc(hidden)]
pub mod __private {
    pub use nixl_telemetry_abi::{
        entry_points,
        plugin::{CreateParams, Objects, Plugin},
    };

    pub use crate::adapter::{Adapter, create};
}
