// SPDX-License-Identifier: Apache-2.0

//! The terminal: reads rings and keys, draws, and gives the terminal back as it was, whatever happens.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::SIGINT;

use crate::common::end::{End, Outcome};
use crate::common::interrupt::Interrupt;
use crate::top::snapshot::Snapshot;
use crate::top::ui::{Ui, Wish};
use crate::top::view;
use crate::top::watch::{PAUSE, Watch};

/// Shows what is watched until somebody ends it.
pub(crate) fn show(mut watch: Watch, mut ui: Ui, interrupt: &Interrupt) -> Outcome {
    let mut screen = Screen::open()?;
    let mut shown = watch.refresh(ui.interval);
    let mut refreshed = Instant::now();
    screen.draw(&shown, &ui)?;
    loop {
        if let Some(signal) = interrupt.signal() {
            return Ok(End::Stopped(signal));
        }
        watch.poll();
        let mut is_changed = false;
        for event in events(PAUSE)? {
            is_changed = true;
            // Some terminals tell when a key is let go.
            if let Event::Key(key) = event
                && key.kind != KeyEventKind::Release
            {
                match ui.press(key, &shown.order(&ui)) {
                    Wish::None => {}
                    Wish::Quit => return Ok(End::Done),
                    Wish::Interrupt => return Ok(End::Stopped(SIGINT)),
                }
            }
        }
        if refreshed.elapsed() >= ui.interval {
            refreshed = next(refreshed, ui.interval);
            let now = watch.refresh(ui.interval);
            if !ui.is_paused {
                shown = now;
                is_changed = true;
            }
        }
        if is_changed {
            screen.draw(&shown, &ui)?;
        }
    }
}

/// When the refresh that is due should have been: they do not drift, and none is made up for.
fn next(last: Instant, interval: Duration) -> Instant {
    let next = last + interval;
    if next.elapsed() < interval { next } else { Instant::now() }
}

/// Keys, and changes of the size, that come within this time.
fn events(within: Duration) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut within = within;
    while event::poll(within).context("cannot read keys from the terminal")? {
        events.push(event::read().context("cannot read keys from the terminal")?);
        within = Duration::ZERO;
    }
    Ok(events)
}

/// The terminal while it is ours; dropped, or in a panic, it is as it was.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // A part of it may have been done.
                let _ = ratatui::try_restore();
                Err(error).context("cannot use the terminal")
            }
        }
    }

    fn draw(&mut self, snapshot: &Snapshot, ui: &Ui) -> anyhow::Result<()> {
        let drawn = self.0.draw(|frame| view::draw(frame.buffer_mut(), snapshot, ui));
        drawn.map(drop).context("cannot write to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal has gone there is nothing left to restore, and nobody to tell.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    use nixl_telemetry_testkit::{command, require};

    use super::*;

    #[test]
    fn refreshes_do_not_drift_and_none_is_made_up_for() {
        let now = Instant::now();
        let interval = Duration::from_secs(1000);
        let due = now.checked_sub(interval + Duration::from_secs(1)).unwrap();
        assert_eq!(next(due, interval), due + interval);
        let missed = now.checked_sub(interval * 3).unwrap();
        assert!(next(missed, interval) >= now);
    }

    #[test]
    fn a_panic_is_read_on_a_terminal_that_is_as_it_was() {
        let test = "a_panic_is_read_on_a_terminal_that_is_as_it_was";
        let Some(script) = require(test, command("script", "bsdutils")) else { return };
        let victim = "--exact top::screen::tests::victim --include-ignored --nocapture";
        let program = env::current_exe().unwrap();
        let line = format!("stty -a; echo '<'; {} {victim}; echo '>'; stty -a", program.display());
        let mut on_a_terminal = Command::new(script);
        on_a_terminal.args(["-qec", &line, "/dev/null"]).env("VICTIM", "panics").env("TERM", "xterm");
        let output = on_a_terminal.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (before, rest) = said.split_once("<\r\n").unwrap_or_else(|| panic!("{said:?}"));
        let (during, after) = rest.split_once(">\r\n").unwrap_or_else(|| panic!("{said:?}"));
        assert_eq!(before, after);
        // The other screen comes, goes, and only then something is said; in the end the cursor is shown.
        let (_, taken) = during.split_once("\x1b[?1049h").unwrap_or_else(|| panic!("{during:?}"));
        let (unseen, seen) = taken.split_once("\x1b[?1049l").unwrap_or_else(|| panic!("{during:?}"));
        assert!(seen.contains("as the victim must") && !unseen.contains("as the victim must"), "{during:?}");
        assert!(seen.contains("\x1b[?25h"), "{during:?}");
    }

    #[test]
    #[ignore = "the test above runs it"]
    fn victim() {
        if env::var_os("VICTIM").is_none_or(|victim| victim != "panics") {
            return;
        }
        let mut screen = Screen::open().unwrap();
        screen.0.hide_cursor().unwrap();
        panic!("as the victim must");
    }
}
