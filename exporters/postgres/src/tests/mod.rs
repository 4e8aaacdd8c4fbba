// SPDX-License-Identifier: Apache-2.0

//! The exporter and a real server, which is asked by `psql` what it has.

mod chaos;
mod cuts;
mod faults;
mod pooler;
mod queries;
mod security;
mod speed;
mod tables;
mod victim;

use std::ops::Range;
use std::sync::Arc;

use nixl_telemetry_sdk::testing::TestHost;
use nixl_telemetry_sdk::{Category, Event, Kind};
use nixl_telemetry_testkit::{Postgres as Server, require, wait_until};

use super::*;

type Host = TestHost<Queued<Postgres>>;

const PASSWORD: &str = "hunter2's: /@?";
const PASSWORD_ENCODED: &str = "hunter2's%3A%20%2F%40%3F";

/// A database, and a role of the same name that owns it.
struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// On the server that tests share.
    fn shared(name: &str) -> Option<Self> {
        Some(Self::on(require(name, Server::shared())?, name))
    }

    /// On a server of its own, which may be stopped and killed. It is the process that goes, not the machine, so that the disk
    /// is not waited for.
    fn own(name: &str) -> Option<Self> {
        Some(Self::on(Arc::new(require(name, Server::start_with(&["fsync = off"]))?), name))
    }

    fn on(server: Arc<Server>, name: &str) -> Self {
        let literal = PASSWORD.replace('\'', "''");
        server.psql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{literal}'"));
        server.psql("postgres", &format!("CREATE DATABASE {name} OWNER {name}"));
        Self { server, name: name.to_owned() }
    }

    fn url(&self) -> String {
        format!("postgres://{0}:{PASSWORD_ENCODED}@127.0.0.1:{1}/{0}", self.name, self.server.port())
    }

    /// What is set, these last.
    fn pairs(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let url = self.url();
        let common = [
            ("URL", url.as_str()),
            ("BATCH_TIMEOUT", "1"),
            ("RETRY_INITIAL_INTERVAL", "20"),
            ("RETRY_MAX_INTERVAL", "100"),
            ("SHUTDOWN_TIMEOUT", "30000"),
        ];
        let all = common.iter().chain(more);
        all.map(|(name, value)| (format!("NIXL_TELEMETRY_POSTGRES_{name}"), (*value).to_owned())).collect()
    }

    fn settings(&self, more: &[(&str, &str)]) -> Settings {
        Settings::from_pairs(self.pairs(more))
    }

    fn open(&self, agent: &str, more: &[(&str, &str)]) -> Host {
        Host::open(agent, &self.settings(more)).unwrap()
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// As the role, so that what it makes is its own.
    fn psql_as_role(&self, sql: &str) -> String {
        self.psql(&format!("SET ROLE {}; {sql}", self.name))
    }

    /// Those of the role that are connected are thrown out.
    fn disconnect(&self) {
        self.psql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
            self.name
        ));
    }

    /// Waits until there are the `events` of all values up to there, from 0.
    #[track_caller]
    fn has(&self, end: u64) {
        wait_until(|| !self.psql("SELECT to_regclass('nixl_events')").is_empty() && self.sums() == sums_to(end));
    }

    /// How many events there are, how many different numbers of an agent they have, and the sum of their values.
    fn sums(&self) -> [u64; 3] {
        let text = self
            .psql("SELECT count(*), count(DISTINCT (agent_id, sequence)), coalesce(sum(value), 0) FROM nixl_events");
        let numbers: Vec<u64> = text.split('|').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }
}

/// Those of these values.
fn events(values: Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::TX_BYTES, value).at(1_764_000_000_000_000 + value)).collect()
}

/// What [`Database::sums`] are after `events` of all values up to there, from 0.
fn sums_to(end: u64) -> [u64; 3] {
    [end, end, end * end.saturating_sub(1) / 2]
}

#[test]
fn events_of_every_sort_are_rows() {
    let Some(database) = Database::shared("every_sort") else { return };
    let mut host = database.open("a 'b\\\"\0é", &[]);
    host.export(&[
        Event::new(Kind::TX_BYTES, 65536).at(1_764_000_000_000_042),
        Event::new(Kind::ERR_NOT_FOUND, 1).at(1_764_000_000_000_043),
        Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 5).at(0),
        Event::new(Kind::from_code(77), u64::MAX).at(1_764_000_000_000_045),
        Event::backend("it's \\ucx\n\0", 1 << 63).at(u64::MAX),
        Event::named(Category::from_code(6), "it's \\ucx\n\0", (1 << 63) - 1).at(1_764_000_000_000_046),
    ]);
    assert_eq!(host.close().exported, 6);
    let rows = database.psql(
        "SET timezone = UTC; SELECT sequence, time, event, category, value, unit FROM nixl_events_view ORDER BY sequence",
    );
    let expected = [
        "0|2025-11-24 16:00:00.000042+00|agent_tx_bytes|TRANSFER|65536|bytes",
        "1|2025-11-24 16:00:00.000043+00|agent_err_not_found|ERROR|1|errors",
        "2|1970-01-01 00:00:00+00|agent_telemetry_events_dropped||5|events",
        "3|2025-11-24 16:00:00.000045+00|unknown_event_77||-1|",
        "4|infinity|it's \\ucx\n\u{fffd}|BACKEND|-9223372036854775808|",
        "5|2025-11-24 16:00:00.000046+00|it's \\ucx\n\u{fffd}|SYSTEM|9223372036854775807|",
    ];
    assert_eq!(rows, expected.join("\n"));
    let agents = database.psql(
        "SELECT DISTINCT agent, hostname, pid, length(origin::text), next_sequence FROM nixl_events_view \
         JOIN nixl_events_agents USING (origin, hostname, pid)",
    );
    let hostname = Agent::new("a").hostname().to_owned();
    assert_eq!(agents, format!("a 'b\\\"\u{fffd}é|{hostname}|{}|36|6", std::process::id()));
}

#[test]
fn agents_share_tables_that_all_of_them_make() {
    let Some(database) = Database::shared("many_agents") else { return };
    // As many as connect in the same moment, to a database that has nothing.
    let hosts: Vec<Host> = (0..8)
        .map(|number| {
            let mut host = database.open(&format!("agent-{number}"), &[("BATCH_SIZE", "1000")]);
            for first in (0..10_000).step_by(2000) {
                host.export(&events(first..first + 2000));
            }
            host
        })
        .collect();
    for host in hosts {
        assert_eq!(host.close().exported, 10_000);
    }
    assert_eq!(database.sums(), sums_to(10_000).map(|sum| 8 * sum));
    assert_eq!(database.psql("SELECT count(*), sum(next_sequence) FROM nixl_events_agents"), "8|80000");
    assert_eq!(database.psql("SELECT event, category, unit FROM nixl_events_kinds"), "agent_tx_bytes|TRANSFER|bytes");
    let by_agent = database.psql("SELECT agent, sum(value) FROM nixl_events_view GROUP BY 1 ORDER BY 1 LIMIT 2");
    assert_eq!(by_agent, "agent-0|49995000\nagent-1|49995000");
}
