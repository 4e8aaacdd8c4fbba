// SPDX-License-Identifier: Apache-2.0

//! The last minute of an agent, second by second.
//!
//! It slides by throwing away the oldest second. Percentiles are those of the seconds put together, so that a burst is
//! forgotten when it is a minute old and no earlier.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use nixl_telemetry_event::{Event, Kind};

/// Seconds that are remembered, besides the one that goes on.
pub(crate) const SECONDS: usize = 60;

/// Digits of a time that are kept: what is told is at most 1 % above what was measured, and exact below 256 µs.
const DIGITS: u8 = 2;

/// Longer times count as a day.
const LONGEST_US: u64 = 24 * 60 * 60 * 1_000_000;

/// What happened second by second.
#[derive(Debug)]
pub(crate) struct Window {
    /// Number of the second that goes on.
    second: u64,
    /// The sixty before it, the oldest first, and that one.
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    received: u64,
    sent: u64,
    transfer: Times,
    post: Times,
}

/// The times of a second; most agents pause, and have none.
#[derive(Debug, Default)]
struct Times(Option<Histogram<u32>>);

/// Of a minute's times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percentiles {
    /// How many there were.
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Window {
    /// A minute in which nothing has happened.
    pub(crate) fn new(now: Duration) -> Self {
        Self { second: now.as_secs(), buckets: (0..=SECONDS).map(|_| Bucket::default()).collect() }
    }

    /// Forgets what is older than a minute now.
    pub(crate) fn slide(&mut self, now: Duration) {
        let passed = now.as_secs().saturating_sub(self.second);
        for _ in 0..passed.min(self.buckets.len() as u64) {
            self.buckets.pop_front();
            self.buckets.push_back(Bucket::default());
        }
        self.second += passed;
    }

    /// Adds an event to the second that goes on.
    pub(crate) fn add(&mut self, event: &Event<'_>) {
        let bucket = self.buckets.back_mut().expect("there is always the second that goes on");
        let value = event.value();
        match event.kind() {
            Some(Kind::RX_BYTES) => bucket.received = bucket.received.saturating_add(value),
            Some(Kind::TX_BYTES) => bucket.sent = bucket.sent.saturating_add(value),
            Some(Kind::XFER_TIME) => bucket.transfer.add(value),
            Some(Kind::XFER_POST_TIME) => bucket.post.add(value),
            _ => {}
        }
    }

    /// Bytes received in each second that is over, the oldest first.
    pub(crate) fn received(&self) -> Vec<u64> {
        self.buckets.iter().take(SECONDS).map(|bucket| bucket.received).collect()
    }

    /// Bytes sent in each second that is over, the oldest first.
    pub(crate) fn sent(&self) -> Vec<u64> {
        self.buckets.iter().take(SECONDS).map(|bucket| bucket.sent).collect()
    }

    /// Times of transfers, from the post to the completion; `None` if there were none.
    pub(crate) fn transfer(&self) -> Option<Percentiles> {
        Percentiles::of(self.buckets.iter().map(|bucket| &bucket.transfer))
    }

    /// Times of posts; `None` if there were none.
    pub(crate) fn post(&self) -> Option<Percentiles> {
        Percentiles::of(self.buckets.iter().map(|bucket| &bucket.post))
    }
}

impl Times {
    fn add(&mut self, us: u64) {
        self.0.get_or_insert_with(empty).record(us.min(LONGEST_US)).expect("it grows as it must");
    }
}

impl Percentiles {
    fn of<'a>(times: impl Iterator<Item = &'a Times>) -> Option<Self> {
        let mut all = None;
        for times in times.filter_map(|times| times.0.as_ref()) {
            all.get_or_insert_with(empty).add(times).expect("it grows as it must");
        }
        let all = all?;
        let at = |quantile| all.value_at_quantile(quantile);
        Some(Self { count: all.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: all.max() })
    }
}

fn empty() -> Histogram<u32> {
    Histogram::new(DIGITS).expect("a number of digits that there can be")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn each_second_has_its_bytes_until_a_minute_is_over() {
        let mut window = Window::new(at(1000.7));
        for second in 0..SECONDS as u64 {
            window.slide(at(1000.9 + second as f64));
            window.add(&Event::new(Kind::RX_BYTES, 10 * second));
            window.add(&Event::new(Kind::RX_BYTES, 1));
            window.add(&Event::new(Kind::TX_BYTES, second));
        }
        // The second that goes on is not told yet.
        let received: Vec<u64> = [0].into_iter().chain((0..59).map(|second| 10 * second + 1)).collect();
        assert_eq!(window.received(), received);
        window.slide(at(1060.0));
        assert_eq!(window.received(), (0..60).map(|second| 10 * second + 1).collect::<Vec<u64>>());
        assert_eq!(window.sent(), (0..60).collect::<Vec<u64>>());
        window.slide(at(1061.0));
        assert_eq!(window.sent(), (1..60).chain([0]).collect::<Vec<u64>>());
        // A clock that stands still, or a long pause.
        window.slide(at(1061.0));
        assert_eq!(window.sent()[..2], [1, 2]);
        window.slide(at(1e9));
        assert_eq!(window.sent(), [0; 60]);
    }

    #[test]
    fn percentiles_are_those_of_the_minute() {
        let mut window = Window::new(at(0.0));
        assert_eq!((window.transfer(), window.post()), (None, None));
        // A slow first second, then one transfer of each time from 1 to 100 µs in each of a hundred seconds.
        window.add(&Event::new(Kind::XFER_TIME, 1_000_000));
        for us in 1..=100 {
            window.slide(at(us as f64));
            for other in 1..=100 {
                window.add(&Event::new(Kind::XFER_TIME, other));
            }
            window.add(&Event::new(Kind::XFER_POST_TIME, us));
            let slowest = window.transfer().unwrap().max;
            assert_eq!(slowest >= 1_000_000, us <= 60, "{us}");
        }
        let transfer = Percentiles { count: 6100, p50: 50, p90: 90, p99: 99, max: 100 };
        assert_eq!(window.transfer(), Some(transfer));
        // 40 to 100, and the second that goes on is among them.
        assert_eq!(window.post(), Some(Percentiles { count: 61, p50: 70, p90: 94, p99: 100, max: 100 }));
    }

    #[test]
    fn times_are_told_to_one_percent() {
        for us in [0, 1, 255, 256, 1000, 123_456, 99_999_999, LONGEST_US] {
            let mut window = Window::new(at(0.0));
            window.add(&Event::new(Kind::XFER_TIME, us));
            let Percentiles { p50, p99, max, .. } = window.transfer().unwrap();
            assert_eq!(p50, p99);
            assert!(p50 >= us && p50 as f64 <= us as f64 * 1.01, "{us}: {p50}");
            assert!(max >= us && max <= p50, "{us}: {max}");
        }
        // What no transfer takes.
        let mut window = Window::new(at(0.0));
        window.add(&Event::new(Kind::XFER_TIME, u64::MAX));
        assert!(window.transfer().unwrap().max <= LONGEST_US / 100 * 101);
    }
}
