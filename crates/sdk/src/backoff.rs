// SPDX-License-Identifier: Apache-2.0

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// How long to wait between attempts that fail: exponentially longer, each by chance a little more or less, so that those
/// who failed together do not come back together.
///
/// Names and defaults are those of OpenTelemetry's `retry_on_failure`. It looks at no clock and throws no dice:
///
/// ```
/// use std::time::{Duration, Instant};
/// use nixl_telemetry_sdk::{Backoff, chance};
///
/// let mut backoff = Backoff::default();
/// let wait = backoff.failed(Instant::now(), None, chance()).expect("five minutes are not over");
/// assert!((Duration::from_millis(2500)..Duration::from_millis(7500)).contains(&wait));
/// backoff.reset();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// The first wait, before chance changes it. 5 s.
    pub initial_interval: Duration,
    /// By which part of itself a wait may be shorter or longer. 0.5.
    pub randomization_factor: f64,
    /// How much longer each wait is than the one before. 1.5.
    pub multiplier: f64,
    /// The longest wait, before chance changes it. 30 s.
    pub max_interval: Duration,
    /// After how much time attempts end. 5 min.
    pub max_elapsed_time: Duration,
    /// When the first attempt failed, and the next wait.
    under_way: Option<(Instant, Duration)>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
            under_way: None,
        }
    }
}

impl Backoff {
    /// An attempt has failed: how long to wait before the next, or `None` if the next would come after
    /// [`max_elapsed_time`](Self::max_elapsed_time).
    ///
    /// A server that said when to come back (`Retry-After`) is not asked earlier. `chance` is from 0 to 1; the same gives
    /// the same.
    pub fn failed(&mut self, now: Instant, retry_after: Option<Duration>, chance: f64) -> Option<Duration> {
        let (since, interval) = self.under_way.unwrap_or((now, self.initial_interval));
        let spread = 1.0 + self.randomization_factor * (2.0 * chance - 1.0);
        let wait = interval.mul_f64(spread.max(0.0)).max(retry_after.unwrap_or_default());
        self.under_way = Some((since, interval.mul_f64(self.multiplier.max(1.0)).min(self.max_interval)));
        let elapsed = now.saturating_duration_since(since);
        (elapsed.saturating_add(wait) <= self.max_elapsed_time).then_some(wait)
    }

    /// An attempt has succeeded, or they have been given up: the next failure is a first one.
    pub fn reset(&mut self) {
        self.under_way = None;
    }
}

/// A number from 0 to 1 by chance, other in every thread and process; nothing to keep secrets with.
pub fn chance() -> f64 {
    // The standard library seeds each from the system.
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(chance: f64, retry_after: Option<Duration>) -> Vec<u128> {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        let mut waits = Vec::new();
        while let Some(wait) = backoff.failed(now, retry_after, chance) {
            waits.push(wait.as_millis());
            now += wait;
        }
        waits
    }

    #[test]
    fn waits_grow_until_time_is_over() {
        let middle = waits(0.5, None);
        assert_eq!(middle[..6], [5000, 7500, 11_250, 16_875, 25_312, 30_000]);
        assert!(middle[5..].iter().all(|wait| *wait == 30_000));
        assert!((270_000..=300_000).contains(&middle.iter().sum::<u128>()));
        assert_eq!(waits(0.0, None)[..3], [2500, 3750, 5625]);
        assert_eq!(waits(1.0, None)[..3], [7500, 11_250, 16_875]);
    }

    #[test]
    fn who_says_when_is_not_asked_earlier() {
        assert_eq!(waits(0.5, Some(Duration::from_secs(8)))[..3], [8000, 8000, 11_250]);
        assert_eq!(waits(0.5, Some(Duration::from_secs(301))), [0; 0]);
    }

    #[test]
    fn it_begins_anew_after_success() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..3 {
            backoff.failed(now, None, 0.5);
        }
        backoff.reset();
        assert_eq!(backoff, Backoff::default());
        assert_eq!(backoff.failed(now + Duration::from_secs(1000), None, 0.5), Some(Duration::from_secs(5)));
    }

    #[test]
    fn chance_is_chance() {
        let many: Vec<f64> = (0..1000).map(|_| chance()).collect();
        assert!(many.iter().all(|chance| (0.0..1.0).contains(chance)));
        let mean = many.iter().sum::<f64>() / 1000.0;
        // Off by 0.1 at ten standard deviations.
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
