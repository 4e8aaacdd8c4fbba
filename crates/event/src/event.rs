// SPDX-License-Identifier: Apache-2.0

use core::fmt;

use crate::{Category, Kind, Unit};

/// One reading: what was read, its value, and when, where the producer said so.
///
/// What was read is either a [`Kind`] or, for events of a backend (or of a future release that names its events), a
/// [`Category`] and a name borrowed from wherever the event lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    subject: Subject<'a>,
    value: u64,
    timestamp_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject<'a> {
    Kind(Kind),
    Named { category: Category, name: &'a str },
}

/// The name of an event: the text of a known kind or a backend event, or the number of an unknown kind.
///
/// [`Display`](fmt::Display) prints it, an unknown number as `unknown_event_<n>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name<'a> {
    /// A name that exists as text.
    Text(&'a str),
    /// The number of a kind this crate does not know.
    Unknown(u32),
}

impl<'a> Event<'a> {
    /// An event of this kind without a timestamp.
    pub const fn new(kind: Kind, value: u64) -> Self {
        Self { subject: Subject::Kind(kind), value, timestamp_us: None }
    }

    /// A backend's event under a name of its own, in category [`Category::BACKEND`].
    pub fn backend(name: &'a str, value: u64) -> Self {
        Self::named(Category::BACKEND, name, value)
    }

    /// An event under a name, in any category. A name of a [`Kind`] or of an error status becomes that kind, so that
    /// one name means one thing whoever sent it.
    pub fn named(category: Category, name: &'a str, value: u64) -> Self {
        let known = || Kind::from_name(name).or_else(|| crate::Status::error_from_name(name)?.kind());
        // A backend may not pass its event off as one of the agent's.
        let subject = match if category == Category::BACKEND { None } else { known() } {
            Some(kind) => Subject::Kind(kind),
            None => Subject::Named { category, name },
        };
        Self { subject, value, timestamp_us: None }
    }

    /// The same event with the time it was recorded, in microseconds since the Unix epoch.
    pub const fn at(mut self, timestamp_us: u64) -> Self {
        self.timestamp_us = Some(timestamp_us);
        self
    }

    /// The kind, or `None` for an event that has only a name.
    pub const fn kind(&self) -> Option<Kind> {
        match self.subject {
            Subject::Kind(kind) => Some(kind),
            Subject::Named { .. } => None,
        }
    }

    /// The name to show, to filter by and to store.
    pub const fn name(&self) -> Name<'a> {
        match self.subject {
            Subject::Kind(kind) => match kind.name() {
                Some(name) => Name::Text(name),
                None => Name::Unknown(kind.code()),
            },
            Subject::Named { name, .. } => Name::Text(name),
        }
    }

    /// The category: the one transmitted for a named event, the one of the table for a kind.
    pub const fn category(&self) -> Option<Category> {
        match self.subject {
            Subject::Kind(kind) => kind.category(),
            Subject::Named { category, .. } => Some(category),
        }
    }

    /// The unit of the value, where it is known.
    pub const fn unit(&self) -> Option<Unit> {
        match self.subject {
            Subject::Kind(kind) => kind.unit(),
            Subject::Named { .. } => None,
        }
    }

    /// The value, in [`Event::unit`].
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// When the event was recorded, in microseconds since the Unix epoch; `None` where the producer does not say.
    ///
    /// NIXL itself stamps events only up to release 1.0.1.
    pub const fn timestamp_us(&self) -> Option<u64> {
        self.timestamp_us
    }
}

impl<'a> Name<'a> {
    /// The text, or `None` for an unknown kind.
    pub const fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Unknown(code) => Kind::from_code(*code).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_and_statuses_become_kinds() {
        let table = [
            (Category::TRANSFER, "agent_tx_bytes", Some(Kind::TX_BYTES)),
            (Category::ERROR, "NIXL_ERR_NOT_FOUND", Some(Kind::ERR_NOT_FOUND)),
            (Category::ERROR, "agent_err_not_found", Some(Kind::ERR_NOT_FOUND)),
            (Category::ERROR, "NIXL_ERR_NEW", None),
            (Category::BACKEND, "agent_tx_bytes", None),
            (Category::CUSTOM, "mine", None),
        ];
        for (category, name, kind) in table {
            let event = Event::named(category, name, 7);
            assert_eq!(event.kind(), kind, "{name}");
            if kind.is_none() {
                assert_eq!((event.category(), event.name()), (Some(category), Name::Text(name)));
                assert_eq!(event.unit(), None);
            }
        }
    }

    #[test]
    fn an_event_tells_what_it_is() {
        let event = Event::new(Kind::XFER_TIME, 12).at(1_700_000_000_000_000);
        assert_eq!(event.name().to_string(), "agent_xfer_time");
        assert_eq!(event.category(), Some(Category::PERFORMANCE));
        assert_eq!(event.unit(), Some(Unit::Microseconds));
        assert_eq!((event.value(), event.timestamp_us()), (12, Some(1_700_000_000_000_000)));

        let unknown = Event::new(Kind::from_code(77), u64::MAX);
        assert_eq!(unknown.name().to_string(), "unknown_event_77");
        assert_eq!((unknown.name().as_str(), unknown.category(), unknown.value()), (None, None, u64::MAX));
    }
}
