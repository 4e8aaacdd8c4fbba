// SPDX-License-Identifier: Apache-2.0

//! What the demo says in the end, and whether it adds up.

use std::path::{Path, PathBuf};

use nixl_telemetry_event::{Kind, Unit};
use nixl_telemetry_host::{Counts, ExporterCounts};
use nixl_telemetry_nixl::find;
use nixl_telemetry_traffic::workload::{Distribution, Report, Tally};

use crate::common::human;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Sheet, Stream, Style, paint};
use crate::demo::csv::{Files, Rows};
use crate::demo::session::AGENTS;

/// What is known about the way of the events.
#[derive(Debug)]
pub(crate) enum Exported {
    /// What became of every event of the two agents.
    Counted([Counts; 2]),
    /// Nothing but what the file holds: it happened inside the NIXL in this folder.
    InNixl(PathBuf),
}

/// All there is to say.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) exporter: &'a str,
    pub(crate) report: &'a Report,
    pub(crate) exported: &'a Exported,
    pub(crate) files: Option<&'a Files>,
    /// Whether somebody ended it before its time.
    pub(crate) interrupted: bool,
}

impl Summary<'_> {
    /// Prints it. False if something went wrong that is not a counted drop.
    pub(crate) fn print(&self, hint: Option<&Path>) -> anyhow::Result<bool> {
        let mut sheet = Sheet::new();
        let rows = self.files.filter(|files| files.uncountable().is_none()).map(Files::rows);
        let rows = rows.transpose();
        let counted = rows.as_ref().ok().and_then(Option::as_ref);
        sheet.heading(&self.title());
        sheet.text("");
        sheet.text(self.events(counted));
        sheet.text("");
        self.traffic(&mut sheet);
        let mut complete = self.report.corrupt == 0;
        match self.exported {
            Exported::Counted(counts) => complete &= self.fates(&mut sheet, counts),
            Exported::InNixl(_) => complete &= self.fates_in_nixl(&mut sheet, counted),
        }
        match &rows {
            Ok(rows) => complete &= self.output(&mut sheet, rows.as_ref()),
            Err(error) => {
                sheet.line("output", paint(Stream::Out, Style::Bad, &format!("{error:#}")));
                complete = false;
            }
        }
        if let Some(folder) = hint {
            sheet.text("");
            sheet.text(format_args!(
                "the same through NIXL itself: nixl-telemetry demo --agent nixl --nixl {}",
                folder.display()
            ));
        }
        sheet.print()?;
        Ok(complete)
    }

    fn title(&self) -> String {
        let whose = match self.exported {
            Exported::Counted(_) => "embedded agents".to_owned(),
            Exported::InNixl(folder) => {
                let version = find(Some(folder)).ok().and_then(|nixl| nixl.version());
                format!("agents of {}", version.unwrap_or_else(|| format!("the NIXL in {}", folder.display())))
            }
        };
        let stopped = if self.interrupted { ", stopped early" } else { "" };
        format!("{whose}, exporter {}, {:.2} s{stopped}", self.exporter, self.report.wall.as_secs_f64())
    }

    /// A row a kind: what happened, and what of it is in the file.
    fn events(&self, rows: Option<&Rows>) -> String {
        let in_file = rows.and_then(|rows| rows.events.as_ref());
        let mut table = Table::new([
            ("event", Side::Left),
            ("count", Side::Right),
            ("sum", Side::Right),
            ("unit", Side::Left),
            (if in_file.is_some() { "in the file" } else { "" }, Side::Right),
        ]);
        for (kind, Tally { count, sum }) in self.tallies() {
            let found = in_file.map(|events| events.get(&kind.to_string()).copied().unwrap_or_default());
            if count == 0 && found.is_none_or(|(count, _)| count == 0) {
                continue;
            }
            let found = found.map_or_else(String::new, |(rows, total)| {
                let same = (rows, Some(total)) == (count, sum);
                human::count(rows) + if same { ", same sum" } else { "" }
            });
            let sum = sum.map_or_else(|| "?".to_owned(), human::count);
            table.row([kind.to_string(), human::count(count), sum, unit(kind).to_owned(), found]);
        }
        table.render()
    }

    /// What both agents' telemetry has to show, together.
    fn tallies(&self) -> Vec<(Kind, Tally)> {
        let both = self.report.initiator().iter().zip(self.report.target().iter());
        both.map(|((kind, one), (_, other))| {
            (
                kind,
                Tally { count: one.count + other.count, sum: one.sum.zip(other.sum).map(|(one, other)| one + other) },
            )
        })
        .collect()
    }

    fn traffic(&self, sheet: &mut Sheet) {
        let report = self.report;
        let wall = report.wall;
        for (label, flow) in [("written", report.written), ("read", report.read), ("of files", report.file)] {
            let (requests, bytes) = (human::count(flow.requests), human::bytes(flow.bytes as f64));
            sheet.line(label, format!("{bytes} in {requests} transfers, {}", human::rate(flow.bytes, wall)));
        }
        let all = report.written.bytes + report.read.bytes;
        let words = "both ways, by wall clock, making and checking contents included";
        sheet.line("throughput", format!("{}, {:.0} transfers/s ({words})", human::rate(all, wall), report.rate()));
        sheet.line("post time", spread(&report.post_us));
        sheet.line("transfer time", spread(&report.xfer_us));
        let contents =
            format!("{} arrived intact, {} did not", human::count(report.verified), human::count(report.corrupt));
        sheet.line("contents", good(report.corrupt == 0, &contents));
    }

    /// Whether every event that is not exported is a drop, and no exporter is to blame for one.
    fn fates(&self, sheet: &mut Sheet, counts: &[Counts; 2]) -> bool {
        let produced: u64 = counts.iter().map(|counts| counts.produced).sum();
        let mut fine = counts.iter().all(Counts::is_balanced);
        for (index, name) in counts[0].exporters.iter().map(|exporter| exporter.name.clone()).enumerate() {
            let sum = |of: fn(&ExporterCounts) -> u64| -> u64 {
                counts.iter().filter_map(|counts| counts.exporters.get(index)).map(of).sum()
            };
            let (exported, totals) = (sum(|exporter| exporter.exported), sum(|exporter| exporter.aggregated));
            let reports = sum(|exporter| exporter.reports);
            let added = match reports {
                0 => String::new(),
                reports => format!(" + {} about drops", human::count(reports)),
            };
            let lost = (produced + reports).saturating_sub(exported + totals);
            let summed = if totals == 0 { String::new() } else { format!(" + {} as totals", human::count(totals)) };
            let words = format!(
                "{}{added} = {} exported{summed} + {} dropped",
                human::count(produced),
                human::count(exported),
                human::count(lost)
            );
            sheet.line(if counts[0].exporters.len() > 1 { &name } else { "events" }, good(lost == 0, &words));
        }
        for (agent, counts) in AGENTS.iter().zip(counts) {
            for (place, reason, events) in counts.drops() {
                sheet.line(
                    "  dropped",
                    paint(Stream::Out, Style::Odd, &format!("{agent}, {place}: {reason} {}", human::count(events))),
                );
            }
            for exporter in &counts.exporters {
                let blame = exporter.failed + exporter.unavailable + exporter.shutdown_timeout;
                fine &= blame == 0 && exporter.problem.is_none();
                if let Some(problem) = &exporter.problem {
                    sheet.line(
                        "  problem",
                        paint(Stream::Out, Style::Bad, &format!("{agent}, {}: {problem}", exporter.name)),
                    );
                }
            }
        }
        fine
    }

    /// Whether every event is in the file or is a drop that the file tells of.
    fn fates_in_nixl(&self, sheet: &mut Sheet, rows: Option<&Rows>) -> bool {
        let happened: u64 = self.tallies().iter().map(|(_, tally)| tally.count).sum();
        let Some(events) = rows.and_then(|rows| rows.events.as_ref()) else {
            sheet.line("events", format!("{}; what became of them is not known here", human::count(happened)));
            return true;
        };
        let (_, dropped) = events.get(&Kind::TELEMETRY_EVENTS_DROPPED.to_string()).copied().unwrap_or_default();
        let kinds =
            self.tallies().into_iter().map(|(kind, _)| kind).filter(|kind| *kind != Kind::TELEMETRY_EVENTS_DROPPED);
        let exported: u64 = kinds.filter_map(|kind| Some(events.get(&kind.to_string())?.0)).sum();
        let missing = happened.saturating_sub(exported + dropped);
        let mut words = format!(
            "{} = {} exported + {} dropped",
            human::count(happened),
            human::count(exported),
            human::count(dropped)
        );
        if missing > 0 {
            words.push_str(&format!(" + {} missing", human::count(missing)));
        }
        sheet.line("events", good(exported == happened, &words));
        exported > 0 && missing == 0
    }

    /// Whether the file has what was exported.
    fn output(&self, sheet: &mut Sheet, rows: Option<&Rows>) -> bool {
        let Some(files) = self.files else { return true };
        let names = files.names();
        let Some(rows) = rows else {
            let reason = files.uncountable().unwrap_or_default();
            sheet.line("output", format!("{names} (not counted: {reason})"));
            return true;
        };
        let count = human::count(rows.count);
        let exported = match self.exported {
            Exported::InNixl(_) => None,
            Exported::Counted(counts) => {
                Some(counts.iter().filter_map(|counts| counts.exporter("csv")).map(|csv| csv.exported).sum::<u64>())
            }
        };
        match exported {
            None => sheet.line("output", format!("{names}: {count} rows")),
            Some(exported) if exported == rows.count => {
                sheet.line("output", format!("{names}: {count} rows, as many as were exported"));
            }
            Some(exported) => {
                let words = format!("{names}: {count} rows, but {} events were exported", human::count(exported));
                sheet.line("output", paint(Stream::Out, Style::Bad, &words));
                return false;
            }
        }
        true
    }
}

fn good(is: bool, text: &str) -> String {
    paint(Stream::Out, if is { Style::Good } else { Style::Odd }, text)
}

fn unit(kind: Kind) -> &'static str {
    kind.unit().map_or("", Unit::as_str)
}

fn spread(values: &Distribution) -> String {
    match (values.percentile(50.0), values.percentile(99.0)) {
        (Some(p50), Some(p99)) => format!("p50 {} us, p99 {} us", human::count(p50), human::count(p99)),
        _ => "not measured".to_owned(),
    }
}
