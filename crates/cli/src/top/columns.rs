// SPDX-License-Identifier: Apache-2.0

//! The columns of the table: what is in them, how they sort, and which of them find room.

use std::cmp::Ordering;

use crate::common::human;
use crate::top::figures;
use crate::top::model::{Row, State};
use crate::top::window::Percentiles;

/// A column, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Agent,
    Transfers,
    Received,
    Sent,
    Transfer50,
    Transfer90,
    Transfer99,
    Post50,
    Post90,
    Post99,
    Errors,
    Dropped,
    Lost,
    Ring,
}

impl Column {
    pub(crate) const ALL: [Self; 14] = [
        Self::Agent,
        Self::Transfers,
        Self::Received,
        Self::Sent,
        Self::Transfer50,
        Self::Transfer90,
        Self::Transfer99,
        Self::Post50,
        Self::Post90,
        Self::Post99,
        Self::Errors,
        Self::Dropped,
        Self::Lost,
        Self::Ring,
    ];

    /// In the order in which they get room.
    const BY_IMPORTANCE: [Self; 14] = [
        Self::Agent,
        Self::Transfers,
        Self::Received,
        Self::Sent,
        Self::Errors,
        Self::Transfer50,
        Self::Transfer99,
        Self::Ring,
        Self::Lost,
        Self::Dropped,
        Self::Transfer90,
        Self::Post50,
        Self::Post99,
        Self::Post90,
    ];

    /// What is above it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Agent => "AGENT",
            Self::Transfers => "XFER/s",
            Self::Received => "RX/s",
            Self::Sent => "TX/s",
            Self::Transfer50 | Self::Post50 => "p50",
            Self::Transfer90 | Self::Post90 => "p90",
            Self::Transfer99 | Self::Post99 => "p99",
            Self::Errors => "ERRORS",
            Self::Dropped => "DROPPED",
            Self::Lost => "LOST",
            Self::Ring => "RING",
        }
    }

    /// What is above that.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Transfer50 | Self::Transfer90 | Self::Transfer99 => "transfer time",
            Self::Post50 | Self::Post90 | Self::Post99 => "post time",
            _ => "",
        }
    }

    /// What it is called where nothing is above it.
    pub(crate) fn name(self) -> String {
        let group = self.group();
        if group.is_empty() { self.title().to_owned() } else { format!("{group} {}", self.title()) }
    }

    /// Characters that its cells and its title take at most; an agent's name takes what it can get, and this at least.
    pub(crate) fn width(self) -> u16 {
        match self {
            Self::Agent => 12,
            Self::Received | Self::Sent => 8,
            Self::Dropped => 7,
            Self::Ring => 4,
            _ => 6,
        }
    }

    /// The columns that this many characters have room for, each but the first with a space before it.
    pub(crate) fn that_fit(width: u16) -> Vec<Self> {
        let mut left = width + 1;
        let mut fit = Vec::new();
        for column in Self::BY_IMPORTANCE {
            match left.checked_sub(column.width() + 1) {
                Some(rest) => left = rest,
                None => break,
            }
            fit.push(column);
        }
        Self::ALL.into_iter().filter(|column| fit.contains(column)).collect()
    }

    /// What an agent has in it.
    pub(crate) fn cell(self, row: &Row) -> String {
        match self {
            Self::Agent => human::line(&row.agent),
            Self::Transfers => figures::short(row.rates.transfers),
            Self::Received => human::bytes(row.rates.received),
            Self::Sent => human::bytes(row.rates.sent),
            Self::Errors => figures::short(row.counts.errors.total() as f64),
            Self::Dropped => figures::short(row.counts.dropped as f64),
            Self::Lost => figures::lost(row.counts.lost),
            Self::Ring => match (row.state, row.ring) {
                (State::Full, _) => "FULL".to_owned(),
                (State::Gone(_), _) => "gone".to_owned(),
                (_, Some(ring)) => format!("{:.0}%", ring.fill() * 100.0),
                (_, None) => String::new(),
            },
            _ => self.time(row).map_or_else(|| "-".to_owned(), figures::time),
        }
    }

    /// Which of two agents is first if this column sorts them, the smaller before the larger.
    pub(crate) fn compare(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Self::Agent => a.agent.cmp(&b.agent),
            Self::Transfers => a.rates.transfers.total_cmp(&b.rates.transfers),
            Self::Received => a.rates.received.total_cmp(&b.rates.received),
            Self::Sent => a.rates.sent.total_cmp(&b.rates.sent),
            Self::Errors => a.counts.errors.total().cmp(&b.counts.errors.total()),
            Self::Dropped => a.counts.dropped.cmp(&b.counts.dropped),
            Self::Lost => a.counts.lost.events.cmp(&b.counts.lost.events),
            Self::Ring => {
                let fill = |row: &Row| row.ring.map_or(0.0, |ring| ring.fill());
                fill(a).total_cmp(&fill(b))
            }
            _ => self.time(a).cmp(&self.time(b)),
        }
    }

    /// Whether the largest is what one looks for.
    pub(crate) fn is_descending(self) -> bool {
        self != Self::Agent
    }

    /// Of the columns of times, the time.
    fn time(self, row: &Row) -> Option<u64> {
        let transfer = |part: fn(&Percentiles) -> u64| row.transfer.as_ref().map(part);
        let post = |part: fn(&Percentiles) -> u64| row.post.as_ref().map(part);
        match self {
            Self::Transfer50 => transfer(|times| times.p50),
            Self::Transfer90 => transfer(|times| times.p90),
            Self::Transfer99 => transfer(|times| times.p99),
            Self::Post50 => post(|times| times.p50),
            Self::Post90 => post(|times| times.p90),
            Self::Post99 => post(|times| times.p99),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_important_columns_get_room_first() {
        let titles = |width| Column::that_fit(width).into_iter().map(Column::name).collect::<Vec<_>>().join(", ");
        assert_eq!(titles(11), "");
        assert_eq!(titles(12), "AGENT");
        assert_eq!(titles(37), "AGENT, XFER/s, RX/s, TX/s");
        assert_eq!(titles(57), "AGENT, XFER/s, RX/s, TX/s, transfer time p50, ERRORS");
        let all: u16 = Column::ALL.into_iter().map(|column| column.width() + 1).sum();
        assert_eq!(all - 1, 106);
        assert_eq!(Column::that_fit(106), Column::ALL);
        assert_eq!(Column::that_fit(105).len(), 13);
        assert_eq!(Column::that_fit(u16::MAX - 1), Column::ALL);
        for column in Column::ALL {
            assert!(column.title().len() <= usize::from(column.width()), "{column:?}");
        }
    }
}
