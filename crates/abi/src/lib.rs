// SPDX-License-Identifier: Apache-2.0

//! NIXL's telemetry plugin ABI in Rust: what crosses the seam, and how to be a plugin on every release.
//!
//! NIXL loads an exporter from a shared library and talks C++ to it: a plugin object with two `std::string`s in it, a
//! `std::unique_ptr` returned by value, an object with a vtable. Three releases changed the bytes of an event without
//! changing the version number, so a plugin has to find out by itself whom it is talking to.
//!
//! * [`raw`]: the objects that cross the seam, data only.
//! * [`host`]: which NIXL is calling, decided by the symbols its library exports.
//! * [`plugin`]: being a plugin: one [`Plugin`](plugin::Plugin) implementation speaks to every [`Host`](host::Host)
//!   from one binary, through a vtable for each.
//! * [`string`]: libstdc++ strings, read and made in place.
//!
//! Holding a plugin, the other direction, needs a C++ landing pad and therefore libstdc++, which a plugin that holds none must
//! not drag in; it lives in the loader crate, on the same [`raw`] types.
//!
//! # Safety
//! The safe items protect the *plugin author*: no panic, wrong layout or lifetime of theirs reaches the host. They
//! cannot protect the plugin from a host that breaks the contract (an object used after its deletion, two threads in
//! one exporter); such contracts are stated where the host's pointers come in.

pub mod host;
pub mod plugin;
pub mod raw;
pub mod string;
