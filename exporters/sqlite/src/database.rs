// SPDX-License-Identifier: Apache-2.0

//! An open database.

use std::{fs, time::Duration};

use nixl_telemetry_sdk::{now_us, queue::Delivery, warn};
use rusqlite::{Connection, MAIN_DB, OpenFlags, Row, TransactionBehavior, config::DbConfig, ffi};

use crate::{
    error::Error,
    fork::{Open, Visit},
    place::{Companions, Identity, Place, Turn},
    retention, rows,
    schema::{self, Found},
    settings::{Limits, Options},
};

/// Bytes to which the log may grow before others are asked to let it be emptied, and to which it is cut then.
const LOG: u64 = 64 << 20;
/// How long readers are waited for, so that the log can be emptied.
const READERS: Duration = Duration::from_millis(100);
/// Deliveries that wait for readers of a database that was moved away.
const PATIENCE: u32 = 8;

/// A database of ours that can be written.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    place: Place,
    identity: Identity,
    companions: Companions,
    /// Dropped after the connection.
    _open: Open,
    patience: u32,
    busy_timeout: Duration,
    limits: Limits,
    /// Size of the log at which it is emptied.
    empty_at: u64,
}

impl Database {
    /// Opens a database, and makes it if there is none.
    ///
    /// # Errors
    /// If it is no database of ours, or cannot be written. Somebody else's is not touched.
    pub(crate) fn open(options: &Options, visit: &Visit) -> Result<Self, Error> {
        let Options { ref path, mode, synchronous, busy_timeout, limits } = *options;
        let place = Place::of(path)?;
        let turn = place.lock(busy_timeout)?;
        place.create(&turn, mode)?;
        let identity = place.identity()?;
        let open = visit.open(identity)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(&place.path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        // Until it is known to be ours.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if connection.is_readonly(MAIN_DB)? {
            return Err(Error::ReadOnly);
        }
        let taken = match schema::look(&connection, schema::STEPS)? {
            Found::Nothing => {
                // Only before there is anything in it.
                connection.pragma_update(None, "auto_vacuum", "incremental")?;
                0
            }
            Found::Ours(taken) => taken,
        };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Error::NoWal(mode));
        }
        connection.pragma_update(None, "synchronous", synchronous.word())?;
        connection.pragma_update(None, "journal_size_limit", i64::try_from(LOG).unwrap_or(i64::MAX))?;
        // Nothing of ours lies in somebody's temporary folder.
        connection.pragma_update(None, "temp_store", "memory")?;
        schema::migrate(&mut connection, taken, schema::STEPS)?;
        schema::check(&connection)?;
        // Whoever reads makes the files beside it, if they are not there.
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))?;
        if place.identity()? != identity {
            return Err(Error::Replaced);
        }
        let companions = place.companions()?;
        drop(turn);
        let empty_at = limits.size.unwrap_or(LOG).min(LOG);
        let patience = PATIENCE;
        Ok(Self { connection, place, identity, companions, _open: open, patience, busy_timeout, limits, empty_at })
    }

    /// Whether its path does not name it any more.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub(crate) fn is_moved(&self) -> Result<bool, Error> {
        Ok(!self.place.has(self.identity)?)
    }

    /// Takes leave of a file that was moved away, which must have everything then: beside its new place there is no log.
    ///
    /// # Errors
    /// If readers keep some of the log from it. In the end, or the `last` time, the log is kept instead.
    pub(crate) fn leave(&mut self, is_last: bool) -> Result<(), Error> {
        let turn = match self.place.lock(self.busy_timeout) {
            Ok(turn) => Some(turn),
            // All went together.
            Err(Error::NoFolder(_)) => None,
            Err(error) => return Err(error),
        };
        let completed = self.complete();
        if completed.is_err() && self.patience > 0 && !is_last {
            self.patience -= 1;
            return completed;
        }
        turn.map_or(Ok(()), |turn| self.clear(&turn, completed))
    }

    /// Moves the log into the database.
    fn complete(&self) -> Result<(), Error> {
        let numbers = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        self.connection.busy_timeout(READERS)?;
        let (busy, frames, moved) = self.connection.query_row("PRAGMA wal_checkpoint(FULL)", (), numbers)?;
        self.connection.busy_timeout(self.busy_timeout)?;
        match frames - moved {
            0 if busy == 0 || frames >= 0 => Ok(()),
            // Somebody else is at it.
            0 => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None).into()),
            left => Err(Error::StillRead(left)),
        }
    }

    /// Has the next database begin without the log of this one, which is kept if it could not be moved into it.
    fn clear(&self, turn: &Turn, completed: Result<(), Error>) -> Result<(), Error> {
        // It may have come back.
        if !self.is_moved()? {
            return Ok(());
        }
        let Err(error) = completed else { return Ok(self.place.clear(turn, self.companions)?) };
        if let Some(aside) = self.place.clear_but_log(turn, self.companions)? {
            warn!(
                "exporter sqlite: {}: {error}; its log is {} from now on, and belongs beside it, with its name and -wal",
                self.place.path.display(),
                aside.display()
            );
        }
        Ok(())
    }

    /// Makes room and adds the events, in one transaction.
    pub(crate) fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Error> {
        self.bound_log()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now_us = now_us();
        retention::make_room(&transaction, self.limits, batch.len() as u64, now_us)?;
        rows::add(&transaction, batch, now_us)?;
        transaction.commit()?;
        Ok(())
    }

    /// Empties the log if it has become long. SQLite does that by itself whenever a transaction ends while nobody reads; where
    /// one reads after the other, that never is.
    fn bound_log(&mut self) -> Result<(), Error> {
        let size = || fs::metadata(self.place.log()).map_or(0, |metadata| metadata.len());
        if size() <= self.empty_at {
            return Ok(());
        }
        self.connection.busy_timeout(READERS)?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        self.connection.busy_timeout(self.busy_timeout)?;
        let found = size();
        match self.limits.size {
            Some(limit) if found > limit => return Err(Error::LogTooLong { found, limit }),
            // Whoever still reads is not waited for at each transaction.
            _ => self.empty_at = self.empty_at.max(found + LOG / 4),
        }
        Ok(())
    }
}
