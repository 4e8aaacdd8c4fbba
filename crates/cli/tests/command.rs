// SPDX-License-Identifier: Apache-2.0

//! What holds for every command: help, wrong calls, and outputs that take nothing.

mod support;

use std::fs::OpenOptions;
use std::process::Stdio;

use support::{command, ran, run};

#[test]
fn every_command_explains_itself() {
    let check = |arguments: &[&str], parts: &[&str]| {
        run(&[arguments, &["--help"]].concat()).ends(0).says(&["Usage:", "Examples:"]).says(parts);
    };
    check(&[], &["demo", "plugin", "nixl", "install", "uninstall"]);
    check(
        &["demo"],
        &["--agent", "NIXL_TELEMETRY_BUFFER_SIZE (u64, events, default 4096)", "NIXL_TELEMETRY_PLUGIN_PATH"],
    );
    check(&["plugin", "inspect"], &["--no-load", "exit code is 0 if every file is a plugin that loads"]);
    check(&["plugin", "list"], &["--plugin-dir", "NIXL_PLUGIN_DIR"]);
    check(&["nixl", "detect"], &["--nixl <DIR>", "NIXL_PLUGIN_DIR"]);
    check(&["install"], &["--replace", "--dry-run", "--as <NAME>"]);
    check(&["uninstall"], &["--force", "--forget"]);
    check(&["run"], &["--exporter", "--set", "-v", "NIXL_TELEMETRY_ENABLE"]);
    check(&["recover"], &["--dry-run", "--json", "Ctrl-C", "NIXL_TELEMETRY_JOURNAL_DIR", "Exit codes:"]);
    check(&["read"], &["--format", "--agent", "--event", "--since", "--consume", "Exit codes:"]);
    check(&["tail"], &["--format", "--agent", "--event", "--since", "--consume", "--quiet", "Ctrl-C", "Exit codes:"]);
    check(&["stats"], &["--json", "--agent", "--event", "p50, p90 and p99", "Exit codes:"]);
    check(&["spool", "ls"], &["--sink", "--agent", "--format", "NIXL_TELEMETRY_POSTGRES_SPOOL_DIR", "Exit codes:"]);
    check(&["spool", "cat"], &["--sink", "--agent", "--event", "--format", "origin and sequence", "Exit codes:"]);
    check(&["spool", "replay"], &["--exporter", "--set", "--timeout", "Ctrl-C", "NIXL_PLUGIN_DIR", "Exit codes:"]);
    check(&["spool", "rm"], &["--origin", "--agent", "--older-than", "--yes", "Exit codes:"]);
}

#[test]
fn hidden_parts_stay_hidden() {
    let out = run(&["demo", "--help"]).out
        + &run(&["plugin", "--help"]).out
        + &run(&["recover", "--help"]).out
        + &run(&["spool", "replay", "--help"]).out;
    for hidden in ["--prepared", "--discard", "probe"] {
        assert!(!out.contains(hidden), "{hidden} in:\n{out}");
    }
}

#[test]
fn a_wrong_call_is_usage() {
    let check = |arguments: &[&str], message: &str| {
        run(arguments).ends(2).complains(&["error: ", message]);
    };
    run(&[]).ends(2).complains(&["Usage:"]);
    check(&["dmo"], "unrecognized subcommand 'dmo'");
    check(&["demo", "--transfers", "0"], "0 is not in 1..");
    check(&["demo", "--threads", "257"], "257 is not in 1..=256");
    check(&["demo", "--size", "5-4"], "expected MIN-MAX with MIN <= MAX");
    check(&["demo", "--size", "1KB"], "expected bytes such as 4096, 64K, 1M or 2GiB");
    check(&["demo", "--duration", "0"], "expected seconds above 0");
    check(&["demo", "--set", "X"], "expected KEY=VALUE");
    check(&["demo", "--output", "/tmp/x", "--exporter", "NOP"], "--output is the file of the exporter csv");
    check(&["install", "--as", "other"], "expected exactly one NAME to install");
    check(&["install", "a", "b", "--as", "other"], "expected exactly one NAME to install");
    check(&["uninstall", "--force", "--forget"], "cannot be used with");
    check(&["plugin", "inspect"], "required");
    check(&["run"], "required");
    check(&["run", "--set", "X", "true"], "expected KEY=VALUE");
    check(&["recover"], "required");
    check(&["read"], "required");
    check(&["read", "--format", "xml", "/"], "[possible values: text, json, csv]");
    check(&["tail", "--since", "soon", "/"], "expected 90s, 10m, 2h or 1d ago");
    check(&["stats"], "required");
    check(&["recover", "--set", "NIXL_TELEMETRY_EXPORTER=csv", "/"], "expected --exporter");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let check = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(arguments);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let ran = ran(child.wait_with_output().unwrap()).ends(0);
        assert_eq!(ran.err, "", "{arguments:?}");
    };
    check(&["plugin", "list"]);
    check(&["demo", "--help"]);
    check(&["demo", "--exporter", "NOP", "--transfers", "10"]);
}

#[test]
fn a_full_output_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = command(&["plugin", "list"]);
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    ran(child.wait_with_output().unwrap())
        .ends(1)
        .complains(&["error: cannot write to standard output: No space left on device"]);
}

#[test]
fn nothing_is_coloured_where_nobody_watches() {
    let ran = run(&["plugin", "inspect", "/etc/passwd"]).ends(1);
    assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{ran:?}");
}
