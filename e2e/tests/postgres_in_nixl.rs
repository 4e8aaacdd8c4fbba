// SPDX-License-Identifier: Apache-2.0

//! The postgres plugin in a real NIXL, and a real server: what `psql` counts is what happened.

use std::path::Path;

use nixl_telemetry_e2e::{Sandbox, Totals, preloaded, truth};
use nixl_telemetry_testkit::{self as testkit, Postgres};

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// A server with a role that may make tables in a database of its own.
fn server(test: &str) -> Option<Postgres> {
    let server = testkit::require(test, Postgres::start())?;
    server.psql("postgres", "CREATE ROLE nixl LOGIN PASSWORD 'hunter2'");
    server.psql("postgres", "CREATE DATABASE telemetry OWNER nixl");
    Some(server)
}

fn variables(server: &Postgres) -> [(&'static str, String); 4] {
    [
        ("NIXL_TELEMETRY_ENABLE", "y".into()),
        ("NIXL_TELEMETRY_EXPORTER", "postgres".into()),
        ("NIXL_TELEMETRY_POSTGRES_URL", format!("postgres://nixl:hunter2@127.0.0.1:{}/telemetry", server.port())),
        ("NIXL_TELEMETRY_POSTGRES_SHUTDOWN_TIMEOUT", "30000".into()),
    ]
}

/// What the tables hold, of which each event has a time of this hour and a number of its own.
fn totals(server: &Postgres) -> Totals {
    let bad = "SELECT count(*) - count(DISTINCT (agent_id, sequence)) FILTER (WHERE abs(extract(epoch FROM now() - time)) < 3600) \
               FROM nixl_events";
    assert_eq!(server.psql("telemetry", bad), "0");
    let rows =
        server.psql("telemetry", "SELECT agent, event, count(*), sum(value) FROM nixl_events_view GROUP BY 1, 2");
    let mut totals = Totals::new();
    for row in rows.lines() {
        let [agent, event, count, sum] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let total = (count.parse().unwrap(), sum.parse().unwrap());
        totals.entry(agent.to_owned()).or_default().insert(event.to_owned(), total);
    }
    totals
}

fn tables_hold_what_happened(version: &str) {
    let test = format!("postgres in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let Some(server) = server(&test) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("postgres"));
    let variables = variables(&server);
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("POSTGRES") && !log.contains("hunter2"), "{log}");
    let truth = truth(&output);
    assert_eq!(truth["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&server), truth, "NIXL {version}");
}

#[test]
fn nixl_1_0_1() {
    tables_hold_what_happened("1.0.1");
}

#[test]
fn nixl_1_5_1() {
    tables_hold_what_happened("1.5.1");
}

/// With our collector in the process nothing is lost, although the agents are destroyed at once.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let test = "postgres preloaded";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let Some(server) = server(test) else { return };
    let output =
        preloaded(Path::new(DRIVER), &release, TRANSFERS, "postgres").envs(variables(&server)).output().unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&server), expected);
}
