// SPDX-License-Identifier: Apache-2.0

//! Whether there is telemetry, to which exporters, and what happens if that cannot be.

use nixl_telemetry_host::{Collector, Error, RecordingSink};
use nixl_telemetry_settings::Settings;

use crate::common::{LONG, builder, check_settled, log_of};

const FAIL: (&str, &str) = ("NIXL_TELEMETRY_ON_ERROR", "fail");

/// Asserts whether there is a collector for this value of NIXL_TELEMETRY_ENABLE.
fn check_on(enable: Option<&str>, capture: bool, expected: bool) {
    let settings = Settings::from_pairs(enable.map(|value| ("NIXL_TELEMETRY_ENABLE", value)));
    let collector = Collector::builder("agent").settings(settings).capture_telemetry(capture).build().unwrap();
    assert_eq!(collector.is_some(), expected, "{enable:?}, {capture}");
}

#[test]
fn telemetry_is_on_as_in_nixl_1_5() {
    for (capture, unset) in [(false, false), (true, true)] {
        check_on(None, capture, unset);
        for on in ["y", "YES", "on", "1", "true", "enable"] {
            check_on(Some(on), capture, true);
        }
        for off in ["n", "NO", "off", "0", "false", "disable"] {
            check_on(Some(off), capture, false);
        }
        // What is malformed does not decide.
        for neither in ["maybe", "", " 1"] {
            check_on(Some(neither), capture, unset);
        }
    }
}

#[test]
fn an_agent_needs_a_name_even_without_telemetry() {
    for settings in [Settings::empty(), Settings::from_pairs([("NIXL_TELEMETRY_ENABLE", "1")])] {
        let error = Collector::create("", &settings).unwrap_err();
        assert!(matches!(error, Error::InvalidAgentName));
        assert_eq!(error.to_string(), "the agent name is empty: expected at least one character");
    }
}

#[test]
fn off_wins_over_the_program_with_a_warning() {
    let log = log_of("choosing::off_wins_over_the_program_with_a_warning", &[("NIXL_TELEMETRY_ENABLE", "off")], || {
        assert!(Collector::builder("decode").capture_telemetry(true).build().unwrap().is_none());
    });
    if let Some(log) = log {
        let line = "agent decode: the program asks for telemetry, but NIXL_TELEMETRY_ENABLE is off (environment)";
        assert_eq!(log, [format!("W builder.rs {line}")]);
    }
}

/// Asserts the names of the exporters and whether each is there.
fn check_exporters(variables: &[(&str, &str)], expected: &[(&str, bool)]) {
    let collector = builder(variables).build().unwrap().unwrap();
    collector.recorder().memory_registered(1);
    let counts = collector.close();
    check_settled(&counts);
    let exporters = counts.exporters.iter();
    let got: Vec<_> = exporters.map(|exporter| (exporter.name.as_str(), exporter.exported == 1)).collect();
    assert_eq!(got, expected, "{variables:?}");
    for exporter in &counts.exporters {
        assert_eq!(exporter.problem.is_none(), exporter.unavailable == 0, "{exporter:?}");
    }
}

#[test]
fn exporters_are_chosen_as_in_nixl_and_several_at_once() {
    let (exporter, dir) = ("NIXL_TELEMETRY_EXPORTER", "NIXL_TELEMETRY_DIR");
    check_exporters(&[], &[("NOP", true)]);
    check_exporters(&[(exporter, "")], &[("NOP", true)]);
    check_exporters(&[(exporter, " , ,")], &[("NOP", true)]);
    check_exporters(&[(exporter, "NOP"), (dir, "/tmp")], &[("NOP", true)]);
    let folder = tempfile::tempdir().unwrap();
    let rings = folder.path().to_str().unwrap();
    check_exporters(&[(dir, rings)], &[("BUFFER", true)]);
    check_exporters(&[(exporter, ""), (dir, rings)], &[("BUFFER", true)]);
    check_exporters(&[(exporter, "NOP,BUFFER"), (dir, rings)], &[("NOP", true), ("BUFFER", true)]);
    check_exporters(&[(dir, "/nonexistent")], &[("BUFFER", false)]);
    check_exporters(&[(exporter, "BUFFER")], &[("BUFFER", false)]);
    check_exporters(&[(exporter, "absent, NOP,,NOP")], &[("absent", false), ("NOP", true)]);
    check_exporters(&[(exporter, "nop")], &[("nop", false)]);
    check_exporters(&[(exporter, "../NOP")], &[("../NOP", false)]);
}

