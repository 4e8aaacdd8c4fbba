// SPDX-License-Identifier: Apache-2.0

//! What each kind of plugin sees, call by call and byte by byte.

mod common;

use std::sync::atomic::Ordering::Relaxed;

use common::Fixture;
use nixl_telemetry_event::{BatchId, Category, Event, Generation, Kind, Layout, MemoWords, Total};
use nixl_telemetry_loader::{Batch, Exported, Failure, Form, Plugin};

const AGENT: &str = "an agent with a long name";

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn all_accepted(accepted: u64) -> Exported {
    Exported { accepted, ..Exported::default() }
}

/// One batch of two, one empty batch, and the end.
fn run(fixture: &Fixture, form: Form, hooks: bool) {
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!((plugin.form(), plugin.has_batch_hooks()), (form, hooks));
    let mut exporter = plugin.create_exporter(AGENT, 4096).unwrap();
    // The exporter alone keeps the plugin.
    drop(plugin);
    let events = [Event::new(Kind::RX_BYTES, 258), Event::new(Kind::ERR_NOT_FOUND, 1)];
    assert_eq!(exporter.export(&events), all_accepted(2));
    assert_eq!(exporter.export(&[]), all_accepted(0));
    drop(exporter);
}

fn check(fixture: &Fixture, expected: &[&str]) {
    assert_eq!(fixture.recording(), expected);
}

const RX_BYTES: &str = "event 01000000000000000201000000000000";
const NOT_FOUND: &str = "event 0b000000000000000100000000000000";
const CREATE: &str = "create an agent with a long name 4096";

#[test]
fn api_1_gets_l56() {
    let fixture = Fixture::new("recorder.cc", &["API=1", "SLOTS=3"], "recorder");
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!((plugin.api_version(), plugin.form()), (1, Form::Layout(Layout::L56)));
    let mut exporter = plugin.create_exporter(AGENT, 4096).unwrap();
    let events = [
        Event::new(Kind::RX_BYTES, 258).at(0x0102_0304),
        Event::new(Kind::ERR_NOT_FOUND, 1),
        Event::backend("ucx_rndv", 3).at(5),
    ];
    assert_eq!(exporter.export(&events), all_accepted(3));
    drop((exporter, plugin));

    let event = |time: &str, category: &str, name: &str, value: &str| {
        format!("event {time:0<16}{category}000000{:0<64}00000000{value:0<16}", hex(name))
    };
    let expected = [
        "init",
        CREATE,
        &event("04030201", "01", "agent_rx_bytes", "0201"),
        &event("", "04", "NIXL_ERR_NOT_FOUND", "01"),
        &event("05", "03", "ucx_rndv", "03"),
        "delete",
        "fini",
    ];
    check(&fixture, &expected);
}

#[test]
fn api_2_gets_l16_and_no_hooks_without_proof() {
    for slots in ["SLOTS=3", "SLOTS=5"] {
        let fixture = Fixture::new("recorder.cc", &[slots], "recorder");
        run(&fixture, Form::Layout(Layout::L16), false);
        check(&fixture, &["init", CREATE, RX_BYTES, NOT_FOUND, "delete", "fini"]);
    }
}

/// What nothing is known about is given what the NIXL gives that it is presumed to be made for, and nothing else is.
#[test]
fn what_is_presumed_of_a_plugin_counts_where_nothing_tells() {
    let form_and_hooks = |settings: &[&str], generation| {
        let fixture = Fixture::new("recorder.cc", settings, "recorder");
        let plugin = Plugin::load(&fixture.path).unwrap().presumed_for(generation);
        let (Form::Layout(layout), hooks) = (plugin.form(), plugin.has_batch_hooks()) else { panic!("{plugin:?}") };
        (layout, hooks)
    };
    for generation in Generation::ALL {
        let (layout, hooks) = match generation {
            Generation::V0_9 => (Layout::L16, false),
            later => (later.layout(), later.has_batch_hooks()),
        };
        let generation = Some(generation);
        assert_eq!(form_and_hooks(&["SLOTS=5"], generation), (layout, hooks));
        assert_eq!(form_and_hooks(&["SLOTS=3", "MARKER=3"], generation), (layout, false));
        assert_eq!(form_and_hooks(&["SLOTS=5", "MARKER=5"], generation), (layout, true));
        assert_eq!(form_and_hooks(&["API=1", "SLOTS=3"], generation), (Layout::L56, false));
    }
    assert_eq!(form_and_hooks(&["SLOTS=5"], None), (Layout::L16, false));

    let fixture = Fixture::new("recorder.cc", &["SLOTS=5"], "recorder");
    let plugin = Plugin::load(&fixture.path).unwrap().presumed_for(Some(Generation::V1_5));
    let mut exporter = plugin.create_exporter("a", 1).unwrap();
    drop(plugin);
    assert_eq!(exporter.export(&[Event::new(Kind::RX_BYTES, 258)]), all_accepted(1));
    drop(exporter);
    check(&fixture, &["init", "create a 1", "begin", RX_BYTES, "end", "delete", "fini"]);
}

