// SPDX-License-Identifier: Apache-2.0

//! What is said about the events of one file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixl_telemetry_event::layout::l16;
use nixl_telemetry_event::{Category, Event, Layout, Unit};
use nixl_telemetry_ring::{Batch, Follower, Header, Lost, Shape};
use serde::Serialize;

use crate::common::human;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Stream, Style, paint};
use crate::rings::remark;
use crate::rings::selection::Selection;
use crate::rings::value;
use crate::stats::Tallies;

/// One file, and the events read from it.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    agent: String,
    shape: Option<Shape>,
    header: Option<Header>,
    lost: Lost,
    /// The earliest and the latest time of its events.
    times: Option<(u64, u64)>,
    tallies: Tallies,
}

/// The same for machines.
#[derive(Serialize)]
struct Object<'a> {
    agent: &'a str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<bool>,
    lost: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_timestamp_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_timestamp_us: Option<u64>,
    events: Vec<Events>,
    errors: BTreeMap<&'static str, u64>,
    dropped: Sum,
}

#[derive(Serialize)]
struct Events {
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    count: u64,
    sum: Sum,
    min: u64,
    max: u64,
    last: u64,
    #[serde(flatten)]
    percentiles: Option<Percentiles>,
}

#[derive(Serialize)]
struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
}

/// A sum to the last digit.
#[derive(Serialize)]
#[serde(untagged)]
enum Sum {
    Number(u64),
    /// One that most readers of JSON could not hold in an integer.
    Digits(String),
}

impl File {
    pub(crate) fn new(follower: &Follower) -> Self {
        let reader = follower.reader();
        Self {
            path: follower.path().to_owned(),
            agent: follower.agent().to_owned(),
            shape: reader.map(|reader| reader.shape()),
            header: reader.and_then(|reader| reader.header().ok()),
            lost: Lost::default(),
            times: None,
            tallies: Tallies::new(),
        }
    }

    pub(crate) fn add(&mut self, batch: &Batch, selection: &Selection) {
        if batch.restarted() {
            remark::restarted(&self.path);
        }
        self.lost.add(batch.lost());
        match batch.bytes() {
            // All that NIXL writes since 1.3: at the speed at which it can be read, if nobody is asked about each event.
            (slots, Layout::L16) if selection.wants_every_event() => {
                slots.as_chunks().0.iter().for_each(|slot| self.tallies.add(&l16::decode(slot)));
            }
            _ => batch.events().filter(|event| selection.wants(event)).for_each(|event| self.add_event(&event)),
        }
    }

    fn add_event(&mut self, event: &Event<'_>) {
        self.tallies.add(event);
        if let Some(time) = event.timestamp_us() {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
    }

    /// One object, and the end of its line.
    pub(crate) fn json(&self) -> String {
        let events = self.tallies.rows().map(|row| Events {
            event: row.name,
            category: row.category.map(Category::short_name),
            unit: row.unit.map(Unit::as_str),
            count: row.tally.count,
            sum: Sum::of(row.tally.sum),
            min: row.tally.min,
            max: row.tally.max,
            last: row.tally.last,
            percentiles: row.times.map(|times| Percentiles {
                p50: times.percentile(50),
                p90: times.percentile(90),
                p99: times.percentile(99),
            }),
        });
        let object = Object {
            agent: &self.agent,
            file: self.path.display().to_string(),
            version: self.shape.map(|shape| shape.version),
            capacity: self.shape.map(|shape| shape.capacity),
            unread: self.header.map(|header| header.unread()),
            full: self.header.map(|header| header.is_full()),
            lost: self.lost.events,
            at_least: self.lost.or_more,
            first_timestamp_us: self.times.map(|(first, _)| first),
            last_timestamp_us: self.times.map(|(_, last)| last),
            events: events.collect(),
            errors: self.tallies.errors(),
            dropped: Sum::of(self.tallies.dropped()),
        };
        serde_json::to_string(&object).expect("texts and numbers are JSON") + "\n"
    }

    /// A heading, a table, and what is to be said besides.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}  {}",
            paint(Stream::Out, Style::Strong, &human::line(&self.agent)),
            remark::name(&self.path)
        )];
        lines.extend(self.ring());
        if self.tallies.rows().next().is_some() {
            lines.push(self.table().render());
        }
        let errors = self.tallies.errors();
        if !errors.is_empty() {
            let errors: Vec<_> =
                errors.into_iter().map(|(label, number)| format!("{} {label}", human::count(number))).collect();
            lines.push(paint(Stream::Out, Style::Bad, &format!("  errors: {}", errors.join(", "))));
        }
        let dropped = self.tallies.dropped();
        if dropped > 0 {
            let dropped = u64::try_from(dropped).map_or_else(|_| dropped.to_string(), human::count);
            let text = format!("  dropped by NIXL's collector: {dropped} events");
            lines.push(paint(Stream::Out, Style::Odd, &text));
        }
        if self.lost.is_some() {
            let text = format!("  lost: {}, overwritten before they were read", remark::lost(self.lost));
            lines.push(paint(Stream::Out, Style::Odd, &text));
        }
        lines.join("\n") + "\n"
    }

    fn ring(&self) -> Option<String> {
        let (shape, header) = (self.shape?, self.header?);
        let (unread, slots) = (header.unread(), shape.capacity - 1);
        let percent = u128::from(unread) * 100 / u128::from(slots.max(1));
        let text =
            format!("  ring version {}, {} of {} events", shape.version, human::count(unread), human::count(slots));
        Some(if header.is_full() {
            paint(Stream::Out, Style::Odd, &format!("{text}, full: NIXL drops new events until some are taken out"))
        } else {
            format!("{text} ({percent}%)")
        })
    }

    fn table(&self) -> Table<8> {
        let mut table = Table::new([
            ("event", Side::Left),
            ("count", Side::Right),
            ("sum", Side::Right),
            ("mean", Side::Right),
            ("p50", Side::Right),
            ("p90", Side::Right),
            ("p99", Side::Right),
            ("max", Side::Right),
        ]);
        for row in self.tallies.rows() {
            let unit = row.unit;
            let sum = match u64::try_from(row.tally.sum) {
                Ok(sum) => value::text(sum, unit),
                Err(_) => value::rounded(row.tally.sum as f64, unit),
            };
            let percentile =
                |percent| row.times.map_or_else(String::new, |times| value::text(times.percentile(percent), unit));
            let (p50, p90, p99) = (percentile(50), percentile(90), percentile(99));
            let max = value::text(row.tally.max, unit);
            let mean = value::rounded(row.tally.mean(), unit);
            table.row([human::line(&row.name), human::count(row.tally.count), sum, mean, p50, p90, p99, max]);
        }
        table
    }
}

impl Sum {
    fn of(sum: u128) -> Self {
        u64::try_from(sum).map_or_else(|_| Self::Digits(sum.to_string()), Self::Number)
    }
}
