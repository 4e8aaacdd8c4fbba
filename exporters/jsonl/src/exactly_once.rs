// SPDX-License-Identifier: Apache-2.0

//! Tests of what becomes of a batch whose process died, wherever it died, also if its file was compressed before the batch is
//! repeated. What is common to all formats is tested with that of csv.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nixl_telemetry_sdk::{
    BatchId, Event, Settings,
    testing::{MemoWords, TestHost},
};

use crate::{Jsonl, compress::Compress};

/// What stands in the file before.
const BEFORE: &str = "{\"agent\":\"them\",\"event\":\"before\",\"value\":1}\n";
/// With quotes and line breaks, which end no line here.
const NAMES: [&str; 3] = ["first", "sec\"ond", "third\n"];

/// What happens after a process died and before its batch is repeated, as steps of others.
const MEANWHILE: [&[Step]; 6] = [
    &[],
    &[Step::Write],
    &[Step::Rotate],
    &[Step::Rotate, Step::Compress],
    &[Step::Rotate, Step::Compress, Step::Write],
    // The next file but one is apt to have the inode the first had before it was compressed.
    &[Step::Rotate, Step::Compress, Step::Write, Step::Rotate, Step::Compress, Step::Write],
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Write,
    Rotate,
    Compress,
}

fn open(agent: &str, file: &Path, compress: &str) -> TestHost<Jsonl> {
    let settings = [
        ("NIXL_TELEMETRY_JSONL_FILE", file.to_str().unwrap()),
        ("NIXL_TELEMETRY_JSONL_MAX_SIZE", "1000000"),
        ("NIXL_TELEMETRY_JSONL_COMPRESS", compress),
    ];
    TestHost::open(agent, &Settings::from_pairs(settings)).unwrap()
}

fn write(agent: &str, file: &Path, compress: &str, names: &[&str], id: Option<BatchId<'_>>) {
    let mut host = open(agent, file, compress);
    let events: Vec<_> = names.iter().map(|name| Event::backend(name, 10).at(1)).collect();
    host.export_batch(&events, &[], id);
    assert_eq!(host.close().exported, names.len() as u64);
}

/// As by the exporter: the newest is FILE.1.
fn rotate(file: &Path) {
    let numbered = |number: u32, ending: &str| PathBuf::from(format!("{}.{number}{ending}", file.display()));
    for ending in ["", ".gz", ".zst"].into_iter().filter(|ending| numbered(1, ending).exists()) {
        fs::rename(numbered(1, ending), numbered(2, ending)).unwrap();
    }
    fs::rename(file, numbered(1, "")).unwrap();
}

/// All that is in the folder, decompressed.
fn all(folder: &Path) -> String {
    let known = Compress::Gzip.compression().unwrap().known;
    let texts = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let codec = known.iter().find(|codec| path.to_str().unwrap().ends_with(codec.ending()));
        match codec {
            Some(codec) => std::io::read_to_string(codec.read(File::open(path).unwrap()).unwrap().1).unwrap(),
            None => fs::read_to_string(path).unwrap(),
        }
    });
    texts.collect()
}

/// The process dies after so many bytes, then that happens. Returns how many bytes there would have been.
fn die_and_repeat(bytes: u64, meanwhile: &[Step], compress: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    fs::write(&file, BEFORE).unwrap();
    let memo = MemoWords::default();
    let id = BatchId::new(7, 3).with_memo(&memo);
    write("us", &file, "none", &NAMES, Some(id));
    let size = fs::metadata(&file).unwrap().len();
    let whole = size - BEFORE.len() as u64;
    File::options().write(true).open(&file).unwrap().set_len(size - whole + bytes.min(whole)).unwrap();
    let mut theirs = 0;
    for step in meanwhile {
        match step {
            Step::Write => {
                write("them", &file, "none", &["x"], None);
                theirs += 1;
            }
            Step::Rotate => rotate(&file),
            // Who opens a file compresses what others have left of it.
            Step::Compress => drop(open("them", &file, compress)),
        }
    }
    // As often as it is repeated.
    for again in 0..2 {
        write("us", &file, compress, &NAMES, Some(id.repeated()));
        let all = all(folder.path());
        let context = format!("after {bytes} bytes, {meanwhile:?}, {compress}, {again}: {all}");
        for name in ["first", r#"sec\"ond"#, r"third\n"] {
            let line = format!(
                "{{\"timestamp_us\":1,\"agent\":\"us\",\"event\":\"{name}\",\"category\":\"BACKEND\",\"value\":10}}\n"
            );
            assert_eq!(all.matches(&line).count(), 1, "{name:?} {context}");
        }
        assert_eq!(all.matches(r#""agent":"them","event":"x""#).count(), theirs, "{context}");
        assert_eq!(all.matches(BEFORE).count(), 1, "{context}");
    }
    whole
}

#[test]
fn wherever_a_process_dies_every_line_is_there_once() {
    let whole = die_and_repeat(u64::MAX, &[], "none");
    for meanwhile in MEANWHILE {
        let compresses = meanwhile.iter().any(|step| matches!(step, Step::Compress));
        let (with, step): (&[_], _) = if compresses { (&["gzip", "zstd"], 7) } else { (&["none"], 1) };
        for compress in with {
            for bytes in (0..=whole).rev().step_by(step) {
                die_and_repeat(bytes, meanwhile, compress);
            }
        }
    }
}