#[test]
fn a_programs_sink_comes_after_the_exporters_and_instead_of_nop() {
    let names = |variables: &[(&str, &str)], exporters: &[&str]| {
        let builder = exporters.iter().fold(builder(variables), |builder, name| builder.exporter(*name));
        let collector = builder.sink("mine", Box::new(RecordingSink::new())).build().unwrap().unwrap();
        let counts = collector.close();
        counts.exporters.into_iter().map(|exporter| exporter.name).collect::<Vec<_>>()
    };
    let exporter = "NIXL_TELEMETRY_EXPORTER";
    assert_eq!(names(&[], &[]), ["mine"]);
    assert_eq!(names(&[(exporter, "NOP")], &[]), ["NOP", "mine"]);
    assert_eq!(names(&[("NIXL_TELEMETRY_DIR", "/nonexistent")], &[]), ["BUFFER", "mine"]);
    assert_eq!(names(&[(exporter, "absent")], &["NOP", "other"]), ["NOP", "other", "mine"]);
}

#[test]
fn events_of_an_exporter_that_is_not_there_are_counted() {
    let kept = RecordingSink::new();
    let builder = builder(&[("NIXL_TELEMETRY_EXPORTER", "absent")]).sink("kept", Box::new(kept.clone()));
    let collector = builder.build().unwrap().unwrap();
    (0..5).for_each(|value| collector.recorder().memory_registered(value));
    assert!(collector.flush(LONG));
    let counts = collector.close();
    check_settled(&counts);
    assert_eq!(counts.drops(), [("absent", "unavailable", 5)]);
    assert_eq!(kept.events().len(), 5);
}

/// Asserts what a collector that is to fail says, and that one that is not to fail is created.
fn check_refusal(variable: (&str, &str), message: &str) {
    let error = builder(&[variable, FAIL]).build().unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(builder(&[variable]).build().unwrap().is_some(), variable.0 != "NIXL_TELEMETRY_ENABLE");
}

#[test]
fn to_fail_is_to_name_the_variable_the_value_and_what_was_expected() {
    let unset = "NIXL_TELEMETRY_DIR is not set: expected the directory of the ring files";
    let absent = "NIXL_TELEMETRY_DIR is \"/nonexistent\" (environment): /nonexistent/agent: no such file or directory";
    let number = "decimal or 0x-hex number from";
    let most = u64::MAX;
    check_refusal(
        ("NIXL_TELEMETRY_BUFFER_SIZE", "0"),
        &format!("NIXL_TELEMETRY_BUFFER_SIZE is \"0\" (environment): expected a {number} 1 to {most}"),
    );
    check_refusal(
        ("NIXL_TELEMETRY_BUFFER_SIZE", "abc"),
        &format!("NIXL_TELEMETRY_BUFFER_SIZE is \"abc\" (environment): expected a {number} 1 to {most}"),
    );
    check_refusal(
        ("NIXL_TELEMETRY_RUN_INTERVAL", "-5"),
        &format!(
            "NIXL_TELEMETRY_RUN_INTERVAL is \"-5\" (environment): expected milliseconds as a {number} 0 to {most}"
        ),
    );
    check_refusal(
        ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "soon"),
        &format!(
            "NIXL_TELEMETRY_SHUTDOWN_TIMEOUT is \"soon\" (environment): expected milliseconds as a {number} 0 to {most}"
        ),
    );
    check_refusal(
        ("NIXL_TELEMETRY_EXPORTER", "BUFFER"),
        &format!("NIXL_TELEMETRY_EXPORTER names \"BUFFER\" (environment): {unset}"),
    );
    check_refusal(
        ("NIXL_TELEMETRY_DIR", "/nonexistent"),
        &format!("NIXL_TELEMETRY_DIR is set (environment) and chooses BUFFER: {absent}"),
    );
    let error = builder(&[("NIXL_TELEMETRY_EXPORTER", "absent"), FAIL]).build().unwrap_err().to_string();
    let start = "NIXL_TELEMETRY_EXPORTER names \"absent\" (environment): no exporter \"absent\": \
                 libtelemetry_exporter_absent.so is not in ";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn a_switch_that_is_malformed_fails_where_that_is_asked_for() {
    let settings = Settings::from_pairs([("NIXL_TELEMETRY_ENABLE", "maybe"), FAIL]);
    let error = Collector::create("agent", &settings).unwrap_err();
    let expected = "NIXL_TELEMETRY_ENABLE is \"maybe\" (environment): expected y, yes, on, 1, true, enable or n, no, off, \
                    0, false, disable";
    assert_eq!(error.to_string(), expected);
}

/// Asserts the lines of the log at level INFO, of a collector built from the environment of its process.
fn check_log(test: &str, variables: &[(&str, &str)], expected: &[&str]) {
    let level = [("NIXL_LOG_LEVEL", "INFO"), ("NIXL_TELEMETRY_ENABLE", "1")];
    let variables = [&level, variables].concat();
    let log = log_of(&format!("choosing::{test}"), &variables, || {
        check_settled(&Collector::builder("decode").build().unwrap().unwrap().close());
    });
    if let Some(log) = log {
        assert_eq!(log, expected);
    }
}

