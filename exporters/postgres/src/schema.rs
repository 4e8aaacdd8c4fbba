// SPDX-License-Identifier: Apache-2.0

//! The tables: what they are called, and the statements that make them.

use std::ffi::OsStr;

use nixl_telemetry_sdk::{Dialect, Malformed, Value};
use postgres_protocol::escape::{escape_identifier, escape_literal};

/// What the server cuts names to, in bytes.
const LONGEST_NAME: usize = 63;
/// The longest that is added to the events table's name.
const LONGEST_ENDING: usize = "_agents".len();

/// The table of events, `table` or `schema.table`, to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    schema: Option<String>,
    name: String,
}

/// The names of all of them, ready to stand in a statement.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) events: String,
    pub(crate) agents: String,
    pub(crate) kinds: String,
    view: String,
    /// Indexes have no schema of their own.
    time_index: String,
    kinds_index: String,
}

/// What is there, as far as was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) events: bool,
    pub(crate) agents: bool,
    pub(crate) kinds: bool,
    /// The schema of TimescaleDB's functions, if it is installed in this database.
    pub(crate) timescale: Option<String>,
}

impl Value for Table {
    const TYPE: &'static str = "name";
    const EXPECTED: &'static str = "table or schema.table, the table's name of up to 56 bytes";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        let (schema, name) = text.split_once('.').map_or((None, text), |(schema, name)| (Some(schema), name));
        let fits = |name: &str, longest| (1..=longest).contains(&name.len()) && !name.contains('\0');
        if fits(name, LONGEST_NAME - LONGEST_ENDING) && schema.is_none_or(|schema| fits(schema, LONGEST_NAME)) {
            Ok(Self { schema: schema.map(str::to_owned), name: name.to_owned() })
        } else {
            Err(Malformed::of::<Self>())
        }
    }
}

impl Schema {
    pub(crate) fn new(table: &Table) -> Self {
        let schema = table.schema.as_ref().map_or(String::new(), |schema| escape_identifier(schema) + ".");
        let local = |ending| escape_identifier(&format!("{}{ending}", table.name));
        let named = |ending| format!("{schema}{}", local(ending));
        Self {
            events: named(""),
            agents: named("_agents"),
            kinds: named("_kinds"),
            view: named("_view"),
            time_index: local("_time"),
            kinds_index: local("_kind"),
        }
    }

    /// Asks what is there: a row of three booleans and, if it is there, the schema of TimescaleDB.
    pub(crate) fn ask(&self) -> String {
        let [events, agents, kinds] = [&self.events, &self.agents, &self.kinds]
            .map(|name| format!("to_regclass({}) IS NOT NULL", escape_literal(name)));
        format!(
            "SELECT {events}, {agents}, {kinds}, (SELECT n.nspname FROM pg_catalog.pg_extension AS e \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb')"
        )
    }

    /// Makes what is missing, while many processes may do so at the same time.
    pub(crate) fn create(&self, present: &Present) -> String {
        let mut statements = vec![
            // One after the other: IF NOT EXISTS alone fails for whoever comes in the same moment. The number is by chance.
            "SELECT pg_catalog.pg_advisory_xact_lock(7311143086417)".to_owned(),
        ];
        if !present.agents {
            statements.push(self.create_agents());
        }
        if !present.kinds {
            statements.extend(self.create_kinds());
        }
        if !present.events {
            statements.extend(self.create_events());
            if let Some(timescale) = &present.timescale {
                statements.push(self.create_hypertable(timescale));
            }
        }
        statements.push(self.create_view());
        statements.join(";\n")
    }

    fn create_agents(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin uuid NOT NULL UNIQUE,
    name text NOT NULL,
    hostname text NOT NULL,
    pid bigint NOT NULL,
    next_sequence bigint NOT NULL DEFAULT 0
)",
            self.agents
        )
    }

    fn create_kinds(&self) -> [String; 2] {
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {} (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event text NOT NULL,
    category text,
    unit text
)",
            self.kinds
        );
        let index = format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} (event, coalesce(category, ''))",
            self.kinds_index, self.kinds
        );
        [table, index]
    }

    fn create_events(&self) -> [String; 2] {
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {} (
    time timestamptz NOT NULL,
    agent_id int NOT NULL,
    kind_id int NOT NULL,
    value bigint NOT NULL,
    sequence bigint NOT NULL
)",
            self.events
        );
        let index = format!("CREATE INDEX IF NOT EXISTS {} ON {} USING brin (time)", self.time_index, self.events);
        [table, index]
    }

    /// Without the index by time it would make: there is one, which costs a COPY less.
    fn create_hypertable(&self, timescale: &str) -> String {
        format!(
            "SELECT {}.create_hypertable({}::regclass, 'time'::name, create_default_indexes => false, if_not_exists => true)",
            escape_identifier(timescale),
            escape_literal(&self.events)
        )
    }

    fn create_view(&self) -> String {
        format!(
            "CREATE OR REPLACE VIEW {} AS
SELECT e.time, a.name AS agent, a.hostname, a.pid, k.event, k.category, e.value, k.unit, a.origin, e.sequence
FROM {} AS e JOIN {} AS a ON a.id = e.agent_id JOIN {} AS k ON k.id = e.kind_id",
            self.view, self.events, self.agents, self.kinds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table, Malformed> {
        Table::from_env(OsStr::new(text), Dialect::Current)
    }

    #[test]
    fn names_are_taken_to_the_letter() {
        let schema = Schema::new(&table(r#"My "own".ev.ents"; DROP"#).unwrap());
        assert_eq!(schema.events, r#""My ""own"""."ev.ents""; DROP""#);
        assert_eq!(schema.agents, r#""My ""own"""."ev.ents""; DROP_agents""#);
        let schema = Schema::new(&table("nixl_events").unwrap());
        assert_eq!([schema.events, schema.kinds], [r#""nixl_events""#, r#""nixl_events_kinds""#]);
        for bad in ["", ".", "a.", ".a", "a\0", &"x".repeat(57), &format!("{}.a", "x".repeat(64))] {
            assert_eq!(table(bad).unwrap_err(), Malformed::of::<Table>(), "{bad}");
        }
        assert!(table(&"x".repeat(56)).is_ok());
    }

    /// The README's statements are those that are run.
    #[test]
    fn the_readme_has_the_statements_as_they_are() {
        let schema = Schema::new(&table("nixl_events").unwrap());
        let all =
            [&[schema.create_agents()][..], &schema.create_kinds(), &schema.create_events(), &[schema.create_view()]]
                .concat();
        // Quotes are for names that need them.
        let block = format!("```sql\n{};\n```", all.join(";\n").replace('"', ""));
        assert!(include_str!("../README.md").contains(&block), "exporters/postgres/README.md lacks:\n{block}");
    }
}
