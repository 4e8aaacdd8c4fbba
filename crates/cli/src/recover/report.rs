// SPDX-License-Identifier: Apache-2.0

//! What `recover` says about each journal, and in the end.

use std::time::SystemTime;

use nixl_telemetry_host::{Counts, ExporterCounts};
use serde::Serialize;

use crate::common::human;
use crate::common::terminal::{Sheet, Stream, Style, Unprintable, complain, paint, print};
use crate::recover::journal::{Contents, Fate, Journal};

/// What was said so far.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    dry_run: bool,
    /// Journals: recovered, or, if they are only looked at, found.
    done: u64,
    /// The events of those.
    events: u64,
    in_use: u64,
    /// Of which not all could be exported.
    failed: u64,
    /// Whether something else could not be.
    is_incomplete: bool,
}

impl Report {
    pub(crate) fn new(json: bool, dry_run: bool) -> Self {
        Self { json, dry_run, done: 0, events: 0, in_use: 0, failed: 0, is_incomplete: false }
    }

    /// Says what is wrong with an argument.
    pub(crate) fn complain(&mut self, problem: &str) {
        self.is_incomplete = true;
        complain(Style::Bad, "error", problem);
    }

    /// Says what became of a journal, at once: whoever is ended on his way has said what he did.
    pub(crate) fn add(&mut self, journal: &Journal) -> Result<(), Unprintable> {
        match &journal.fate {
            Fate::InUse => self.in_use += 1,
            Fate::Found(Contents { damage, .. }) if !damage.is_empty() => self.failed += 1,
            Fate::Found(contents) | Fate::Recovered(contents, _) => {
                self.done += 1;
                self.events += contents.events;
            }
            Fate::Unreadable(_) | Fate::Refused(..) | Fate::Kept(..) => self.failed += 1,
        }
        if let Fate::Unreadable(problem) | Fate::Refused(_, problem) = &journal.fate {
            complain(Style::Bad, "error", &human::line(&format!("{}: {problem}", journal.path.display())));
        }
        if self.json {
            let line = serde_json::to_string(&Object::of(journal)).expect("texts and numbers are JSON");
            return print(&(line + "\n"));
        }
        let mut sheet = Sheet::new();
        describe(journal, &mut sheet);
        sheet.print()
    }

    /// Says what all of it comes to. True if nothing went wrong.
    pub(crate) fn finish(self) -> Result<bool, Unprintable> {
        if !self.json {
            print(&(self.summary() + "\n"))?;
        }
        Ok(self.failed == 0 && !self.is_incomplete)
    }

    fn summary(&self) -> String {
        let (journals, events) = (human::count(self.done), human::count(self.events));
        let noun = if self.done == 1 { "journal" } else { "journals" };
        let mut words = vec![if self.dry_run {
            format!("{journals} {noun} with {events} events to recover")
        } else {
            format!("{journals} {noun} recovered with {events} events")
        }];
        for (number, what) in [(self.in_use, "in use by a living process"), (self.failed, "with an error")] {
            if number > 0 {
                words.push(format!("{} {what}", human::count(number)));
            }
        }
        words.join(", ")
    }
}

fn describe(Journal { path, fate }: &Journal, sheet: &mut Sheet) {
    sheet.heading(&human::line(&path.display().to_string()));
    match fate {
        Fate::InUse => sheet.line("journal", "in use by a living process"),
        Fate::Unreadable(_) => sheet.line("journal", bad("not read")),
        Fate::Found(contents) => {
            describe_contents(contents, sheet);
            let exporters = human::line(&contents.exporters.join(", "));
            sheet.line("exporters", if exporters.is_empty() { "none" } else { &exporters });
            contents.damage.iter().for_each(|damage| sheet.line("damage", bad(damage)));
        }
        Fate::Refused(contents, _) => {
            describe_contents(contents, sheet);
            sheet.line("journal", bad("kept as it was"));
        }
        Fate::Recovered(contents, counts) => {
            describe_contents(contents, sheet);
            describe_counts(counts, sheet);
            sheet.line("journal", paint(Stream::Out, Style::Good, "removed"));
        }
        Fate::Kept(contents, counts, reasons) => {
            describe_contents(contents, sheet);
            describe_counts(counts, sheet);
            sheet.line("journal", bad(&format!("kept: {}", reasons.join("; "))));
        }
    }
}

