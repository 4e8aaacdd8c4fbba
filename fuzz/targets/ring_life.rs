// SPDX-License-Identifier: Apache-2.0

//! The life of a ring file, step by step: written, consumed, begun anew, cut, extended, scribbled over and removed, with
//! readers that follow it. Whatever they show was written, and in order, as long as nobody but writers changed the file.

#![no_main]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use libfuzzer_sys::fuzz_target;
use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_ring::{Batch, Follower, Keep, Mode, Options, Polled, Writer};

fuzz_target!(|steps: &[u8]| {
    let path = std::env::temp_dir().join(format!("ring-fuzz-life-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut writer: Option<Writer> = None;
    let mut peeker = Follower::new(&path, Mode::Peek);
    let mut consumer = Follower::new(&path, Mode::Consume);
    let mut batch = Batch::new();
    let (mut value, mut scribbled) = (0u64, false);
    for pair in steps.chunks_exact(2).take(64) {
        let (step, argument) = (pair[0] % 10, u64::from(pair[1]));
        match step {
            0..=2 => {
                if let Some(writer) = &mut writer {
                    if writer.check().is_err() {
                        continue;
                    }
                    let events: Vec<_> =
                        (0..argument % 40).map(|i| Event::new(Kind::TX_BYTES, value + i + 1)).collect();
                    value += events.len() as u64;
                    let pushed = writer.push(&events);
                    assert_eq!(pushed.written + pushed.refused, events.len() as u64);
                }
            }
            3 => {
                writer = None;
                let keep = if argument & 1 == 0 { Keep::Oldest } else { Keep::Newest };
                let options = Options { capacity: 2 << (argument >> 1 & 3), keep, ..Options::default() };
                writer = Writer::at(path.clone(), options).ok();
            }
            4 | 5 => {
                let follower = if step == 4 { &mut peeker } else { &mut consumer };
                if matches!(follower.poll(&mut batch), Polled::Events) && !scribbled {
                    for event in batch.events() {
                        assert_eq!(event.kind(), Some(Kind::TX_BYTES));
                        assert!(event.value() <= value && event.value() > 0, "{} of {value}", event.value());
                    }
                    assert!(batch.events().is_sorted_by_key(|event| event.value()));
                }
                if step == 5 {
                    let _ = follower.commit();
                }
            }
            6 => {
                let _ = fs::remove_file(&path);
            }
            7 | 8 => {
                // Only where no writer has it mapped: it looks before it writes, and here nobody may come in between.
                if let Ok(file) = OpenOptions::new().write(true).open(&path) {
                    scribbled = true;
                    let _ = file.set_len(argument * 7);
                }
            }
            _ => {
                if let Ok(file) = OpenOptions::new().write(true).open(&path) {
                    let length = file.metadata().map_or(0, |metadata| metadata.len());
                    if length > 0 {
                        scribbled = true;
                        let _ = file.write_all_at(&[pair[1]], u64::from(pair[1]) * 3 % length);
                    }
                }
            }
        }
    }
    let _ = fs::remove_file(&path);
});
