// SPDX-License-Identifier: Apache-2.0

//! The table: a line for each agent.

use ratatui::style::{Modifier, Style};

use super::{BAD, FAINT, ODD, PLAIN, STRONG};
use crate::top::canvas::{self, Canvas};
use crate::top::columns::Column;
use crate::top::figures;
use crate::top::model::{Row, State};
use crate::top::window::SECONDS;

/// Lines above the agents.
pub(crate) const TITLES: u16 = 2;

/// The narrowest sparkline worth its room.
const SPARKLINE: u16 = 8;

/// Where the columns stand.
struct Layout {
    /// Each with where it begins and how wide it is.
    columns: Vec<(Column, u16, u16)>,
    /// Where the sparkline begins, and how wide it is.
    sparkline: Option<(u16, u16)>,
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, rows: &[&Row], selected: usize, sort: Column) {
    let layout = Layout::new(canvas.width(), rows);
    titles(canvas, &layout, sort);
    let room = usize::from(canvas.height().saturating_sub(TITLES));
    // The selected one is always seen.
    let first = (selected + 1).saturating_sub(room);
    for (y, (index, row)) in (TITLES..).zip(rows.iter().enumerate().skip(first).take(room)) {
        line(canvas, &layout, y, row);
        if index == selected {
            canvas.restyle(y, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

impl Layout {
    fn new(width: u16, rows: &[&Row]) -> Self {
        let columns = Column::that_fit(width);
        let taken: u16 = columns.iter().map(|column| column.width() + 1).sum();
        let mut left = (width + 1).saturating_sub(taken);
        // What is left the names take first.
        let longest = rows.iter().map(|row| canvas::width(&Column::Agent.cell(row))).max().unwrap_or(0);
        let agent = Column::Agent.width() + left.min(longest.saturating_sub(Column::Agent.width()));
        left -= agent - Column::Agent.width();
        let mut x = 0;
        let place = |column: Column| {
            let width = if column == Column::Agent { agent } else { column.width() };
            let at = x;
            x += width + 1;
            (column, at, width)
        };
        let columns = columns.into_iter().map(place).collect();
        let most = u16::try_from(SECONDS).unwrap_or(u16::MAX);
        Self { columns, sparkline: (left > SPARKLINE).then(|| (x, (left - 1).min(most))) }
    }
}

fn titles(canvas: &mut Canvas<'_>, layout: &Layout, sort: Column) {
    for of_group in layout.columns.chunk_by(|a, b| a.0.group() == b.0.group()) {
        let ((column, begin, _), (_, last, width)) = (of_group[0], of_group[of_group.len() - 1]);
        let (group, room) = (column.group(), last + width - begin);
        let group = if canvas::width(group) <= room { group } else { group.split(' ').next().unwrap_or(group) };
        canvas.part(begin, 0, room, 1).put(room.saturating_sub(canvas::width(group)) / 2, 0, group, FAINT);
    }
    for (column, x, width) in &layout.columns {
        let style = if *column == sort { STRONG.add_modifier(Modifier::UNDERLINED) } else { STRONG };
        match column {
            Column::Agent => drop(canvas.put(*x, 1, column.title(), style)),
            _ => canvas.put_right(x + width, 1, column.title(), style),
        }
    }
    if let Some((x, width)) = layout.sparkline {
        canvas.put(x, 1, &format!("last {width} s"), STRONG);
    }
}

fn line(canvas: &mut Canvas<'_>, layout: &Layout, y: u16, row: &Row) {
    let plain = match row.state {
        State::Idle(_) | State::Gone(_) => FAINT,
        State::Live | State::Full => PLAIN,
    };
    for (column, x, width) in &layout.columns {
        let (cell, style) = (column.cell(row), style(*column, row).unwrap_or(plain));
        match column {
            Column::Agent => drop(canvas.put(*x, y, &canvas::shorten(&cell, *width), style)),
            _ => canvas.put_right(x + width, y, &cell, style),
        }
    }
    if let Some((x, width)) = layout.sparkline {
        let bytes: Vec<u64> = row.received.iter().zip(&row.sent).map(|(rx, tx)| rx.saturating_add(*tx)).collect();
        let last = &bytes[bytes.len().saturating_sub(usize::from(width))..];
        canvas.put(x, y, &figures::sparkline(last, last.iter().copied().max().unwrap_or(0)), plain);
    }
}

/// How a cell stands out, if it does.
fn style(column: Column, row: &Row) -> Option<Style> {
    match column {
        Column::Errors if row.new_errors.total() > 0 => Some(BAD),
        Column::Dropped if row.counts.dropped > 0 => Some(ODD),
        Column::Lost if row.counts.lost.is_some() => Some(ODD),
        Column::Ring if row.state == State::Full => Some(BAD),
        _ => None,
    }
}
