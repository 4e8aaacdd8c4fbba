// SPDX-License-Identifier: Apache-2.0

//! What goes wrong between here and the database, and whether it may go well later.

use std::fmt;
use std::io;
use std::path::PathBuf;

use fallible_iterator::FallibleIterator as _;
use nixl_telemetry_dial::TlsError;
use postgres_protocol::message::backend::ErrorResponseBody;

use crate::settings::{CREATE_TABLE, PASSWORD, PASSWORD_FILE};

/// Why a batch is not in the database, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot secure the connection: {0}")]
    Secure(io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server has no TLS: expected it, for sslmode says so")]
    NoTls,
    #[error("{}: {error}, expected a file with the password", path.display())]
    PasswordFile { path: PathBuf, error: io::Error },
    #[error(
        "the server wants a password: expected one in the URL, {} or {}",
        PASSWORD.name(),
        PASSWORD_FILE.name()
    )]
    NoPassword,
    #[error(
        "the server wants the password as it is, and nobody vouches for it: expected sslmode=verify-full, or scram-sha-256"
    )]
    Unveiled,
    #[error("the server wants {0}: expected scram-sha-256, md5, a password, a certificate, or nothing")]
    Unsupported(&'static str),
    #[error("there is no table {table}: expected it, or {} to be true", CREATE_TABLE.name())]
    NoTable { table: String },
    #[error("the server does not answer within {} ms", .0.as_millis())]
    TimedOut(std::time::Duration),
    #[error("the connection is lost: {0}")]
    Lost(io::Error),
    #[error("what the server says is not understood: {0}")]
    Misunderstood(String),
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What the server has answered.
#[derive(Debug, thiserror::Error)]
pub(crate) struct ServerError {
    is_fatal: bool,
    /// It came while events were copied, and is about them, or the table they are to be in.
    is_of_copy: bool,
    /// SQLSTATE: five characters, of which the first two are a class.
    pub(crate) code: String,
    message: String,
    detail: String,
    hint: String,
}

impl Failure {
    /// The connection is of no more use, through nobody's fault perhaps: the server was restarted, or it was idle for long.
    pub(crate) fn is_of_connection(&self) -> bool {
        match self {
            Self::Lost(_) | Self::TimedOut(_) => true,
            Self::Server(error) => error.is_fatal,
            _ => false,
        }
    }

    /// The server will never take these events, whatever is done about it: something in them is wrong.
    ///
    /// Numbers always are as the columns have them; if not (22P03), somebody has made other columns, and can change them.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Server(error) => {
                error.is_of_copy && !error.is_fatal && error.code.starts_with("22") && error.code != "22P03"
            }
            _ => false,
        }
    }
}

impl ServerError {
    pub(crate) fn new(body: &ErrorResponseBody, is_of_copy: bool) -> Self {
        let mut error = Self {
            is_fatal: false,
            is_of_copy,
            code: String::new(),
            message: String::new(),
            detail: String::new(),
            hint: String::new(),
        };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => error.is_fatal = text != "ERROR",
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = text,
                b'H' => error.hint = text,
                _ => {}
            }
        }
        error
    }

    /// What the statement that ends each delivery answers if the agent's numbers are not where they were thought to be: it
    /// divides by the number of rows it has found.
    pub(crate) fn moved_on(&self) -> bool {
        !self.is_of_copy && self.code == "22012"
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        for more in [&self.detail, &self.hint].into_iter().filter(|more| !more.is_empty()) {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}
