// SPDX-License-Identifier: Apache-2.0

//! Any bytes as a segment of a spool: read without a panic, in proportion to their length. Made-up checksums are almost never
//! right, so that the same bytes are read again with those they need.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nixl_telemetry_event::json;
use nixl_telemetry_sdk::queue::spools::Contents;

const MAGIC_AND_VERSION: &[u8] = b"NIXLTLMS\x01\0\0\0";
/// Bytes before those a record's checksum is of.
const PREFIX: usize = 8;
/// Bytes of an event at least.
const EVENT: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    if let Some(sound) = sound(bytes) {
        read(sound);
    }
});

fn read(bytes: Vec<u8>) {
    let len = bytes.len();
    let Ok(contents) = Contents::from_bytes(bytes) else { return };
    let (writer, mut out) = (json::Writer::new(contents.agent()), Vec::new());
    let (mut events, mut problems) = (0, 0);
    for record in contents.records() {
        let Ok(record) = record else {
            problems += 1;
            continue;
        };
        assert!(record.len() > 0 && record.sequence().checked_add(record.len()).is_some());
        assert_eq!(record.events().len() as u64, record.len());
        for event in record.events() {
            assert!(event.timestamp_us().is_some());
            out.clear();
            writer.write(&event, &mut out);
            assert!(out.starts_with(b"{") && out.ends_with(b"}"));
            events += 1;
        }
    }
    assert!(EVENT * events + PREFIX * problems <= len, "no more than there is");
}

/// A segment with a header of this length and records of these, and the checksums they need.
fn sound(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, mut rest) = bytes.split_first()?;
    let (body, records) = rest.split_at_checked(usize::from(*len))?;
    rest = records;
    let mut segment = MAGIC_AND_VERSION.to_vec();
    segment.extend(u32::try_from(MAGIC_AND_VERSION.len() + 4 + body.len() + 4).ok()?.to_le_bytes());
    segment.extend(body);
    segment.extend(crc32fast::hash(&segment).to_le_bytes());
    while let Some((len, more)) = rest.split_first() {
        let (body, more) = more.split_at(usize::from(*len).min(more.len()));
        segment.extend(u32::try_from(body.len()).ok()?.to_le_bytes());
        segment.extend(crc32fast::hash(body).to_le_bytes());
        segment.extend(body);
        rest = more;
    }
    Some(segment)
}
