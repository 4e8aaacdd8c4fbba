// SPDX-License-Identifier: Apache-2.0

//! A connection to a server, and what is said over it: the start, the password, statements and their answers.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use nixl_telemetry_dial::{Stream, Tls, Verify, connect, connect_unix};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, DataRowBody, Message};
use postgres_protocol::message::frontend;

use crate::failure::{Failure, ServerError};
use crate::settings::{Config, Security};
use crate::url::Host;

/// What the server says in one message may be that long: nothing that was asked for is.
const LONGEST_MESSAGE: usize = 1 << 20;
/// What one read may bring.
const READ: usize = 1 << 13;

/// The columns of a row as text, `None` for null.
pub(crate) type Row = Vec<Option<String>>;

/// A connection.
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    timeout: Duration,
}

impl Wire {
    /// Connects, and shows who we are.
    pub(crate) fn connect(config: &Config) -> Result<Self, Failure> {
        let (stream, is_known) = connect_to(config)?;
        let (input, output) = (BytesMut::with_capacity(READ), BytesMut::new());
        let mut wire = Self { stream, input, output, timeout: config.connect_timeout };
        wire.log_in(config, is_known)?;
        // The server cancels what takes longer, and says so.
        wire.timeout = config.timeout + config.connect_timeout;
        wire.stream.set_timeout(wire.timeout).map_err(Failure::Connect)?;
        Ok(wire)
    }

    /// Runs statements, in one transaction if they are several and none says otherwise. Returns the rows of all of them.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        self.run(sql, |_| {})
    }

    /// The same for statements of which one is a COPY, whose data `write` puts behind what is in the buffer, in messages of the
    /// protocol.
    ///
    /// All leaves at once. If the server does not come to the end of the COPY, it disregards the data.
    pub(crate) fn copy(&mut self, sql: &str, write: impl FnOnce(&mut BytesMut)) -> Result<(), Failure> {
        self.run(sql, |output| {
            write(output);
            frontend::copy_done(output);
        })?;
        Ok(())
    }

    /// Takes leave.
    pub(crate) fn close(mut self) {
        frontend::terminate(&mut self.output);
        // Whoever does not hear it sees the end of the connection.
        let _ = self.send();
    }

    fn run(&mut self, sql: &str, more: impl FnOnce(&mut BytesMut)) -> Result<Vec<Row>, Failure> {
        frontend::query(sql, &mut self.output).map_err(misunderstood)?;
        more(&mut self.output);
        let sent = self.send();
        if let Err(failure @ Failure::Lost(_)) = sent {
            // The server may have said why it hung up.
            return Err(self.answer().err().filter(|last| matches!(last, Failure::Server(_))).unwrap_or(failure));
        }
        sent?;
        self.answer()
    }

    /// Reads to the end of an answer.
    fn answer(&mut self) -> Result<Vec<Row>, Failure> {
        let (mut rows, mut is_copying, mut result) = (Vec::new(), false, Ok(()));
        loop {
            match self.receive() {
                Ok(Message::DataRow(row)) => rows.push(columns(&row).map_err(misunderstood)?),
                Ok(Message::CopyInResponse(_)) => is_copying = true,
                Ok(Message::CommandComplete(_)) => is_copying = false,
                Ok(Message::ErrorResponse(body)) => result = Err(ServerError::new(&body, is_copying)),
                Ok(Message::ReadyForQuery(_)) => break,
                Ok(_) => {}
                // After its last word the server hangs up.
                Err(Failure::Lost(_)) if result.is_err() => break,
                Err(failure) => return Err(failure),
            }
        }
        result?;
        Ok(rows)
    }

    fn log_in(&mut self, config: &Config, is_known: bool) -> Result<(), Failure> {
        let url = &config.url;
        let application = url.application_name.as_deref().unwrap_or("nixl_telemetry");
        let parameters = [("user", url.user.as_str()), ("database", &url.database), ("client_encoding", "UTF8")];
        let more = [("application_name", Some(application)), ("options", url.options.as_deref())];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        frontend::startup_message(parameters.into_iter().chain(more), &mut self.output).map_err(misunderstood)?;
        self.send()?;
        loop {
            match self.receive_answer()? {
                Message::AuthenticationOk => break,
                Message::AuthenticationCleartextPassword if is_known => self.tell(&config.password()?)?,
                Message::AuthenticationCleartextPassword => return Err(Failure::Unveiled),
                Message::AuthenticationMd5Password(body) => {
                    self.tell(&md5_hash(url.user.as_bytes(), config.password()?.as_bytes(), body.salt()))?;
                }
                Message::AuthenticationSasl(body) => self.scram(&body, &config.password()?)?,
                Message::AuthenticationKerberosV5 | Message::AuthenticationGss => {
                    return Err(Failure::Unsupported("Kerberos"));
                }
                Message::AuthenticationSspi => return Err(Failure::Unsupported("SSPI")),
                _ => return Err(misunderstood("expected what it wants to see")),
            }
        }
        self.answer()?;
        Ok(())
    }

    fn tell(&mut self, password: &str) -> Result<(), Failure> {
        frontend::password_message(password.as_bytes(), &mut self.output).map_err(misunderstood)?;
        self.send()
    }

    fn scram(&mut self, body: &AuthenticationSaslBody, password: &str) -> Result<(), Failure> {
        let has = body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256)).map_err(misunderstood)?;
        if !has {
            return Err(Failure::Unsupported("a SASL mechanism of another kind"));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.output).map_err(misunderstood)?;
        self.send()?;
        let Message::AuthenticationSaslContinue(body) = self.receive_answer()? else {
            return Err(misunderstood("expected SCRAM to go on"));
        };
        scram.update(body.data()).map_err(misunderstood)?;
        frontend::sasl_response(scram.message(), &mut self.output).map_err(misunderstood)?;
        self.send()?;
        let Message::AuthenticationSaslFinal(body) = self.receive_answer()? else {
            return Err(misunderstood("expected SCRAM to end"));
        };
        // The server has to show that it knows the password, too.
        scram.finish(body.data()).map_err(misunderstood)
    }

    fn send(&mut self) -> Result<(), Failure> {
        let sent = self.stream.write_all(&self.output).and_then(|()| self.stream.flush());
        self.output.clear();
        sent.map_err(|error| lost(error, self.timeout))
    }

    /// The next message, an error as such.
    fn receive_answer(&mut self) -> Result<Message, Failure> {
        match self.receive()? {
            Message::ErrorResponse(body) => Err(ServerError::new(&body, false).into()),
            message => Ok(message),
        }
    }

    /// The next message that says something.
    fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            match Message::parse(&mut self.input).map_err(misunderstood)? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None if self.input.len() > LONGEST_MESSAGE => {
                    return Err(misunderstood("a message without end"));
                }
                None => self.read()?,
            }
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let len = self.input.len();
        self.input.resize(len + READ, 0);
        let read = loop {
            match self.stream.read(&mut self.input[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                read => break read,
            }
        };
        self.input.truncate(len + *read.as_ref().unwrap_or(&0));
        read.map(drop).map_err(|error| lost(error, self.timeout))
    }
}

