// SPDX-License-Identifier: Apache-2.0

//! Real events of real releases: ring files their BUFFER exporters wrote, decoded by this crate and, independently, into
//! the `.json` beside each.

use std::{fs, path::Path};

use nixl_telemetry_event::{Category, Generation, Kind, Layout, Status};
use serde_json::Value;

const HEADER: usize = 40;

fn check(release: &str, generation: Generation) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ring").join(release);
    for agent in ["agentA", "agentB"] {
        let ring = fs::read(folder.join(agent).with_extension("ring")).unwrap();
        let golden: Value =
            serde_json::from_slice(&fs::read(folder.join(agent).with_extension("json")).unwrap()).unwrap();
        let header = &golden["header"];
        let layout = generation.layout();
        assert_eq!(header["version"], generation.ring_version(), "{release}");
        assert_eq!(header["event_size"], layout.size(), "{release}");
        assert_eq!(ring.len(), HEADER + 64 * layout.size(), "{release}");

        let expected = golden["events"].as_array().unwrap();
        assert_eq!(header["write_pos"], expected.len(), "{release}");
        assert!(!expected.is_empty());
        for (slot, expected) in ring[HEADER..].chunks_exact(layout.size()).zip(expected) {
            let event = layout.decode(slot).unwrap();
            // The file has the release's own name for an error, which is read as the name of today.
            let name = expected["name"].as_str().unwrap();
            let kind = Status::error_from_name(name).map_or_else(|| Kind::from_name(name), Status::kind);
            assert!(kind.is_some(), "{release}: {name}");
            assert_eq!(event.kind(), kind, "{release}: {expected}");
            assert_eq!(event.value(), expected["value"].as_u64().unwrap(), "{release}: {expected}");
            assert_eq!(event.timestamp_us(), expected["timestamp_us"].as_u64(), "{release}: {expected}");
            if let Some(category) = expected["category"].as_u64() {
                assert_eq!(
                    event.category().map(Category::code).map(u64::from),
                    Some(category),
                    "{release}: {expected}"
                );
            }
            // And back: everything but the padding, which only the release itself can know.
            let mut bytes = Vec::new();
            assert!(layout.encode(&event, &mut bytes));
            let padding = match layout {
                Layout::L56 => 44..48,
                Layout::L48 => 36..40,
                Layout::L16c => 0..0,
                Layout::L16 => 4..8,
            };
            bytes[padding.clone()].copy_from_slice(&slot[padding]);
            assert_eq!(bytes, slot, "{release}: {expected}");
        }
    }
}

#[test]
fn ring_files_of_seven_releases() {
    check("0.10.1", Generation::V0_9);
    check("1.0.1", Generation::V0_9);
    check("1.1.0", Generation::V1_1);
    check("1.2.0", Generation::V1_2);
    check("1.3.2", Generation::V1_3);
    check("1.4.1", Generation::V1_4);
    check("1.5.1", Generation::V1_5);
}
