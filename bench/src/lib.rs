// SPDX-License-Identifier: Apache-2.0

//! What the benchmarks share: plugins and collectors called exactly as NIXL calls them, processes that measure with an
//! environment of their own, and statistics.

pub mod collector;
pub mod counter;
mod held;
pub mod process;
pub mod scrape;

use std::num::NonZero;
use std::time::{Duration, Instant};
use std::{fs, thread};

pub use held::{BUFFER, Held, NOP, transfers};

/// Times `rounds` rounds of each candidate, taking turns, so that what the machine does besides hits all of them.
pub fn take_turns(rounds: usize, candidates: &mut [&mut dyn FnMut()]) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(rounds); candidates.len()];
    for _ in 0..rounds {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let start = Instant::now();
            candidate();
            times.push(start.elapsed());
        }
    }
    times
}

/// The median.
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

/// What else has a say in the numbers: how many processors there are, and how many threads wanted one of late.
pub fn machine() -> String {
    let processors = thread::available_parallelism().map_or(0, NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("processors: {processors}, load before: {}", load.split(' ').next().unwrap_or_default())
}
