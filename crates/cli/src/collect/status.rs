// SPDX-License-Identifier: Apache-2.0

//! What `collect` has to say about itself: what its socket answers, what `--json` prints, and the table for people.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::common::human;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Stream, Style, paint};

/// Where it is, and what became of all events.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Whether there is no problem.
    pub(crate) healthy: bool,
    /// What is not as it should be, now.
    pub(crate) problems: Vec<String>,
    /// `running`, `stopping` or `ended`.
    pub(crate) state: State,
    pub(crate) pid: u32,
    pub(crate) started_unix: u64,
    /// Whether events are taken out of the rings.
    pub(crate) consume: bool,
    /// By the paths of their rings.
    pub(crate) agents: Vec<Agent>,
    /// Of agents that have been gone for long, no more than how many they were, and what they sum up to.
    pub(crate) forgotten: u64,
    pub(crate) forgotten_sum: Option<Agent>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Stopping,
    Ended,
}

/// The events of one ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) agent: String,
    /// The path of its ring.
    pub(crate) ring: String,
    /// Whether the ring is there.
    pub(crate) present: bool,
    /// Events read that exporters are to have.
    pub(crate) read: u64,
    /// Events read that `--event` leaves out.
    pub(crate) left_out: u64,
    /// Events overwritten before they were read.
    pub(crate) lost: u64,
    /// Whether there may have been more.
    pub(crate) lost_or_more: bool,
    /// How often the ring was begun anew or replaced.
    pub(crate) restarts: u64,
    pub(crate) exporters: Vec<Exporter>,
}

/// What became of one agent's events at one exporter: at every moment
/// `read = exported + failed + unsupported + pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exporter {
    pub(crate) exporter: String,
    pub(crate) exported: u64,
    pub(crate) failed: u64,
    /// Of a sort it cannot take.
    pub(crate) unsupported: u64,
    /// Read, and not through with it.
    pub(crate) pending: u64,
    /// Batches it was handed.
    pub(crate) batches: u64,
    /// When it last took a whole batch.
    pub(crate) last_success_unix_ms: Option<u64>,
    /// What is wrong with it, now.
    pub(crate) problem: Option<String>,
}

impl Agent {
    /// Adds another one's numbers.
    pub(crate) fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.left_out += other.left_out;
        self.lost += other.lost;
        self.lost_or_more |= other.lost_or_more;
        self.restarts += other.restarts;
        self.exporters.resize_with(other.exporters.len(), Exporter::default);
        for (sum, exporter) in self.exporters.iter_mut().zip(&other.exporters) {
            sum.exporter.clone_from(&exporter.exporter);
            sum.exported += exporter.exported;
            sum.failed += exporter.failed;
            sum.unsupported += exporter.unsupported;
            sum.pending += exporter.pending;
            sum.batches += exporter.batches;
            sum.last_success_unix_ms = sum.last_success_unix_ms.max(exporter.last_success_unix_ms);
        }
    }
}

impl Status {
    /// All rows, those of forgotten agents last.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().chain(&self.forgotten_sum)
    }

    /// Events that an exporter has failed at.
    pub(crate) fn failed(&self) -> u64 {
        self.rows().flat_map(|agent| &agent.exporters).map(|exporter| exporter.failed).sum()
    }

    /// As one line of JSON, without a line feed.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }

    /// A line about all, the problems, and the table.
    pub(crate) fn text(&self, stream: Stream) -> String {
        let health =
            if self.healthy { paint(stream, Style::Good, "healthy") } else { paint(stream, Style::Bad, "not healthy") };
        let state = match self.state {
            State::Running => "running",
            State::Stopping => "stopping",
            State::Ended => "ended",
        };
        let since = human::moment(SystemTime::UNIX_EPOCH + Duration::from_secs(self.started_unix));
        let mut lines = vec![format!("{health}: {state}, process {}, since {since}", self.pid)];
        lines.extend(self.problems.iter().map(|problem| format!("  {}", human::line(problem))));
        let (read, lost) = self.rows().fold((0, 0), |(read, lost), agent| (read + agent.read, lost + agent.lost));
        let or_more = self.rows().any(|agent| agent.lost_or_more);
        lines.push(format!(
            "{} agents, {} events read, {} lost",
            human::count(self.agents.len() as u64 + self.forgotten),
            human::count(read),
            lost_text(lost, or_more)
        ));
        if self.rows().next().is_some() {
            lines.push(self.table(stream));
        }
        lines.join("\n") + "\n"
    }

    fn table(&self, stream: Stream) -> String {
        let number = |title| (title, Side::Right);
        let mut table = Table::new([
            ("agent", Side::Left),
            ("exporter", Side::Left),
            number("read"),
            number("lost"),
            number("exported"),
            number("failed"),
            number("unsupported"),
            number("pending"),
            number("batches"),
            ("last success", Side::Left),
        ]);
        for agent in self.rows() {
            let name = match (agent.present, agent.ring.is_empty()) {
                (_, true) => format!("{} forgotten", human::count(self.forgotten)),
                (true, false) => agent.agent.clone(),
                (false, false) => format!("{} (gone)", agent.agent),
            };
            for exporter in &agent.exporters {
                let time = exporter.last_success_unix_ms;
                table.row([
                    human::line(&name),
                    exporter.exporter.clone(),
                    human::count(agent.read),
                    lost_text(agent.lost, agent.lost_or_more),
                    human::count(exporter.exported),
                    human::count(exporter.failed),
                    human::count(exporter.unsupported),
                    human::count(exporter.pending),
                    human::count(exporter.batches),
                    time.map_or_else(
                        || "never".to_owned(),
                        |ms| human::moment(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
                    ),
                ]);
            }
        }
        table.render_for(stream)
    }
}

/// A number, with a plus where it is the least there can be.
fn lost_text(events: u64, or_more: bool) -> String {
    format!("{}{}", human::count(events), if or_more { "+" } else { "" })
}
