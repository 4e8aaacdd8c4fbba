// SPDX-License-Identifier: Apache-2.0

//! How old events go, a few at a time, and the file becomes smaller.

use rusqlite::{OptionalExtension as _, Result, Transaction};

use crate::settings::Limits;

/// Events that may be deleted besides twice as many as come: a limit that was lowered is reached in steps.
const STEP: u64 = 16384;
/// Pages that are given back to the file system at once.
const PAGES: u64 = 1024;

/// Deletes what is too old or too much, some of it; the next delivery deletes more.
pub(crate) fn make_room(transaction: &Transaction<'_>, limits: Limits, incoming: u64, now_us: u64) -> Result<()> {
    if limits.age.is_none() && limits.size.is_none() {
        return Ok(());
    }
    let mut budget = 2 * incoming + STEP;
    while budget > 0 {
        let Some((first_id, last_id)) = due(transaction, limits, now_us)? else { break };
        let end = last_id.min(first_id.saturating_add(budget.cast_signed() - 1));
        transaction.execute("DELETE FROM events WHERE id BETWEEN ? AND ?", (first_id, end))?;
        // The last block stays, with nothing in it: it says which ids events have had.
        if end == last_id && is_followed(transaction, first_id)? {
            transaction.execute("DELETE FROM blocks WHERE first_id = ?", [first_id])?;
        } else {
            transaction.execute("UPDATE blocks SET first_id = ? WHERE first_id = ?", (end + 1, first_id))?;
        }
        budget -= (end - first_id + 1).cast_unsigned();
    }
    give_back(transaction, limits)
}

/// Whether there are blocks after this one.
fn is_followed(transaction: &Transaction<'_>, first_id: i64) -> Result<bool> {
    transaction.query_row("SELECT max(first_id) > ? FROM blocks", [first_id], |row| row.get(0))
}

/// The block of which events are to go next.
fn due(transaction: &Transaction<'_>, limits: Limits, now_us: u64) -> Result<Option<(i64, i64)>> {
    let block = |sql, parameters: &[i64]| {
        transaction
            .query_row(sql, rusqlite::params_from_iter(parameters), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    };
    if let Some(age) = limits.age {
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let before = now_us.saturating_sub(age_us).cast_signed();
        let sql =
            "SELECT first_id, last_id FROM blocks WHERE last_us < ? AND first_id <= last_id ORDER BY last_us LIMIT 1";
        let old = block(sql, &[before])?;
        if old.is_some() {
            return Ok(old);
        }
    }
    match limits.size {
        // What comes finds room.
        Some(limit) if Pages::of(transaction)?.used_bytes() > limit - limit / 8 => {
            block("SELECT first_id, last_id FROM blocks WHERE first_id <= last_id ORDER BY first_id LIMIT 1", &[])
        }
        _ => Ok(None),
    }
}

/// Makes the file smaller by pages that are free. Some are left for what comes.
fn give_back(transaction: &Transaction<'_>, limits: Limits) -> Result<()> {
    let pages = Pages::of(transaction)?;
    let is_too_large = limits.size.is_some_and(|limit| pages.all * pages.size > limit);
    if pages.free > 0 && (is_too_large || pages.free > pages.all / 8 + PAGES) {
        transaction.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    }
    Ok(())
}

/// What the file consists of.
#[derive(Clone, Copy, Debug)]
struct Pages {
    all: u64,
    free: u64,
    /// In bytes.
    size: u64,
}

impl Pages {
    fn of(transaction: &Transaction<'_>) -> Result<Self> {
        let number = |sql| transaction.query_row(sql, (), |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
        let (all, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
        Ok(Self { all, free, size: number("PRAGMA page_size")? })
    }

    const fn used_bytes(self) -> u64 {
        (self.all - self.free) * self.size
    }
}