#[test]
fn virtual_functions_of_its_own_are_not_hooks() {
    let fixture = Fixture::new("recorder.cc", &["SLOTS=3", "TRAP"], "recorder");
    run(&fixture, Form::Layout(Layout::L16), false);
    check(&fixture, &["init", CREATE, RX_BYTES, NOT_FOUND, "delete", "fini"]);
}

#[test]
fn a_marker_of_3_is_proof_of_absence() {
    let fixture = Fixture::new("recorder.cc", &["SLOTS=3", "TRAP", "MARKER=3"], "recorder");
    run(&fixture, Form::Layout(Layout::L16), false);
    check(&fixture, &["init", CREATE, RX_BYTES, NOT_FOUND, "delete", "fini"]);
}

#[test]
fn a_marker_of_5_brings_the_hooks() {
    let fixture = Fixture::new("recorder.cc", &["SLOTS=5", "MARKER=5"], "recorder");
    run(&fixture, Form::Layout(Layout::L16), true);
    let expected = ["init", CREATE, "begin", RX_BYTES, NOT_FOUND, "end", "begin", "end", "delete", "fini"];
    check(&fixture, &expected);
}

#[test]
fn events_without_a_number_are_left_out_of_l16() {
    let fixture = Fixture::new("recorder.cc", &["SLOTS=5", "MARKER=5"], "recorder");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 1).unwrap();
    let events = [Event::backend("ucx_rndv", 3), Event::new(Kind::RX_BYTES, 258), Event::backend("x", 1)];
    assert_eq!(exporter.export(&events), Exported { accepted: 1, unsupported: 2, ..Exported::default() });
    drop(exporter);
    check(&fixture, &["init", "create a 1", "begin", RX_BYTES, "end", "delete", "fini"]);
}

#[test]
fn negotiated_plugins_get_everything() {
    let fixture = Fixture::new("negotiated.c", &["NEEDS=1"], "negotiated");
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!((plugin.form(), plugin.has_batch_hooks()), (Form::Rich, true));
    assert_eq!(plugin.api_version(), 0x5249_0001);
    assert_eq!((plugin.declared_name(), plugin.version()), ("negotiated".to_owned(), "1.0.0".to_owned()));
    let mut exporter = plugin.create_exporter("", 64).unwrap();
    let long = "a name of more than the thirty-one bytes that NIXL has room for";
    let events = [
        Event::new(Kind::RX_BYTES, 258).at(77),
        Event::backend(long, u64::MAX),
        Event::named(Category::from_code(99), "", 3).at(u64::MAX),
        Event::new(Kind::from_code(1000), 13),
        Event::new(Kind::from_code(u32::MAX), 1),
        Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 0),
    ];
    // Two that were taken are lost at the end of the batch.
    let expected = Exported {
        accepted: 2,
        failed: 3,
        unsupported: 1,
        first_failure: Some(Failure::Refused(-3)),
        ..Exported::default()
    };
    assert_eq!(exporter.export(&events), expected);
    drop((plugin, exporter));
    let expected = [
        "negotiate 8 1",
        "create  64",
        "features?",
        "begin",
        "event 1 1 258 77 ",
        &format!("event 4294967295 3 18446744073709551615 0 {long}"),
        "event 4294967295 99 3 18446744073709551615 ",
        "event 1000 0 13 0 ",
        "event 20 0 0 0 ",
        "end",
        "lost?",
        "delete",
        "fini",
    ];
    check(&fixture, &expected);
}