fn describe_contents(contents: &Contents, sheet: &mut Sheet) {
    let Contents { agent, process, created, events, .. } = contents;
    let agent = human::line(agent);
    sheet.line("agent", format_args!("{agent}, process {process}, created {}", human::moment(*created)));
    sheet.line("held", format_args!("{} events", human::count(*events)));
}

fn describe_counts(counts: &Counts, sheet: &mut Sheet) {
    for exporter in &counts.exporters {
        let mut words = format!("{} exported", human::count(exporter.exported));
        let more = [
            (exporter.exported_before, "exported before"),
            (exporter.aggregated, "in totals"),
            (exporter.unsupported, "of a sort it cannot take"),
            (exporter.failed, "failed"),
            (exporter.pending, "not tried"),
        ];
        for (events, what) in more.into_iter().filter(|(events, _)| *events > 0) {
            words.push_str(&format!(", {} {what}", human::count(events)));
        }
        sheet.line(&human::line(&exporter.name), words);
    }
    if counts.queue_full > 0 {
        let words = "events for which the process had no room, known by their totals alone";
        sheet.line("dropped", paint(Stream::Out, Style::Odd, &format!("{} {words}", human::count(counts.queue_full))));
    }
}

fn bad(text: &str) -> String {
    paint(Stream::Out, Style::Bad, &human::line(text))
}

/// A journal as JSON has it.
#[derive(Debug, Serialize)]
struct Object<'a> {
    journal: String,
    /// `in_use`, `found`, `recovered`, `kept` or `failed`.
    state: &'static str,
    #[serde(flatten)]
    contents: Option<ContentsObject<'a>>,
    #[serde(flatten)]
    counts: Option<CountsObject<'a>>,
    /// Why it is kept, or what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct ContentsObject<'a> {
    agent: &'a str,
    pid: u64,
    created_unix: u64,
    events: u64,
    exporters: &'a [String],
    damage: &'a [String],
}

#[derive(Debug, Serialize)]
struct CountsObject<'a> {
    /// Events for which the process had no room.
    dropped: u64,
    /// What became of the others, for each exporter.
    exported: Vec<ExporterObject<'a>>,
}

#[derive(Debug, Serialize)]
struct ExporterObject<'a> {
    exporter: &'a str,
    exported: u64,
    exported_before: u64,
    aggregated: u64,
    unsupported: u64,
    failed: u64,
    pending: u64,
}

impl<'a> Object<'a> {
    fn of(journal: &'a Journal) -> Self {
        let (state, contents, counts, error) = match &journal.fate {
            Fate::InUse => ("in_use", None, None, None),
            Fate::Unreadable(problem) => ("failed", None, None, Some(problem.clone())),
            Fate::Found(contents) => ("found", Some(contents), None, None),
            Fate::Refused(contents, problem) => ("failed", Some(contents), None, Some(problem.clone())),
            Fate::Recovered(contents, counts) => ("recovered", Some(contents), Some(counts), None),
            Fate::Kept(contents, counts, reasons) => ("kept", Some(contents), Some(counts), Some(reasons.join("; "))),
        };
        Self {
            journal: journal.path.display().to_string(),
            state,
            contents: contents.map(ContentsObject::of),
            counts: counts.map(CountsObject::of),
            error,
        }
    }
}

impl<'a> ContentsObject<'a> {
    fn of(contents: &'a Contents) -> Self {
        let Contents { agent, process, created, exporters, events, damage } = contents;
        let created_unix = created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { agent, pid: *process, created_unix, events: *events, exporters, damage }
    }
}

impl<'a> CountsObject<'a> {
    fn of(counts: &'a Counts) -> Self {
        Self { dropped: counts.queue_full, exported: counts.exporters.iter().map(ExporterObject::of).collect() }
    }
}

impl<'a> ExporterObject<'a> {
    fn of(counts: &'a ExporterCounts) -> Self {
        Self {
            exporter: &counts.name,
            exported: counts.exported,
            exported_before: counts.exported_before,
            aggregated: counts.aggregated,
            unsupported: counts.unsupported,
            failed: counts.failed,
            pending: counts.pending,
        }
    }
}