/// The connection ends, also if a forked child has it too: the server would go on waiting for what comes next.
impl Drop for Wire {
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

/// Connects, and says whether it is known who is at the other end, and nobody else can read what is sent.
fn connect_to(config: &Config) -> Result<(Stream, bool), Failure> {
    let (url, timeout) = (&config.url, config.connect_timeout);
    let host = match &url.host {
        Host::Tcp(host) => host,
        Host::Unix(directory) => {
            let path = url.socket(directory);
            return Ok((connect_unix(&path, timeout).map_err(Failure::Connect)?.into(), true));
        }
    };
    let mut socket = connect(host, url.port, timeout).map_err(Failure::Connect)?;
    let (verify, is_needed) = match config.tls {
        Security::Never => return Ok((socket.into(), false)),
        Security::Perhaps(verify) => (verify, false),
        Security::Always(verify) => (verify, true),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let mut answer = [0];
    socket.write_all(&request).and_then(|()| socket.read_exact(&mut answer)).map_err(|error| lost(error, timeout))?;
    match answer {
        [b'S'] => {
            let tls = Tls::new(&config.certificates, verify)?;
            // The system's authorities vouch for anybody: without the name that says nothing.
            let is_known = match verify {
                Verify::Full => true,
                Verify::Authority => config.certificates.ca.is_some(),
                Verify::Nothing => false,
            };
            Ok((tls.connect(socket, host).map_err(Failure::Secure)?, is_known))
        }
        [b'N'] if is_needed => Err(Failure::NoTls),
        [b'N'] => Ok((socket.into(), false)),
        _ => Err(misunderstood("expected yes or no when asked for TLS")),
    }
}

fn columns(row: &DataRowBody) -> io::Result<Row> {
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&row.buffer()[range]).into_owned();
    row.ranges().map(|range| Ok(range.map(text))).collect()
}

fn lost(error: io::Error, timeout: Duration) -> Failure {
    match error.kind() {
        // The other kind, TimedOut, is the system's word on a connection whose other end is gone.
        io::ErrorKind::WouldBlock => Failure::TimedOut(timeout),
        kind @ io::ErrorKind::UnexpectedEof => Failure::Lost(io::Error::new(kind, "the server has closed it")),
        _ => Failure::Lost(error),
    }
}

fn misunderstood(problem: impl ToString) -> Failure {
    Failure::Misunderstood(problem.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn wire(stream: Stream) -> Wire {
        Wire { stream, input: BytesMut::new(), output: BytesMut::new(), timeout: Duration::from_secs(1) }
    }

    #[test]
    fn a_connection_ends_also_if_somebody_else_has_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let child = ours.try_clone().unwrap();
        drop(wire(ours.into()));
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        drop(child);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let child = ours.try_clone().unwrap();
        drop(wire(ours.into()));
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        drop(child);
    }
}
