// SPDX-License-Identifier: Apache-2.0

//! What goes wrong at the server: told once, waited out, and nothing of it is lost or there twice.

use std::process::{Child, Stdio};

use super::victim::Victim;
use super::*;

/// What goes wrong: told of with this text until it is mended.
struct Fault {
    database: &'static str,
    settings: &'static [(&'static str, &'static str)],
    breaks: fn(&Database) -> Option<Child>,
    told: &'static str,
    mends: fn(&Database, Option<Child>),
}

/// Statements that break, and those that mend.
macro_rules! by_statements {
    ($database:literal, $breaks:expr, $told:literal, $mends:expr) => {
        by_statements!($database, &[], $breaks, $told, $mends)
    };
    ($database:literal, $settings:expr, $breaks:expr, $told:literal, $mends:expr) => {
        Fault {
            database: $database,
            settings: $settings,
            breaks: |database| {
                database.psql($breaks);
                database.disconnect();
                None
            },
            told: $told,
            mends: |database, _| drop(database.psql($mends)),
        }
    };
}

/// Events before, meanwhile and after; told once, and once that it is over.
fn is_waited_out(fault: &Fault) {
    let Some(database) = Database::shared(fault.database) else { return };
    let mut victim = Victim::start(&database, fault.settings);
    victim.export(0..1000);
    database.has(1000);
    let child = (fault.breaks)(&database);
    victim.export(1000..3000);
    victim.wait_for("it is tried again");
    let line = victim.lines.last().unwrap().clone();
    let server = format!(": postgres://{0}@127.0.0.1:{1}/{0}: ", fault.database, database.server.port());
    assert!(line.contains(fault.told) && line.contains(&server), "{line}, expected {}", fault.told);
    victim.export(3000..4000);
    (fault.mends)(&database, child);
    victim.wait_for("delivers again");
    victim.export(4000..5000);
    let log = victim.end();
    assert_eq!(database.sums(), sums_to(5000), "{log:?}");
    let count = |text| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("it is tried again"), count("delivers again"), count("lost")), (1, 1, 0), "{log:?}");
    assert!(log.iter().all(|line| !line.contains("hunter2")), "{log:?}");
}

#[test]
fn a_database_that_only_may_be_read() {
    is_waited_out(&by_statements!(
        "read_only",
        "ALTER DATABASE read_only SET default_transaction_read_only = on",
        "in a read-only transaction (SQLSTATE 25006)",
        "ALTER DATABASE read_only RESET default_transaction_read_only"
    ));
}

#[test]
fn a_missing_table() {
    is_waited_out(&by_statements!(
        "missing",
        &[("CREATE_TABLE", "true")],
        "ALTER TABLE nixl_events RENAME TO elsewhere; ALTER DATABASE missing SET default_transaction_read_only = on",
        "cannot execute CREATE TABLE in a read-only transaction (SQLSTATE 25006)",
        "ALTER TABLE elsewhere RENAME TO nixl_events; \
         ALTER DATABASE missing RESET default_transaction_read_only"
    ));
}

#[test]
fn another_column() {
    is_waited_out(&by_statements!(
        "columns",
        "ALTER TABLE nixl_events RENAME COLUMN value TO amount",
        "column \"value\" of relation \"nixl_events\" does not exist (SQLSTATE 42703)",
        "ALTER TABLE nixl_events RENAME COLUMN amount TO value"
    ));
}

#[test]
fn a_column_of_another_type() {
    is_waited_out(&by_statements!(
        "types",
        "DROP VIEW nixl_events_view; ALTER TABLE nixl_events ALTER sequence TYPE int",
        "incorrect binary data format (SQLSTATE 22P03)",
        "ALTER TABLE nixl_events ALTER sequence TYPE bigint"
    ));
}

/// The server calls that a wrong value, but it is nothing the events have.
#[test]
fn an_agent_that_has_no_room() {
    is_waited_out(&by_statements!(
        "narrow",
        "DROP VIEW nixl_events_view; TRUNCATE nixl_events_agents; ALTER TABLE nixl_events_agents ALTER name TYPE varchar(3)",
        "value too long for type character varying(3) (SQLSTATE 22001)",
        "ALTER TABLE nixl_events_agents ALTER name TYPE text"
    ));
}

#[test]
fn another_password() {
    is_waited_out(&by_statements!(
        "password",
        "ALTER ROLE password PASSWORD 'other'",
        "password authentication failed for user \"password\" (SQLSTATE 28P01)",
        "ALTER ROLE password PASSWORD 'hunter2''s: /@?'"
    ));
}

#[test]
fn too_many_connections() {
    is_waited_out(&by_statements!(
        "connections",
        "ALTER ROLE connections CONNECTION LIMIT 0",
        "too many connections for role \"connections\" (SQLSTATE 53300)",
        "ALTER ROLE connections CONNECTION LIMIT -1"
    ));
}

/// The server's answer when its disk is full, given by a trigger.
#[test]
fn a_full_disk() {
    is_waited_out(&by_statements!(
        "disk",
        "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100', HINT = 'Check free disk space.'; \
         END $$; CREATE TRIGGER is_full BEFORE INSERT ON nixl_events FOR EACH ROW EXECUTE FUNCTION is_full()",
        "could not extend file: No space left on device (SQLSTATE 53100); Check free disk space.",
        "DROP TRIGGER is_full ON nixl_events"
    ));
}

