// SPDX-License-Identifier: Apache-2.0

use std::fs;
use std::path::PathBuf;

use nixl_telemetry_event::{Event, Kind};

use super::*;
use crate::top::columns::Column;
use crate::top::model::{Model, State, When};
use crate::top::scene;

fn ui() -> Ui {
    Ui::new(Duration::from_secs(1))
}

/// The screen of this size.
fn screen(width: u16, height: u16, snapshot: &Snapshot, ui: &Ui) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(&mut buffer, snapshot, ui);
    canvas::text(&buffer)
}

/// Holds a screen against a file. With `NIXL_TELEMETRY_UPDATE_GOLDEN` set, the file becomes what it is.
#[track_caller]
fn is_as_in(file: &str, screen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("NIXL_TELEMETRY_UPDATE_GOLDEN").is_some() {
        fs::write(&path, screen).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(expected == screen, "{} has:\n{expected}\nand the screen is:\n{screen}", path.display());
}

#[test]
fn the_document_shows_the_screen() {
    let ui = Ui { selected: Some("/tmp/telemetry/decode-1".into()), ..ui() };
    is_as_in("../../docs/top.txt", &screen(120, 20, &scene::snapshot(), &ui));
}

#[test]
fn screens_are_as_they_were() {
    let snapshot = scene::snapshot();
    is_as_in("tests/golden/top-80x24.txt", &screen(80, 24, &snapshot, &Ui { sort: Column::Agent, ..ui() }));
    is_as_in("tests/golden/top-200x20.txt", &screen(200, 20, &snapshot, &Ui { sort: Column::Post99, ..ui() }));
    is_as_in("tests/golden/top-help.txt", &screen(120, 24, &snapshot, &Ui { has_help: true, ..ui() }));
    is_as_in("tests/golden/top-once.txt", &text(120, &snapshot, &ui()));
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut snapshot = scene::snapshot();
    snapshot.problems.push("/x: has 0 bytes".to_owned());
    for (has_help, typed) in [(false, None), (true, Some("日本語".to_owned()))] {
        let ui = Ui { has_help, typed, ..ui() };
        for width in (0..=44).chain([60, 79, 80, 93, 94, 95, 100, 101, 106, 107, 116, 1000]) {
            for height in (0..=28).chain([100]) {
                screen(width, height, &snapshot, &ui);
            }
        }
    }
    assert_eq!(screen(1, 1, &snapshot, &ui()), "n\n");
    assert_eq!(screen(39, 2, &snapshot, &ui()), "needs 40 x 8, has 39 x 2\n\n");
    assert!(screen(40, 8, &snapshot, &ui()).starts_with("4 agents   "));
}

#[test]
fn the_selected_agent_is_seen() {
    let mut model = Model::default();
    for number in 0..100 {
        let name = format!("agent-{number:02}");
        model.came(&PathBuf::from(&name), &name, Duration::ZERO);
    }
    let rows = model.refresh(Duration::ZERO, Duration::from_secs(1));
    let snapshot = Snapshot { rows, ..scene::snapshot() };
    for number in [0, 1, 5, 50, 99] {
        let name = format!("agent-{number:02}");
        let ui = Ui { selected: Some(PathBuf::from(&name)), ..ui() };
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 20));
        draw(&mut buffer, &snapshot, &ui);
        let is_selected = |y: u16| buffer[(0, y)].modifier.contains(Modifier::REVERSED);
        let selected: Vec<u16> = (0..20).filter(|y| is_selected(*y)).collect();
        let [y] = selected.as_slice() else { panic!("{selected:?}") };
        let text = canvas::text(&buffer);
        assert!(text.lines().nth(usize::from(*y)).unwrap().starts_with(&name), "{text}");
        assert!(text.contains(&format!("── {name} ──")), "{text}");
    }
}

