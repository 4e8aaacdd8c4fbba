// SPDX-License-Identifier: Apache-2.0

//! Events as rows.

use std::collections::HashMap;

use nixl_telemetry_sdk::{Category, Event, Unit, queue::Delivery};
use rusqlite::{OptionalExtension as _, Result, Statement, Transaction};

/// Rows that are given to one execution of a statement: most of what a row costs is paid for the execution.
const TOGETHER: usize = 16;
/// Events of a block, unless one delivery has more.
const BLOCK_EVENTS: i64 = 65536;
/// From the first event of a block to the last, unless one delivery takes longer.
const BLOCK_US: i64 = 60_000_000;

/// Adds the events that are not there yet.
pub(crate) fn add(transaction: &Transaction<'_>, batch: &Delivery<'_>, now_us: u64) -> Result<()> {
    let (agent_id, next_sequence) = agent(transaction, batch, now_us)?;
    let known = next_sequence.saturating_sub(batch.sequence());
    let Some(count) = (batch.len() as u64).checked_sub(known).filter(|count| *count > 0) else { return Ok(()) };
    let block = Block::last(transaction)?;
    let mut events = batch.iter().skip(usize::try_from(known).unwrap_or(usize::MAX));
    let mut rows = Rows {
        kinds: Kinds { transaction, numbered: [None; 32], named: HashMap::new() },
        agent_id,
        id: first_id(transaction, block.as_ref())?,
        sequence: batch.sequence() + known,
        first_us: i64::MAX,
        last_us: i64::MIN,
    };
    let first_id = rows.id;
    for (together, times) in [(TOGETHER as u64, count / TOGETHER as u64), (1, count % TOGETHER as u64)] {
        if times > 0 {
            let row = "(?, ?, ?, ?, ?, ?)";
            let rest = ", (?, ?, ?, ?, ?, ?)".repeat(usize::try_from(together - 1).unwrap_or(0));
            let columns = "id, timestamp_us, agent_id, kind_id, value, sequence";
            let mut statement = transaction.prepare(&format!("INSERT INTO events ({columns}) VALUES {row}{rest}"))?;
            for _ in 0..times {
                rows.insert(&mut statement, events.by_ref().take(usize::try_from(together).unwrap_or(1)))?;
            }
        }
    }
    let added = Block { first_id, last_id: rows.id - 1, first_us: rows.first_us, last_us: rows.last_us };
    added.store(transaction, block)?;
    let next_sequence = rows.sequence.cast_signed();
    transaction.execute("UPDATE agents SET next_sequence = ? WHERE id = ?", (next_sequence, agent_id))?;
    Ok(())
}

/// The row of the agent, and the number of the event it comes to next.
fn agent(transaction: &Transaction<'_>, batch: &Delivery<'_>, now_us: u64) -> Result<(i64, u64)> {
    let (origin, agent) = (batch.origin().to_string(), batch.agent());
    let found = transaction
        .query_row("SELECT id, next_sequence FROM agents WHERE origin = ?", [&origin], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    transaction.execute(
        "INSERT INTO agents (origin, agent, hostname, pid, first_seen_us, next_sequence) VALUES (?, ?, ?, ?, ?, 0)",
        (origin, agent.name(), agent.hostname(), agent.pid(), now_us.cast_signed()),
    )?;
    Ok((transaction.last_insert_rowid(), 0))
}

/// An id that no event has or had, so that no block is said to have what it has not.
fn first_id(transaction: &Transaction<'_>, last: Option<&Block>) -> Result<i64> {
    let highest: Option<i64> = transaction.query_row("SELECT max(id) FROM events", (), |row| row.get(0))?;
    Ok(highest.unwrap_or(0).max(last.map_or(0, |block| block.last_id)) + 1)
}

/// What the next row is made of.
struct Rows<'a> {
    kinds: Kinds<'a>,
    agent_id: i64,
    id: i64,
    sequence: u64,
    first_us: i64,
    last_us: i64,
}

