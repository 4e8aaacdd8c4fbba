// SPDX-License-Identifier: Apache-2.0

//! This project's collector inside an unmodified NIXL.
//!
//! NIXL calls its own telemetry collector through the dynamic linker. This library, named in `LD_PRELOAD`, defines the same
//! functions and comes first, so that they are called instead, and hands what it is told to the host crate's collector. The
//! agents decide as ever whether they have telemetry; the settings are NIXL's, and the host's where it has more.
//!
//! * A process that uses no NIXL never calls any of this: no thread, no output.
//! * Which release calls is recognised by the symbols of the calling library, for each copy of NIXL by itself. One that is
//!   not exactly as a known release keeps its own collector, after one WARN line.
//! * BUFFER writes the ring files of the release that calls, which that release's readers read.
//! * Exporters are looked for in the directories of `NIXL_TELEMETRY_PLUGIN_PATH`, then beside this library, then where NIXL
//!   looks for its own, which work as well.
//! * What cannot be had costs events and a line in the log, unless `NIXL_TELEMETRY_ON_ERROR` is `fail`: then the agent is
//!   refused, by a `std::runtime_error`.
//!
//! The library needs libstdc++, because an exporter written in C++ may throw and only C++ catches that; NIXL needs it as
//! well. For a process that uses neither, mapping both is the whole cost: below a millisecond at its start.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "asks the dynamic linker")]
mod caller;
mod collector;
#[expect(unsafe_code, reason = "calls the run time of C++")]
mod cxx;
#[expect(unsafe_code, reason = "is called by C++")]
mod entry;
#[expect(unsafe_code, reason = "stands before functions of the C library")]
mod exit;
#[expect(unsafe_code, reason = "exports symbols")]
mod exports;
mod functions;
#[expect(unsafe_code, reason = "is called by C++")]
mod members;
#[expect(unsafe_code, reason = "lives in memory of C++")]
mod object;
#[expect(unsafe_code, reason = "keeps pointers beside the thread pointer")]
mod producers;

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("NIXL's collector is known for Linux on x86-64 and AArch64 only");
