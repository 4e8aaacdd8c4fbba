// SPDX-License-Identifier: Apache-2.0

//! `plugin inspect` and `plugin list`.

mod support;

use std::fs;
use std::path::Path;

use nixl_telemetry_testkit::{compile_cpp, nixl_release, require};
use support::{command, csv, finish, plugins, run, text};

/// The words of the column `fits`, oldest host first.
fn fits(out: &str) -> Vec<&str> {
    let rows = out.lines().filter(|line| line.trim_start().starts_with("NIXL "));
    rows.map(|row| {
        ["yes", "no", "unknown"].into_iter().find(|word| row.split("  ").any(|cell| cell.trim() == *word)).unwrap()
    })
    .collect()
}

#[test]
fn a_plugin_of_the_sdk_fits_every_host() {
    let (_folder, plugin) = csv();
    let ran = run(&["plugin", "inspect", text(&plugin)]).ends(0).says(&[
        text(&plugin),
        "written in     Rust",
        "exports        nixl_telemetry_plugin_init, nixl_telemetry_plugin_fini, nixl_telemetry_plugin_negotiate, nothing else",
        "needs of NIXL  no symbol",
        concat!("calls itself   csv ", env!("CARGO_PKG_VERSION")),
        "fed here       rich events, with batch hooks",
    ]);
    assert_eq!(fits(&ran.out), ["yes"; 6]);
    let unloaded = run(&["plugin", "inspect", "--no-load", text(&plugin)]).ends(0).says(&["loading        left out"]);
    assert_eq!(fits(&unloaded.out), ["yes"; 6]);
    assert!(!unloaded.out.contains("calls itself"), "{}", unloaded.out);
}

#[test]
fn a_plugin_in_cpp_fits_as_far_as_it_tells() {
    let check = |version: u32, api: &str, expected: [&str; 6]| {
        let folder = format!("examples/cpp-v{version}");
        let sources = ["csv_plugin.cpp", "csv_exporter.cpp"].map(|name| Path::new(&folder).join(name));
        let include = format!("include/v{version}");
        let arguments =
            ["-shared", "-fvisibility=hidden", "-Wl,--version-script=include/plugin.map", "-I", &include, "-ldl"];
        let name = format!("libtelemetry_exporter_cpp{version}.so");
        let plugin = compile_cpp(&name, &[&sources[0], &sources[1]], &arguments);
        let ran = run(&["plugin", "inspect", text(&plugin)]).ends(0).says(&["written in     C++", api]);
        assert_eq!(fits(&ran.out), expected, "{}", ran.out);
    };
    check(1, "plugin API     1\n", ["yes", "no", "no", "no", "no", "no"]);
    check(2, "plugin API     2\n", ["no", "unknown", "unknown", "unknown", "unknown", "unknown"]);
}

#[test]
fn plugins_of_nixl_are_recognised() {
    let check = |release: &str, known: &str, expected: [&str; 6]| {
        let Some(folder) = require("plugins_of_nixl_are_recognised", nixl_release(release)) else { return };
        let plugin = plugins(&folder).join("libtelemetry_exporter_prometheus.so");
        let ran = run(&["plugin", "inspect", text(&plugin)]).ends(0).says(&[known, "calls itself   prometheus 1.0.0"]);
        assert_eq!(fits(&ran.out), expected, "{}", ran.out);
    };
    let (yes, no, dark) = ("yes", "no", "unknown");
    check("0.9.0", "prometheus of NIXL 0.9.0 - 1.0.1", [yes, no, no, no, no, no]);
    check("1.1.0", "prometheus of NIXL 1.1.0", [no, yes, no, no, no, no]);
    check("1.2.0", "prometheus of NIXL 1.2.0", [no, no, yes, no, no, no]);
    check("1.4.1", "prometheus of NIXL 1.4.0 - 1.4.1", [no, no, no, dark, yes, no]);
    check("1.5.1", "prometheus of NIXL 1.5.0 and later", [no, no, no, dark, dark, yes]);
}

#[test]
fn a_plugin_that_ends_its_process_ends_another_one() {
    let plugin =
        compile_cpp("libtelemetry_exporter_abort.so", &[Path::new("crates/cli/tests/fixtures/abort.cc")], &["-shared"]);
    let message = "error: not every file is a plugin that works";
    run(&["plugin", "inspect", text(&plugin)])
        .ends(1)
        .says(&["loading        loading it ended the process with signal 6"])
        .complains(&[message]);
    run(&["plugin", "inspect", "--no-load", text(&plugin)]).ends(0);
}

#[test]
fn what_is_no_plugin_is_said_and_the_others_are_still_described() {
    let (folder, plugin) = csv();
    let cut = folder.path().join("cut.so");
    let bytes = fs::read(&plugin).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let library = compile_cpp("libplain.so", &[Path::new("crates/cli/tests/fixtures/libnixl.cc")], &["-shared"]);
    let files = ["/nonexistent.so", "/etc/passwd", text(&cut), text(&library), text(&plugin)];
    run(&[&["plugin", "inspect"], &files[..]].concat()).ends(1).says(&[
        "/nonexistent.so\n                 cannot be read: No such file or directory",
        "/etc/passwd\n                 not an ELF file",
        "a damaged ELF file",
        "no telemetry plugin: it does not export nixl_telemetry_plugin_init",
        "calls itself   csv",
    ]);
}

#[test]
fn the_list_has_every_plugin_and_says_which_are_never_loaded() {
    let ((first, plugin), second) = (csv(), tempfile::tempdir().unwrap());
    fs::copy(&plugin, second.path().join("libtelemetry_exporter_csv.so")).unwrap();
    fs::write(second.path().join("libtelemetry_exporter_odd.so"), "no plugin").unwrap();
    fs::copy(&plugin, second.path().join("libtelemetry_exporter_NOP.so")).unwrap();
    let mut command = command(&["plugin", "list", "--plugin-dir", text(first.path())]);
    command.env("NIXL_TELEMETRY_PLUGIN_PATH", second.path()).env("NIXL_PLUGIN_DIR", "/nonexistent");
    let ran = finish(command).ends(0);
    let row =
        |part: &str| ran.out.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {}", ran.out));
    assert!(row("built in").contains("NOP"));
    assert!(!row(text(&plugin)).contains("shadowed"));
    assert!(row(text(&second.path().join("libtelemetry_exporter_csv.so"))).contains("shadowed by the one above"));
    assert!(row("libtelemetry_exporter_odd.so").contains("not an ELF file"));
    assert!(row("libtelemetry_exporter_NOP.so").contains("shadowed by the built-in exporter"));
    assert!(row("/nonexistent (").contains("does not exist"));
}
