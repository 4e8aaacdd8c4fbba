// SPDX-License-Identifier: Apache-2.0

//! Kinds of events, and the numbers they have in the database.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use nixl_telemetry_sdk::{Category, Event, Name, Unit};
use postgres_protocol::escape::escape_literal;

/// A name is cut to that many bytes: an index has no room for long ones.
const LONGEST: usize = 1024;

/// The numbers of kinds that are known.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    by_code: HashMap<u32, i32>,
    by_name: HashMap<Category, HashMap<String, i32>>,
}

/// A kind as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Described {
    event: String,
    category: Option<&'static str>,
    unit: Option<&'static str>,
}

impl Kinds {
    /// The number of an event's kind, if it is known.
    #[inline]
    pub(crate) fn get(&self, event: &Event<'_>) -> Option<i32> {
        match (event.kind(), event.name()) {
            (Some(kind), _) => self.by_code.get(&kind.code()).copied(),
            (None, Name::Text(name)) => self.by_name.get(&event.category()?)?.get(name).copied(),
            (None, Name::Unknown(_)) => None,
        }
    }

    /// The kinds of these events that are not known.
    pub(crate) fn unknown<'a>(&self, events: impl Iterator<Item = Event<'a>>) -> Vec<Described> {
        let kinds: BTreeSet<_> =
            events.filter(|event| self.get(event).is_none()).map(|event| Described::of(&event)).collect();
        kinds.into_iter().collect()
    }

    /// Learns the numbers of these events' kinds from rows of `id, event, category`. What is not among them stays unknown.
    pub(crate) fn learn<'a>(&mut self, events: impl Iterator<Item = Event<'a>>, rows: &[Vec<Option<String>>]) {
        let ids: HashMap<_, i32> = rows
            .iter()
            .filter_map(|row| match &row[..] {
                [Some(id), Some(event), category] => Some(((event.as_str(), category.as_deref()), id.parse().ok()?)),
                _ => None,
            })
            .collect();
        for event in events {
            if self.get(&event).is_some() {
                continue;
            }
            let described = Described::of(&event);
            let Some(&id) = ids.get(&(described.event.as_str(), described.category)) else { continue };
            match (event.kind(), event.category(), event.name()) {
                (Some(kind), _, _) => drop(self.by_code.insert(kind.code(), id)),
                (None, Some(category), Name::Text(name)) => {
                    self.by_name.entry(category).or_default().insert(name.to_owned(), id);
                }
                _ => {}
            }
        }
    }
}

impl Described {
    fn of(event: &Event<'_>) -> Self {
        Self {
            event: fit(&event.name().to_string()).into_owned(),
            category: event.category().map(Category::short_name),
            unit: event.unit().map(Unit::as_str),
        }
    }
}

/// Those of these kinds that are missing in `table` are put there; asks for the numbers of all of them.
pub(crate) fn ask(table: &str, kinds: &[Described]) -> String {
    let optional = |text: Option<&str>| text.map_or("NULL".to_owned(), escape_literal);
    let rows: Vec<String> = kinds
        .iter()
        .map(|kind| format!("({}, {}, {})", escape_literal(&kind.event), optional(kind.category), optional(kind.unit)))
        .collect();
    let rows = rows.join(", ");
    format!(
        "INSERT INTO {table} (event, category, unit) SELECT * FROM (VALUES {rows}) AS new (event, category, unit) \
         WHERE NOT EXISTS (SELECT FROM {table} AS old \
         WHERE old.event = new.event AND old.category IS NOT DISTINCT FROM new.category) ON CONFLICT DO NOTHING;\n\
         SELECT k.id, k.event, k.category FROM {table} AS k, (VALUES {rows}) AS new (event, category, unit) \
         WHERE k.event = new.event AND k.category IS NOT DISTINCT FROM new.category"
    )
}

/// A text as the server takes it: without NUL, and not without end.
pub(crate) fn fit(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::Kind;

    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn kinds_are_known_by_name_and_category() {
        let other = Category::from_code(6);
        let events = [
            Event::new(Kind::TX_BYTES, 1),
            Event::new(Kind::from_code(77), 1),
            Event::backend("it's", 1),
            Event::named(other, "it's", 1),
            Event::backend("gone", 1),
        ];
        let mut kinds = Kinds::default();
        assert_eq!(kinds.unknown(events.into_iter().chain(events)).len(), 5);
        let rows = [
            vec![text("3"), text("agent_tx_bytes"), text("TRANSFER")],
            vec![text("4"), text("unknown_event_77"), None],
            vec![text("5"), text("it's"), text("BACKEND")],
            vec![text("6"), text("it's"), text("SYSTEM")],
        ];
        kinds.learn(events.into_iter(), &rows);
        assert_eq!(events.map(|event| kinds.get(&event)), [Some(3), Some(4), Some(5), Some(6), None]);
        assert_eq!(kinds.unknown(events.into_iter()).len(), 1);
    }

    /// As many as the events themselves, which is somebody's mistake, and no reason to be at it for minutes.
    #[test]
    fn many_kinds_are_learned_in_one_go() {
        let names: Vec<String> = (0..50_000).map(|number| format!("event {number}")).collect();
        let events = || names.iter().map(|name| Event::backend(name, 1));
        let row = |(id, name): (usize, &String)| vec![Some(id.to_string()), text(name), text("BACKEND")];
        let rows: Vec<_> = names.iter().enumerate().map(row).collect();
        let mut kinds = Kinds::default();
        kinds.learn(events(), &rows);
        assert!((0..).zip(events()).all(|(id, event)| kinds.get(&event) == Some(id)));
    }

    #[test]
    fn names_are_literals() {
        let sql = ask("t", &Kinds::default().unknown([Event::backend(r"a\'b", 1)].into_iter()));
        assert_eq!(sql.matches(r"(VALUES ( E'a\\''b', 'BACKEND', NULL))").count(), 2, "{sql}");
    }

    #[test]
    fn what_the_server_does_not_take_is_made_fit() {
        assert_eq!(fit("a\0b"), "a\u{fffd}b");
        assert_eq!(fit(&"é".repeat(1000)), "é".repeat(512));
        assert_eq!(fit(&format!("a{}", "é".repeat(1000))).len(), 1023);
    }
}
