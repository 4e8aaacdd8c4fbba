// SPDX-License-Identifier: Apache-2.0

//! What a NIXL telemetry event is, in every release.
//!
//! An [`Event`] is one reading: *what* was read (a [`Kind`], or the name of a backend event), its value, and the
//! wall-clock time where the release that produced it still recorded one. The crate is pure vocabulary: no
//! dependencies, no I/O, no `unsafe`, so that everything else can afford to depend on it.
//!
//! * [`Kind`], [`Category`], [`Status`], [`Unit`]: NIXL's names and numbers, from one table.
//! * [`Layout`] and [`layout`]: the four binary forms an event has had, side by side, from bytes to [`Event`] and back.
//! * [`Generation`]: which layout, plugin API and ring version a release speaks.
//! * [`json`]: the JSON form of an event; [`csv_field()`]: a field of a CSV row; [`fnmatch()`]: names by pattern, as NIXL's
//!   allowlist has them; [`Allowlist`]: that list; [`escape_file_name`]: the name of an agent as the name of a file.
//! * [`Total`], [`BatchId`], [`Memo`]: what this project's host and plugins tell each other besides events.
//!
//! One name means one thing in every release: old releases report errors as `NIXL_ERR_NOT_FOUND`, new ones as number
//! 11, and both are read as [`Kind::ERR_NOT_FOUND`], `agent_err_not_found`.
//!
//! ```
//! use nixl_telemetry_event::{Event, Kind, layout};
//!
//! // What NIXL 1.3 and later hand to an exporter: type, padding with garbage in it, value.
//! let bytes = [1, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 0, 16, 0, 0, 0, 0, 0, 0];
//! let event = layout::l16::decode(&bytes);
//! assert_eq!(event, Event::new(Kind::RX_BYTES, 4096));
//! assert_eq!(event.name().to_string(), "agent_rx_bytes");
//! ```
//!
//! # Promise
//! Decoding never panics and never allocates, whatever the bytes.

#![forbid(unsafe_code)]

mod allowlist;
mod batch_id;
mod category;
mod csv_field;
mod event;
mod file_name;
mod fnmatch;
mod generation;
pub mod json;
mod kind;
pub mod layout;
mod memo;
mod status;
mod total;

pub use allowlist::Allowlist;
pub use batch_id::BatchId;
pub use category::Category;
pub use csv_field::csv_field;
pub use event::{Event, Name};
pub use file_name::{escape_file_name, unescape_file_name};
pub use fnmatch::fnmatch;
pub use generation::{Generation, ParseGenerationError};
pub use kind::{Kind, Unit};
pub use layout::Layout;
pub use memo::{Memo, MemoWords};
pub use status::Status;
pub use total::Total;
