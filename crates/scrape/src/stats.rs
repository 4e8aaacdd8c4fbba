// SPDX-License-Identifier: Apache-2.0

//! What a server counts about itself.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Scrapes whose latencies are remembered.
const WINDOW: usize = 128;

/// What a [`Server`](crate::Server) has done so far. Readable from any thread; written by the server's alone.
#[derive(Debug)]
pub struct Stats {
    scrapes: AtomicU64,
    body_bytes: AtomicU64,
    rejected_connections: AtomicU64,
    bad_requests: AtomicU64,
    authentication_failures: AtomicU64,
    latency_sum: AtomicU64,
    // That of scrape `n` is at `n % WINDOW`.
    latencies: [AtomicU32; WINDOW],
}

/// How long scrapes took, from the end of the request's head until the answer was ready to be sent, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// All scrapes.
    pub count: u64,
    /// The sum over all scrapes.
    pub sum: u64,
    /// The median of the last 128 scrapes; `None` before the first.
    pub p50: Option<u32>,
    /// What nine of ten of the last 128 scrapes did not exceed.
    pub p90: Option<u32>,
    /// What 99 of 100 of the last 128 scrapes did not exceed.
    pub p99: Option<u32>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            scrapes: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            bad_requests: AtomicU64::new(0),
            authentication_failures: AtomicU64::new(0),
            latency_sum: AtomicU64::new(0),
            latencies: [const { AtomicU32::new(0) }; WINDOW],
        }
    }

    /// Requests `GET /metrics` that were answered 200.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Relaxed)
    }

    /// Bytes of metrics sent, as they went over the wire, in answers that were taken completely.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Relaxed)
    }

    /// Connections that were refused, or closed while idle, since there were too many.
    pub fn rejected_connections(&self) -> u64 {
        self.rejected_connections.load(Relaxed)
    }

    /// Requests that were none, or too large, or too slow, and handshakes that failed.
    pub fn bad_requests(&self) -> u64 {
        self.bad_requests.load(Relaxed)
    }

    /// Requests without the name and password of a user, where users are configured.
    pub fn authentication_failures(&self) -> u64 {
        self.authentication_failures.load(Relaxed)
    }

    /// How long scrapes took.
    pub fn latencies(&self) -> Latencies {
        let count = self.scrapes();
        let known = usize::try_from(count).unwrap_or(WINDOW).min(WINDOW);
        let mut window: Vec<u32> = self.latencies[..known].iter().map(|latency| latency.load(Relaxed)).collect();
        window.sort_unstable();
        // The smallest value that at least so many of a hundred do not exceed.
        let quantile = |percent: usize| window.get((percent * known).div_ceil(100).saturating_sub(1)).copied();
        Latencies {
            count,
            sum: self.latency_sum.load(Relaxed),
            p50: quantile(50),
            p90: quantile(90),
            p99: quantile(99),
        }
    }

    pub(crate) fn scraped(&self, latency: Duration) {
        let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let number = self.scrapes.load(Relaxed);
        self.latencies[usize::try_from(number % WINDOW as u64).unwrap_or(0)].store(latency, Relaxed);
        self.latency_sum.fetch_add(latency.into(), Relaxed);
        self.scrapes.store(number + 1, Relaxed);
    }

    pub(crate) fn sent(&self, body_bytes: u64) {
        self.body_bytes.fetch_add(body_bytes, Relaxed);
    }

    pub(crate) fn rejected_connection(&self) {
        self.rejected_connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn bad_request(&self) {
        self.bad_requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn authentication_failed(&self) {
        self.authentication_failures.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_last_128_and_the_sum_is_that_of_all() {
        let stats = Stats::new();
        assert_eq!(stats.latencies(), Latencies::default());

        stats.scraped(Duration::from_micros(7));
        let one = Latencies { count: 1, sum: 7, p50: Some(7), p90: Some(7), p99: Some(7) };
        assert_eq!(stats.latencies(), one);

        (1..=100).for_each(|micros| stats.scraped(Duration::from_micros(micros)));
        let many = stats.latencies();
        assert_eq!((many.count, many.sum), (101, 5057));
        // Of 101 values, 7 among them twice.
        assert_eq!((many.p50, many.p90, many.p99), (Some(50), Some(90), Some(99)));

        (0..128).for_each(|_| stats.scraped(Duration::from_micros(1000)));
        let last = stats.latencies();
        assert_eq!((last.count, last.sum), (229, 133_057));
        assert_eq!((last.p50, last.p90, last.p99), (Some(1000), Some(1000), Some(1000)));
    }

    #[test]
    fn a_scrape_of_hours_does_not_wrap() {
        let stats = Stats::new();
        stats.scraped(Duration::from_secs(7200));
        assert_eq!(stats.latencies().p50, Some(u32::MAX));
    }
}
