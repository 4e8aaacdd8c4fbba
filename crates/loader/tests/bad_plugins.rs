// SPDX-License-Identifier: Apache-2.0

//! Plugins that misbehave within the rules of their language: every one becomes an error, none ends the process.

mod common;

use std::fs;
use std::process::Command;

use common::Fixture;
use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_loader::{CreateError, Exported, Failure, LoadError, Plugin, SearchPath, file_name};

fn refused(fixture: &Fixture) -> LoadError {
    let error = Plugin::load(&fixture.path).unwrap_err();
    // The message names the file.
    assert!(error.to_string().contains(fixture.path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn without_init() {
    let fixture = Fixture::new("no_init.cc", &[], "x");
    let error = refused(&fixture);
    assert_eq!(error, LoadError::NoInit { path: fixture.path.clone() });
    assert!(error.to_string().ends_with("it does not export nixl_telemetry_plugin_init"), "{error}");
}

#[test]
fn init_that_returns_null_is_tried_again() {
    let fixture = Fixture::new("init_null.cc", &[], "x");
    assert_eq!(refused(&fixture), LoadError::InitNull { path: fixture.path.clone() });
    assert_eq!(Plugin::load(&fixture.path).unwrap().declared_name(), "late");
}

#[test]
fn init_that_throws() {
    let fixture = Fixture::new("init_throws.cc", &[], "x");
    let expected = LoadError::InitThrew { path: fixture.path.clone(), what: "no licence".to_owned() };
    assert_eq!(refused(&fixture), expected);
}

#[test]
fn unknown_versions_are_not_finalised() {
    for (version, got) in [("VERSION=3", 3), ("VERSION=0", 0), ("VERSION=1380515841", 1_380_515_841)] {
        let fixture = Fixture::new("plugin_object.cc", &[version, "CREATE=1"], "x");
        let expected = LoadError::ApiVersion { path: fixture.path.clone(), got, expected: "1 or 2" };
        assert_eq!(refused(&fixture), expected);
        assert_eq!(fixture.int("fini_calls"), 0);
    }
}

#[test]
fn null_create_is_finalised() {
    let fixture = Fixture::new("plugin_object.cc", &["VERSION=2", "CREATE=0"], "x");
    assert_eq!(refused(&fixture), LoadError::NullCreate { path: fixture.path.clone() });
    assert_eq!(fixture.int("fini_calls"), 1);
}

#[test]
fn name_and_version_are_read() {
    let fixture = Fixture::new("plugin_object.cc", &["VERSION=2", "CREATE=1"], "short");
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!(plugin.name(), "short");
    assert_eq!(plugin.declared_name(), "a plugin with a long name");
    assert_eq!(plugin.version(), "1.2.3");
    assert_eq!(plugin.path(), fixture.path.canonicalize().unwrap());
}

#[test]
fn no_more_of_the_object_is_read_than_nixl_reads() {
    let fixture = Fixture::new("bare_object.c", &[], "x");
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!(plugin.create_exporter("agent", 1).unwrap_err(), CreateError::Null);
}

#[test]
fn creation_that_fails() {
    let fixture = Fixture::new("misbehaving.cc", &[], "x");
    let plugin = Plugin::load(&fixture.path).unwrap();
    let threw = |what: &str| CreateError::Threw(what.to_owned());
    let table = [
        ("null", CreateError::Null),
        ("runtime_error", threw("no such queue")),
        ("int", threw("an exception of type int")),
        ("type", threw("an exception of type (anonymous namespace)::NoStdException")),
        ("silent", threw("")),
        ("bind", CreateError::BindFailed("127.0.0.1:9090 is taken".to_owned())),
        ("cut", threw(&"x".repeat(511))),
        ("fits", threw(&format!("{}é", "x".repeat(510)))),
    ];
    for (agent, expected) in table {
        assert_eq!(plugin.create_exporter(agent, 64).unwrap_err(), expected, "{agent}");
    }
    // None of that did any harm.
    let mut exporter = plugin.create_exporter("well-behaved", 64).unwrap();
    assert_eq!(exporter.export(&[Event::new(Kind::TX_BYTES, 0)]).accepted, 1);
}

#[test]
fn events_that_fail_are_counted_and_the_next_are_tried() {
    let fixture = Fixture::new("misbehaving.cc", &[], "x");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("agent", 64).unwrap();
    let mut check = |values: &[u64], accepted, failed, first_failure: Option<Failure>| {
        let events: Vec<_> = values.iter().map(|value| Event::new(Kind::TX_BYTES, *value)).collect();
        let expected = Exported { accepted, failed, first_failure, ..Exported::default() };
        assert_eq!(exporter.export(&events), expected, "{values:?}");
    };
    let threw = |what: &str| Some(Failure::Threw(what.to_owned()));
    check(&[0, 0, 0], 3, 0, None);
    check(&[1], 0, 1, threw("disk full"));
    check(&[2], 0, 1, threw("an exception of type int"));
    check(&[3], 0, 1, threw("an exception of type (anonymous namespace)::NoStdException"));
    check(&[4], 0, 1, Some(Failure::Refused(-8)));
    check(&[5], 0, 1, Some(Failure::Refused(-99)));
    // A positive status is NIXL_IN_PROG, which is no error.
    check(&[6], 1, 0, None);
    check(&[7], 0, 1, threw(""));
    check(&[0, 4, 1, 0, 2, 0], 3, 3, Some(Failure::Refused(-8)));
    check(&[0, 1, 4, 0], 2, 2, threw("disk full"));
    check(&[0], 1, 0, None);
}

#[test]
fn files_that_are_no_shared_objects() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file_name("x"));
    let check = |what: &str| {
        let expected = LoadError::NotASharedObject { path: path.clone(), what: what.to_owned() };
        assert_eq!(Plugin::load(&path).unwrap_err(), expected);
    };

    check("it cannot be read: No such file or directory (os error 2)");
    fs::write(&path, "").unwrap();
    check("an empty file");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    check("not an ELF file");
    fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    check("a program");

    let fixture = Fixture::new("plugin_object.cc", &["VERSION=2", "CREATE=1"], "x");
    let library = fs::read(&fixture.path).unwrap();
    let half = library.len() / 2;
    fs::write(&path, &library[..half]).unwrap();
    match Plugin::load(&path).unwrap_err() {
        LoadError::NotASharedObject { what, .. } => {
            assert_eq!(what, format!("cut short: it has {half} bytes and a segment that ends behind them"));
        }
        other => panic!("{other}"),
    }
    // Class 1 is 32 bits; machine 243 is RISC-V.
    let patched = |offset: usize, byte: u8| {
        let mut library = library.clone();
        library[offset] = byte;
        fs::write(&path, library).unwrap();
    };
    patched(4, 1);
    check("an ELF file of another word size or byte order");
    patched(18, 243);
    let here = if cfg!(target_arch = "x86_64") { "x86-64" } else { "AArch64" };
    check(&format!("made for RISC-V: expected {here}"));
    patched(16, 1);
    check("an object file that was not linked");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check("a directory");

    // Opening a pipe would wait for somebody to write to it.
    fs::remove_dir(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    check("not a regular file");
}

#[test]
fn a_missing_dependency_is_the_linkers_complaint() {
    let fixture = Fixture::new("needs_more.cc", &[], "x");
    match refused(&fixture) {
        LoadError::Dlopen { message, .. } => {
            assert!(message.contains("undefined symbol: nixl_function_that_nobody_has"), "{message}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_file_that_exists_and_fails_ends_the_search() {
    let good = Fixture::new("plugin_object.cc", &["VERSION=2", "CREATE=1"], "same");
    let bad = Fixture::new("no_init.cc", &[], "same");
    let empty = tempfile::tempdir().unwrap();
    let directories = |fixtures: [&tempfile::TempDir; 3]| SearchPath::new(fixtures.map(|directory| directory.path()));

    let path = directories([&empty, &bad.directory, &good.directory]);
    assert_eq!(Plugin::find("same", &path).unwrap_err(), LoadError::NoInit { path: bad.path.clone() });
    let path = directories([&empty, &good.directory, &bad.directory]);
    assert_eq!(Plugin::find("same", &path).unwrap().name(), "same");

    let searched = path.directories().to_vec();
    for name in ["other", "Same"] {
        let expected = LoadError::NotFound { name: name.to_owned(), searched: searched.clone() };
        assert_eq!(Plugin::find(name, &path).unwrap_err(), expected);
    }
    for name in ["", "../same", "/same", "."] {
        assert_eq!(Plugin::find(name, &path).unwrap_err(), LoadError::InvalidName { name: name.to_owned() });
    }

    let listed: Vec<_> = path.list().into_iter().map(|found| (found.name, found.path, found.shadowed)).collect();
    let expected = [("same".to_owned(), good.path.clone(), false), ("same".to_owned(), bad.path.clone(), true)];
    assert_eq!(listed, expected);
}

#[test]
fn directories_that_are_none_hold_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let path = SearchPath::new([directory.path().join("missing"), file, directory.path().to_owned()]);
    let expected = LoadError::NotFound { name: "x".to_owned(), searched: path.directories().to_vec() };
    assert_eq!(Plugin::find("x", &path).unwrap_err(), expected);
    assert_eq!(path.list(), []);

    // A link to nowhere is no file, and neither are names that would never be looked for.
    std::os::unix::fs::symlink("nowhere", directory.path().join(file_name("x"))).unwrap();
    fs::write(directory.path().join(file_name("a b")), "").unwrap();
    assert_eq!(Plugin::find("x", &path).unwrap_err(), expected);
    assert_eq!(path.list(), []);
}
