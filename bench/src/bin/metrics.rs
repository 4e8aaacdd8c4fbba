// SPDX-License-Identifier: Apache-2.0

//! prometheus and prometheus_mp against NIXL's own, in one run.

use std::path::PathBuf;

use nixl_telemetry_bench::{Held, median, scrape, take_turns, transfers};
use nixl_telemetry_event::Generation;
use nixl_telemetry_testkit as testkit;

fn main() {
    let release = PathBuf::from(std::env::args().nth(1).expect("the folder of NIXL 1.5.1"));
    let plugins = release.join(".nixl_cu12.mesonpy.libs/plugins");
    const BATCH: usize = 4096;
    // SAFETY: no thread has been started.
    unsafe {
        std::env::set_var("NIXL_TELEMETRY_HOST_GENERATION", "1.5");
        std::env::set_var("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y");
        std::env::set_var("NIXL_TELEMETRY_PROMETHEUS_PORT", scrape::free_port().unwrap().to_string());
    }
    let mut theirs = Held::load(&plugins.join("libtelemetry_exporter_prometheus.so"), Generation::V1_5, "theirs");
    let mut ours = Held::load(&testkit::plugin("prometheus"), Generation::V1_5, "ours");
    let events = transfers(Generation::V1_5, BATCH);
    let times = take_turns(1001, &mut [&mut || theirs.export(&events), &mut || ours.export(&events)]);
    for (name, times) in ["theirs", "ours"].iter().zip(&times) {
        println!("{name}: {:.2} ns", median(times).as_nanos() as f64 / BATCH as f64);
    }
}
