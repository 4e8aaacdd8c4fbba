// SPDX-License-Identifier: Apache-2.0

//! One of N transfers, with all its events.

use std::num::NonZeroU32;

use nixl_telemetry_sdk::{Event, Kind, chance};

/// Chooses transfers: one of each N in a row, by chance which, so that nothing that repeats itself is always or never met.
///
/// The events of a transfer come one behind the other, in the order in which NIXL has them: post time, transfer time, bytes,
/// requests. One that is not further in that order than the last begins the next transfer. Everything else, errors and
/// memory for instance, is rare, and kept.
#[derive(Debug)]
pub(crate) struct Sampler {
    one_of: u32,
    /// The number of this transfer among its N, and of the one that is kept.
    number: u32,
    chosen: u32,
    /// How far this transfer is.
    rank: u8,
}

impl Sampler {
    pub(crate) fn new(one_of: NonZeroU32) -> Self {
        let one_of = one_of.get();
        // Before the first transfer, which begins the first N.
        Self { one_of, number: one_of - 1, chosen: 0, rank: u8::MAX }
    }

    /// Whether the event is kept. Every event must be asked for, in order.
    pub(crate) fn keeps(&mut self, event: &Event<'_>) -> bool {
        if self.one_of == 1 {
            return true;
        }
        let Some(rank) = event.kind().and_then(rank) else { return true };
        if rank <= self.rank {
            self.begin();
        }
        self.rank = rank;
        self.number == self.chosen
    }

    fn begin(&mut self) {
        self.number += 1;
        if self.number == self.one_of {
            self.number = 0;
            self.chosen = draw(self.one_of);
        }
    }
}

/// A number below `limit`, each as likely as the others.
fn draw(limit: u32) -> u32 {
    // The fraction is below 1, and rounding must not make it the limit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to below the limit")]
    let number = (chance() * f64::from(limit)) as u32;
    number.min(limit - 1)
}

/// The place in a transfer.
fn rank(kind: Kind) -> Option<u8> {
    match kind {
        Kind::XFER_POST_TIME => Some(0),
        Kind::XFER_TIME => Some(1),
        Kind::TX_BYTES | Kind::RX_BYTES => Some(2),
        Kind::TX_REQUESTS_NUM | Kind::RX_REQUESTS_NUM => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sampler(one_of: u32) -> Sampler {
        Sampler::new(NonZeroU32::new(one_of).unwrap())
    }

    /// The events of a transfer; their value says of which.
    fn transfer(number: u64) -> [Event<'static>; 4] {
        let [bytes, requests] = if number.is_multiple_of(2) {
            [Kind::TX_BYTES, Kind::TX_REQUESTS_NUM]
        } else {
            [Kind::RX_BYTES, Kind::RX_REQUESTS_NUM]
        };
        [Kind::XFER_POST_TIME, Kind::XFER_TIME, bytes, requests].map(|kind| Event::new(kind, number))
    }

    #[test]
    fn one_of_each_n_is_kept_whole() {
        for one_of in [1, 2, 7, 100] {
            let mut sampler = sampler(one_of);
            let mut kept = BTreeMap::<u64, u32>::new();
            for event in (0..700).flat_map(transfer) {
                if sampler.keeps(&event) {
                    *kept.entry(event.value()).or_default() += 1;
                }
            }
            assert!(kept.values().all(|events| *events == 4), "{kept:?}");
            let runs: Vec<_> = kept.keys().map(|number| number / u64::from(one_of)).collect();
            let each = if one_of == 1 { (0..700).collect::<Vec<_>>() } else { (0..700 / u64::from(one_of)).collect() };
            assert_eq!(runs, each);
        }
    }

    #[test]
    fn which_one_is_by_chance() {
        let mut sampler = sampler(2);
        let kept: Vec<u64> = (0..400).filter(|number| sampler.keeps(&transfer(*number)[0])).collect();
        let even = kept.iter().filter(|number| number.is_multiple_of(2)).count();
        // Neither is less likely than once in 10^60.
        assert!(kept.len() == 200 && (1..200).contains(&even), "{even} of {}", kept.len());
    }

    #[test]
    fn parts_of_transfers_are_transfers_and_the_rest_is_kept() {
        let mut sampler = sampler(5);
        let mut kept = [0; 3];
        for number in 0..50 {
            let [_, time, bytes, _] = transfer(number);
            // Posted once, and reposted; an error comes between.
            for (place, event) in [(0, time), (2, Event::new(Kind::ERR_BACKEND, 1)), (1, bytes)] {
                kept[place] += usize::from(sampler.keeps(&event));
            }
            assert!(sampler.keeps(&Event::new(Kind::MEMORY_REGISTERED, 1)) && sampler.keeps(&Event::backend("ucx", 1)));
        }
        assert_eq!(kept, [10, 10, 50]);
    }

    #[test]
    fn a_draw_is_below_its_limit() {
        for limit in [1, 2, 3, u32::MAX] {
            assert!((0..1000).all(|_| draw(limit) < limit));
        }
    }
}
