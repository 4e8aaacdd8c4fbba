// SPDX-License-Identifier: Apache-2.0

//! Real transfers to observe, and the exact truth about them.
//!
//! Whoever writes or tests an exporter needs telemetry of something. This crate does work whose telemetry is known in
//! advance:
//!
//! * [`local`]: an embedded agent that moves bytes between memory and files of this machine, and records what NIXL
//!   would. It needs nothing installed.
//! * [`workload`]: a reproducible mix of transfers, run on either kind of agent, with a [`Report`](workload::Report) of
//!   what really happened to compare exported values with.
//! * [`real`]: two agents of a real NIXL in this process, as an engine for the same workloads.
//!
//! ```
//! use nixl_telemetry_event::Kind;
//! use nixl_telemetry_traffic::local::{LocalEngine, LocalOptions};
//! use nixl_telemetry_traffic::workload::{Sizes, Stop, Workload, run};
//!
//! let engine = LocalEngine::new(LocalOptions::default())?;
//! let workload = Workload { transfers: 10, sizes: Sizes::List(vec![4096]), write_percent: 100, ..Workload::default() };
//! let report = run(&engine, &workload, &Stop::new(), &mut |_| ())?;
//! assert_eq!(report.initiator().tally(Kind::TX_BYTES).sum, Some(40_960));
//! assert_eq!((report.verified, report.corrupt), (10, 0));
//! # Ok::<(), nixl_telemetry_traffic::workload::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod local;
pub mod real;
pub mod workload;
