// SPDX-License-Identifier: Apache-2.0

//! Any bytes as a ring file: opened, read and consumed without a panic, and in proportion to their length.

#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use nixl_telemetry_event::json;
use nixl_telemetry_ring::{Batch, Mode, Reader};

thread_local! {
    /// One file for all runs: a new one for each would be most of the work.
    static FILE: RefCell<(File, PathBuf)> = RefCell::new({
        let path = std::env::temp_dir().join(format!("ring-fuzz-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        (file.expect("a file for temporary use"), path)
    });
}

fuzz_target!(|bytes: &[u8]| {
    FILE.with_borrow(|(file, path)| {
        file.set_len(bytes.len() as u64).and_then(|()| file.write_all_at(bytes, 0)).expect("room for the file");
        let mut batch = Batch::new();
        for mode in [Mode::Peek, Mode::Consume] {
            let Ok(mut reader) = Reader::open(path, mode) else { continue };
            let (mut read, mut out) = (0, Vec::new());
            let writer = json::Writer::new("agent");
            for _ in 0..3 {
                reader.read(&mut batch).expect("nobody changes it");
                for event in batch.events() {
                    out.clear();
                    writer.write(&event, &mut out);
                    assert!(out.starts_with(b"{") && out.ends_with(b"}"));
                }
                read += batch.len();
                if mode == Mode::Consume {
                    assert!(reader.commit().expect("nobody changes it"));
                }
            }
            assert!(read * reader.shape().layout.size() < bytes.len(), "no more than there is");
            if mode == Mode::Consume {
                assert_eq!(reader.header().expect("nobody changes it").unread(), 0);
            }
        }
    });
});
