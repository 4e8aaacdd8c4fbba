// SPDX-License-Identifier: Apache-2.0

use std::thread;
use std::time::{Duration, Instant};

/// Waits until something is so: for a minute, which is longer than anything takes on however busy a machine.
///
/// # Panics
/// If it is not so by then.
#[track_caller]
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain");
        thread::sleep(Duration::from_millis(2));
    }
}
