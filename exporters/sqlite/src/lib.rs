// SPDX-License-Identifier: Apache-2.0

//! Writes NIXL telemetry events into an SQLite database: `NIXL_TELEMETRY_EXPORTER=sqlite`.
//!
//! Behind a queue: NIXL's thread copies a batch and leaves, and one thread of ours has the connection. A delivery is one
//! transaction, which also moves the number up to which the agent's events are there, so that what comes again is passed
//! over. Agents, threads and processes may share a file.

#![forbid(unsafe_code)]

mod database;
mod error;
mod fork;
mod place;
mod retention;
mod rows;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

use nixl_telemetry_sdk::{
    Agent, Describe, Error, Settings, export_plugin,
    queue::{Delivery, Failed, Queued, Sink},
    warn,
};

use crate::{database::Database, fork::Visit, settings::Options};

/// The database of one agent.
struct Sqlite {
    options: Options,
    /// `None` until there are events, and after a failure to write: the next attempt begins anew.
    database: Option<Database>,
}

impl Sink for Sqlite {
    const NAME: &'static str = "SQLITE";
    const SETTINGS: &'static [&'static dyn Describe] = settings::ALL;
    /// Larger ones are no faster, and hold the lock for longer.
    const BATCH_SIZE: &'static str = "16384";

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        Ok(Self { options: Options::of(agent, settings)?, database: None })
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        // Whatever goes wrong, somebody can put it right: make room, let go of a lock, move a file away.
        self.try_deliver(batch).map_err(|error| Failed::retry(format!("{}: {error}", self.options.path.display())))
    }

    fn close(&mut self) {
        if let Err(error) = self.try_close() {
            warn!("exporter sqlite: {}: {error}", self.options.path.display());
        }
    }
}

impl Sqlite {
    fn try_deliver(&mut self, batch: &Delivery<'_>) -> Result<(), error::Error> {
        let visit = Visit::begin()?;
        if let Some(database) = &mut self.database
            && database.is_moved()?
        {
            database.leave(false)?;
            self.database = None;
        }
        let mut database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.options, &visit)?,
        };
        database.deliver(batch)?;
        self.database = Some(database);
        Ok(())
    }

    fn try_close(&mut self) -> Result<(), error::Error> {
        let _visit = Visit::begin()?;
        match self.database.take() {
            Some(mut database) if database.is_moved()? => database.leave(true),
            _ => Ok(()),
        }
    }
}

export_plugin!("sqlite", Queued<Sqlite>);
