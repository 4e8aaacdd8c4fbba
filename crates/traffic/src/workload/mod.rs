// SPDX-License-Identifier: Apache-2.0

//! Work for agents that is the same every time, and the truth about what was done.
//!
//! A [`Workload`] says what to transfer, an [`Engine`] does it, [`run()`] brings them together and returns a [`Report`].
//! Every transfer follows from the seed and its number alone, so that totals depend neither on the number of threads
//! nor on the machine.

mod engine;
mod error;
mod report;
mod run;
mod stop;
mod truth;

pub use engine::{Engine, Lane, LanePlan, Ledger, Place, Side, Times};
pub use error::Error;
pub use report::{Distribution, Flow, Report};
pub use run::{Progress, run};
pub use stop::Stop;
pub use truth::{Tally, Truth};

use std::num::NonZeroU32;

pub use crate::local::Operation;

/// What to transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How many transfers. Defaults to 1000; `u64::MAX` goes on until it is [stopped](Stop).
    pub transfers: u64,
    /// Bytes of each transfer. Defaults to 4 KiB, 64 KiB and 1 MiB by turns.
    pub sizes: Sizes,
    /// From which everything random follows. Defaults to 1.
    pub seed: u64,
    /// Share of writes in percent, 0 to 100; the rest are reads. Defaults to 50.
    pub write_percent: u8,
    /// Share of transfers to and from a file in percent, 0 to 100; the rest is between memory and memory. Defaults to 0.
    pub file_percent: u8,
    /// Threads that transfer at the same time, at least 1, each with memory of its own. Defaults to 1.
    pub threads: usize,
    /// Whether each thread also makes, before its first transfer, every mistake the engine knows, once. Defaults to
    /// false.
    pub provoke_errors: bool,
    /// Whether each transfer has contents of its own, compared at the destination afterwards. Defaults to true.
    pub verify: bool,
    /// The most transfers per second of all threads together; time lost is not made up for. Defaults to `None`: as fast
    /// as they go.
    ///
    /// NIXL drops what exceeds its buffer, 4096 events per 100 ms unless configured otherwise, and a transfer is four
    /// events. Whoever wants every event of a stock NIXL stays below 10,000.
    pub max_rate: Option<NonZeroU32>,
}

/// Bytes of the transfers of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// These by turns; none may be 0.
    List(Vec<u64>),
    /// Random, evenly spread between the two, both included.
    Range {
        /// The least, at least 1.
        min: u64,
        /// The most.
        max: u64,
    },
}

/// One transfer of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which way.
    pub operation: Operation,
    /// The far end.
    pub place: Place,
    /// How many bytes.
    pub bytes: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            transfers: 1000,
            sizes: Sizes::List(vec![4 << 10, 64 << 10, 1 << 20]),
            seed: 1,
            write_percent: 50,
            file_percent: 0,
            threads: 1,
            provoke_errors: false,
            verify: true,
            max_rate: None,
        }
    }
}

impl Workload {
    /// The transfer of this number, counted from 0: what [`run()`] will do.
    ///
    /// # Panics
    /// If the list of sizes is empty or the range of sizes is upside down, which [`run()`] refuses.
    pub fn transfer(&self, number: u64) -> Transfer {
        let mut random = Random::new(self.seed, number);
        let write = random.next() % 100 < u64::from(self.write_percent);
        let file = random.next() % 100 < u64::from(self.file_percent);
        let bytes = match &self.sizes {
            Sizes::List(sizes) => {
                let turn = usize::try_from(number % sizes.len() as u64);
                sizes[turn.expect("it is less than a length")]
            }
            Sizes::Range { min, max } => match max.checked_sub(*min).expect("min is not above max").checked_add(1) {
                Some(span) => min + random.next() % span,
                None => random.next(),
            },
        };
        Transfer {
            operation: if write { Operation::Write } else { Operation::Read },
            place: if file { Place::File } else { Place::Memory },
            bytes,
        }
    }

