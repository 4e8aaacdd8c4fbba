// SPDX-License-Identifier: Apache-2.0

//! What is in a database, how it is made, and how an older one becomes a newer one.
//!
//! `application_id` says that a database is ours, `user_version` how many [`STEPS`] it has taken.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::Error;

/// `NIXL`, as `file` shows it.
pub(crate) const APPLICATION_ID: i64 = 0x4e49_584c;

/// Each makes the next version out of the one before; the first makes version 1 out of nothing.
///
/// What has been released does not change: who needs another schema adds a step.
pub(crate) const STEPS: &[&str] = &[include_str!("schema/1.sql")];

/// What the last version has, views aside.
const TABLES: [&str; 4] = ["agents", "blocks", "events", "kinds"];

/// Whose a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody's.
    Nothing,
    /// Ours, with so many steps taken.
    Ours(usize),
}

/// Looks at a database and changes nothing.
///
/// # Errors
/// If it is somebody else's, or of a version that is not known.
pub(crate) fn look(connection: &Connection, steps: &[&str]) -> Result<Found, Error> {
    let number = |sql| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
    let (application_id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    match usize::try_from(version) {
        _ if (application_id, version, objects) == (0, 0, 0) => Ok(Found::Nothing),
        _ if application_id != APPLICATION_ID => Err(Error::Foreign { application_id, objects }),
        Ok(taken) if taken <= steps.len() => Ok(Found::Ours(taken)),
        _ => Err(Error::TooNew { found: version, known: i64::try_from(steps.len()).unwrap_or(i64::MAX) }),
    }
}

/// Takes the steps a database has not taken, each in a transaction of its own.
pub(crate) fn migrate(connection: &mut Connection, taken: usize, steps: &[&str]) -> Result<(), Error> {
    for (version, step) in (1_i64..).zip(steps).skip(taken) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Makes sure that no table is missing.
pub(crate) fn check(connection: &Connection) -> Result<(), Error> {
    for table in TABLES {
        if !connection.table_exists(None, table)? {
            return Err(Error::Missing(format!("the table {table}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFICIAL: [&str; 3] = [
        "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1), (2)",
        "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = 10 * x",
        "CREATE TABLE b AS SELECT y FROM a; INSERT INTO b VALUES (1 / x)",
    ];

    fn bring(connection: &mut Connection, steps: &[&str]) -> Result<Found, Error> {
        let taken = match look(connection, steps)? {
            Found::Nothing => 0,
            Found::Ours(taken) => taken,
        };
        migrate(connection, taken, steps)?;
        look(connection, steps)
    }

    #[test]
    fn every_version_becomes_the_last() {
        for from in 0..=2 {
            let mut connection = Connection::open_in_memory().unwrap();
            bring(&mut connection, &ARTIFICIAL[..from]).unwrap();
            assert_eq!(bring(&mut connection, &ARTIFICIAL[..2]).unwrap(), Found::Ours(2), "from {from}");
            let sum: i64 = connection.query_row("SELECT sum(x * y) FROM a", (), |row| row.get(0)).unwrap();
            assert_eq!(sum, 50, "from {from}");
            assert_eq!(bring(&mut connection, &ARTIFICIAL[..2]).unwrap(), Found::Ours(2), "nothing is left to do");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before() {
        let mut connection = Connection::open_in_memory().unwrap();
        let error = bring(&mut connection, &ARTIFICIAL).unwrap_err().to_string();
        assert!(error.contains("no such column: x"), "{error}");
        assert_eq!(look(&connection, &ARTIFICIAL).unwrap(), Found::Ours(2));
        assert!(!connection.table_exists(None, "b").unwrap());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let table = [
            (
                "PRAGMA application_id = 7",
                "belongs to another program: its application_id is 0x7 and it has 0 tables, views and indexes, expected \
                 0x4e49584c, or an empty database",
            ),
            (
                "CREATE TABLE theirs (x)",
                "belongs to another program: its application_id is 0x0 and it has 1 tables, views and indexes, expected \
                 0x4e49584c, or an empty database",
            ),
            (
                "PRAGMA application_id = 0x4e49584c; PRAGMA user_version = 4",
                "has schema version 4, expected at most 3: a later release has written it",
            ),
            (
                "PRAGMA application_id = 0x4e49584c; PRAGMA user_version = -1",
                "has schema version -1, expected at most 3: a later release has written it",
            ),
        ];
        for (sql, message) in table {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(sql).unwrap();
            assert_eq!(look(&connection, &ARTIFICIAL).unwrap_err().to_string(), message);
        }
    }
}
