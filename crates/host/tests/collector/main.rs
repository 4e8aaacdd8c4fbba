// SPDX-License-Identifier: Apache-2.0

//! The collector from outside: settings and recorded events in, exported events and counts out.

mod buffer;
mod choosing;
mod common;
mod conservation;
mod events;
mod flushing;
mod isolation;
mod plugins;
mod shutdown;