    /// The most bytes any transfer has.
    pub fn largest(&self) -> u64 {
        match &self.sizes {
            Sizes::List(sizes) => sizes.iter().copied().max().unwrap_or(0),
            Sizes::Range { max, .. } => *max,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |field, value: String, expected| Err(Error::Invalid { field, value, expected });
        match &self.sizes {
            Sizes::List(sizes) if sizes.is_empty() || sizes.contains(&0) => {
                return invalid("sizes", format!("{sizes:?}"), "one or more sizes of at least 1 byte");
            }
            Sizes::Range { min, max } if *min == 0 || min > max => {
                return invalid("sizes", format!("{min} to {max}"), "a range of sizes from at least 1 byte up");
            }
            _ => {}
        }
        for (field, value) in [("write_percent", self.write_percent), ("file_percent", self.file_percent)] {
            if value > 100 {
                return invalid(field, value.to_string(), "0 to 100");
            }
        }
        if self.threads == 0 {
            return invalid("threads", "0".to_owned(), "at least 1");
        }
        Ok(())
    }
}

/// SplitMix64, which turns a seed and a number into numbers that look random.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        // Mixed twice, so that neighbouring seeds do not have each other's streams.
        let seed = Self(seed).next();
        Self(Self(seed ^ stream).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next numbers, as bytes.
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_splitmix64() {
        // The first outputs for seed 0, as the reference implementation gives them.
        let mut random = Random(0);
        assert_eq!([random.next(), random.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn a_transfer_follows_from_seed_and_number() {
        let workload = Workload {
            sizes: Sizes::Range { min: 10, max: 19 },
            write_percent: 30,
            file_percent: 20,
            ..Workload::default()
        };
        let all: Vec<_> = (0..10_000).map(|number| workload.transfer(number)).collect();
        assert_eq!(all, (0..10_000).map(|number| workload.transfer(number)).collect::<Vec<_>>());
        assert_ne!(
            all[0..100],
            (0..100).map(|n| Workload { seed: 2, ..workload.clone() }.transfer(n)).collect::<Vec<_>>()
        );
        let share = |matches: &dyn Fn(&Transfer) -> bool| all.iter().filter(|one| matches(one)).count();
        assert!((2800..3200).contains(&share(&|one| one.operation == Operation::Write)));
        assert!((1800..2200).contains(&share(&|one| one.place == Place::File)));
        for size in 10..20 {
            assert!((850..1150).contains(&share(&|one| one.bytes == size)), "{size}");
        }
        assert_eq!(workload.largest(), 19);
    }

    #[test]
    fn extremes_are_extremes() {
        let all = Sizes::Range { min: 1, max: u64::MAX };
        let workload = Workload { sizes: all, write_percent: 100, file_percent: 0, ..Workload::default() };
        for number in 0..1000 {
            let transfer = workload.transfer(number);
            assert_eq!((transfer.operation, transfer.place), (Operation::Write, Place::Memory));
        }
        let list = Workload { sizes: Sizes::List(vec![7, 8, 9]), write_percent: 0, file_percent: 100, ..workload };
        for number in 0..9 {
            let expected = Transfer { operation: Operation::Read, place: Place::File, bytes: 7 + number % 3 };
            assert_eq!(list.transfer(number), expected);
        }
    }

    #[test]
    fn impossible_workloads_are_refused() {
        let check = |workload: Workload, message: &str| {
            assert_eq!(workload.check().unwrap_err().to_string(), message);
        };
        let list = |sizes| Workload { sizes: Sizes::List(sizes), ..Workload::default() };
        let range = |min, max| Workload { sizes: Sizes::Range { min, max }, ..Workload::default() };
        check(list(vec![]), "sizes is [], expected one or more sizes of at least 1 byte");
        check(list(vec![1, 0]), "sizes is [1, 0], expected one or more sizes of at least 1 byte");
        check(range(0, 5), "sizes is 0 to 5, expected a range of sizes from at least 1 byte up");
        check(range(6, 5), "sizes is 6 to 5, expected a range of sizes from at least 1 byte up");
        check(Workload { write_percent: 101, ..Workload::default() }, "write_percent is 101, expected 0 to 100");
        check(Workload { file_percent: 200, ..Workload::default() }, "file_percent is 200, expected 0 to 100");
        check(Workload { threads: 0, ..Workload::default() }, "threads is 0, expected at least 1");
        Workload::default().check().unwrap();
    }
}
