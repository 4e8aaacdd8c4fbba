// SPDX-License-Identifier: Apache-2.0

//! Everything a screen shows, as of one moment.

use std::path::PathBuf;
use std::time::SystemTime;

use nixl_telemetry_event::fnmatch;

use crate::top::counts::Counts;
use crate::top::model::{Rates, Row};
use crate::top::ui::Ui;

/// The agents at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) time: SystemTime,
    pub(crate) rows: Vec<Row>,
    /// What cannot be read, and why, in one line each.
    pub(crate) problems: Vec<String>,
    /// The paths that are watched, in one line.
    pub(crate) watched: String,
    /// Files in the directories that are no rings.
    pub(crate) foreign: usize,
}

/// All agents together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// How many of them are there still.
    pub(crate) agents: usize,
    pub(crate) rates: Rates,
    pub(crate) counts: Counts,
}

impl Snapshot {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals { agents: self.rows.iter().filter(|row| row.is_there()).count(), ..Totals::default() };
        for row in &self.rows {
            totals.rates.transfers += row.rates.transfers;
            totals.rates.received += row.rates.received;
            totals.rates.sent += row.rates.sent;
            totals.counts.add_all(&row.counts);
        }
        totals
    }

    /// The agents that are shown, in the order in which they are; equal ones by name.
    pub(crate) fn shown(&self, ui: &Ui) -> Vec<&Row> {
        let mut shown: Vec<&Row> = self.rows.iter().filter(|row| fits(&ui.filter, &row.agent)).collect();
        let is_backward = ui.sort.is_descending() != ui.is_reversed;
        shown.sort_by(|a, b| {
            let order = ui.sort.compare(a, b);
            let order = if is_backward { order.reverse() } else { order };
            order.then_with(|| a.agent.cmp(&b.agent)).then_with(|| a.path.cmp(&b.path))
        });
        shown
    }

    /// The paths of those.
    pub(crate) fn order(&self, ui: &Ui) -> Vec<PathBuf> {
        self.shown(ui).into_iter().map(|row| row.path.clone()).collect()
    }
}

/// A filter with a sign of a pattern in it is a pattern, any other a part of the name.
fn fits(filter: &str, agent: &str) -> bool {
    if filter.contains(['*', '?', '[']) { fnmatch(filter, agent) } else { agent.contains(filter) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::columns::Column;
    use crate::top::scene;

    #[test]
    fn totals_are_sums() {
        let snapshot = scene::snapshot();
        let totals = snapshot.totals();
        assert_eq!(totals.agents, snapshot.rows.len());
        assert_eq!(totals.rates.sent, snapshot.rows.iter().map(|row| row.rates.sent).sum::<f64>());
        assert_eq!(totals.counts.transfers(), snapshot.rows.iter().map(|row| row.counts.transfers()).sum::<u64>());
        assert!(totals.rates.transfers > 0.0 && totals.counts.errors.total() > 0);
    }

    #[test]
    fn agents_are_filtered_and_sorted() {
        let snapshot = scene::snapshot();
        let names = |ui: &Ui| snapshot.shown(ui).into_iter().map(|row| row.agent.as_str()).collect::<Vec<_>>();
        let mut ui = Ui { sort: Column::Agent, ..Ui::new(std::time::Duration::from_secs(1)) };
        assert_eq!(names(&ui), ["decode-0", "decode-1", "kv-store", "prefill-0"]);
        ui.is_reversed = true;
        assert_eq!(names(&ui), ["prefill-0", "kv-store", "decode-1", "decode-0"]);
        for (filter, expected) in [
            ("code", &["decode-1", "decode-0"][..]),
            ("*-0", &["prefill-0", "decode-0"]),
            ("code*", &[]),
            ("[dk]*", &["kv-store", "decode-1", "decode-0"]),
        ] {
            ui.filter = filter.to_owned();
            assert_eq!(names(&ui), expected, "{filter}");
        }
        ui.filter = String::new();
        ui.is_reversed = false;
        for column in Column::ALL.into_iter().skip(1) {
            ui.sort = column;
            let shown = snapshot.shown(&ui);
            assert!(shown.is_sorted_by(|a, b| column.compare(a, b).is_ge()), "{column:?}");
        }
        assert_eq!(names(&Ui { sort: Column::Errors, ..ui })[..2], ["decode-1", "decode-0"]);
    }
}
