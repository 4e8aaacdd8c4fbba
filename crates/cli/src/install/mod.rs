// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry install` and `uninstall`: plugins into a NIXL, and exactly out of it again.
//!
//! `.nixl-telemetry-installed.json` in NIXL's plugin directory remembers what was installed and what that replaced. A
//! file that is not as it was installed is never removed unless somebody insists.
//!
//! At every moment the directory holds, under each name, one whole plugin or none: a process that starts a NIXL while
//! this works finds the old one or the new one. The names of what lies there besides do not begin with
//! `libtelemetry_exporter_`, because releases 0.9.0 to 1.0.1 load everything that does.

#[expect(clippy::module_inception, reason = "one file a command")]
pub(crate) mod install;
pub(crate) mod manifest;
pub(crate) mod uninstall;
