// SPDX-License-Identifier: Apache-2.0

//! The screen: a snapshot and the user's choices in, cells out.
//!
//! From above: totals, what is watched and how, the table, the selected agent in detail, what cannot be read, keys. What
//! does not find room is left out, the least important first.

mod detail;
mod help;
mod table;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::common::human;
use crate::top::canvas::{self, Canvas};
use crate::top::figures;
use crate::top::snapshot::Snapshot;
use crate::top::ui::Ui;

/// The smallest screen that shows anything.
const SMALLEST: (u16, u16) = (40, 8);

/// Lines above the table's own.
const HEAD: u16 = 2;

/// Agents that are seen besides the detail, at least.
const BESIDES: u16 = 2;

const PLAIN: Style = Style::new();
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const ODD: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws it over all of the buffer.
pub(crate) fn draw(buffer: &mut Buffer, snapshot: &Snapshot, ui: &Ui) {
    let mut canvas = Canvas::new(buffer);
    let (width, height) = (canvas.width(), canvas.height());
    if width < SMALLEST.0 || height < SMALLEST.1 {
        canvas.put(0, 0, &format!("needs {} x {}, has {width} x {height}", SMALLEST.0, SMALLEST.1), PLAIN);
        return;
    }
    let shown = snapshot.shown(ui);
    head(&mut canvas.part(0, 0, width, HEAD), snapshot, ui, shown.len());

    let footer = 1 + u16::from(!snapshot.problems.is_empty());
    foot(&mut canvas.part(0, height - footer, width, footer), snapshot, ui);

    let body = height - HEAD - footer;
    let selected = ui.selected_index(shown.iter().map(|row| row.path.as_path()));
    let has_detail = !shown.is_empty() && body >= table::TITLES + BESIDES + detail::HEIGHT;
    let detail_height = if has_detail { detail::HEIGHT } else { 0 };
    let mut table = canvas.part(0, HEAD, width, body - detail_height);
    if shown.is_empty() {
        table.put(1, 1, &nobody(snapshot), FAINT);
    } else {
        table::draw(&mut table, &shown, selected, ui.sort);
    }
    if has_detail {
        detail::draw(&mut canvas.part(0, HEAD + body - detail_height, width, detail_height), shown[selected]);
    }
    if ui.has_help {
        help::draw(&mut canvas);
    }
}

/// One screen that shows every agent, as text.
pub(crate) fn text(width: u16, snapshot: &Snapshot, ui: &Ui) -> String {
    let agents = u16::try_from(snapshot.rows.len()).unwrap_or(u16::MAX).max(BESIDES);
    let footer = 1 + u16::from(!snapshot.problems.is_empty());
    let height = agents.saturating_add(HEAD + table::TITLES + detail::HEIGHT + footer);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(&mut buffer, snapshot, ui);
    // Nobody presses keys there.
    Canvas::new(&mut buffer).part(0, height - 1, width, 1).clear();
    format!("{}\n", canvas::text(&buffer).trim_end())
}

fn head(canvas: &mut Canvas<'_>, snapshot: &Snapshot, ui: &Ui, shown: usize) {
    let totals = snapshot.totals();
    let time = human::moment(snapshot.time);
    let time_at = canvas.width().saturating_sub(canvas::width(&time));
    let counted = |count: u64, what: &str| format!("{} {what}", figures::short(count as f64));
    let state = if ui.is_paused { "PAUSED" } else { "" };
    let agents = if totals.agents == 1 { "agent" } else { "agents" };
    let end = parts(
        canvas,
        0,
        &[
            (state, BAD),
            (&format!("{} {agents}", totals.agents), STRONG),
            (&format!("{} transfers/s", figures::short(totals.rates.transfers)), STRONG),
            (&format!("RX {}/s", human::bytes(totals.rates.received)), STRONG),
            (&format!("TX {}/s", human::bytes(totals.rates.sent)), STRONG),
            (&counted(totals.counts.errors.total(), "errors"), STRONG),
            (&counted(totals.counts.dropped, "dropped"), STRONG),
            (&format!("{} lost", figures::lost(totals.counts.lost)), STRONG),
        ],
    );
    if end + GAP <= time_at {
        canvas.put(time_at, 0, &time, PLAIN);
    }
    let filter = if ui.filter.is_empty() {
        String::new()
    } else {
        format!("{shown} of {} fit {}", snapshot.rows.len(), human::line(&ui.filter))
    };
    let order = if ui.sort.is_descending() != ui.is_reversed { "falling" } else { "rising" };
    parts(
        canvas,
        1,
        &[
            (&filter, ODD),
            (&format!("by {}, {order}", ui.sort.name()), FAINT),
            (&format!("every {}", interval(ui.interval)), FAINT),
            (&snapshot.watched, FAINT),
        ],
    );
}

fn foot(canvas: &mut Canvas<'_>, snapshot: &Snapshot, ui: &Ui) {
    let last = canvas.height() - 1;
    if let [first, others @ ..] = snapshot.problems.as_slice() {
        let number = if others.is_empty() { String::new() } else { format!("1 of {}: ", others.len() + 1) };
        canvas.put(0, 0, &format!("cannot read {number}{first}"), BAD);
    }
    if let Some(typed) = &ui.typed {
        let end = canvas.put(0, last, &format!("filter: {}", human::line(typed)), STRONG);
        let end = canvas.put(end, last, "▏", STRONG);
        canvas.put(end + GAP, last, "Enter applies, Esc clears", FAINT);
    } else {
        let keys = ["q quit", "? help", "s sort", "r reverse", "/ filter", "p pause", "+ - interval", "up down select"];
        parts(canvas, last, &keys.map(|key| (key, FAINT)));
    }
}

/// Why there is nobody.
fn nobody(snapshot: &Snapshot) -> String {
    if !snapshot.rows.is_empty() {
        return "no agent fits the filter".to_owned();
    }
    let foreign = match snapshot.foreign {
        0 => String::new(),
        1 => "; 1 file there is no ring".to_owned(),
        files => format!("; {files} files there are no rings"),
    };
    format!("no agent yet in {}{foreign}", snapshot.watched)
}

fn interval(interval: Duration) -> String {
    if interval.subsec_millis() == 0 {
        format!("{} s", interval.as_secs())
    } else {
        format!("{} ms", interval.as_millis())
    }
}

/// Between parts of a line.
const GAP: u16 = 3;

/// Writes the parts that are not empty side by side, as many as fit, and tells where the last one ends.
fn parts(canvas: &mut Canvas<'_>, y: u16, parts: &[(&str, Style)]) -> u16 {
    let mut end = 0;
    for (text, style) in parts.iter().filter(|(text, _)| !text.is_empty()) {
        let x = if end == 0 { 0 } else { end + GAP };
        if end > 0 && x + canvas::width(text) > canvas.width() {
            break;
        }
        end = canvas.put(x, y, text, *style);
    }
    end
}

#[cfg(test)]
mod tests;
