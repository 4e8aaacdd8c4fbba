// SPDX-License-Identifier: Apache-2.0

//! Servers asked through real sockets, by clients good and bad.

mod pki;
mod support;

mod certificates;
mod clients;
mod config;

mod ports;
mod protocol;
mod users;
