// SPDX-License-Identifier: Apache-2.0

//! csv against the CSV exporter of NIXL's plugin guide (C++, flushed after each event), in one run.
//!
//! Both are called through their vtables as NIXL's flush calls them, with batches of 4096 events. The guide's exporter
//! speaks the plugin API of NIXL 0.9 to 1.0.1; ours is measured on the same bytes, and as NIXL 1.5 calls it. Every row
//! both wrote is counted afterwards: a rival that loses rows is no rival.
//!
//! `cargo run --release --bin csv`, from the folder `bench`.

use std::{env, fs, os::unix::process::CommandExt as _, path::Path, process::Command};

use nixl_telemetry_bench::{Held, median, take_turns, transfers};
use nixl_telemetry_event::Generation;
use nixl_telemetry_testkit as testkit;

const BATCH: usize = 4096;
const ROUNDS: usize = 201;

fn main() {
    // Where the files go can be chosen, a disk or memory; by default where temporary files go.
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The generation is part of the environment a plugin sees, so each measurement is a process of its own.
    match env::args().nth(1).as_deref().map(str::parse::<Generation>) {
        Some(Ok(generation)) => measure(generation),
        Some(Err(expected)) => panic!("a generation: {expected}"),
        None => {
            println!("| host | guide's C++ exporter | ours | ratio |\n|---|---|---|---|");
            for generation in [Generation::V0_9, Generation::V1_5] {
                let status = Command::new(env::current_exe().expect("its own path"))
                    .arg(generation.as_str())
                    .env("NIXL_TELEMETRY_HOST_GENERATION", generation.as_str())
                    .env("NIXL_TELEMETRY_CSV_FILE", folder.path().join("{agent}.csv"))
                    .arg0("csv")
                    .status()
                    .expect("it runs itself");
                assert!(status.success());
            }
        }
    }
}

fn measure(generation: Generation) {
    let ours_plugin = testkit::plugin("csv");
    // The guide's exporter knows no placeholders: its file is called `{agent}.csv`, ours `ours.csv`.
    let guide_plugin = testkit::compile_cpp(
        "libtelemetry_exporter_csv_cpp_v1.so",
        &[Path::new("examples/cpp-v1/csv_plugin.cpp"), Path::new("examples/cpp-v1/csv_exporter.cpp")],
        &["-shared", "-fvisibility=hidden", "-I", "include/v1", "-ldl"],
    );
    let folder = env::var("NIXL_TELEMETRY_CSV_FILE").expect("set above");
    let folder = Path::new(&folder).parent().expect("a file in a folder");

    let mut guide = Held::load(&guide_plugin, Generation::V0_9, "guide");
    let mut ours = Held::load(&ours_plugin, generation, "ours");
    let (guide_events, our_events) = (transfers(Generation::V0_9, BATCH), transfers(generation, BATCH));
    let times = take_turns(ROUNDS, &mut [&mut || guide.export(&guide_events), &mut || ours.export(&our_events)]);
    drop((guide, ours));

    for file in ["{agent}.csv", "ours.csv"] {
        let rows = fs::read_to_string(folder.join(file)).expect("the file is there").lines().count() - 1;
        assert_eq!(rows, BATCH * ROUNDS, "{file}");
        fs::remove_file(folder.join(file)).expect("the file can be removed");
    }
    let [guide, ours] = [&times[0], &times[1]].map(|times| median(times).as_nanos() as f64 / BATCH as f64);
    println!(
        "| {} | {guide:.1} ns | {ours:.1} ns | 1/{:.1} |",
        if generation == Generation::V0_9 { "NIXL 0.9 - 1.0.1 (no batches announced)" } else { "NIXL 1.5" },
        guide / ours
    );
}