/// Somebody has the table, longer than a statement may take.
#[test]
fn a_locked_table() {
    is_waited_out(&Fault {
        database: "locked",
        settings: &[("TIMEOUT", "2000")],
        breaks: |database| {
            let sql = "BEGIN; LOCK TABLE nixl_events; CREATE TABLE is_locked (); SELECT pg_sleep(600)";
            let child = database.server.psql_command("locked").args(["-c", sql]).stderr(Stdio::null()).spawn().unwrap();
            let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                         AND relation = 'nixl_events'::regclass";
            wait_until(|| database.psql(locks) == "1");
            Some(child)
        },
        told: "canceling statement due to statement timeout (SQLSTATE 57014)",
        mends: |database, child| {
            database.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'");
            child.unwrap().wait().unwrap();
        },
    });
}

#[test]
fn what_the_server_never_takes_is_refused_and_the_rest_goes_on() {
    let Some(database) = Database::shared("refused") else { return };
    let mut victim = Victim::start(&database, &[]);
    victim.export(0..10);
    database.has(10);
    database.psql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF new.value = 15 THEN RAISE EXCEPTION 'not 15' USING ERRCODE = '22003'; END IF; RETURN new; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON nixl_events FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    victim.export(10..20);
    victim.wait_for("not 15 (SQLSTATE 22003); 10 events are refused, and lost");
    victim.export(20..30);
    victim.wait_for("delivers again");
    // As the exporter itself does, which is another matter.
    database.psql(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         new.value = new.value + 0 / (new.value - 35); RETURN new; END $$",
    );
    victim.export(30..40);
    victim.wait_for("division by zero (SQLSTATE 22012); 10 events are refused, and lost");
    victim.export(40..50);
    victim.wait_for("delivers again");
    let log = victim.end();
    assert!(log.iter().any(|line| line.contains("20 events are lost: 20 refused")), "{log:?}");
    let lost: u64 = (10..20).chain(30..40).sum();
    assert_eq!(database.sums(), [30, 30, sums_to(50)[2] - lost]);
}

/// The server calls that a wrong value, too, before anything is said of events.
#[test]
fn options_the_server_does_not_know_are_tried_again() {
    let Some(database) = Database::shared("options") else { return };
    let url = format!("{}?options=-c%20timezone%3DNowhere", database.url());
    let mut victim = Victim::start(&database, &[("URL", &url), ("SHUTDOWN_TIMEOUT", "1")]);
    victim.export(0..10);
    victim.wait_for("invalid value for parameter \"TimeZone\": \"Nowhere\" (SQLSTATE 22023)");
    let line = victim.lines.last().unwrap().clone();
    assert!(line.contains("it is tried again"), "{line}");
    victim.end();
}

/// More than there is room for on the way back, while the other side still writes.
#[test]
fn what_triggers_have_to_say_is_not_listened_to() {
    const EVENTS: u64 = 262_144;
    let Some(database) = Database::shared("notices") else { return };
    let mut first = database.open("first", &[]);
    first.export(&events(0..10));
    first.close();
    database.psql(
        "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE NOTICE '%', repeat('something about this row ', 8); RETURN new; END $$; \
         CREATE TRIGGER say BEFORE INSERT ON nixl_events FOR EACH ROW EXECUTE FUNCTION say()",
    );
    // All of them at once.
    let mut host = database.open("a", &[("BATCH_SIZE", "262144"), ("BATCH_TIMEOUT", "60000")]);
    host.export(&events(10..EVENTS));
    assert_eq!(host.close().exported, EVENTS - 10);
    let [count, _, sum] = database.sums();
    assert_eq!([count, sum], [EVENTS, sums_to(EVENTS)[2]]);
}

#[test]
fn a_server_that_is_down_then_up_then_restarted_then_killed() {
    let Some(database) = Database::own("restarted") else { return };
    database.server.stop();
    let mut victim = Victim::start(&database, &[]);
    victim.export(0..1000);
    victim.wait_for("cannot connect: Connection refused");
    database.server.start_again();
    victim.wait_for("delivers again");
    // Between batches nobody notices.
    database.server.stop();
    database.server.start_again();
    victim.export(1000..2000);
    database.has(2000);
    database.server.kill();
    victim.export(2000..3000);
    victim.wait_for("cannot connect: Connection refused");
    database.server.start_again();
    victim.wait_for("delivers again");
    let log = victim.end();
    assert_eq!(database.sums(), sums_to(3000));
    let count = |text| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("it is tried again"), count("delivers again")), (2, 2), "{log:?}");
}

/// A process that is killed while the server still is at its batch, and the one that finds the batch in the spool.
#[test]
fn who_comes_second_waits_and_finds_nothing_to_do() {
    let Some(database) = Database::shared("second") else { return };
    let folder = tempfile::tempdir().unwrap();
    let spool = [("SPOOL_DIR", folder.path().to_str().unwrap()), ("TIMEOUT", "60000")];
    let mut victim = Victim::start(&database, &spool);
    victim.export(0..10);
    database.has(10);
    // What the victim copies waits for this lock; then the victim is gone, and its server process is not.
    let sql = "BEGIN; LOCK TABLE nixl_events; SELECT pg_sleep(600)";
    let mut locker = database.server.psql_command("second").args(["-c", sql]).stderr(Stdio::null()).spawn().unwrap();
    let waiting = |count: &str| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'second' AND wait_event_type = 'Lock'";
        wait_until(|| database.psql(sql) == count);
    };
    wait_until(|| {
        database.psql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'nixl_events'::regclass") == "1"
    });
    victim.export(10..500);
    waiting("1");
    victim.kill();
    let mut heir = database.open("heir", &spool);
    waiting("2");
    database.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'");
    locker.wait().unwrap();
    heir.export(&events(500..600));
    assert_eq!(heir.close().exported, 100);
    database.has(600);
    assert_eq!(database.sums(), sums_to(600));
    assert_eq!(database.psql("SELECT name, next_sequence FROM nixl_events_agents ORDER BY 1"), "heir|100\nvictim|500");
}
