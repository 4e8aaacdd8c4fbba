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
