// SPDX-License-Identifier: Apache-2.0

//! Where values come from: precedence, where the file lies, and when it is read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nixl_telemetry_settings::{Dialect, Error, Origin, Setting, Settings};
use tempfile::TempDir;

static SIZE: Setting<u64> = Setting::new("SIZE", "4096", "Under test.");
static NAME: Setting<String> = Setting::optional("NAME", "Under test.");

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file in a temporary folder");
    path
}

fn from_file(path: &Path) -> Origin {
    Origin::File(path.to_owned())
}

#[track_caller]
fn check(settings: &Settings, value: u64, origin: Origin) {
    let found = settings.get(&SIZE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((found.value, found.origin, found.warning), (value, origin, None));
}

#[track_caller]
fn check_error(settings: &Settings, expected: &str) {
    assert_eq!(settings.get(&SIZE).expect_err("no value").to_string(), expected);
}

#[test]
fn override_then_environment_then_file_then_default() {
    let file = Settings::empty().with_toml("SIZE = 3");
    let environment = Settings::from_pairs([("SIZE", "2")]).with_toml("SIZE = 3");
    check(&Settings::empty(), 4096, Origin::Default);
    check(&file, 3, Origin::File("the given TOML".into()));
    check(&environment, 2, Origin::Environment);
    check(&environment.clone().with_override("SIZE", "1"), 1, Origin::Override);
    check(&file.with_override("SIZE", "1").with_override("SIZE", "0x11"), 17, Origin::Override);
    // The original is as it was.
    check(&environment, 2, Origin::Environment);
}

#[test]
fn a_malformed_value_hides_the_sources_below_it() {
    let number = "a decimal or 0x-hex number from 0 to 18446744073709551615";
    check_error(
        &Settings::from_pairs([("SIZE", "")]).with_toml("SIZE = 3"),
        &format!(r#"SIZE is "" (environment): expected {number}"#),
    );
    check_error(
        &Settings::from_pairs([("SIZE", "2")]).with_override("SIZE", "x"),
        &format!(r#"SIZE is "x" (override): expected {number}"#),
    );
    check_error(
        &Settings::empty().with_toml("SIZE = '3'"),
        r#"SIZE is "3" (the given TOML): expected an integer from 0 to 18446744073709551615"#,
    );
    // The file is not even opened.
    check(&Settings::from_pairs([("SIZE", "2"), ("NIXL_CONFIG_FILE", "/nonexistent")]), 2, Origin::Environment);
    check(&Settings::from_pairs([("SIZE", "2")]).with_toml("]"), 2, Origin::Environment);
}

#[test]
fn an_empty_string_is_a_value() {
    let found = Settings::from_pairs([("NAME", "")]).with_toml("NAME = 'x'").find(&NAME).unwrap().unwrap();
    assert_eq!((found.value.as_str(), found.origin), ("", Origin::Environment));
}

#[test]
fn absence() {
    static NEEDED: Setting<PathBuf> = Setting::required("NIXL_TELEMETRY_DIR", "Under test.");
    assert_eq!(Settings::empty().find(&NAME).unwrap(), None);
    assert_eq!(Settings::empty().find(&NEEDED).unwrap(), None);
    assert_eq!(
        Settings::empty().get(&NEEDED).unwrap_err().to_string(),
        "NIXL_TELEMETRY_DIR is not set: expected a path",
    );
}

#[test]
fn a_name_known_at_run_time_only() {
    let settings = Settings::from_pairs([("LOCAL_RANK", "7")]).with_toml("[slurm]\nrank = 8");
    assert_eq!(settings.find_named::<u32>("LOCAL_RANK").unwrap().unwrap().value, 7);
    assert_eq!(settings.find_named::<u32>("slurm.rank").unwrap().unwrap().value, 8);
    assert_eq!(settings.find_named::<u32>("").unwrap(), None);
    assert_eq!(settings.find_named::<u32>("OTHER").unwrap(), None);
    assert_eq!(
        settings.find_named::<bool>("slurm.rank").unwrap_err().to_string(),
        "slurm.rank is 8 (the given TOML): expected true or false",
    );
}

#[test]
fn a_dotted_name_descends_into_tables() {
    fn check(text: &str, expected: Option<u64>) {
        let found = Settings::empty().with_toml(text).find_named::<u64>("a.b.c").unwrap();
        assert_eq!(found.map(|found| found.value), expected, "{text}");
    }
    check("a.b.c = 1", Some(1));
    check("[a.b]\nc = 2", Some(2));
    check("a = { b = { c = 3 } }", Some(3));
    check("[a]\nb = 4", None);
    check("[a.b]\nd = 5", None);
    check("'a.b.c' = 6", None);
    check("a = [{ b = 7 }]", None);
}

#[test]
fn the_named_file_goes_before_home_before_the_system() {
    let home = folder();
    let in_home = write(&home, ".nixl.cfg", "SIZE = 2");
    let named = write(&home, "named.toml", "SIZE = 1");
    let system = write(&home, "system.cfg", "SIZE = 3");

    let variables = [("NIXL_CONFIG_FILE", named.as_path()), ("HOME", home.path())];
    check(&Settings::from_pairs(variables).with_system_file(&system), 1, from_file(&named));
    check(&Settings::from_pairs([("HOME", home.path())]).with_system_file(&system), 2, from_file(&in_home));
    check(&Settings::from_pairs([("HOME", "/nonexistent")]).with_system_file(&system), 3, from_file(&system));
    check(&Settings::empty().with_system_file(&system), 3, from_file(&system));
    check(&Settings::empty().with_system_file("/nonexistent"), 4096, Origin::Default);
    check(&Settings::from_pairs([("HOME", home.path())]).without_file(), 4096, Origin::Default);
    check(
        &Settings::from_pairs([("HOME", home.path())]).with_override("NIXL_CONFIG_FILE", &named),
        1,
        from_file(&named),
    );

    // A file that lacks the name is still the only one.
    fs::write(&named, "").expect("a file in a temporary folder");
    check(&Settings::from_pairs(variables), 4096, Origin::Default);
    assert_eq!(Settings::from_pairs(variables).file().unwrap(), Some(named));
    assert_eq!(Settings::empty().file().unwrap(), None);
}

#[test]
fn the_named_file_must_be_readable() {
    check_error(
        &Settings::from_pairs([("NIXL_CONFIG_FILE", "/nonexistent")]),
        "cannot read the settings file /nonexistent (named by NIXL_CONFIG_FILE): No such file or directory (os error 2)",
    );
    check_error(
        &Settings::from_pairs([("NIXL_CONFIG_FILE", "")]),
        "cannot read the settings file  (named by NIXL_CONFIG_FILE): No such file or directory (os error 2)",
    );
    // As in NIXL 1.5.1.
    check(&Settings::from_pairs([("NIXL_CONFIG_FILE", "/")]), 4096, Origin::Default);
}

#[test]
fn what_lies_in_home_may_be_anything() {
    let home = folder();
    let path = home.path().join(".nixl.cfg");
    let system = write(&home, "system.cfg", "SIZE = 3");
    let settings = || Settings::from_pairs([("HOME", home.path())]).with_system_file(&system);

    symlink("/nonexistent", &path).expect("a link in a temporary folder");
    check(&settings(), 3, from_file(&system));

    fs::remove_file(&path).expect("the link is there");
    symlink(".nixl.cfg", &path).expect("a link in a temporary folder");
    let error = settings().get(&SIZE).unwrap_err();
    assert!(matches!(&error, Error::ReadFile { path: at, named: false, .. } if *at == path), "{error}");
}

#[test]
fn what_is_not_toml_is_an_error_with_its_line_and_without_its_text() {
    fn check(text: &[u8], expected: &str) {
        let folder = folder();
        let path = folder.path().join("x");
        fs::write(&path, text).expect("a file in a temporary folder");
        let error = Settings::from_pairs([("NIXL_CONFIG_FILE", &path)]).get(&SIZE).unwrap_err().to_string();
        let expected = format!("settings file {}, {expected}", path.display());
        assert_eq!(error, expected);
        assert!(!error.contains("hush"));
    }
    check(b"SIZE = 1\nSIZE = 2", "line 2: duplicate key");
    check(b"TOKEN = hush", "line 1: string values must be quoted, expected literal string");
    check(b"a = 1\n\n# \xff", "line 3: not UTF-8");
    // Refused by NIXL 1.5.1, whichever name is asked for.
    check(b"SIZE = 1\na = [99999999999999999999]", "line 2: integer beyond 64 bits");
    check(b"a = 00:00", "line 1: time without seconds");
}

#[test]
fn a_byte_order_mark_is_no_key() {
    check(&Settings::empty().with_toml("\u{feff}SIZE = 3"), 3, Origin::File("the given TOML".into()));
}

#[test]
fn a_deep_file_is_refused_rather_than_followed() {
    for text in [
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
    ] {
        let error = Settings::empty().with_toml(text).file().expect_err("deeper than any settings file");
        assert!(matches!(&error, Error::ParseFile { line: 1, .. }), "{error}");
    }
}

#[test]
fn the_file_is_read_once_and_by_clones_together() {
    let folder = folder();
    let path = write(&folder, "x", "SIZE = 1");
    let settings = Settings::from_pairs([("NIXL_CONFIG_FILE", &path)]);
    let clone = settings.clone();
    check(&settings, 1, from_file(&path));
    fs::write(&path, "SIZE = 2").expect("the file is there");
    check(&settings, 1, from_file(&path));
    check(&clone, 1, from_file(&path));
    check(&settings.with_override("OTHER", ""), 2, from_file(&path));
}

#[test]
fn a_failed_reading_is_tried_again() {
    let folder = folder();
    let path = write(&folder, "x", "SIZE = ");
    let settings = Settings::from_pairs([("NIXL_CONFIG_FILE", &path)]);
    assert!(matches!(settings.get(&SIZE), Err(Error::ParseFile { line: 1, .. })));
    fs::remove_file(&path).expect("the file is there");
    assert!(matches!(settings.get(&SIZE), Err(Error::ReadFile { named: true, .. })));
    fs::write(&path, "SIZE = 2").expect("the folder is there");
    check(&settings, 2, from_file(&path));
}

#[test]
fn the_old_dialect_has_no_file() {
    let settings = Settings::from_pairs([("NIXL_CONFIG_FILE", "/nonexistent")]).with_dialect(Dialect::Legacy);
    assert_eq!(settings.dialect(), Dialect::Legacy);
    check(&settings, 4096, Origin::Default);
    check(&settings.with_toml("SIZE = 1"), 4096, Origin::Default);
}

#[test]
fn the_variables_of_the_file_are_not_looked_up_in_it() {
    let settings = Settings::from_pairs([("NIXL_CONFIG_FILE", "/nonexistent")]);
    assert_eq!(settings.find_named::<PathBuf>("HOME").unwrap(), None);
    let settings = Settings::empty().with_toml("NIXL_CONFIG_FILE = 'x'");
    assert_eq!(settings.find_named::<PathBuf>("NIXL_CONFIG_FILE").unwrap(), None);
}

#[test]
fn names_with_a_prefix_and_where_they_hold() {
    let settings = Settings::from_pairs([("NIXL_A", "1"), ("NIXL_B", "2"), ("OTHER", "3")])
        .with_toml("NIXL_B = 4\nNIXL_C = 5\nother = 6")
        .with_override("NIXL_A", "7");
    let names: Vec<_> = settings.names("NIXL_").unwrap().into_iter().collect();
    let file = Origin::File("the given TOML".into());
    let expected = [("NIXL_A", Origin::Override), ("NIXL_B", Origin::Environment), ("NIXL_C", file)];
    assert_eq!(names, expected.map(|(name, origin)| (name.to_owned(), origin)));
}

#[test]
fn the_environment_of_this_process() {
    // Set by cargo for every test.
    static MANIFEST: Setting<PathBuf> = Setting::required("CARGO_MANIFEST_DIR", "Under test.");
    let found = Settings::process().get(&MANIFEST).unwrap();
    assert_eq!((found.value, found.origin), (PathBuf::from(env!("CARGO_MANIFEST_DIR")), Origin::Environment));
    assert!(std::ptr::eq(Settings::process(), Settings::process()));
    let names = Settings::from_process().without_file().names("CARGO_MANIFEST_DIR").unwrap();
    assert_eq!(names.get("CARGO_MANIFEST_DIR"), Some(&Origin::Environment));
}

#[test]
fn origins_and_settings_as_text() {
    fn check(origin: &Origin, expected: &str, path: Option<&str>) {
        assert_eq!((origin.to_string().as_str(), origin.path()), (expected, path.map(Path::new)));
    }
    check(&Origin::Override, "override", None);
    check(&Origin::Environment, "environment", None);
    check(&from_file(Path::new("/etc/nixl.cfg")), "/etc/nixl.cfg", Some("/etc/nixl.cfg"));
    check(&Origin::Default, "default", None);

    let shown =
        format!("{:?}", Settings::from_pairs([("A", "hush")]).with_override("B", "hush").with_toml("C = 'hush'"));
    assert_eq!(shown, r#"Settings { overrides: ["B"], variables: ["A"], dialect: Current, .. }"#);
}

#[test]
fn settings_go_to_other_threads() {
    fn check<T: Send + Sync + Clone>(_: &T) {}
    check(&Settings::empty());
}
