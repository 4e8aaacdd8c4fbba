// SPDX-License-Identifier: Apache-2.0

//! The rows of a row group, collected by column.
//!
//! The texts of an event depend on what was read alone, of which there are few: its *subject*. A row keeps the number of its
//! subject; texts are looked at once a subject.

use std::borrow::Cow;
use std::collections::HashMap;

use nixl_telemetry_sdk::{Category, Event, Name};

/// Rows that become a row group.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<i64>,
    pub(crate) sequences: Vec<i64>,
    /// Indices into the subjects.
    pub(crate) subjects: Vec<u32>,
    /// An event of each subject.
    known: Vec<Event<'a>>,
    /// The subjects of kinds, by number.
    kinds: [Option<u32>; KINDS],
    /// All others.
    others: HashMap<(Option<Category>, Name<'a>), u32>,
}

/// More than there are kinds.
const KINDS: usize = 32;

impl<'a> Rows<'a> {
    pub(crate) fn push(&mut self, number: u64, event: &Event<'a>) {
        self.timestamps.push(event.timestamp_us().unwrap_or(0).cast_signed());
        self.values.push(event.value().cast_signed());
        self.sequences.push(number.cast_signed());
        let known = event.kind().and_then(|kind| self.kinds.get(kind.code() as usize).copied().flatten());
        let subject = known.unwrap_or_else(|| self.learn(event));
        self.subjects.push(subject);
    }

    pub(crate) fn len(&self) -> usize {
        self.subjects.len()
    }

    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.sequences.clear();
        self.subjects.clear();
        self.known.clear();
        self.kinds = [None; KINDS];
        self.others.clear();
    }

    /// The names of the subjects.
    pub(crate) fn names(&self) -> Vec<Option<Cow<'a, str>>> {
        let name = |event: &Event<'a>| match event.name() {
            Name::Text(text) => Cow::Borrowed(text),
            unknown @ Name::Unknown(_) => Cow::Owned(unknown.to_string()),
        };
        self.known.iter().map(|event| Some(name(event))).collect()
    }

    /// Their categories, of those that have one.
    pub(crate) fn categories(&self) -> Vec<Option<Cow<'a, str>>> {
        self.known.iter().map(|event| event.category().map(|category| category.short_name().into())).collect()
    }

    /// The units of their values, of those of which it is known.
    pub(crate) fn units(&self) -> Vec<Option<Cow<'a, str>>> {
        self.known.iter().map(|event| event.unit().map(|unit| unit.to_string().into())).collect()
    }

    /// The same text for each of them.
    pub(crate) fn all(&self, text: &'a str) -> Vec<Option<Cow<'a, str>>> {
        vec![Some(text.into()); self.known.len()]
    }

    #[cold]
    fn learn(&mut self, event: &Event<'a>) -> u32 {
        let next = u32::try_from(self.known.len()).expect("a row group has fewer than 2^32 rows");
        let subject = *self.others.entry((event.category(), event.name())).or_insert(next);
        if subject == next {
            self.known.push(*event);
        }
        if let Some(place) = event.kind().and_then(|kind| self.kinds.get_mut(kind.code() as usize)) {
            *place = Some(subject);
        }
        subject
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::Kind;

    use super::*;

    #[test]
    fn a_subject_is_what_was_read() {
        let mut rows = Rows::default();
        let events = [
            Event::new(Kind::TX_BYTES, 1),
            Event::backend("agent_tx_bytes", 2),
            Event::new(Kind::from_code(77), 3),
            Event::named(Category::CUSTOM, "agent_tx_bytes2", 4),
            Event::named(Category::BACKEND, "agent_tx_bytes2", 5),
        ];
        for (number, event) in (10..).zip(events.iter().chain(&events)) {
            rows.push(number, event);
        }
        assert_eq!(rows.subjects, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        let texts = |texts: Vec<Option<Cow<'_, str>>>| {
            texts.iter().map(|text| text.as_deref().unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(rows.names()),
            ["agent_tx_bytes", "agent_tx_bytes", "unknown_event_77", "agent_tx_bytes2", "agent_tx_bytes2"]
        );
        assert_eq!(texts(rows.categories()), ["TRANSFER", "BACKEND", "-", "CUSTOM", "BACKEND"]);
        assert_eq!(texts(rows.units()), ["bytes", "-", "-", "-", "-"]);
        rows.clear();
        rows.push(0, &events[4]);
        assert_eq!((rows.subjects.as_slice(), texts(rows.categories())), (&[0][..], vec!["BACKEND".to_owned()]));
    }
}
