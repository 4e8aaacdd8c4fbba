// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nixl_telemetry_sdk::{Category, Event, Kind, markdown_table, testing::TestHost};
use nixl_telemetry_testkit::{self as testkit, check_schema, event_schema};
use serde_json::Value;

use super::*;

fn settings(file: &Path, more: &[(&str, &str)]) -> Settings {
    Settings::from_pairs([(FILE.name(), file.to_str().unwrap())].into_iter().chain(more.iter().copied()))
}

/// The lines of a file, decompressed as its name says.
fn lines(path: &Path) -> Vec<String> {
    let codec = [Compress::Gzip, Compress::Zstd].into_iter().find_map(|compress| {
        let codec = compress.compression().unwrap().codec;
        path.to_str().unwrap().ends_with(codec.ending()).then_some(codec)
    });
    let text = match codec {
        None => fs::read_to_string(path).unwrap(),
        Some(codec) => {
            let (_, reader) = codec.read(fs::File::open(path).unwrap()).unwrap();
            std::io::read_to_string(reader).unwrap()
        }
    };
    assert!(text.is_empty() || text.ends_with('\n'), "{}: {text:?}", path.display());
    text.lines().map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Counts the values of each agent over all lines of all files in the folder, of which each fits the schema.
fn values(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let schema = event_schema();
    let mut values = BTreeMap::<_, Vec<_>>::new();
    for line in files(folder).iter().flat_map(|path| lines(path)) {
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(check_schema(&schema, &object), Ok(()));
        let agent = object["agent"].as_str().unwrap().to_owned();
        values.entry(agent).or_default().push(object["value"].as_u64().unwrap());
    }
    values.values_mut().for_each(|values| values.sort_unstable());
    values
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Jsonl::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/jsonl/README.md lacks this table:\n{table}");
}

#[test]
fn events_of_every_sort_are_lines_that_fit_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let known = Kind::ALL.into_iter().chain([Kind::from_code(21), Kind::from_code(u32::MAX)]);
    let named = (0..10).map(|code| Event::named(Category::from_code(code), "a \"name\"\n\t\\é", 0));
    let events: Vec<_> = known.map(|kind| Event::new(kind, u64::MAX)).chain(named).map(|event| event.at(7)).collect();
    let mut host = TestHost::<Jsonl>::open("a \"b\"\n", &settings(&file, &[])).unwrap();
    host.export(&events);
    host.export(&[
        Event::new(Kind::TX_BYTES, 65536).at(1_764_000_000_000_042),
        Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 5).at(1_764_000_000_000_043),
        Event::backend("ucx\n1", 0).at(8),
    ]);
    let counts = host.close();
    assert_eq!((counts.taken, counts.exported), (36, 36));
    let lines = lines(&file);
    assert_eq!(lines.len(), 36);
    let schema = event_schema();
    for line in &lines {
        assert_eq!(check_schema(&schema, &serde_json::from_str(line).unwrap()), Ok(()));
    }
    assert_eq!(
        lines[33..],
        [
            r#"{"timestamp_us":1764000000000042,"agent":"a \"b\"\n","event":"agent_tx_bytes","category":"TRANSFER","value":65536,"unit":"bytes"}"#,
            r#"{"timestamp_us":1764000000000043,"agent":"a \"b\"\n","event":"agent_telemetry_events_dropped","value":5,"unit":"events"}"#,
            r#"{"timestamp_us":8,"agent":"a \"b\"\n","event":"ucx\n1","category":"BACKEND","value":0}"#,
        ]
    );
}

#[test]
fn bad_settings_are_named() {
    let table: [(&[(&str, &str)], &str); 4] = [
        (&[], "NIXL_TELEMETRY_JSONL_FILE is not set"),
        (&[("NIXL_TELEMETRY_JSONL_FILE", "/")], "NIXL_TELEMETRY_JSONL_FILE: /: is a directory, expected a file"),
        (
            &[("NIXL_TELEMETRY_JSONL_FILE", "/dev/null"), ("NIXL_TELEMETRY_JSONL_MAX_SIZE", "1M")],
            "NIXL_TELEMETRY_JSONL_MAX_SIZE is \"1M\" (environment)",
        ),
        (
            &[("NIXL_TELEMETRY_JSONL_FILE", "/dev/null"), ("NIXL_TELEMETRY_JSONL_COMPRESS", "bzip2")],
            "NIXL_TELEMETRY_JSONL_COMPRESS is \"bzip2\" (environment): expected one of none, gzip, zstd",
        ),
    ];
    for (pairs, message) in table {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let error = TestHost::<Jsonl>::open("a", &settings).err().expect("it does not open").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn two_agents_share_a_file_whose_past_is_compressed() {
    for (compress, ending, tool) in [("none", "", "cat"), ("gzip", ".gz", "gzip"), ("zstd", ".zst", "zstd")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.jsonl");
        let settings =
            settings(&file, &[(MAX_SIZE.name(), "1000"), (MAX_FILES.name(), "1000"), (COMPRESS.name(), compress)]);
        thread::scope(|scope| {
            for agent in ["a", "b"] {
                let settings = &settings;
                scope.spawn(move || {
                    let mut host = TestHost::<Jsonl>::open(agent, settings).unwrap();
                    for value in 0..100 {
                        host.export(&[Event::new(Kind::TX_BYTES, value)]);
                    }
                    assert_eq!(host.close().exported, 100);
                });
            }
        });
        let all: Vec<u64> = (0..100).collect();
        assert_eq!(values(folder.path()), ["a", "b"].map(|agent| (agent.to_owned(), all.clone())).into(), "{compress}");
        let rotated: Vec<_> = files(folder.path()).into_iter().filter(|path| *path != file).collect();
        assert!(
            rotated.len() > 10 && rotated.iter().all(|path| path.to_str().unwrap().ends_with(ending)),
            "{rotated:?}"
        );
        // Whoever has no Rust reads the same.
        let there = testkit::command(tool, tool);
        if testkit::require(&format!("jsonl read by {tool}"), there).is_none() {
            continue;
        }
        let arguments: &[&str] = if compress == "none" { &[] } else { &["-dc"] };
        let output = Command::new(tool).args(arguments).arg(&rotated[0]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), lines(&rotated[0]));
    }
}

#[test]
fn two_processes_share_a_rotating_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let writers = ["a", "b"].map(|agent| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "tests::write_many", "--include-ignored"]);
        command.env("TEST_AGENT", agent).env("TEST_FILE", &file).spawn().unwrap()
    });
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let all: Vec<u64> = (0..3000).collect();
    assert_eq!(values(folder.path()), ["a", "b"].map(|agent| (agent.to_owned(), all.clone())).into());
    assert!(files(folder.path()).len() > 10);
}

#[test]
#[ignore = "run by two_processes_share_a_rotating_file"]
fn write_many() {
    let (agent, file) = (env::var("TEST_AGENT").unwrap(), env::var("TEST_FILE").unwrap());
    let more = [(MAX_SIZE.name(), "20000"), (MAX_FILES.name(), "1000"), (COMPRESS.name(), "zstd")];
    let mut host = TestHost::<Jsonl>::open(&agent, &settings(Path::new(&file), &more)).unwrap();
    for batch in 0..1000 {
        let events = [0, 1, 2].map(|event| Event::new(Kind::TX_BYTES, 3 * batch + event));
        host.export(&events);
    }
    assert_eq!(host.close().exported, 3000);
}