#[test]
fn totals_go_to_those_who_take_them() {
    let total = |kind, count, sum| Total { kind, count, sum };
    let totals = [
        total(Kind::TX_BYTES, 5, u128::MAX - 1),
        total(Kind::from_code(1000), 13, 2),
        total(Kind::RX_BYTES, 1, 1 << 64),
    ];
    let events = [Event::new(Kind::RX_BYTES, 258); 3];
    let batch = Batch { events: &events, totals: &totals, id: None };
    let event = "event 1 1 258 0 ";

    let fixture = Fixture::new("negotiated.c", &["NEEDS=1", "TOTALS"], "negotiated");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 64).unwrap();
    assert!(exporter.takes_totals());
    // Of three events two are lost in the end, and so are the totals of four of the six events that were taken.
    let (accepted, failed, aggregated, aggregates_failed) = (1, 2, 2, 17);
    let first_failure = Some(Failure::Refused(-9));
    let expected = Exported { accepted, failed, unsupported: 0, aggregated, aggregates_failed, first_failure };
    assert_eq!(exporter.export_batch(&batch), expected);
    // Who was given none has lost none.
    let first_failure = Some(Failure::Lost);
    let expected = Exported { accepted: 1, failed: 2, first_failure, ..Exported::default() };
    assert_eq!(exporter.export(&events), expected);
    drop(exporter);
    let (max, max_less_1) = (u64::MAX, u64::MAX - 1);
    let expected = [
        &["negotiate 8 1", "create a 64", "features?", "begin", event, event, event],
        &[&*format!("total 0 0 5 {max_less_1} {max}"), "total 1000 0 13 2 0", "total 1 0 1 0 1"] as &[&str],
        &["end", "lost?", "lost totals?", "begin", event, event, event, "end", "lost?", "delete", "fini"],
    ];
    check(&fixture, &expected.concat());

    // Others never see them, and that is no failure.
    let fixture = Fixture::new("negotiated.c", &["NEEDS=1"], "negotiated");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 64).unwrap();
    assert!(!exporter.takes_totals());
    let first_failure = Some(Failure::Lost);
    let expected = Exported { accepted: 1, failed: 2, first_failure, ..Exported::default() };
    assert_eq!(exporter.export_batch(&batch), expected);
    drop(exporter);
    let expected =
        ["negotiate 8 1", "create a 64", "features?", "begin", event, event, event, "end", "lost?", "delete"];
    check(&fixture, &[&expected, &["fini"] as &[&str]].concat());

    let fixture = Fixture::new("recorder.cc", &["SLOTS=5", "MARKER=5"], "recorder");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 64).unwrap();
    assert!(!exporter.takes_totals());
    assert_eq!(exporter.export_batch(&Batch { id: Some(BatchId::new(1, 1)), ..batch }), all_accepted(3));
    drop(exporter);
    check(&fixture, &["init", "create a 64", "begin", RX_BYTES, RX_BYTES, RX_BYTES, "end", "delete", "fini"]);
}

#[test]
fn a_batch_is_identified_before_it_begins() {
    let fixture = Fixture::new("negotiated.c", &["NEEDS=1"], "negotiated");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 64).unwrap();
    let words: MemoWords = [0, 1, 2, 3, 4, 5, 6, 7].map(Into::into);
    let id = BatchId::new(u64::MAX, 3).with_memo(&words);
    for id in [id, id.repeated(), BatchId::new(0, 4)] {
        assert_eq!(exporter.export_batch(&Batch { id: Some(id), ..Batch::default() }), all_accepted(0));
    }
    drop(exporter);
    // The exporter wrote to it in the end, twice.
    assert_eq!(words.each_ref().map(|word| word.load(Relaxed)), [0, 1, 2, 3, 4, 5, 6, 9]);
    let batch = ["begin", "end", "lost?"];
    let expected = [
        &["negotiate 8 1", "create a 64", "features?"],
        &[&*format!("id 40 0 {} 3 8 0 1 2 3 4 5 6 7", u64::MAX)] as &[&str],
        &batch,
        &[&*format!("id 40 1 {} 3 8 0 1 2 3 4 5 6 8", u64::MAX)],
        &batch,
        &["id 40 0 0 4 0"],
        &batch,
        &["delete", "fini"],
    ];
    check(&fixture, &expected.concat());
}

#[test]
fn a_plugin_that_wants_more_than_is_offered_is_initialised_as_by_nixl() {
    let fixture = Fixture::new("negotiated.c", &["NEEDS=2"], "negotiated");
    let plugin = Plugin::load(&fixture.path).unwrap();
    assert_eq!((plugin.api_version(), plugin.form()), (2, Form::Layout(Layout::L16)));
    // The object it negotiates is not the one it is used with, and that one's exporters have three slots.
    assert!(!plugin.has_batch_hooks());
    assert_eq!((plugin.declared_name(), plugin.version()), (String::new(), String::new()));
    let mut exporter = plugin.create_exporter(AGENT, 4096).unwrap();
    assert_eq!(exporter.export(&[Event::new(Kind::RX_BYTES, 258)]), all_accepted(1));
    drop((exporter, plugin));
    check(&fixture, &["negotiate 8 1", "init", CREATE, RX_BYTES, "delete", "fini"]);
}
