// SPDX-License-Identifier: Apache-2.0

//! The invariants of ARCHITECTURE.md, and the promises of the documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nixl_telemetry_e2e::Sandbox;
use nixl_telemetry_testkit::{self as testkit, workspace_root};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(workspace_root())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Everything each package of the workspace is linked with, by name, without what only tests and builds need.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = run("cargo", &["metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let direct: BTreeMap<_, Vec<_>> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let linked = node["deps"].as_array().unwrap().iter().filter(|dependency| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            });
            (node["id"].as_str().unwrap(), linked.map(|dependency| dependency["pkg"].as_str().unwrap()).collect())
        })
        .collect();
    let members = metadata["workspace_members"].as_array().unwrap();
    let all = members.iter().map(|member| {
        let (mut found, mut open) = (BTreeSet::new(), vec![member.as_str().unwrap()]);
        while let Some(package) = open.pop() {
            for &next in &direct[package] {
                if found.insert(names[next].to_owned()) {
                    open.push(next);
                }
            }
        }
        (names[member.as_str().unwrap()].to_owned(), found)
    });
    all.collect()
}

#[test]
fn the_edges_that_must_not_be_are_not() {
    let all = dependencies();
    let ours = |package: &str| -> Vec<_> {
        all[package].iter().filter(|name| name.starts_with("nixl-telemetry-")).cloned().collect()
    };
    assert!(all["nixl-telemetry-event"].is_empty(), "{:?}", all["nixl-telemetry-event"]);
    for package in ["settings", "shm", "log", "thread", "nixl", "testkit"] {
        assert_eq!(ours(&format!("nixl-telemetry-{package}")), [""; 0], "{package}");
    }
    assert_eq!(ours("nixl-telemetry-metrics"), ["nixl-telemetry-event"]);
    assert_eq!(ours("nixl-telemetry-dial"), ["nixl-telemetry-log"]);
    assert_eq!(
        ours("nixl-telemetry-appender"),
        ["abi", "event", "log", "metrics", "sdk", "settings", "shm", "thread"]
            .map(|name| format!("nixl-telemetry-{name}"))
    );
    assert_eq!(
        ours("nixl-telemetry-scrape"),
        ["event", "log", "metrics", "settings", "thread"].map(|name| format!("nixl-telemetry-{name}"))
    );
    assert_eq!(
        ours("nixl-telemetry-sdk"),
        ["abi", "event", "log", "metrics", "settings", "shm", "thread"].map(|name| format!("nixl-telemetry-{name}"))
    );
    assert!(!all["nixl-telemetry-host"].contains("nixl-telemetry-sdk"));
    for (package, dependencies) in &all {
        assert!(!dependencies.contains("tokio"), "{package} links an async runtime");
        assert!(!dependencies.contains("nixl-telemetry-testkit") || package == "nixl-telemetry-e2e", "{package}");
        assert!(!dependencies.iter().any(|name| name.starts_with("telemetry-exporter-")), "{package}");
    }
}

#[test]
fn unsafe_code_has_an_address() {
    let addresses = ["abi", "loader", "log", "nixl", "preload", "shm", "thread"].map(|name| format!("crates/{name}"));
    let mut checked = 0;
    for root in tracked().into_iter().filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")) {
        if root.starts_with("bench") || addresses.iter().any(|address| root.starts_with(address)) {
            continue;
        }
        let text = fs::read_to_string(workspace_root().join(&root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}", root.display());
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} crates were looked at");
}

#[test]
fn every_file_says_its_license() {
    let speaks = ["rs", "toml", "md", "h", "cc", "cpp", "py", "sh", "map", "s"];
    let mut silent = Vec::new();
    for path in tracked() {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let named = path.ends_with("CMakeLists.txt") || path.ends_with(".ci/run");
        if !named && !speaks.contains(&extension) {
            continue;
        }
        let text = fs::read_to_string(workspace_root().join(&path)).unwrap();
        if !text.lines().take(3).any(|line| line.contains("SPDX-License-Identifier: Apache-2.0")) {
            silent.push(path);
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}

/// The commands in README.md and CONTRIBUTING.md do what they say: every `sh` block runs, but the two that run this test or
/// install packages.
#[test]
fn the_documented_commands_run() {
    let test = "commands of the documents";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    let stubs = release.parent().unwrap().join("stubs");
    let home = tempfile::tempdir().unwrap();
    let server = home.path().join("server.py");
    fs::write(
        &server,
        "import os, runpy, sys\nsys.argv += ['--name', 'readme', '--linger', '1.5']\n\
         runpy.run_path(os.environ['AGENT'], run_name='__main__')\n",
    )
    .unwrap();
    let not_here = ["cargo test\n", "apt-get install"];
    let mut ran = 0;
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "examples/rust/README.md",
        "examples/cpp-v1/README.md",
        "examples/cpp-v2/README.md",
    ] {
        let text = fs::read_to_string(workspace_root().join(document)).unwrap();
        for block in blocks(&text, "sh") {
            if not_here.iter().any(|command| block.contains(command)) {
                continue;
            }
            let output = testkit::outside_cargo(&mut Command::new("bash"))
                .args(["-euo", "pipefail", "-c", &block.replace("/tmp/", &format!("{}/", home.path().display()))])
                // The examples' commands are run where the examples are, all others at the root.
                .current_dir(
                    workspace_root()
                        .join(if document.starts_with("examples") { document } else { "README.md" })
                        .parent()
                        .unwrap(),
                )
                .env("NIXL", sandbox.path())
                .env("SERVER", &server)
                .env("AGENT", workspace_root().join("e2e/python_agent.py"))
                .env("PYTHONPATH", format!("{}:{}", sandbox.path().display(), stubs.display()))
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{document}:\n{block}\n{error}");
            ran += 1;
            if block.contains("head -3") {
                let shown = String::from_utf8_lossy(&output.stdout);
                assert!(shown.contains("timestamp_us,category,event_name,value"), "{shown}");
                assert!(shown.contains(",0,agent_memory_registered,4096"), "{shown}");
            }
        }
    }
    assert!(ran >= 8, "only {ran} blocks were run");
}

/// The guide explains code that is built, tested and loaded into NIXL, and it is as short as the guide says.
#[test]
fn the_guide_shows_the_example_as_it_is() {
    let read = |path: &str| fs::read_to_string(workspace_root().join(path)).unwrap();
    let (guide, example) = (read("docs/writing-an-exporter.md"), read("examples/rust/src/lib.rs"));
    let shown = blocks(&guide, "rust");
    assert_eq!(shown.len(), 6);
    for (index, block) in shown.iter().enumerate() {
        let path = if index < 3 { "examples/rust/src/lib.rs" } else { "crates/sdk/tests/guide.rs" };
        assert!(read(path).contains(block), "not in {path}:\n{block}");
    }
    let code = example.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//")).count();
    assert!(lines < 30, "a complete exporter has {lines} lines");
}

/// The blocks of one language in a Markdown text.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = text.split(&fence).skip(1);
    after.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Links from document to document lead somewhere.
#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in tracked().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(workspace_root().join(&document)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") {
                continue;
            }
            let folder = document.parent().unwrap_or(Path::new(""));
            if !workspace_root().join(folder).join(file).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:?}");
}

fn tracked() -> Vec<PathBuf> {
    let output = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = output.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .filter(|path| workspace_root().join(path).is_file())
        .collect()
}
