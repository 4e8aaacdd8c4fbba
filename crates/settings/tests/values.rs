// SPDX-License-Identifier: Apache-2.0

//! Every type, from the environment and from the file, with the messages of what does not fit.

use std::ffi::OsString;
use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_settings::{Dialect, Error, Millis, Origin, Setting, Settings, Value};
use proptest::prelude::*;

/// What `X` is, or the message without the name, from `settings`.
fn read<T: Value>(settings: &Settings) -> Result<T, String> {
    let setting = Setting::<T>::required("X", "Under test.");
    match settings.get(&setting) {
        Ok(found) => Ok(found.value),
        Err(error) => Err(error.to_string().strip_prefix("X is ").expect("names the setting").to_owned()),
    }
}

fn env(text: impl Into<OsString>) -> Settings {
    Settings::from_pairs([("X", text.into())])
}

fn toml(value: &str) -> Settings {
    Settings::empty().with_toml(format!("X = {value}"))
}

#[track_caller]
fn check<T: Value + PartialEq + Debug>(settings: &Settings, expected: Result<T, &str>) {
    assert_eq!(read::<T>(settings), expected.map_err(str::to_owned));
}

#[test]
fn bools() {
    let words = "y, yes, on, 1, true, enable or n, no, off, 0, false, disable";
    check(&env("yes"), Ok(true));
    check(&env("OFF"), Ok(false));
    check::<bool>(&env("maybe"), Err(&format!(r#""maybe" (environment): expected {words}"#)));
    check::<bool>(&env(""), Err(&format!(r#""" (environment): expected {words}"#)));
    check(&toml("true"), Ok(true));
    check(&toml("false"), Ok(false));
    check::<bool>(&toml("1"), Err("1 (the given TOML): expected true or false"));
    check::<bool>(&toml("'true'"), Err(r#""true" (the given TOML): expected true or false"#));
}

#[test]
fn unsigned_numbers_keep_to_their_width() {
    check(&env("65535"), Ok(u16::MAX));
    check(&env("0xFFFF"), Ok(u16::MAX));
    check::<u16>(&env("65536"), Err(r#""65536" (environment): expected a decimal or 0x-hex number from 0 to 65535"#));
    check(&env("4294967295"), Ok(u32::MAX));
    check::<u32>(
        &env("4294967296"),
        Err(r#""4294967296" (environment): expected a decimal or 0x-hex number from 0 to 4294967295"#),
    );
    check(&env("18446744073709551615"), Ok(u64::MAX));
    check::<u64>(
        &env("-1"),
        Err(r#""-1" (environment): expected a decimal or 0x-hex number from 0 to 18446744073709551615"#),
    );
    check(&toml("0xffff"), Ok(u16::MAX));
    check(&toml("1_000"), Ok(1000_u32));
    check(&toml("9223372036854775807"), Ok(9_223_372_036_854_775_807_u64));
    check::<u16>(&toml("65536"), Err("65536 (the given TOML): expected an integer from 0 to 65535"));
    check::<u64>(&toml("-1"), Err("-1 (the given TOML): expected an integer from 0 to 18446744073709551615"));
    check::<u32>(&toml("1.0"), Err("1.0 (the given TOML): expected an integer from 0 to 4294967295"));
    check::<u32>(&toml("'16'"), Err(r#""16" (the given TOML): expected an integer from 0 to 4294967295"#));
}

#[test]
fn signed_numbers() {
    check(&env("-5"), Ok(-5_i64));
    check::<i64>(
        &env("0x5"),
        Err(r#""0x5" (environment): expected a decimal number from -9223372036854775808 to 9223372036854775807"#),
    );
    check(&toml("-5"), Ok(-5_i64));
    check::<i64>(&toml("[1]"), Err("an array (the given TOML): expected an integer"));
    check::<i64>(&toml("{ y = 1 }"), Err("a table (the given TOML): expected an integer"));
}

#[test]
fn milliseconds() {
    let from_env = "milliseconds as a decimal or 0x-hex number from 0 to 18446744073709551615";
    let from_toml = "milliseconds as an integer from 0 or a local time";
    check(&env("100"), Ok(Millis(100)));
    check(&env("0x64"), Ok(Millis(100)));
    check::<Millis>(&env("-5"), Err(&format!(r#""-5" (environment): expected {from_env}"#)));
    check::<Millis>(&env("00:00:01"), Err(&format!(r#""00:00:01" (environment): expected {from_env}"#)));
    check(&toml("250"), Ok(Millis(250)));
    check(&toml("00:00:01"), Ok(Millis(1000)));
    check(&toml("23:59:59.9999"), Ok(Millis(86_399_999)));
    check::<Millis>(&toml("-1"), Err(&format!("-1 (the given TOML): expected {from_toml}")));
    check::<Millis>(&toml("'00:00:01'"), Err(&format!(r#""00:00:01" (the given TOML): expected {from_toml}"#)));
    check::<Millis>(&toml("1.5"), Err(&format!("1.5 (the given TOML): expected {from_toml}")));
    check::<Millis>(
        &toml("1979-05-27T07:32:00"),
        Err(&format!("1979-05-27T07:32:00 (the given TOML): expected {from_toml}")),
    );
    assert_eq!(Duration::from(Millis(1500)), Duration::from_secs_f64(1.5));
}

#[test]
fn other_types_show_a_time_as_toml_writes_it() {
    check::<bool>(&toml("07:05:09.25"), Err("07:05:09.25 (the given TOML): expected true or false"));
    check::<bool>(&toml("07:05:09"), Err("07:05:09 (the given TOML): expected true or false"));
}

#[test]
fn strings_and_paths_are_verbatim() {
    check(&env(""), Ok(String::new()));
    check(&env(" a\tb "), Ok(" a\tb ".to_owned()));
    check(&env("/tmp/ä b"), Ok(PathBuf::from("/tmp/ä b")));
    check(&toml(r#""a\tb""#), Ok("a\tb".to_owned()));
    check(&toml("'/tmp'"), Ok(PathBuf::from("/tmp")));
    check::<String>(&toml("1"), Err("1 (the given TOML): expected a string"));
    check::<PathBuf>(&toml("true"), Err("true (the given TOML): expected a path as a string"));

    let bytes = OsString::from_vec(b"/tmp/\xff".to_vec());
    check(&env(bytes.clone()), Ok(PathBuf::from(bytes.clone())));
    check::<String>(&env(bytes), Err("\"/tmp/\u{fffd}\" (environment): expected text in UTF-8"));
}

#[test]
fn shown_values_stay_on_one_line_and_short() {
    check::<u16>(
        &env("a\n\"b\""),
        Err(r#""a\n\"b\"" (environment): expected a decimal or 0x-hex number from 0 to 65535"#),
    );
    let eighty = "é".repeat(80);
    let tail = "(environment): expected a decimal or 0x-hex number from 0 to 65535";
    check::<u16>(&env(&eighty), Err(&format!(r#""{eighty}" {tail}"#)));
    check::<u16>(&env(format!("{eighty}é")), Err(&format!(r#""{eighty}…" {tail}"#)));
}

#[test]
fn old_rules_take_an_unknown_word_as_off_and_say_so() {
    let switch = Setting::<bool>::new("X", "y", "Under test.");
    let old = |text: &str| Settings::from_pairs([("X", text)]).with_dialect(Dialect::Legacy);

    let found = old("ON").get(&switch).unwrap();
    assert_eq!((found.value, found.warning), (true, None));

    let found = old("true").get(&switch).unwrap();
    assert_eq!((found.value, found.origin), (false, Origin::Environment));
    assert_eq!(
        found.warning.unwrap().to_string(),
        r#"X is "true" (environment): expected y, yes, 1, on or n, no, 0, off; taken as off"#,
    );
}

#[test]
fn old_rules_read_numbers_as_stoul_does() {
    let old = |text: &str| env(text).with_dialect(Dialect::Legacy);
    check(&old(" 4096 slots"), Ok(4096_u64));
    check(&old("-1"), Ok(u64::MAX));
    check(&old("-1"), Ok(Millis(u64::MAX)));
    check(&env(OsString::from_vec(b"16\xff".to_vec())).with_dialect(Dialect::Legacy), Ok(16_u64));
    check::<u16>(&old("-1"), Err(r#""-1" (environment): expected a decimal number from 0 to 65535"#));
    check::<Millis>(
        &old("x"),
        Err(r#""x" (environment): expected milliseconds as a decimal number from 0 to 18446744073709551615"#),
    );
}

#[test]
fn a_default_is_written_by_todays_rules_in_any_dialect() {
    static ON: Setting<bool> = Setting::new("X", "true", "Under test.");
    static SIZE: Setting<u64> = Setting::new("Y", "0x10", "Under test.");
    let old = Settings::empty().with_dialect(Dialect::Legacy);
    assert!(old.get(&ON).unwrap().value);
    assert_eq!(old.get(&SIZE).unwrap().value, 16);
}

#[test]
fn a_malformed_default_is_an_error_in_any_dialect() {
    static WRONG: Setting<bool> = Setting::new("X", "perhaps", "Under test.");
    for dialect in [Dialect::Current, Dialect::Legacy] {
        let error = Settings::empty().with_dialect(dialect).get(&WRONG).unwrap_err();
        assert!(matches!(&error, Error::Malformed { origin: Origin::Default, .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn no_value_panics_and_every_path_survives(bytes in proptest::collection::vec(1_u8.., 0..200)) {
        let text = OsString::from_vec(bytes);
        for dialect in [Dialect::Current, Dialect::Legacy] {
            let settings = env(text.clone()).with_dialect(dialect);
            let _ = (read::<bool>(&settings), read::<u16>(&settings), read::<u64>(&settings));
            let _ = (read::<i64>(&settings), read::<Millis>(&settings));
            prop_assert_eq!(read::<String>(&settings).ok(), text.clone().into_string().ok());
            prop_assert_eq!(read::<PathBuf>(&settings), Ok(PathBuf::from(text.clone())));
        }
    }

    #[test]
    fn every_number_of_toml_reads_back(number in 0..=i64::MAX) {
        prop_assert_eq!(read::<u64>(&toml(&number.to_string())), Ok(number.unsigned_abs()));
        prop_assert_eq!(read::<u64>(&toml(&format!("{number:#x}"))), Ok(number.unsigned_abs()));
        prop_assert_eq!(read::<i64>(&toml(&format!("-{number}"))), Ok(-number));
    }

    #[test]
    fn every_time_of_day_is_its_milliseconds(hour in 0_u64..24, minute in 0_u64..60, second in 0_u64..60, milli in 0_u64..1000) {
        let time = format!("{hour:02}:{minute:02}:{second:02}.{milli:03}");
        let expected = ((hour * 60 + minute) * 60 + second) * 1000 + milli;
        prop_assert_eq!(read::<Millis>(&toml(&time)), Ok(Millis(expected)));
    }

    #[test]
    fn no_file_panics(text in any::<String>()) {
        let _ = Settings::empty().with_toml(text).file();
    }
}
