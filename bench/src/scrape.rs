// SPDX-License-Identifier: Apache-2.0

//! What a Prometheus exporter on this machine shows.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// A port of the loopback interface that nobody listens on.
///
/// # Errors
/// If the system has none left.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr()?.port())
}

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
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => bail!("the answer begins with {:?}: expected HTTP/1.1 200", answer.lines().next().unwrap_or_default()),
    }
}
