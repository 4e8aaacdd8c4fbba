// SPDX-License-Identifier: Apache-2.0

//! Ctrl-C: the first ends the work, the second the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nixl_telemetry_traffic::workload::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody wants this to end.
#[derive(Debug)]
pub(crate) struct Interrupt {
    stop: Stop,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on, SIGINT and SIGTERM stop the work. A second one does what it does by default.
    pub(crate) fn catch() -> io::Result<Self> {
        let (stopped, signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for number in [SIGINT, SIGTERM] {
            // In this order, so that the first signal finds the flag not yet set.
            flag::register_conditional_default(number, Arc::clone(&stopped))?;
            flag::register(number, Arc::clone(&stopped))?;
            flag::register_usize(number, Arc::clone(&signal), usize::try_from(number).unwrap_or_default())?;
        }
        Ok(Self { stop: Stop::from(stopped), signal })
    }

    /// The request to stop, which signals make.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The signal that came, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
    }
}
