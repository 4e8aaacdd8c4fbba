// SPDX-License-Identifier: Apache-2.0

//! `install` and `uninstall`, which leave exactly what they found.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use support::{Ran, command, contents, csv, finish, names, plugins, run, text, wheel};

const CSV: &str = "libtelemetry_exporter_csv.so";
const PROMETHEUS: &str = "libtelemetry_exporter_prometheus.so";
const MANIFEST: &str = ".nixl-telemetry-installed.json";
const KEPT: &str = ".nixl-telemetry-kept-prometheus";

/// A wheel, and plugins to install into it.
struct Scene {
    wheel: tempfile::TempDir,
    supply: tempfile::TempDir,
    plugin: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (supply, plugin) = csv();
        Self { wheel: wheel("1.5"), supply, plugin }
    }

    fn folder(&self) -> PathBuf {
        plugins(self.wheel.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn install(&self, arguments: &[&str]) -> Ran {
        let place = ["--nixl", text(self.wheel.path()), "--from", text(self.supply.path())];
        run(&[&["install"], arguments, &place].concat())
    }

    fn uninstall(&self, arguments: &[&str]) -> Ran {
        run(&[&["uninstall"], arguments, &["--nixl", text(self.wheel.path())]].concat())
    }

    /// Makes another version of the plugin.
    fn rebuild(&self) {
        let mut bytes = fs::read(&self.plugin).unwrap();
        bytes.extend_from_slice(b"newer");
        fs::write(&self.plugin, bytes).unwrap();
    }
}

fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

#[test]
fn who_asks_for_everything_gets_what_nixl_has_not() {
    let scene = Scene::new();
    fs::copy(&scene.plugin, scene.supply.path().join(PROMETHEUS)).unwrap();
    let before = fs::read(scene.file(PROMETHEUS)).unwrap();
    let left = "prometheus: not installed, NIXL has its own: ";
    scene.install(&[]).ends(0).says(&["csv: installed: ", left, "--replace", "uninstall csv --nixl"]);
    assert_eq!(fs::read(scene.file(PROMETHEUS)).unwrap(), before);
    scene.install(&["prometheus"]).ends(1).complains(&["is not of this program: --replace replaces and keeps it"]);
    scene.install(&["--replace"]).ends(0).says(&["csv: already installed", "prometheus: replaced: "]);
    assert!(same(&scene.file(PROMETHEUS), &scene.plugin));
    scene.uninstall(&[]).ends(0);
    assert_eq!(fs::read(scene.file(PROMETHEUS)).unwrap(), before);
}

#[test]
fn what_was_installed_is_taken_away_again() {
    let scene = Scene::new();
    let before = contents(&scene.folder());
    let installed =
        scene.install(&["csv"]).ends(0).says(&["csv: installed: ", "NIXL_TELEMETRY_EXPORTER=csv", "uninstall"]);
    assert!(installed.err.is_empty(), "{}", installed.err);
    assert_eq!(names(&scene.folder()), [MANIFEST, "libplugin_UCX.so", CSV, PROMETHEUS]);
    assert!(same(&scene.file(CSV), &scene.plugin));
    assert_eq!(fs::metadata(scene.file(CSV)).unwrap().mode() & 0o777, 0o755);
    run(&["nixl", "detect", "--nixl", text(scene.wheel.path())])
        .ends(0)
        .says(&["csv         installed by nixl-telemetry\n"]);
    scene.uninstall(&[]).ends(0).says(&["csv: removed: "]);
    assert_eq!(contents(&scene.folder()), before);
    scene.uninstall(&[]).ends(0).says(&["nothing of nixl-telemetry is installed in "]);
}

#[test]
fn installing_again_changes_nothing_and_a_newer_one_replaces_the_older() {
    let scene = Scene::new();
    // All there are, by no name.
    scene.install(&[]).ends(0).says(&["csv: installed: "]);
    let (manifest, file) = (fs::read(scene.file(MANIFEST)).unwrap(), fs::metadata(scene.file(CSV)).unwrap().ino());
    scene.install(&["csv"]).ends(0).says(&["csv: already installed: "]);
    assert_eq!(fs::metadata(scene.file(CSV)).unwrap().ino(), file, "the file was not touched");
    assert_eq!(fs::read(scene.file(MANIFEST)).unwrap(), manifest);

    let mapped = File::open(scene.file(CSV)).unwrap();
    scene.rebuild();
    scene.install(&["csv"]).ends(0).says(&["csv: updated: "]);
    assert!(same(&scene.file(CSV), &scene.plugin));
    assert_ne!(fs::metadata(scene.file(CSV)).unwrap().ino(), file, "who has the old file open keeps it");
    assert_eq!(mapped.metadata().unwrap().nlink(), 0);
    scene.uninstall(&["csv"]).ends(0);
    assert!(!scene.file(CSV).exists());
}

#[test]
fn what_is_replaced_is_kept_and_put_back() {
    let scene = Scene::new();
    let before = contents(&scene.folder());
    let inode = fs::metadata(scene.file(PROMETHEUS)).unwrap().ino();
    let arguments = ["csv", "--as", "prometheus"];
    scene.install(&arguments).ends(1).complains(&["error: ", PROMETHEUS, "--replace replaces and keeps it"]);
    assert_eq!(contents(&scene.folder()), before);

    scene.install(&[&arguments[..], &["--replace"]].concat()).ends(0).says(&["prometheus: replaced: ", KEPT]);
    assert_eq!(names(&scene.folder()), [MANIFEST, KEPT, "libplugin_UCX.so", PROMETHEUS]);
    assert!(same(&scene.file(PROMETHEUS), &scene.plugin));
    assert_eq!(fs::read(scene.file(KEPT)).unwrap(), b"upstream");

    // A newer one replaces ours, and does not forget what ours replaced; no need to insist again.
    scene.rebuild();
    scene.install(&arguments).ends(0).says(&["prometheus: updated: "]);
    scene.uninstall(&[]).ends(0).says(&["prometheus: removed, and what was there before put back: "]);
    assert_eq!(contents(&scene.folder()), before);
    assert_eq!(fs::metadata(scene.file(PROMETHEUS)).unwrap().ino(), inode, "the very file");
}

#[test]
fn a_dry_run_changes_nothing() {
    let scene = Scene::new();
    let before = contents(&scene.folder());
    scene.install(&["csv", "--dry-run"]).ends(0).says(&["csv: would have been installed: "]);
    scene.install(&["csv", "--as", "prometheus", "--replace", "--dry-run"]).ends(0).says(&["would have been replaced"]);
    assert_eq!(contents(&scene.folder()), before);
    scene.install(&["csv"]).ends(0);
    let installed = contents(&scene.folder());
    scene.uninstall(&["--dry-run"]).ends(0).says(&["csv: would have been removed: "]);
    assert_eq!(contents(&scene.folder()), installed);
}

#[test]
fn a_file_that_was_changed_is_not_removed_unless_somebody_insists() {
    let change = |arguments: &[&str], name: &str| {
        let scene = Scene::new();
        scene.install(arguments).ends(0);
        fs::write(scene.file(name), "changed").unwrap();
        let changed = contents(&scene.folder());
        scene.install(arguments).ends(1).complains(&[name, "was changed since it was installed"]);
        scene.uninstall(&[]).ends(1).complains(&[name, "was changed since it was installed", "--force", "--forget"]);
        assert_eq!(contents(&scene.folder()), changed);
        scene
    };
    let scene = change(&["csv"], CSV);
    run(&["nixl", "detect", "--nixl", text(scene.wheel.path())])
        .ends(0)
        .says(&["csv         installed by nixl-telemetry and changed since\n"]);
    scene.uninstall(&["--force"]).ends(0).says(&["csv: removed: "]);
    assert_eq!(names(&scene.folder()), ["libplugin_UCX.so", PROMETHEUS]);

    let scene = change(&["csv", "--as", "prometheus", "--replace"], PROMETHEUS);
    scene.uninstall(&["--force"]).ends(0);
    assert_eq!(fs::read(scene.file(PROMETHEUS)).unwrap(), b"upstream");
    assert_eq!(names(&scene.folder()), ["libplugin_UCX.so", PROMETHEUS]);

    // What pip does when it installs another NIXL: the file is NIXL's again, and what is kept is of no use any more.
    let scene = change(&["csv", "--as", "prometheus", "--replace"], PROMETHEUS);
    scene.uninstall(&["--forget"]).ends(0).says(&["prometheus: forgotten; the file stays as it is: "]);
    assert_eq!(fs::read(scene.file(PROMETHEUS)).unwrap(), b"changed");
    assert_eq!(names(&scene.folder()), ["libplugin_UCX.so", PROMETHEUS]);
}

#[test]
fn what_was_kept_and_is_gone_is_not_passed_over() {
    let scene = Scene::new();
    scene.install(&["csv", "--as", "prometheus", "--replace"]).ends(0);
    fs::remove_file(scene.file(KEPT)).unwrap();
    scene.uninstall(&[]).ends(1).complains(&[KEPT, "is gone or was changed", "--force"]);
    assert!(same(&scene.file(PROMETHEUS), &scene.plugin));
    scene.uninstall(&["--force"]).ends(0);
    assert_eq!(names(&scene.folder()), ["libplugin_UCX.so"]);
}

#[test]
fn an_interruption_at_any_point_can_be_made_good() {
    let replace = ["csv", "--as", "prometheus", "--replace"];
    let check = |what: &str, interrupt: &dyn Fn(&Scene)| {
        let scene = Scene::new();
        let before = contents(&scene.folder());
        scene.install(&replace).ends(0);
        interrupt(&scene);
        scene.install(&replace).ends(0);
        assert!(same(&scene.file(PROMETHEUS), &scene.plugin), "{what}");
        interrupt(&scene);
        scene.uninstall(&[]).ends(0);
        assert_eq!(contents(&scene.folder()), before, "{what}");
    };
    check("not at all", &|_| ());
    check("kept and remembered, but not yet replaced", &|scene| {
        fs::copy(scene.file(KEPT), scene.file(PROMETHEUS)).unwrap();
    });
    check("put back, but still remembered", &|scene| {
        fs::rename(scene.file(KEPT), scene.file(PROMETHEUS)).unwrap();
    });
    check("somebody removed ours", &|scene| fs::remove_file(scene.file(PROMETHEUS)).unwrap());
}

#[test]
fn an_identical_file_of_somebody_else_is_left_alone() {
    let scene = Scene::new();
    fs::copy(&scene.plugin, scene.file(CSV)).unwrap();
    let before = contents(&scene.folder());
    scene.install(&["csv"]).ends(0).says(&["csv: already there, though not installed by nixl-telemetry"]);
    scene.uninstall(&["csv"]).ends(1).complains(&[r#""csv" was not installed into "#, "nothing is"]);
    assert_eq!(contents(&scene.folder()), before);
}

#[test]
fn a_link_is_put_back_as_a_link() {
    let scene = Scene::new();
    let elsewhere = scene.supply.path().join("elsewhere");
    fs::write(&elsewhere, "upstream").unwrap();
    fs::remove_file(scene.file(PROMETHEUS)).unwrap();
    symlink(&elsewhere, scene.file(PROMETHEUS)).unwrap();
    scene.install(&["csv", "--as", "prometheus", "--replace"]).ends(0);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"upstream");
    scene.uninstall(&[]).ends(0);
    assert_eq!(fs::read_link(scene.file(PROMETHEUS)).unwrap(), elsewhere);
}

#[test]
fn nothing_is_done_if_anything_is_wrong() {
    let scene = Scene::new();
    let before = contents(&scene.folder());
    let check = |arguments: &[&str], parts: &[&str]| {
        scene.install(arguments).ends(1).complains(&["error: "]).complains(parts);
        assert_eq!(contents(&scene.folder()), before, "{arguments:?}");
    };
    check(&["csv", "absent"], &[r#"no exporter "absent""#, text(scene.supply.path())]);
    check(&["csv", "../csv"], &[r#""../csv" is no exporter name"#]);
    check(&["csv", "--as", "a/b"], &[r#""a/b" is no exporter name"#]);
    check(&["csv", "--as", "NOP"], &["NOP is built into NIXL"]);
    check(&["csv", "--as", "BUFFER"], &["BUFFER is built into NIXL"]);
    fs::write(scene.supply.path().join("libtelemetry_exporter_text.so"), "text").unwrap();
    check(&["csv", "text"], &["libtelemetry_exporter_text.so is no plugin: not an ELF file"]);
    let other = scene.wheel.path().join(".nixl_cu12.mesonpy.libs/libnixl.so");
    fs::copy(&other, scene.supply.path().join("libtelemetry_exporter_library.so")).unwrap();
    check(&["library"], &["is no telemetry plugin: it does not export nixl_telemetry_plugin_init"]);

    let empty = tempfile::tempdir().unwrap();
    let place = ["--nixl", text(scene.wheel.path()), "--from", text(empty.path())];
    run(&[&["install"], &place[..]].concat()).ends(1).complains(&["there is nothing to install", text(empty.path())]);
    run(&["install", "csv", "--nixl", "/nonexistent"])
        .ends(1)
        .complains(&["no NIXL found", "/nonexistent (folder given): no such folder"]);
    run(&["uninstall", "--nixl", text(empty.path())]).ends(1).complains(&["no NIXL found"]);

    fs::copy(&scene.plugin, &other).unwrap();
    scene.install(&["csv"]).ends(1).complains(&["is of no generation that takes plugins: none"]);
    fs::remove_dir_all(scene.folder()).unwrap();
    scene.uninstall(&[]).ends(1).complains(&["cannot open", "No such file or directory"]);
}

#[test]
fn a_manifest_that_leads_elsewhere_is_refused() {
    let scene = Scene::new();
    let victim = scene.wheel.path().join("victim");
    fs::write(&victim, "x").unwrap();
    let text = r#"{"format": 1, "plugins": {"/../../../victim": {"installed": [], "replaced": null}}}"#;
    fs::write(scene.file(MANIFEST), text).unwrap();
    scene.uninstall(&["--force"]).ends(1).complains(&[MANIFEST, "is not what this program writes"]);
    scene.install(&["csv"]).ends(1);
    assert!(victim.exists());
}

#[test]
fn two_at_once_do_not_meet() {
    let scene = Scene::new();
    let before = contents(&scene.folder());
    let directory = File::open(scene.folder()).unwrap();
    directory.lock().unwrap();
    scene.install(&["csv"]).ends(1).complains(&["another nixl-telemetry is at work in "]);
    scene.uninstall(&[]).ends(1).complains(&["another nixl-telemetry is at work in "]);
    assert_eq!(contents(&scene.folder()), before);
    directory.unlock().unwrap();
    scene.install(&["csv"]).ends(0);
}

#[test]
fn a_plugin_directory_set_elsewhere_is_warned_about() {
    let scene = Scene::new();
    let mut command =
        command(&["install", "csv", "--nixl", text(scene.wheel.path()), "--from", text(scene.supply.path())]);
    command.env("NIXL_PLUGIN_DIR", "/elsewhere");
    finish(command)
        .ends(0)
        .complains(&["warning: NIXL_PLUGIN_DIR is set (environment): NIXL looks into /elsewhere and not into "]);
}
