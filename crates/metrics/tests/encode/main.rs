// SPDX-License-Identifier: Apache-2.0

//! What the three formats look like, and that nothing is lost in them.

mod golden;
mod properties;
mod read_protobuf;
mod read_text;
mod samples;
mod tools;
