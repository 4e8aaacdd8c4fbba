// SPDX-License-Identifier: Apache-2.0

//! `docs/event.md` and `docs/event.schema.json` describe what is printed.

mod support;

use std::fs;
use std::path::PathBuf;

use nixl_telemetry_event::{Category, Event, Generation, Kind, Unit};
use nixl_telemetry_ring::{Options, Writer};
use nixl_telemetry_testkit::{check_schema as check, event_schema as schema, workspace_root};
use serde_json::{Value, json};
use support::{run, text};

fn document(name: &str) -> String {
    fs::read_to_string(workspace_root().join("docs").join(name)).unwrap()
}

/// Every object that is printed for these paths, of which all fit the schema.
fn printed(paths: &[PathBuf]) -> Vec<Value> {
    let schema = schema();
    let arguments: Vec<_> =
        ["read", "--format", "json"].into_iter().chain(paths.iter().map(|path| text(path))).collect();
    let lines = run(&arguments).ends(0).out;
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        assert_eq!(check(&schema, object), Ok(()));
    }
    objects
}

#[test]
fn every_event_fits_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = Kind::ALL.into_iter().chain([Kind::from_code(21), Kind::from_code(u32::MAX)]);
    let known: Vec<_> = kinds.map(|kind| Event::new(kind, u64::MAX)).collect();
    let mut current = Writer::create(directory.path(), "current \"é\"\n", Options::default()).unwrap();
    assert_eq!(current.push(&known).written, 23);

    let named = (0..10).map(|code| Event::named(Category::from_code(code), "a \"name\"\t\\", 0));
    let all: Vec<_> = known.iter().copied().chain(named).map(|event| event.at(u64::MAX)).collect();
    let options = Options { generation: Generation::V0_9, ..Options::default() };
    let mut timed = Writer::create(directory.path(), "timed", options).unwrap();
    assert_eq!(timed.push(&all).written, 33);

    assert_eq!(printed(&[directory.path().to_owned()]).len(), 23 + 33);
    let golden = workspace_root().join("crates/event/tests/golden/ring");
    let releases: Vec<_> = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(printed(&releases).len(), 7 * 18);
}

#[test]
fn the_schema_refuses_what_is_no_event() {
    let schema = schema();
    for example in schema["examples"].as_array().unwrap() {
        assert_eq!(check(&schema, example), Ok(()));
    }
    let sound = json!({ "timestamp_us": 1, "agent": "a", "event": "agent_tx_bytes", "category": "TRANSFER", "value": 1, "unit": "bytes" });
    assert_eq!(check(&schema, &sound), Ok(()));
    let changes = [
        ("timestamp_us", json!(null)),
        ("timestamp_us", json!(1.5)),
        ("agent", json!(7)),
        ("category", json!("transfer")),
        ("value", json!("1")),
        ("value", json!(-1)),
        ("unit", json!("KiB")),
        ("other", json!(1)),
    ];
    for (field, value) in changes {
        let mut object = sound.clone();
        object[field] = value;
        assert!(check(&schema, &object).is_err(), "{object}");
    }
    for field in ["agent", "event", "value"] {
        let mut object = sound.clone();
        object.as_object_mut().unwrap().remove(field);
        assert!(check(&schema, &object).is_err(), "{object}");
    }
    assert!(check(&schema, &json!([])).is_err());
}

#[test]
fn the_document_has_every_event_and_the_example_is_one() {
    let document = document("event.md");
    let rows: Vec<_> = document.lines().filter(|line| line.contains("| `agent_")).collect();
    let expected: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let category = kind.category().map_or(String::new(), |category| format!("{} ", category.short_name()));
            let unit = kind.unit().map_or("", Unit::as_str);
            format!("| {} | `{kind}` | {category}| {unit} |", kind.code())
        })
        .collect();
    assert_eq!(rows, expected);

    let example = document.lines().find(|line| line.starts_with("{\"timestamp_us\"")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = Options { generation: Generation::V0_9, ..Options::default() };
    let mut writer = Writer::create(directory.path(), "decode-1", options).unwrap();
    let event = Event::new(Kind::TX_BYTES, 4096).at(1_764_000_000_000_000);
    assert_eq!(writer.push(&[event]).written, 1);
    let out = run(&["read", "--format", "json", text(directory.path())]).ends(0).out;
    assert_eq!(out, format!("{example}\n"));
    let out = run(&["read", "--format", "csv", text(directory.path())]).ends(0).out;
    assert!(document.contains(&out), "{out}");
}
