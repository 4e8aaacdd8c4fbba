// SPDX-License-Identifier: Apache-2.0

//! What the tests of this workspace share: built plugins, compiled fixtures, NIXL releases, and the rule for skipping.
//!
//! A test that needs something a machine may lack says so in one line and passes; with `CI=true` it fails instead, so
//! that nothing goes untested there unnoticed.

#![forbid(unsafe_code)]

mod authority;
mod build;
mod machine;
mod nats;
mod port;
mod postgres;
mod program;
mod python;
mod schema;
mod wait;

pub use authority::{Authority, Identity};
pub use build::{artifact, compile_cpp, outside_cargo, plugin, preload, workspace_root};
pub use machine::{Missing, NIXL_RELEASES, command, nixl_release, prometheus, require};
pub use nats::{NATS_PACKAGES, Nats};
pub use port::free_port;
pub use postgres::{Pooler, Postgres};
pub use program::{copy_program, nixl_reader};
pub use python::python;
pub use schema::{check_schema, event_schema};
pub use wait::wait_until;
