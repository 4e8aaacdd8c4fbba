// SPDX-License-Identifier: Apache-2.0

//! What the user has chosen, and what keys make of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::top::columns::Column;

/// What is shown, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ui {
    pub(crate) sort: Column,
    pub(crate) is_reversed: bool,
    /// A part of an agent's name, or a pattern; empty for all.
    pub(crate) filter: String,
    /// The filter that is being typed.
    pub(crate) typed: Option<String>,
    /// The agent's file; `None` for whichever is first.
    pub(crate) selected: Option<PathBuf>,
    pub(crate) is_paused: bool,
    pub(crate) has_help: bool,
    /// Between refreshes.
    pub(crate) interval: Duration,
}

/// What a key asks the loop for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To go on.
    None,
    /// To end.
    Quit,
    /// To end, as by the signal.
    Interrupt,
}

/// Keys, and what they do.
pub(crate) const KEYS: [(&str, &str); 9] = [
    ("q Esc", "quit; Esc leaves a filter or this help first"),
    ("up down k j", "select an agent; also PgUp PgDn Home End"),
    ("s >  <", "sort by the next column, by the one before"),
    ("r", "reverse the order"),
    ("/", "filter agents by a part of the name, or by a pattern with * ? [ ]"),
    ("p space", "pause the screen; events are still counted"),
    ("+  -", "refresh less often, more often"),
    ("?", "this help"),
    ("Ctrl-C", "quit, with exit code 130"),
];

/// The shortest interval there is.
pub(crate) const SHORTEST: Duration = Duration::from_millis(100);

/// Intervals between which + and - change, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// Agents that PgUp and PgDn go by.
const PAGE: isize = 10;

