// SPDX-License-Identifier: Apache-2.0

//! What derives from the description of a setting: lists, tables, help, checks, secrets.

use std::path::PathBuf;

use nixl_telemetry_settings::{
    Describe, Error, Millis, Origin, Setting, Settings, TomlValue, help_text, markdown_table,
};

static FILE: Setting<PathBuf> = Setting::required("NIXL_FILE", "Where rows go.");
static LIMIT: Setting<u64> = Setting::new("NIXL_LIMIT", "0x400", "Size at which a new file starts.").unit("bytes");
static EVERY: Setting<Millis> =
    Setting::new("NIXL_EVERY", "500", "Time between writes.").check("milliseconds above 0", |time| time.0 > 0);
static MARK: Setting<String> = Setting::new("NIXL_MARK", "a|b", "Either a|b.");
static TAG: Setting<String> = Setting::new("NIXL_TAG", "", "Text before each row.");
static TOKEN: Setting<u32> = Setting::<u32>::optional("NIXL_TOKEN", "Password.").secret();

static ALL: &[&dyn Describe] = &[&FILE, &LIMIT, &EVERY, &MARK, &TAG, &TOKEN];

#[test]
fn a_description_says_it_all() {
    let about = LIMIT.describe();
    assert_eq!((about.name, about.type_name, about.unit), ("NIXL_LIMIT", "u64", "bytes"));
    assert_eq!((about.default, about.required, about.secret), (Some("0x400"), false, false));
    assert_eq!(about.doc, "Size at which a new file starts.");
    assert_eq!(about.expected, "a decimal or 0x-hex number from 0 to 18446744073709551615");
    assert_eq!(EVERY.describe().expected, "milliseconds above 0");
    assert_eq!((FILE.describe().default, FILE.describe().required), (None, true));
    assert_eq!((TOKEN.describe().required, TOKEN.describe().secret), (false, true));
    assert_eq!(TOKEN.name(), "NIXL_TOKEN");
    assert_eq!(Describe::describe(&LIMIT), about);
}

#[test]
fn the_table() {
    assert_eq!(
        markdown_table(ALL),
        "\
| Variable | Type | Default | Meaning |
|---|---|---|---|
| `NIXL_FILE` | path | none, required | Where rows go. |
| `NIXL_LIMIT` | u64, bytes | `0x400` | Size at which a new file starts. |
| `NIXL_EVERY` | u64, ms | `500` | Time between writes. |
| `NIXL_MARK` | string | `a\\|b` | Either a\\|b. |
| `NIXL_TAG` | string | empty | Text before each row. |
| `NIXL_TOKEN` | u32 | none | Password. |
"
    );
}

#[test]
fn the_help() {
    assert_eq!(
        help_text(ALL),
        "\
NIXL_FILE (path, required)
    Where rows go.
NIXL_LIMIT (u64, bytes, default 0x400)
    Size at which a new file starts.
NIXL_EVERY (u64, ms, default 500)
    Time between writes.
NIXL_MARK (string, default a|b)
    Either a|b.
NIXL_TAG (string, default empty)
    Text before each row.
NIXL_TOKEN (u32)
    Password.
"
    );
}

#[test]
fn inspection_shows_what_was_written_and_where() {
    let settings =
        Settings::from_pairs([("NIXL_FILE", "/tmp/a"), ("NIXL_TOKEN", "7")]).with_toml("NIXL_EVERY = 00:00:01");
    let shown: Vec<String> = ALL
        .iter()
        .filter_map(|setting| {
            let found = setting.inspect(&settings).expect("all are sound")?;
            Some(format!("{} = {} ({})", setting.describe().name, found.value, found.origin))
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"NIXL_FILE = "/tmp/a" (environment)"#,
            r#"NIXL_LIMIT = "0x400" (default)"#,
            "NIXL_EVERY = 00:00:01 (the given TOML)",
            r#"NIXL_MARK = "a|b" (default)"#,
            r#"NIXL_TAG = "" (default)"#,
            "NIXL_TOKEN = <secret> (environment)",
        ]
    );
    assert_eq!(TOKEN.inspect(&Settings::empty()).unwrap(), None);
    assert!(matches!(FILE.inspect(&Settings::empty()), Err(Error::Missing { .. })));
    let error = LIMIT.inspect(&Settings::from_pairs([("NIXL_LIMIT", "x")])).unwrap_err();
    assert!(matches!(error, Error::Malformed { origin: Origin::Environment, .. }));
}

#[test]
fn a_check_holds_for_every_source() {
    fn check(settings: &Settings, expected: Result<u64, &str>) {
        let got = settings.get(&EVERY).map(|found| found.value.0).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(str::to_owned));
    }
    check(&Settings::from_pairs([("NIXL_EVERY", "1")]), Ok(1));
    check(
        &Settings::from_pairs([("NIXL_EVERY", "0")]),
        Err(r#"NIXL_EVERY is "0" (environment): expected milliseconds above 0"#),
    );
    check(
        &Settings::from_pairs([("NIXL_EVERY", "x")]),
        Err(r#"NIXL_EVERY is "x" (environment): expected milliseconds above 0"#),
    );
    check(
        &Settings::empty().with_toml("NIXL_EVERY = 0"),
        Err("NIXL_EVERY is 0 (the given TOML): expected milliseconds above 0"),
    );
}

#[test]
fn no_message_shows_a_secret() {
    fn check(settings: &Settings, expected: &str) {
        let error = settings.get(&TOKEN).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
    check(
        &Settings::from_pairs([("NIXL_TOKEN", "hush")]),
        "NIXL_TOKEN is <secret> (environment): expected a decimal or 0x-hex number from 0 to 4294967295",
    );
    check(
        &Settings::empty().with_toml("NIXL_TOKEN = 'hush'"),
        "NIXL_TOKEN is <secret> (the given TOML): expected an integer from 0 to 4294967295",
    );
}

#[test]
fn toml_values_as_text() {
    fn check(value: &TomlValue, expected: &str) {
        assert_eq!(value.to_string(), expected);
    }
    check(&TomlValue::Boolean(true), "true");
    check(&TomlValue::Float(1.0), "1.0");
    check(&TomlValue::String("a".into()), "a");
    check(&TomlValue::Array(Vec::new()), "an array");
}
