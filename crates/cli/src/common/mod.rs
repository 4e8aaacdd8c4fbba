// SPDX-License-Identifier: Apache-2.0

//! What several commands use.

pub(crate) mod again;
pub(crate) mod elf;
pub(crate) mod end;
pub(crate) mod help;
pub(crate) mod host;
pub(crate) mod human;
pub(crate) mod interrupt;
pub(crate) mod nixl;
pub(crate) mod plugins;
pub(crate) mod preload;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod terminal;
