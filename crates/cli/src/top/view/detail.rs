// SPDX-License-Identifier: Apache-2.0

//! The selected agent: all that is known of it.

use super::{BAD, FAINT, PLAIN, STRONG};
use crate::common::human;
use crate::top::canvas::{self, Canvas};
use crate::top::figures;
use crate::top::model::{Ring, Row, State};
use crate::top::window::{Percentiles, SECONDS};

/// Lines that it takes.
pub(crate) const HEIGHT: u16 = 10;

/// Where values begin.
const VALUES: u16 = 10;

/// The table of errors stands beside the rest if that leaves it so much room.
const ERRORS: u16 = 30;
const REST: u16 = 70;

pub(crate) fn draw(canvas: &mut Canvas<'_>, row: &Row) {
    title(canvas, row);
    let width = canvas.width();
    let has_table = width >= ERRORS + 1 + REST;
    let left = if has_table { width - ERRORS - 1 } else { width };
    values(&mut canvas.part(0, 1, left, HEIGHT - 1), row, !has_table);
    if has_table {
        errors(&mut canvas.part(left + 1, 1, ERRORS, HEIGHT - 1), row);
    }
}

fn title(canvas: &mut Canvas<'_>, row: &Row) {
    canvas.put(0, 0, &"─".repeat(usize::from(canvas.width())), FAINT);
    let end = canvas.put(2, 0, &format!(" {} ", human::line(&row.agent)), STRONG);
    let (state, style) = match row.state {
        State::Live => ("live".to_owned(), PLAIN),
        State::Idle(quiet) => (format!("no event for {}", figures::age(quiet)), FAINT),
        State::Full => ("full, and nobody consumes: new events are refused".to_owned(), BAD),
        State::Gone(since) => (format!("gone for {}", figures::age(since)), FAINT),
    };
    canvas.put(end + 2, 0, &format!(" {state} "), style);
}

fn values(canvas: &mut Canvas<'_>, row: &Row, has_errors: bool) {
    let counts = &row.counts;
    let memory = || {
        let [registered, deregistered] =
            [counts.registered, counts.deregistered].map(|bytes| human::bytes(bytes as f64));
        format!("{registered} registered, {deregistered} deregistered")
    };
    let lines = [
        ("received", minute(&row.received, canvas.width())),
        ("sent", minute(&row.sent, canvas.width())),
        ("transfer", times(row.transfer.as_ref())),
        ("post", times(row.post.as_ref())),
        (
            "in all",
            format!(
                "{} transfers, {} received, {} sent",
                human::count(counts.transfers()),
                human::bytes(counts.received.bytes as f64),
                human::bytes(counts.sent.bytes as f64)
            ),
        ),
        // Where there is no room for both.
        if has_errors { ("errors", in_a_line(row)) } else { ("memory", memory()) },
        ("events", events(row)),
        ("ring", row.ring.as_ref().map_or_else(|| "-".to_owned(), ring)),
        ("file", human::line(&row.path.display().to_string())),
    ];
    for (y, (label, value)) in (0..).zip(lines) {
        canvas.put(0, y, label, FAINT);
        canvas.put(VALUES, y, &value, PLAIN);
    }
}

/// A minute of bytes, and the most of a second.
fn minute(bytes: &[u64], width: u16) -> String {
    let most = bytes.iter().copied().max().unwrap_or(0);
    let caption = format!("max {}/s", human::bytes(most as f64));
    let room = usize::from(width.saturating_sub(VALUES + 1 + canvas::width("max 1023 GiB/s")));
    let last = &bytes[bytes.len().saturating_sub(room.min(SECONDS))..];
    format!("{} {caption}", figures::sparkline(last, most))
}

fn times(times: Option<&Percentiles>) -> String {
    times.map_or_else(
        || "none in the last minute".to_owned(),
        |Percentiles { count, p50, p90, p99, max }| {
            let [p50, p90, p99, max] = [*p50, *p90, *p99, *max].map(figures::time);
            format!("p50 {p50}  p90 {p90}  p99 {p99}  max {max}  of {} in {SECONDS} s", human::count(*count))
        },
    )
}

/// What became of its telemetry.
fn events(row: &Row) -> String {
    let counts = &row.counts;
    let more = if counts.lost.or_more { " or more" } else { "" };
    let mut text = format!(
        "{} dropped by the agent, {}{more} lost here",
        human::count(counts.dropped),
        human::count(counts.lost.events)
    );
    if counts.other > 0 {
        text.push_str(&format!(", {} of other kinds", human::count(counts.other)));
    }
    if row.restarts > 0 {
        text.push_str(&format!("; begun anew {} times", human::count(row.restarts)));
    }
    text
}

fn ring(ring: &Ring) -> String {
    format!(
        "version {}, events of {} bytes, {} of {} unread",
        ring.shape.version,
        ring.shape.layout.size(),
        human::count(ring.unread),
        human::count(ring.room())
    )
}

fn errors(canvas: &mut Canvas<'_>, row: &Row) {
    let width = canvas.width();
    let mut line = |y, [status, total, new]: [&str; 3], style| {
        canvas.put(0, y, status, style);
        canvas.put_right(width - 7, y, total, style);
        canvas.put_right(width, y, new, style);
    };
    line(0, ["errors", "total", "new"], FAINT);
    let by_status = row.counts.errors.by_status();
    if by_status.is_empty() {
        line(1, ["none", "", ""], PLAIN);
    }
    for (y, (status, total)) in (1..).zip(by_status) {
        let (label, new) = (status.label().unwrap_or_default(), row.new_errors.of(status));
        let style = if new > 0 { BAD } else { PLAIN };
        line(y, [label, &figures::short(total as f64), &figures::short(new as f64)], style);
    }
}

fn in_a_line(row: &Row) -> String {
    let status = |(status, total): (nixl_telemetry_event::Status, u64)| {
        let new = match row.new_errors.of(status) {
            0 => String::new(),
            new => format!(" ({} new)", figures::short(new as f64)),
        };
        format!("{} {}{new}", status.label().unwrap_or_default(), figures::short(total as f64))
    };
    let all: Vec<String> = row.counts.errors.by_status().into_iter().map(status).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
