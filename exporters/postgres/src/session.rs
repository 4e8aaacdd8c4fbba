// SPDX-License-Identifier: Apache-2.0

//! A connection that knows the tables, and batches that are in them once.
//!
//! A batch is one message: it copies the events, and moves the agent's `next_sequence` from where it is thought to be. The server
//! runs it as one transaction. Whoever thinks wrongly of `next_sequence`, since an earlier attempt has been committed without
//! an answer, or still is at it, divides by zero, and looks again. So nothing is in the tables twice, without an index over
//! the events, and a batch costs one round trip.
//!
//! The agent's row comes last: while the server waits for events no limit of time counts, and whoever falls silent then must
//! have nothing that the next attempt needs.

use std::time::Duration;

use nixl_telemetry_sdk::queue::{Delivery, OriginId};
use postgres_protocol::escape::escape_literal;

use crate::failure::Failure;
use crate::kinds::{self, Kinds, fit};
use crate::rows::{COLUMNS, Rows};
use crate::schema::{Present, Schema};
use crate::settings::Config;
use crate::wire::{Row, Wire};

/// Kinds are asked for so many in a statement, which is not to grow with their number.
const KINDS_AT_ONCE: usize = 1000;

/// A connection to a database whose tables are there.
pub(crate) struct Session {
    wire: Wire,
    schema: Schema,
    /// What is said before each statement: no state of the connection, since a pool may give each transaction another.
    prelude: String,
    kinds: Kinds,
    /// The last that was asked for.
    agent: Option<Agent>,
}

/// An agent's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agent {
    origin: OriginId,
    id: i32,
    next_sequence: u64,
}

impl Session {
    /// Connects, and makes what tables are missing.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        let wire = Wire::connect(config)?;
        let (schema, kinds) = (Schema::new(&config.table), Kinds::default());
        let mut session = Self { wire, schema, prelude: prelude(config.timeout), kinds, agent: None };
        session.prepare(config.creates)?;
        Ok(session)
    }

    /// Brings events into the tables, those that are not there yet.
    pub(crate) fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failure> {
        let end = batch.sequence() + batch.len() as u64;
        let mut agent = match self.agent.take() {
            Some(agent) if agent.origin == batch.origin() => agent,
            _ => self.look_up(batch)?,
        };
        self.know_kinds(batch)?;
        while agent.next_sequence < end {
            match self.copy(batch, agent, end) {
                Ok(()) => agent.next_sequence = end,
                Err(Failure::Server(error)) if error.moved_on() => {
                    // Perhaps somebody has emptied the tables, and numbers are no longer whose they were.
                    self.kinds = Kinds::default();
                    self.know_kinds(batch)?;
                    let now = self.look_up(batch)?;
                    if now == agent {
                        return Err(error.into());
                    }
                    agent = now;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.agent = Some(agent);
        Ok(())
    }

    /// Takes leave.
    pub(crate) fn close(self) {
        self.wire.close();
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        self.wire.query(&format!("{}{sql}", self.prelude))
    }

    fn prepare(&mut self, creates: bool) -> Result<(), Failure> {
        let row = self.query(&self.schema.ask())?.pop().unwrap_or_default();
        let [events, agents, kinds, timescale] = <[_; 4]>::try_from(row)
            .map_err(|row| Failure::Misunderstood(format!("{} columns, expected 4", row.len())))?;
        let [events, agents, kinds] = [events, agents, kinds].map(|is_there| is_there.as_deref() == Some("t"));
        if events && agents && kinds {
            return Ok(());
        }
        if creates {
            let present = Present { events, agents, kinds, timescale };
            return self.query(&self.schema.create(&present)).map(drop);
        }
        let Schema { events: events_table, agents: agents_table, kinds: kinds_table, .. } = &self.schema;
        let table = match (events, agents) {
            (false, _) => events_table,
            (true, false) => agents_table,
            (true, true) => kinds_table,
        };
        Err(Failure::NoTable { table: table.clone() })
    }

    /// The row of the batch's agent, which is made if it is new.
    fn look_up(&mut self, batch: &Delivery<'_>) -> Result<Agent, Failure> {
        let (origin, agent, table) = (batch.origin(), batch.agent(), &self.schema.agents);
        let [name, hostname] = [agent.name(), agent.hostname()].map(|text| escape_literal(&fit(text)));
        let rows = self.query(&format!(
            "INSERT INTO {table} (origin, name, hostname, pid) SELECT '{origin}', {name}, {hostname}, {} \
             WHERE NOT EXISTS (SELECT FROM {table} WHERE origin = '{origin}') ON CONFLICT DO NOTHING;\n\
             SELECT id, next_sequence FROM {table} WHERE origin = '{origin}'",
            agent.pid()
        ))?;
        let found = rows.first().and_then(|row| match &row[..] {
            [Some(id), Some(next)] => Some((id.parse().ok()?, next.parse::<i64>().ok()?.cast_unsigned())),
            _ => None,
        });
        let (id, next_sequence) =
            found.ok_or_else(|| Failure::Misunderstood(format!("no agent {origin} in {}", self.schema.agents)))?;
        Ok(Agent { origin, id, next_sequence })
    }

    fn know_kinds(&mut self, batch: &Delivery<'_>) -> Result<(), Failure> {
        let unknown = self.kinds.unknown(batch.iter());
        if unknown.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        for some in unknown.chunks(KINDS_AT_ONCE) {
            rows.extend(self.query(&kinds::ask(&self.schema.kinds, some))?);
        }
        self.kinds.learn(batch.iter(), &rows);
        match self.kinds.unknown(batch.iter()).first() {
            None => Ok(()),
            Some(kind) => Err(Failure::Misunderstood(format!("no number of {kind:?} in {}", self.schema.kinds))),
        }
    }

    fn copy(&mut self, batch: &Delivery<'_>, agent: Agent, end: u64) -> Result<(), Failure> {
        let (Agent { origin, id, next_sequence: next }, Schema { agents, events, .. }) = (agent, &self.schema);
        let sql = format!(
            "{}COPY {events} ({COLUMNS}) FROM STDIN (FORMAT binary);\n\
             WITH moved AS (UPDATE {agents} SET next_sequence = {end} \
             WHERE id = {id} AND next_sequence = {next} AND origin = '{origin}' RETURNING id) \
             SELECT 1 / count(*) FROM moved",
            self.prelude
        );
        let kinds = &self.kinds;
        let new = (batch.sequence()..).zip(batch).skip_while(|(sequence, _)| *sequence < next);
        self.wire.copy(&sql, |output| {
            let mut rows = Rows::new(output, id, batch.len());
            for (sequence, event) in new {
                let kind_id = kinds.get(&event).expect("all kinds of the batch are known");
                rows.push(&event, kind_id, sequence);
            }
            rows.finish();
        })
    }
}

/// What holds for a transaction: how long a statement may take; silence on what triggers have to say, which nobody reads while
/// events are written; and when a client counts as gone that no longer answers, so that the server lets go of its locks.
fn prelude(timeout: Duration) -> String {
    format!(
        "SET LOCAL statement_timeout = {};\n\
         SET LOCAL client_min_messages = error;\n\
         SET LOCAL tcp_keepalives_idle = 20;\n\
         SET LOCAL tcp_keepalives_interval = 5;\n\
         SET LOCAL tcp_keepalives_count = 3;\n",
        timeout.as_millis()
    )
}
