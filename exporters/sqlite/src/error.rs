// SPDX-License-Identifier: Apache-2.0

use std::{io, path::PathBuf, time::Duration};

use rusqlite::ErrorCode;

/// Why events did not get into the database. Follows the path of it, in messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("its folder {} does not exist, expected one that does", .0.display())]
    NoFolder(PathBuf),
    #[error("is a symbolic link, expected the database itself")]
    SymbolicLink,
    #[error("is a directory, a pipe, a socket or a device, expected a database")]
    NoFile,
    #[error("cannot be created: {}, expected a folder that can be written", describe(.0))]
    Create(io::Error),
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    #[error("its folder is locked by somebody else for more than {} ms, expected a turn", .0.as_millis())]
    NoTurn(Duration),
    #[error("was replaced by another file while it was opened, expected one that stays")]
    Replaced,
    #[error(
        "is open in the process that this one was forked from, and SQLite would take its locks for ours; expected {{pid}} in \
         NIXL_TELEMETRY_SQLITE_FILE, so that each has a database of its own"
    )]
    ForkedWhileOpen,
    #[error(
        "cannot be opened in this process: it was forked while another thread was at work with SQLite, whose mutexes stay \
         locked here; expected a fork while no events were being delivered"
    )]
    ForkedAtWork,
    #[error(
        "was moved away or replaced, and {0} frames of its log cannot come into it while somebody reads what was before them; \
         expected readers to come to an end"
    )]
    StillRead(i64),
    #[error("may only be read, expected a database that can be written")]
    ReadOnly,
    #[error(
        "belongs to another program: its application_id is {application_id:#x} and it has {objects} tables, views and \
         indexes, expected {:#x}, or an empty database",
        crate::schema::APPLICATION_ID
    )]
    Foreign { application_id: i64, objects: i64 },
    #[error("has schema version {found}, expected at most {known}: a later release has written it")]
    TooNew { found: i64, known: i64 },
    #[error("lacks {0}, which its schema has; expected to find it, or no database at all")]
    Missing(String),
    #[error("has journal mode {0}, expected wal: its file system does not let processes share memory")]
    NoWal(String),
    #[error(
        "its write-ahead log has {found} bytes, expected at most {limit}: somebody has been reading the database for too \
         long for it to be emptied"
    )]
    LogTooLong { found: u64, limit: u64 },
    #[error("{}", describe_sqlite(.0))]
    Sqlite(#[from] rusqlite::Error),
}

/// The same in the words of other messages.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((message, _)) => message.to_lowercase(),
        None => text,
    }
}

fn describe_sqlite(error: &rusqlite::Error) -> String {
    let expected = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "a turn to write within the time that NIXL_TELEMETRY_SQLITE_BUSY_TIMEOUT says",
        Some(ErrorCode::DiskFull) => "room on its disk",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            "that it can be read and written, and files be made beside it whose names end in -wal and -shm"
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => "a database that is whole, or none",
        _ => return error.to_string(),
    };
    format!("{error}, expected {expected}")
}
