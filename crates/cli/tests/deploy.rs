// SPDX-License-Identifier: Apache-2.0

//! What `deploy/` says is what the command takes, and what systemd and Kubernetes read.

mod support;

use std::fs;
use std::path::PathBuf;

use nixl_telemetry_testkit::{self as testkit, workspace_root};
use support::run;
use yaml_rust2::{Yaml, YamlLoader};

const PROGRAM: &str = "/usr/bin/nixl-telemetry";

fn read(path: &str) -> String {
    fs::read_to_string(workspace_root().join("deploy").join(path)).unwrap()
}

/// Asserts that the command takes these arguments: whatever is wrong comes before the help.
#[track_caller]
fn check(arguments: &[&str]) {
    run(&[arguments, &["--help"]].concat()).ends(0).says(&["Exit codes: "]);
}

#[test]
fn the_unit_starts_the_command_as_it_is() {
    let unit = read("systemd/nixl-telemetry-collect.service").replace("\\\n", " ");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<_> = start.split_whitespace().collect();
    assert_eq!((words[0], words[1]), (PROGRAM, "collect"));
    assert!(words.contains(&"--consume"), "a ring that nobody consumes is full soon");
    check(&words[1..]);
    // A directory for each path that is written to.
    for line in [
        "RuntimeDirectory=nixl-telemetry-collect",
        "StateDirectory=nixl-telemetry",
        "ReadWritePaths=/run/nixl-telemetry",
        "SuccessExitStatus=143",
    ] {
        assert!(unit.lines().any(|other| other == line), "no {line}");
    }
    assert!(read("systemd/nixl-telemetry.tmpfiles.conf").ends_with("d /run/nixl-telemetry 0700 nixl nixl -\n"));
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    let systemd = testkit::command("systemd-analyze", "systemd");
    let Some(program) = testkit::require("the systemd unit", systemd) else { return };
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join("nixl-telemetry-collect.service");
    // It looks whether the program exists.
    let text = read("systemd/nixl-telemetry-collect.service");
    fs::write(&unit, text.replace(PROGRAM, env!("CARGO_BIN_EXE_nixl-telemetry"))).unwrap();
    let output = std::process::Command::new(program).args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Units of this machine may have faults of their own.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("nixl-telemetry-collect.service")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// The containers of a list in the pod's specification.
fn containers<'a>(pod: &'a Yaml, list: &str) -> &'a [Yaml] {
    pod["spec"][list].as_vec().unwrap_or_else(|| panic!("no {list}"))
}

fn strings(list: &Yaml) -> Vec<&str> {
    list.as_vec().unwrap().iter().map(|item| item.as_str().expect("a text")).collect()
}

/// Where a container has a volume.
fn mounted(container: &Yaml, volume: &str) -> PathBuf {
    let mounts = container["volumeMounts"].as_vec().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"].as_str() == Some(volume));
    mount.unwrap()["mountPath"].as_str().unwrap().into()
}

#[test]
fn the_pod_starts_and_asks_the_command_as_it_is() {
    let documents = YamlLoader::load_from_str(&read("kubernetes/collect-sidecar.yaml")).unwrap();
    let [pod] = documents.as_slice() else { panic!("{} documents", documents.len()) };
    assert_eq!(pod["kind"].as_str(), Some("Pod"));
    let ([sidecar], [server]) = (containers(pod, "initContainers"), containers(pod, "containers")) else {
        panic!("one of each")
    };
    assert_eq!(sidecar["restartPolicy"].as_str(), Some("Always"), "else the server would never start");
    assert_eq!(strings(&sidecar["command"]), [PROGRAM]);
    let arguments = strings(&sidecar["args"]);
    assert!(arguments.contains(&"--consume"), "a ring that nobody consumes is full soon");
    check(&arguments);
    let of = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)).unwrap();
    for probe in ["startupProbe", "livenessProbe"] {
        let command = strings(&sidecar[probe]["exec"]["command"]);
        assert_eq!((command[0], command[1], command.last()), (PROGRAM, "collect-status", Some(&of("--status="))));
        check(&command[1..]);
    }
    assert!(sidecar["readinessProbe"].is_badvalue(), "it would be the server's, too");

    // The server's rings are where they are looked for, and both containers run as the user of the pod.
    assert_eq!(mounted(sidecar, "rings"), PathBuf::from(of("--from=")));
    assert!(PathBuf::from(of("--status=")).starts_with(mounted(sidecar, "status")));
    assert!(PathBuf::from(of("--set=NIXL_TELEMETRY_CSV_FILE=")).starts_with(mounted(sidecar, "exported")));
    let variables = server["env"].as_vec().unwrap();
    let directory = variables.iter().find(|variable| variable["name"].as_str() == Some("NIXL_TELEMETRY_DIR")).unwrap();
    assert_eq!(directory["value"].as_str().map(PathBuf::from), Some(mounted(server, "rings")));
    for container in [sidecar, server] {
        assert!(container["securityContext"]["runAsUser"].is_badvalue());
    }
    assert_eq!(pod["spec"]["securityContext"]["runAsUser"].as_i64(), Some(1000));
}
