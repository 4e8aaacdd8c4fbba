// SPDX-License-Identifier: Apache-2.0

//! Tables that others have made, and who may make them.

use super::victim::Victim;
use super::*;

const README: &str = include_str!("../../README.md");

/// The README's statements behind this heading.
fn statements(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(heading).unwrap();
    rest.split_once("```sql\n").unwrap().1.split_once("```").unwrap().0
}

#[test]
fn a_partitioned_table_is_as_good_as_another() {
    let Some(database) = Database::shared("partitioned") else { return };
    database.psql_as_role(statements("**Partitions.**"));
    let mut host = database.open("a", &[]);
    let in_january = (0..1000).map(|value| Event::new(Kind::TX_BYTES, value).at(1_798_794_000_000_000 + value));
    host.export(&in_january.chain(events(1000..1500)).collect::<Vec<_>>());
    assert_eq!(host.close().exported, 1500);
    assert_eq!(database.sums(), sums_to(1500));
    let counts = database.psql("SELECT tableoid::regclass, count(*) FROM nixl_events GROUP BY 1 ORDER BY 1");
    assert_eq!(counts, "nixl_events_2027_01|1000\nnixl_events_other|500");
}

#[test]
fn a_partition_that_is_missing_is_waited_for() {
    let Some(database) = Database::shared("partition") else { return };
    database.psql_as_role(statements("**Partitions.**"));
    database.psql_as_role("DROP TABLE nixl_events_other");
    let mut victim = Victim::start(&database, &[]);
    victim.export(0..100);
    victim.wait_for("no partition of relation \"nixl_events\" found for row (SQLSTATE 23514)");
    database.psql_as_role("CREATE TABLE other PARTITION OF nixl_events DEFAULT");
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.sums(), sums_to(100));
}

/// Who only exports needs no more rights than the README says, and is told of those that are missing.
#[test]
fn a_role_that_makes_nothing_needs_little() {
    let Some(database) = Database::shared("grants") else { return };
    database.psql("ALTER DATABASE grants OWNER TO postgres");
    let mut victim = Victim::start(&database, &[]);
    victim.export(0..10);
    victim.wait_for("permission denied for schema public (SQLSTATE 42501)");
    victim.export(10..20);
    database.psql(statements("## Tables"));
    let missing = database.psql("SELECT count(*) FROM pg_class WHERE relname = 'nixl_events_view'");
    assert_eq!(missing, "1");
    database.psql(
        "GRANT INSERT ON nixl_events TO grants; GRANT SELECT, INSERT ON nixl_events_kinds TO grants; \
         GRANT SELECT, INSERT, UPDATE ON nixl_events_agents TO grants",
    );
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.sums(), sums_to(20));
}

#[test]
fn who_is_not_to_make_tables_says_which_is_missing() {
    let Some(database) = Database::shared("no_tables") else { return };
    let table = [("CREATE_TABLE", "false"), ("TABLE", "Own Schema.Own \"events\"")];
    let mut victim = Victim::start(&database, &table);
    victim.export(0..10);
    let missing = "there is no table \"Own Schema\".\"Own \"\"events\"\"\": expected it, or \
                   NIXL_TELEMETRY_POSTGRES_CREATE_TABLE to be true";
    victim.wait_for(missing);
    database.psql_as_role("CREATE SCHEMA \"Own Schema\"");
    let mut host = database.open("a", &table[1..]);
    host.export(&events(0..5));
    assert_eq!(host.close().exported, 5);
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.psql("SELECT count(*) FROM \"Own Schema\".\"Own \"\"events\"\"_view\""), "15");
    assert_eq!(database.psql("SELECT to_regclass('nixl_events')"), "");
}

/// What is in a table that was dropped is gone; what comes then is in a new one.
#[test]
fn tables_that_are_dropped_are_made_again() {
    let Some(database) = Database::shared("dropped") else { return };
    let mut victim = Victim::start(&database, &[]);
    victim.export(0..10);
    database.has(10);
    database.psql("DROP TABLE nixl_events, nixl_events_agents, nixl_events_kinds CASCADE");
    victim.export(10..20);
    victim.wait_for("relation \"nixl_events\" does not exist (SQLSTATE 42P01)");
    victim.wait_for("delivers again");
    victim.end();
    assert_eq!(database.psql("SELECT count(*), min(value), max(sequence) FROM nixl_events_view"), "10|10|19");
}

/// Numbers then are others', who came first.
#[test]
fn tables_that_are_emptied_are_looked_at_again() {
    let Some(database) = Database::shared("emptied") else { return };
    let mut host = database.open("a", &[]);
    host.export(&events(0..10));
    database.has(10);
    database.psql(
        "TRUNCATE nixl_events, nixl_events_agents, nixl_events_kinds RESTART IDENTITY; \
         INSERT INTO nixl_events_agents (origin, name, hostname, pid, next_sequence) \
         VALUES ('0123456789abcdef0123456789abcdef', 'other', 'there', 1, 10); \
         INSERT INTO nixl_events_kinds (event) VALUES ('another')",
    );
    host.export(&events(10..20));
    host.close();
    let rows = "SELECT agent, event, count(*), min(sequence), max(sequence) FROM nixl_events_view GROUP BY 1, 2";
    assert_eq!(database.psql(rows), "a|agent_tx_bytes|10|10|19");
    assert_eq!(database.psql("SELECT name, next_sequence FROM nixl_events_agents ORDER BY 1"), "a|20\nother|10");
}

/// TimescaleDB is not here: what the exporter asks and calls is played by an entry among the extensions and a function that
/// writes down how it was called.
#[test]
fn with_timescaledb_the_table_becomes_a_hypertable() {
    let Some(database) = Database::shared("timescale") else { return };
    database.psql(
        "CREATE SCHEMA \"Time scale\"; CREATE TABLE calls AS SELECT ''::text AS call WHERE false; \
         CREATE FUNCTION \"Time scale\".create_hypertable(relation regclass, time_column_name name, \
         partitioning_column name = NULL, number_partitions int = NULL, associated_schema_name name = NULL, \
         associated_table_prefix name = NULL, chunk_time_interval anyelement = NULL::bigint, \
         create_default_indexes boolean = true, if_not_exists boolean = false) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ \
         INSERT INTO public.calls VALUES (concat_ws(' ', $1, $2, $8, $9)) $$; \
         GRANT USAGE ON SCHEMA \"Time scale\" TO timescale; SET allow_system_table_mods = on; \
         INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) \
         SELECT 4000000, 'timescaledb', 10, oid, false, '2.0' FROM pg_namespace WHERE nspname = 'Time scale'",
    );
    for first in [0, 10] {
        let mut host = database.open("a", &[]);
        host.export(&events(first..first + 10));
        assert_eq!(host.close().exported, 10);
    }
    assert_eq!(database.psql("SELECT count(*), sum(value) FROM nixl_events"), "20|190");
    // When it was made, and not again.
    assert_eq!(database.psql("SELECT * FROM calls"), "nixl_events time f t");
}
