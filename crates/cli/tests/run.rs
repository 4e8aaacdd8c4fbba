// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry run`: the program it becomes, for one that uses no NIXL.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use support::{PRELOAD, Ran, installed, ran};

fn output(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(folder.join("nixl-telemetry"));
    command.arg("run").args(arguments).env_clear().env("PATH", "/usr/bin:/bin").output().expect("the command starts")
}

fn run(folder: &Path, arguments: &[&str]) -> Ran {
    ran(output(folder, arguments))
}

#[test]
fn output_and_exit_status_are_the_programs() {
    let folder = installed();
    let quiet = run(folder.path(), &["true"]).ends(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let spoken = run(folder.path(), &["--", "sh", "-c", "echo out; echo err >&2; exit 37"]).ends(37);
    assert_eq!((spoken.out.as_str(), spoken.err.as_str()), ("out\n", "err\n"));
    let status = output(folder.path(), &["sh", "-c", "kill -TERM $$"]).status;
    assert_eq!(status.signal(), Some(15), "{status}");
}

#[test]
fn the_environment_is_set() {
    let folder = installed();
    let library = folder.path().join(PRELOAD);
    let library = library.to_str().unwrap();
    let show = "echo $NIXL_TELEMETRY_ENABLE $NIXL_TELEMETRY_EXPORTER $A $LD_PRELOAD";
    let check = |options: &[&str], expected: &str| {
        let ran = run(folder.path(), &[options, &["sh", "-c", show]].concat()).ends(0);
        assert_eq!(ran.out, format!("{expected} {library}\n"), "{}", ran.err);
        ran
    };
    check(&[], "y");
    check(&["--exporter", "csv, NOP", "--set", "A=1 2"], "y csv, NOP 1 2");
    check(&["--set", "NIXL_TELEMETRY_ENABLE=n"], "n");
    check(&["-v", "--exporter", "csv"], "y csv")
        .complains(&["NIXL_TELEMETRY_ENABLE=y NIXL_TELEMETRY_EXPORTER=csv LD_PRELOAD=/", "sh -c echo"]);
}

#[test]
fn what_cannot_be_run() {
    let folder = installed();
    run(folder.path(), &["no-such-program"]).ends(127).complains(&["error: cannot run no-such-program: "]);
    run(folder.path(), &["/etc/passwd"]).ends(126).complains(&["error: cannot run /etc/passwd: "]);
    run(folder.path(), &["--exporter", "../csv", "true"]).ends(1).complains(&["error: ", "../csv"]);
    fs::remove_file(folder.path().join(PRELOAD)).unwrap();
    run(folder.path(), &["true"]).ends(1).complains(&["libnixl_telemetry_preload.so is missing: expected it in "]);
}
