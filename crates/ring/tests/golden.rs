// SPDX-License-Identifier: Apache-2.0

//! Ring files of seven real releases, against what an independent decoder found in them.

use std::fs;
use std::path::{Path, PathBuf};

use nixl_telemetry_event::{Kind, Layout, Status};
use nixl_telemetry_ring::{Batch, Mode, Reader};
use serde_json::Value;

fn golden(release: &str, agent: &str) -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../event/tests/golden/ring").join(release);
    let json = fs::read(folder.join(agent).with_extension("json")).unwrap();
    (folder.join(agent).with_extension("ring"), serde_json::from_slice(&json).unwrap())
}

#[test]
fn files_of_seven_releases_read_to_what_is_in_them() {
    let releases = [
        ("0.10.1", Layout::L56),
        ("1.0.1", Layout::L56),
        ("1.1.0", Layout::L48),
        ("1.2.0", Layout::L16c),
        ("1.3.2", Layout::L16),
        ("1.4.1", Layout::L16),
        ("1.5.1", Layout::L16),
    ];
    let mut total = 0;
    for (release, layout) in releases {
        for agent in ["agentA", "agentB"] {
            let (path, json) = golden(release, agent);
            let mut reader = Reader::open(path, Mode::Peek).unwrap();
            let (shape, header) = (reader.shape(), reader.header().unwrap());
            assert_eq!((shape.layout, shape.capacity), (layout, 64), "{release}");
            assert_eq!(shape.layout.size() as u64, json["header"]["event_size"], "{release}");
            for (name, value) in [
                ("write_pos", header.write_pos),
                ("read_pos", header.read_pos),
                ("capacity", header.capacity),
                ("mask", header.mask),
                ("version", header.version as u64),
                ("expected_version", header.expected_version as u64),
            ] {
                assert_eq!(json["header"][name], value, "{release}: {name}");
            }

            let mut batch = Batch::new();
            reader.read(&mut batch).unwrap();
            assert!(!batch.lost().is_some() && !batch.restarted());
            let expected = json["events"].as_array().unwrap();
            assert_eq!(batch.len(), expected.len(), "{release}");
            total += batch.len();
            for (event, expected) in batch.events().zip(expected) {
                let name = expected["name"].as_str().unwrap();
                let kind = Status::error_from_name(name).map_or_else(|| Kind::from_name(name), Status::kind);
                assert_eq!((event.kind(), kind.is_some()), (kind, true), "{release}: {name}");
                assert_eq!(event.value(), expected["value"].as_u64().unwrap(), "{release}: {name}");
                assert_eq!(event.timestamp_us(), expected["timestamp_us"].as_u64(), "{release}: {name}");
            }
            reader.read(&mut batch).unwrap();
            assert!(batch.is_empty(), "{release}: nothing twice");
        }
    }
    assert_eq!(total, 126);
}
