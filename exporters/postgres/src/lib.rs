// SPDX-License-Identifier: Apache-2.0

//! Copies NIXL telemetry events into tables of PostgreSQL: `NIXL_TELEMETRY_EXPORTER=postgres`.
//!
//! A row an event, narrow, beside a table of agents and one of kinds, and a view that brings them together. Batches leave by
//! binary COPY, each in one transaction and one round trip, and are in the table once, whatever happens to connection, server
//! and process. What waits meanwhile, and how long, is the [queue](nixl_telemetry_sdk::queue)'s.

#![forbid(unsafe_code)]

mod failure;
mod kinds;
mod rows;
mod schema;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod url;
mod wire;

use nixl_telemetry_sdk::queue::{Delivery, Failed, Queued, Sink};
use nixl_telemetry_sdk::{Agent, Describe, Error, Settings, export_plugin};

use crate::failure::Failure;
use crate::session::Session;
use crate::settings::{Config, SETTINGS};

/// The sink of one agent.
struct Postgres {
    config: Config,
    session: Option<Session>,
}

impl Sink for Postgres {
    const NAME: &'static str = "POSTGRES";
    const SETTINGS: &'static [&'static dyn Describe] = SETTINGS;
    const BATCH_SIZE: &'static str = "65536";

    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        Ok(Self { config: Config::new(settings)?, session: None })
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        self.bring(batch).map_err(|failure| {
            let text = format!("{}: {failure}", self.config.url);
            if failure.is_final() { Failed::refused(text) } else { Failed::retry(text) }
        })
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

impl Postgres {
    fn bring(&mut self, batch: &Delivery<'_>) -> Result<(), Failure> {
        if let Some(session) = self.session.take() {
            match self.bring_by(session, batch) {
                // That it was closed meanwhile, or cut without a word, is nothing to tell of, if there is another.
                Err(failure) if failure.is_of_connection() => {}
                result => return result,
            }
        }
        self.bring_by(Session::open(&self.config)?, batch)
    }

    /// By this session, which is kept if all went well.
    fn bring_by(&mut self, mut session: Session, batch: &Delivery<'_>) -> Result<(), Failure> {
        let result = session.deliver(batch);
        match &result {
            Ok(()) => self.session = Some(session),
            Err(Failure::Server(_)) => session.close(),
            // Whoever does not answer is not waited for again.
            Err(_) => drop(session),
        }
        result
    }
}

export_plugin!("postgres", Queued<Postgres>);