impl Ui {
    /// The screen as it begins.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            sort: Column::Transfers,
            is_reversed: false,
            filter: String::new(),
            typed: None,
            selected: None,
            is_paused: false,
            has_help: false,
            interval,
        }
    }

    /// What a key changes. The agents are shown in this order now.
    pub(crate) fn press(&mut self, key: KeyEvent, order: &[PathBuf]) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Interrupt } else { Wish::None };
        }
        if self.typed.is_some() {
            self.type_filter(key.code);
            return Wish::None;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc if self.has_help => self.has_help = false,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('?') => self.has_help = !self.has_help,
            KeyCode::Char('s' | '>') => self.sort_by(1),
            KeyCode::Char('<') => self.sort_by(-1),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.typed = Some(self.filter.clone()),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('+' | '=') => self.slower(),
            KeyCode::Char('-') => self.faster(),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1, order),
            KeyCode::Down | KeyCode::Char('j') => self.select(1, order),
            KeyCode::PageUp => self.select(-PAGE, order),
            KeyCode::PageDown => self.select(PAGE, order),
            KeyCode::Home => self.selected = order.first().cloned(),
            KeyCode::End => self.selected = order.last().cloned(),
            _ => {}
        }
        Wish::None
    }

    /// Where the selected agent is in this order: the first, if it is not there.
    pub(crate) fn selected_index<'a>(&self, order: impl IntoIterator<Item = &'a Path>) -> usize {
        let mut order = order.into_iter();
        self.selected.as_deref().and_then(|selected| order.position(|path| path == selected)).unwrap_or(0)
    }

    fn type_filter(&mut self, code: KeyCode) {
        let Some(typed) = &mut self.typed else { return };
        match code {
            KeyCode::Char(character) => typed.push(character),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Enter => self.filter = self.typed.take().unwrap_or_default(),
            KeyCode::Esc => {
                self.typed = None;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn sort_by(&mut self, step: isize) {
        let index = Column::ALL.iter().position(|column| *column == self.sort).unwrap_or(0);
        self.sort = Column::ALL[index.wrapping_add_signed(step).wrapping_add(Column::ALL.len()) % Column::ALL.len()];
    }

    fn select(&mut self, step: isize, order: &[PathBuf]) {
        let Some(last) = order.len().checked_sub(1) else { return };
        let index = self.selected_index(order.iter().map(PathBuf::as_path));
        self.selected = Some(order[index.saturating_add_signed(step).min(last)].clone());
    }

    fn slower(&mut self) {
        let longer = INTERVALS.into_iter().map(Duration::from_millis).find(|interval| *interval > self.interval);
        self.interval = longer.unwrap_or(self.interval);
    }

    fn faster(&mut self) {
        let shorter = INTERVALS.into_iter().rev().map(Duration::from_millis).find(|interval| *interval < self.interval);
        self.interval = shorter.unwrap_or(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ui() -> Ui {
        Ui::new(Duration::from_secs(1))
    }

    fn order() -> Vec<PathBuf> {
        ["a", "b", "c"].map(PathBuf::from).to_vec()
    }

    fn press(ui: &mut Ui, keys: impl IntoIterator<Item = KeyCode>) -> Wish {
        keys.into_iter().map(|code| ui.press(code.into(), &order())).last().unwrap()
    }

    fn typed(ui: &mut Ui, text: &str) -> Wish {
        press(ui, text.chars().map(KeyCode::Char))
    }

    #[test]
    fn keys_end_it() {
        assert_eq!(typed(&mut ui(), "q"), Wish::Quit);
        assert_eq!(press(&mut ui(), [KeyCode::Esc]), Wish::Quit);
        let control =
            |ui: &mut Ui, character| ui.press(KeyEvent::new(KeyCode::Char(character), KeyModifiers::CONTROL), &order());
        assert_eq!(control(&mut ui(), 'c'), Wish::Interrupt);
        let mut paused = ui();
        assert_eq!(control(&mut paused, 'p'), Wish::None);
        assert_eq!(paused, ui());
        // Also while a filter is typed.
        let mut typing = ui();
        typed(&mut typing, "/q");
        assert_eq!(control(&mut typing, 'c'), Wish::Interrupt);
    }

    #[test]
    fn the_selection_moves_and_stays_within() {
        let mut ui = ui();
        let mut after = |key| {
            press(&mut ui, [key]);
            ui.selected.clone().map(|path| path.to_str().unwrap().to_owned())
        };
        let table = [
            (KeyCode::Up, "a"),
            (KeyCode::Down, "b"),
            (KeyCode::Char('j'), "c"),
            (KeyCode::Down, "c"),
            (KeyCode::Char('k'), "b"),
            (KeyCode::PageUp, "a"),
            (KeyCode::PageDown, "c"),
            (KeyCode::Home, "a"),
            (KeyCode::End, "c"),
        ];
        for (key, expected) in table {
            assert_eq!(after(key).as_deref(), Some(expected), "{key:?}");
        }
        // One that is not shown any more is as good as none.
        ui.selected = Some("x".into());
        assert_eq!(ui.selected_index([Path::new("a"), Path::new("b")]), 0);
        press(&mut ui, [KeyCode::Down]);
        assert_eq!(ui.selected, Some("b".into()));
        // And without agents there is nothing to select.
        ui.press(KeyCode::Down.into(), &[]);
        ui.press(KeyCode::End.into(), &[]);
        assert_eq!(ui.selected, None);
    }

    #[test]
    fn every_column_sorts_in_turn() {
        let mut ui = ui();
        assert_eq!(ui.sort, Column::Transfers);
        for expected in Column::ALL.into_iter().cycle().skip(2).take(20) {
            typed(&mut ui, "s");
            assert_eq!(ui.sort, expected);
        }
        for expected in Column::ALL.into_iter().rev().cycle().skip(7).take(20) {
            typed(&mut ui, "<");
            assert_eq!(ui.sort, expected);
        }
        typed(&mut ui, ">r");
        assert!(ui.is_reversed);
        typed(&mut ui, "r");
        assert!(!ui.is_reversed);
    }

    #[test]
    fn a_filter_is_typed() {
        let mut ui = ui();
        typed(&mut ui, "/pq?x");
        assert_eq!((ui.typed.as_deref(), ui.filter.as_str()), (Some("pq?x"), ""));
        press(&mut ui, [KeyCode::Backspace, KeyCode::Left, KeyCode::Enter]);
        assert_eq!((ui.typed.as_deref(), ui.filter.as_str()), (None, "pq?"));
        // It is there to be changed.
        typed(&mut ui, "/*");
        press(&mut ui, [KeyCode::Enter]);
        assert_eq!(ui.filter, "pq?*");
        typed(&mut ui, "/abc");
        press(&mut ui, [KeyCode::Esc]);
        assert_eq!((ui.typed.as_deref(), ui.filter.as_str()), (None, ""));
        ui.filter = "x".to_owned();
        assert_eq!(press(&mut ui, [KeyCode::Esc]), Wish::None);
        assert_eq!(ui.filter, "");
        typed(&mut ui, "/");
        press(&mut ui, [KeyCode::Backspace]);
        assert_eq!(ui.typed.as_deref(), Some(""));
    }

    #[test]
    fn the_rest_switches() {
        let mut ui = ui();
        typed(&mut ui, "p?");
        assert!(ui.is_paused && ui.has_help);
        assert_eq!(press(&mut ui, [KeyCode::Esc]), Wish::None);
        typed(&mut ui, " ");
        assert!(!ui.is_paused && !ui.has_help);
        press(&mut ui, [KeyCode::F(1), KeyCode::Tab]);
        assert_eq!(ui, self::ui());
    }

    #[test]
    fn the_interval_changes_by_steps() {
        let mut ui = Ui::new(Duration::from_millis(700));
        let mut after = |key| {
            typed(&mut ui, key);
            ui.interval.as_millis()
        };
        let table = [("+", 1000), ("=", 2000), ("-", 1000), ("-", 500), ("-", 200), ("-", 100), ("-", 100)];
        for (key, expected) in table {
            assert_eq!(after(key), expected);
        }
        assert_eq!(after("++++++++++++"), 60_000);
        assert_eq!(u128::from(INTERVALS[0]), SHORTEST.as_millis());
    }
}
