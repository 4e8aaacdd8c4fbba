// SPDX-License-Identifier: Apache-2.0

//! jsonl beside what no exporter can do without: one write of the same bytes.
//!
//! The exporter is called through its vtable as NIXL 1.5 calls it, with batches of 4096 events. Every line is counted
//! afterwards.
//!
//! `cargo run --release --bin jsonl`, from the folder `bench`.

use std::{env, fs, io::Write as _, os::unix::process::CommandExt as _, path::Path, process::Command};

use nixl_telemetry_bench::{Held, machine, median, take_turns, transfers};
use nixl_telemetry_event::Generation;
use nixl_telemetry_testkit as testkit;

const BATCH: usize = 4096;
const ROUNDS: usize = 201;
const FILE: &str = "NIXL_TELEMETRY_JSONL_FILE";

fn main() {
    let Some(file) = env::var_os(FILE) else {
        // A plugin sees the environment its process was started with.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let status = Command::new(env::current_exe().expect("its own path"))
            .env("NIXL_TELEMETRY_HOST_GENERATION", Generation::V1_5.as_str())
            .env(FILE, folder.path().join("events.jsonl"))
            .arg0("jsonl")
            .status()
            .expect("it runs itself");
        assert!(status.success());
        return;
    };
    println!("{}", machine());
    let file = Path::new(&file);
    let mut exporter = Held::load(&testkit::plugin("jsonl"), Generation::V1_5, "decode-1");
    let events = transfers(Generation::V1_5, BATCH);
    exporter.export(&events);
    let bytes = fs::read(file).expect("the first batch is there");
    let mut plain = fs::File::create(file.with_extension("plain")).expect("a file");
    let write = &mut || plain.write_all(&bytes).expect("there is room");
    let times = take_turns(ROUNDS, &mut [&mut || exporter.export(&events), write]);
    drop(exporter);
    let lines = fs::read(file).expect("the file is there").iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, BATCH * (ROUNDS + 1));

    println!("| {} bytes an event | ns an event | events/s |\n|---|---|---|", bytes.len() / BATCH);
    for (what, times) in ["jsonl", "one write of the same bytes"].into_iter().zip(&times) {
        let time = median(times);
        let per_event = time.as_nanos() as f64 / BATCH as f64;
        println!("| {what} | {per_event:.1} | {:.0} |", BATCH as f64 / time.as_secs_f64());
    }
}