impl Rows<'_> {
    fn insert<'e>(&mut self, statement: &mut Statement<'_>, events: impl Iterator<Item = Event<'e>>) -> Result<()> {
        let mut at = 0;
        for event in events {
            let timestamp_us = event.timestamp_us().unwrap_or(0).cast_signed();
            self.first_us = self.first_us.min(timestamp_us);
            self.last_us = self.last_us.max(timestamp_us);
            let kind_id = self.kinds.id(&event)?;
            let (value, sequence) = (event.value().cast_signed(), self.sequence.cast_signed());
            for column in [self.id, timestamp_us, self.agent_id, kind_id, value, sequence] {
                at += 1;
                statement.raw_bind_parameter(at, column)?;
            }
            self.id += 1;
            self.sequence += 1;
        }
        statement.raw_execute()?;
        Ok(())
    }
}

/// The rows of kinds, looked up once in a transaction.
struct Kinds<'a> {
    transaction: &'a Transaction<'a>,
    /// Of the kinds with the first numbers, which almost all events have.
    numbered: [Option<i64>; 32],
    named: HashMap<Option<Category>, HashMap<String, i64>>,
}

impl Kinds<'_> {
    fn id(&mut self, event: &Event<'_>) -> Result<i64> {
        let number = event.kind().and_then(|kind| usize::try_from(kind.code()).ok());
        if let Some(slot) = number.and_then(|number| self.numbered.get(number).copied()) {
            let number = number.unwrap_or_default();
            let id = slot.map_or_else(|| self.find(event), Ok)?;
            self.numbered[number] = Some(id);
            return Ok(id);
        }
        let name = event.name().to_string();
        if let Some(id) = self.named.get(&event.category()).and_then(|names| names.get(&name)) {
            return Ok(*id);
        }
        let id = self.find(event)?;
        self.named.entry(event.category()).or_default().insert(name, id);
        Ok(id)
    }

    #[cold]
    fn find(&self, event: &Event<'_>) -> Result<i64> {
        let (name, category) = (event.name().to_string(), event.category().map(Category::short_name));
        let sql = "SELECT id FROM kinds WHERE event = ? AND ifnull(category, '') = ifnull(?, '')";
        let found = self.transaction.query_row(sql, (&name, category), |row| row.get(0)).optional()?;
        found.map_or_else(
            || {
                let sql = "INSERT INTO kinds (event, category, unit) VALUES (?, ?, ?)";
                self.transaction.execute(sql, (&name, category, event.unit().map(Unit::as_str)))?;
                Ok(self.transaction.last_insert_rowid())
            },
            Ok,
        )
    }
}

/// Events with consecutive ids, and from when to when they are. Of one that has lost all, `first_id` follows on `last_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first_id: i64,
    last_id: i64,
    first_us: i64,
    last_us: i64,
}

impl Block {
    fn last(transaction: &Transaction<'_>) -> Result<Option<Self>> {
        let sql = "SELECT first_id, last_id, first_us, last_us FROM blocks ORDER BY first_id DESC LIMIT 1";
        transaction
            .query_row(sql, (), |row| {
                Ok(Self { first_id: row.get(0)?, last_id: row.get(1)?, first_us: row.get(2)?, last_us: row.get(3)? })
            })
            .optional()
    }

    /// As part of the last block, if that is not full.
    fn store(self, transaction: &Transaction<'_>, last: Option<Self>) -> Result<()> {
        let Self { first_id, last_id, first_us, last_us } = last.and_then(|last| last.with(self)).unwrap_or(self);
        transaction
            .execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)", (first_id, last_id, first_us, last_us))?;
        Ok(())
    }

    /// Both together, unless that is too much, there is something between them, or nothing in the first.
    fn with(self, next: Self) -> Option<Self> {
        let both = Self {
            first_id: self.first_id,
            last_id: next.last_id,
            first_us: self.first_us.min(next.first_us),
            last_us: self.last_us.max(next.last_us),
        };
        let fits = both.last_id - both.first_id < BLOCK_EVENTS
            && both.last_us.checked_sub(both.first_us).is_some_and(|time| time <= BLOCK_US);
        let is_empty = self.first_id > self.last_id;
        (self.last_id + 1 == next.first_id && fits && !is_empty).then_some(both)
    }
}
