// SPDX-License-Identifier: Apache-2.0

//! Holding a NIXL telemetry plugin: from an exporter's name to an exporter that is loaded, fed and deleted.
//!
//! A plugin is a shared object, `libtelemetry_exporter_<name>.so`, that speaks NIXL's C++ interface, whichever language
//! it is written in. This crate is the host's side of that interface. It takes the plugins NIXL takes, of every release
//! from 0.9.0 to 1.5.1, and NIXL's own exporters among them.
//!
//! ```no_run
//! use nixl_telemetry_event::{Event, Kind};
//! use nixl_telemetry_loader::{Plugin, SearchPath};
//! use nixl_telemetry_settings::Settings;
//!
//! let path = SearchPath::from_settings(Settings::process(), None)?;
//! let plugin = Plugin::find("csv", &path)?;
//! let mut exporter = plugin.create_exporter("trainer-0", 4096)?;
//! let exported = exporter.export(&[Event::new(Kind::TX_BYTES, 4096), Event::new(Kind::TX_REQUESTS_NUM, 1)]);
//! assert_eq!(exported.accepted, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`SearchPath`]: where plugins are looked for.
//! * [`Plugin`]: a loaded one. [`Plugin::form`] says in which form its exporters are given events.
//! * [`Exporter`]: a running one, fed in batches. A [`Batch`] may be more than its events.
//! * [`inspect()`]: what a file says about itself, without loading it.
//!
//! # Promises
//! * What a plugin throws is caught, in C++, around every call but the ones below, and becomes an error or a count.
//! * A virtual function is called only if it is known to exist.
//! * `fini` follows the deletion of the last exporter, and never while `init` runs.
//! * [`inspect()`] never panics, whatever the file holds.
//!
//! # No promises
//! A plugin is native code in this process, and much of what it may do wrong cannot be contained:
//! * An exception that leaves a function declared `noexcept`, as the batch hooks and destructors are, ends the process.
//!   The language decides that before anybody could catch it.
//! * So does a panic that leaves an `extern "C"` function written in Rust.
//! * An exception thrown by a library's static constructors, while it is being opened, is not caught.
//! * A plugin that writes where it should not, blocks for good or exits does so.

#![deny(unsafe_code)]

mod batch;
mod encoder;
mod error;
#[expect(unsafe_code, reason = "owns what a plugin created")]
mod exporter;
mod form;
#[expect(unsafe_code, reason = "calls into a plugin")]
mod guard;
mod inspect;
#[expect(unsafe_code, reason = "opens libraries")]
mod library;
mod plugin;
mod search;

pub use batch::Batch;
pub use error::{CreateError, LoadError};
pub use exporter::{Exported, Exporter, Failure};
pub use form::Form;
pub use inspect::{InspectError, Inspection, Language, SLOTS_SYMBOL, Upstream, inspect, inspect_bytes};
pub use plugin::Plugin;
pub use search::{Candidate, Directories, PLUGIN_DIR, PLUGIN_PATH, SETTINGS, SearchPath, file_name};

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("NIXL's plugin interface is known for Linux on x86-64 and AArch64 only");
