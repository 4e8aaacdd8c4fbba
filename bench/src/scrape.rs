// SPDX-License-Identifier: Apache-2.0

//! What a Prometheus exporter on this machine shows.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// The sum of a counter over all its series.
///
/// # Errors
/// If nobody answers on that port, or the answer does not hold the counter.
pub fn counter(port: u16, name: &str) -> anyhow::Result<u64> {
    let text = get(port).with_context(|| format!("cannot read http://127.0.0.1:{port}/metrics"))?;
    let series = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values: Vec<f64> = series.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    ensure!(!values.is_empty(), "http://127.0.0.1:{port}/metrics has no {name}");
    Ok(values.iter().sum::<f64>() as u64)
}

/// What `http://127.0.0.1:port/metrics` shows.
///
/// # Errors
/// If nobody answers there, or not with a page.
pub fn get(port: u16) -> anyhow::Result<String> {
    let mut page = String::new();
    Client::new(port).get(&mut page)?;
    Ok(page)
}

/// A client that keeps its connection as long as the server does, like Prometheus.
pub struct Client {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of `http://127.0.0.1:port/metrics`.
    pub fn new(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// What is shown, in the memory of `page`. Returns whether the connection was the one of the time before.
    ///
    /// # Errors
    /// If nobody answers there, or not with a page.
    pub fn get(&mut self, page: &mut String) -> anyhow::Result<bool> {
        let kept = self.connection.take().filter(|connection| is_open(connection.get_ref()));
        let is_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                BufReader::with_capacity(64 * 1024, stream)
            }
        };
        self.ask(connection, page)?;
        Ok(is_kept)
    }

    fn ask(&mut self, mut connection: BufReader<TcpStream>, page: &mut String) -> anyhow::Result<()> {
        connection.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let (mut length, mut kept) = (None, true);
        for number in 0.. {
            page.clear();
            connection.read_line(page)?;
            let line = page.trim_end().to_ascii_lowercase();
            match line.split_once(':') {
                _ if number == 0 => ensure!(line.starts_with("http/1.1 200"), "{line:?}: expected HTTP/1.1 200"),
                _ if line.is_empty() => break,
                Some(("content-length", value)) => length = Some(value.trim().parse()?),
                Some(("connection", value)) => kept = value.trim() != "close",
                _ => {}
            }
        }
        let length = length.context("the answer does not tell its length")?;
        page.clear();
        (&mut connection).take(length).read_to_string(page)?;
        ensure!(page.len() as u64 == length, "the answer has {} bytes: expected {length}", page.len());
        if kept {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Whether the server has kept a connection on which nothing is under way; NIXL's closes it without a word.
fn is_open(stream: &TcpStream) -> bool {
    let quiet = |result: std::io::Result<usize>| matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(true).is_ok() && quiet(stream.peek(&mut [0])) && stream.set_nonblocking(false).is_ok()
}
