// SPDX-License-Identifier: Apache-2.0

//! `nixl detect`, on a wheel that only looks like one, and on real ones.

mod support;

use std::fs;

use nixl_telemetry_testkit::{NIXL_RELEASES, nixl_release, require};
use support::{command, finish, plugins, run, text, wheel};

#[test]
fn every_real_release_is_of_its_generation() {
    let generation = |release: &str| match release {
        "0.9.0" | "0.10.1" | "1.0.1" => "0.9 (releases 0.9.0 - 1.0.1)",
        "1.1.0" => "1.1 (releases 1.1.0)",
        "1.2.0" => "1.2 (releases 1.2.0)",
        "1.3.2" => "1.3 (releases 1.3.0 - 1.3.2)",
        "1.4.1" => "1.4 (releases 1.4.0 - 1.4.1)",
        _ => "1.5 (releases 1.5.0 - 1.5.1)",
    };
    for release in NIXL_RELEASES {
        let Some(folder) = require("every_real_release_is_of_its_generation", nixl_release(release)) else { return };
        let ran = run(&["nixl", "detect", "--nixl", text(&folder)]).ends(0).says(&[
            &format!("version        nixl_cu12 {release}\n"),
            &format!("generation     {}\n", generation(release)),
            "it has       nixlPluginManager::loadTelemetryPlugin(name)",
            "prometheus",
            "NIXL's own, of ",
        ]);
        assert_eq!(ran.out.contains("none, as in releases up to 0.10.0"), release == "0.9.0", "{}", ran.out);
    }
}

#[test]
fn every_place_is_told_and_the_first_is_chosen() {
    let (first, second) = (wheel("1.5"), wheel("1.5"));
    let environment = tempfile::tempdir().unwrap();
    let packages = environment.path().join("lib/python3.12/site-packages");
    fs::create_dir_all(packages.parent().unwrap()).unwrap();
    fs::rename(first.path(), &packages).unwrap();
    let mut command = command(&["nixl", "detect"]);
    command.env("VIRTUAL_ENV", environment.path()).env("LD_LIBRARY_PATH", second.path());
    finish(command).ends(0).says(&[
        &format!("NIXL in {}/.nixl_cu12.mesonpy.libs\n", packages.display()),
        "version        nixl_cu12 1.5.1",
        "generation     1.5 (releases 1.5.0 - 1.5.1)",
        &format!("chosen  {} (VIRTUAL_ENV)", packages.display()),
        "no      (python3): python3 does not start",
        &format!("later   {} (LD_LIBRARY_PATH)", second.path().display()),
        "no plugin: not an ELF file",
    ]);
}

#[test]
fn a_plugin_directory_set_elsewhere_is_pointed_out() {
    let wheel = wheel("1.5");
    let mut command = command(&["nixl", "detect", "--nixl", text(wheel.path())]);
    command.env("NIXL_PLUGIN_DIR", "/elsewhere");
    finish(command).ends(0).says(&["NIXL_PLUGIN_DIR is set (environment): NIXL looks into /elsewhere instead"]);
}

#[test]
fn without_nixl_the_places_are_told_and_it_fails() {
    run(&["nixl", "detect"]).ends(1).says(&[
        "no NIXL found",
        "no      (VIRTUAL_ENV): not set",
        "no      (LD_LIBRARY_PATH): not set",
    ]);
    run(&["nixl", "detect", "--nixl", "/nonexistent"]).ends(1).says(&["/nonexistent (folder given): no such folder"]);
}

#[test]
fn what_has_the_name_and_is_no_library_is_an_error() {
    let wheel = wheel("1.5");
    let library = plugins(wheel.path()).with_file_name("libnixl.so");
    fs::write(&library, "text").unwrap();
    let message = format!("{} is no 64-bit ELF file", library.canonicalize().unwrap().display());
    run(&["nixl", "detect", "--nixl", text(wheel.path())]).ends(1).complains(&["error: ", &message]);
}