#[test]
fn degrading_takes_one_line_a_setting() {
    let variables = [
        ("NIXL_TELEMETRY_BUFFER_SIZE", "0"),
        ("NIXL_TELEMETRY_RUN_INTERVAL", "-5"),
        ("NIXL_TELEMETRY_EXPORTER", "NOP,BUFFER"),
    ];
    let expected = [
        "E lenient.rs agent decode: NIXL_TELEMETRY_BUFFER_SIZE is \"0\" (environment): expected a decimal or 0x-hex \
         number from 1 to 18446744073709551615; taken as 4096",
        "E lenient.rs agent decode: NIXL_TELEMETRY_RUN_INTERVAL is \"-5\" (environment): expected milliseconds as a \
         decimal or 0x-hex number from 0 to 18446744073709551615; taken as 100",
        "E choose.rs agent decode: NIXL_TELEMETRY_EXPORTER names \"BUFFER\" (environment): NIXL_TELEMETRY_DIR \
         is not set: expected the directory of the ring files; its events are dropped",
    ];
    check_log("degrading_takes_one_line_a_setting", &variables, &expected);
}

#[test]
fn a_policy_that_is_malformed_is_no_reason_to_fail() {
    let variables = [("NIXL_TELEMETRY_ON_ERROR", "Fail"), ("NIXL_TELEMETRY_EXPORTER", "BUFFER")];
    let expected = [
        "E lenient.rs agent decode: NIXL_TELEMETRY_ON_ERROR is \"Fail\" (environment): expected one of degrade, fail; \
         taken as degrade",
        "E choose.rs agent decode: NIXL_TELEMETRY_EXPORTER names \"BUFFER\" (environment): NIXL_TELEMETRY_DIR \
         is not set: expected the directory of the ring files; its events are dropped",
    ];
    check_log("a_policy_that_is_malformed_is_no_reason_to_fail", &variables, &expected);
}

#[test]
fn a_file_that_cannot_be_used_is_ignored_with_one_line() {
    let variables = [("NIXL_CONFIG_FILE", "/nonexistent/nixl.cfg"), ("NIXL_TELEMETRY_EXPORTER", "NOP")];
    let expected = [
        "E lenient.rs agent decode: cannot read the settings file /nonexistent/nixl.cfg (named by NIXL_CONFIG_FILE): \
         No such file or directory (os error 2); the file is ignored",
    ];
    check_log("a_file_that_cannot_be_used_is_ignored_with_one_line", &variables, &expected);
}

#[test]
fn patterns_and_names_that_look_like_mistakes_are_warned_of() {
    let variables = [
        ("NIXL_TELEMETRY_ENABLED_METRICS", "agent_tx_bytes_total, agent_*, oops,oops"),
        ("NIXL_TELEMETRY_EXPORTER", "NOP,NOP"),
    ];
    let expected = [
        "W builder.rs agent decode: NIXL_TELEMETRY_ENABLED_METRICS has \"agent_tx_bytes_total\", which no event of the \
         agent matches",
        "W builder.rs agent decode: NIXL_TELEMETRY_ENABLED_METRICS has \"oops\", which no event of the agent matches",
        "W choose.rs agent decode: NIXL_TELEMETRY_EXPORTER names \"NOP\" (environment) twice; it is fed once",
    ];
    check_log("patterns_and_names_that_look_like_mistakes_are_warned_of", &variables, &expected);
}

#[test]
fn a_collector_without_exporters_says_so() {
    let expected = ["I choose.rs agent decode: NIXL_TELEMETRY_EXPORTER is not set: events are discarded"];
    check_log("a_collector_without_exporters_says_so", &[], &expected);
}

#[test]
fn the_file_decides_where_the_environment_does_not() {
    let settings = Settings::from_pairs([("NIXL_TELEMETRY_EXPORTER", "NOP")]).with_toml(
        "NIXL_TELEMETRY_ENABLE = true\nNIXL_TELEMETRY_EXPORTER = \"absent\"\nNIXL_TELEMETRY_BUFFER_SIZE = 1\n\
         NIXL_TELEMETRY_RUN_INTERVAL = 01:00:00",
    );
    let collector = Collector::create("agent", &settings).unwrap().unwrap();
    collector.recorder().start(nixl_telemetry_host::Direction::Write, 1, 1).complete();
    let counts = collector.close();
    assert_eq!((counts.exporters[0].name.as_str(), counts.queue_full), ("NOP", 4));
}
