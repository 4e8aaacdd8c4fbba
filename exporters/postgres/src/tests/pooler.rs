// SPDX-License-Identifier: Apache-2.0

//! A pooler between, which gives each transaction another connection.

use super::*;

/// More agents than there are connections, of which the pooler has two.
fn goes_through(name: &str, mode: &str, agents: usize) {
    let Some(database) = Database::shared(name) else { return };
    let Some(pooler) = require(name, database.server.pooler(mode, 2, (name, PASSWORD))) else { return };
    let url = format!("postgres://{name}:{PASSWORD_ENCODED}@127.0.0.1:{}/{name}", pooler.port());
    let mut hosts: Vec<_> =
        (0..agents).map(|agent| database.open(&agent.to_string(), &[("URL", &url), ("BATCH_SIZE", "500")])).collect();
    for start in (0..20_000).step_by(1000) {
        for host in &mut hosts {
            host.export(&events(start..start + 1000));
        }
    }
    for host in hosts {
        assert_eq!(host.close().exported, 20_000);
    }
    let agents = agents as u64;
    let [_, _, sum] = sums_to(20_000);
    assert_eq!(database.sums(), [agents * 20_000, agents * 20_000, agents * sum]);
}

#[test]
fn connections_of_a_pooler_are_shared_by_transaction() {
    goes_through("pooled_transactions", "transaction", 5);
}

#[test]
fn connections_of_a_pooler_are_had_for_a_session() {
    goes_through("pooled_sessions", "session", 2);
}