#[test]
fn the_head_says_what_is_chosen() {
    let snapshot = scene::snapshot();
    let lines = |ui: &Ui| screen(120, 24, &snapshot, ui).lines().map(str::to_owned).collect::<Vec<_>>();
    let plain = lines(&ui());
    assert!(plain[0].starts_with("4 agents   "), "{}", plain[0]);
    assert!(plain[0].ends_with(&human::moment(snapshot.time)), "{}", plain[0]);
    assert_eq!(plain[1], "by XFER/s, falling   every 1 s   /tmp/telemetry");
    let chosen = Ui {
        sort: Column::Transfer90,
        is_reversed: true,
        is_paused: true,
        filter: "decode-?".to_owned(),
        interval: Duration::from_millis(200),
        ..ui()
    };
    let lines = lines(&chosen);
    assert!(lines[0].starts_with("PAUSED   4 agents   "), "{}", lines[0]);
    assert_eq!(lines[1], "2 of 4 fit decode-?   by transfer time p90, rising   every 200 ms   /tmp/telemetry");
    assert!(lines.iter().all(|line| !line.contains("prefill")));
    let typing = Ui { typed: Some("de\x1b[2J".to_owned()), ..ui() };
    assert_eq!(
        self::screen(120, 24, &snapshot, &typing).lines().last().unwrap(),
        "filter: de [2J▏   Enter applies, Esc clears"
    );
}

#[test]
fn it_says_why_there_is_nobody() {
    let mut snapshot = scene::snapshot();
    let second = |snapshot: &Snapshot, ui: &Ui| screen(80, 24, snapshot, ui).lines().nth(3).unwrap().to_owned();
    assert_eq!(second(&snapshot, &Ui { filter: "x".to_owned(), ..ui() }), " no agent fits the filter");
    snapshot.rows.clear();
    for (foreign, expected) in [
        (0, " no agent yet in /tmp/telemetry"),
        (1, " no agent yet in /tmp/telemetry; 1 file there is no ring"),
        (2, " no agent yet in /tmp/telemetry; 2 files there are no rings"),
    ] {
        snapshot.foreign = foreign;
        assert_eq!(second(&snapshot, &ui()), expected);
    }
}

#[test]
fn what_cannot_be_read_has_a_line() {
    let mut snapshot = scene::snapshot();
    let line = |snapshot: &Snapshot| screen(80, 24, snapshot, &ui()).lines().nth(22).unwrap().to_owned();
    snapshot.problems.push("/x: Permission denied".to_owned());
    assert_eq!(line(&snapshot), "cannot read /x: Permission denied");
    snapshot.problems.push("/y: Permission denied".to_owned());
    assert_eq!(line(&snapshot), "cannot read 1 of 2: /x: Permission denied");
}

#[test]
fn agents_that_are_not_well_look_like_it() {
    let snapshot = scene::snapshot();
    let draw_alone = |state: State| {
        let mut snapshot = snapshot.clone();
        snapshot.rows.truncate(1);
        snapshot.rows[0].state = state;
        let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 24));
        draw(&mut buffer, &snapshot, &ui());
        (canvas::text(&buffer), buffer[(0, 4)].modifier.contains(Modifier::DIM))
    };
    for (state, is_faint, cell, title) in [
        (State::Live, false, "0%", "─ live ─"),
        (State::Idle(Duration::from_secs(61)), true, "0%", "─ no event for 61 s ─"),
        (State::Full, false, "FULL", "─ full, and nobody consumes: new events are refused ─"),
        (State::Gone(Duration::from_secs(7)), true, "gone", "─ gone for 7 s ─"),
    ] {
        let (text, faint) = draw_alone(state);
        assert_eq!(faint, is_faint, "{state:?}");
        assert!(text.lines().nth(4).unwrap().contains(cell) && text.contains(title), "{text}");
    }
}

#[test]
fn names_are_somebody_elses_text() {
    let mut model = Model::default();
    let path = PathBuf::from("/rings/x");
    let name = "日本\x1b[2J-with-a-name-that-goes-on-and-on-for-longer-than-there-is-room";
    model.came(&path, name, Duration::ZERO);
    model.events(&path, [Event::new(Kind::ERR_BACKEND, u64::MAX)], When::Now, Duration::ZERO);
    let rows = model.refresh(Duration::ZERO, Duration::from_secs(1));
    let snapshot = Snapshot { rows, ..scene::snapshot() };
    let text = screen(80, 24, &snapshot, &ui());
    let line = text.lines().nth(4).unwrap();
    assert!(line.starts_with("日本 [2J-") && line.contains('…'), "{line}");
    assert!(line.contains("18.4E"), "{line}");
    assert!(!text.contains('\x1b'));
}
