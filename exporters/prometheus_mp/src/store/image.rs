// SPDX-License-Identifier: Apache-2.0

//! What the bytes of a store say, whoever wrote them.

use std::borrow::Cow;
use std::ops::Range;

use nixl_telemetry_sdk::metrics::{Account, Named, Snapshot, TIMES};

use super::layout;
use super::reader::Unreadable;

/// The bytes of a store. All that is asked of it but [`check`](Self::check) and [`has_tail`](Self::has_tail) needs
/// those NIXL knows, and what is asked of the tail needs all.
pub(super) struct Image<'a>(&'a [u8]);

impl<'a> Image<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether it is a store.
    pub(super) fn check(&self) -> Result<(), Unreadable> {
        if self.0.len() < layout::NIXL_WORDS * 8 {
            return Err(Unreadable::TooSmall);
        }
        let (schema, bounds) = (self.word(layout::SCHEMA_AT), self.word(layout::BOUND_COUNT));
        match self.word(layout::MAGIC_AT) {
            0 => Err(Unreadable::Unfinished),
            layout::MAGIC if schema != layout::SCHEMA || bounds > layout::MOST_BOUNDS as u64 => {
                Err(Unreadable::Schema { schema: schema & u64::from(u32::MAX), slots: schema >> 32, bounds })
            }
            layout::MAGIC => Ok(()),
            _ => Err(Unreadable::NoStore),
        }
    }

    /// Whether it has what only this exporter's stores have.
    pub(super) fn has_tail(&self) -> bool {
        self.0.len() >= layout::FIXED_WORDS * 8 && self.word(layout::TAIL_MAGIC_AT) == layout::TAIL_MAGIC
    }

    pub(super) fn word(&self, at: usize) -> u64 {
        self.0[at * 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
    }

    fn bytes(&self, place: Range<usize>) -> &'a [u8] {
        &self.0[place.start * 8..place.end * 8]
    }

    fn words(&self, place: Range<usize>) -> impl Iterator<Item = u64> {
        self.bytes(place).as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
    }

    /// Up to the first zero, if there is one.
    fn text(&self, place: Range<usize>) -> Cow<'a, str> {
        let bytes = self.bytes(place);
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    pub(super) fn name_count(&self) -> usize {
        usize::try_from(self.word(layout::NAME_COUNT)).map_or(Named::MOST, |count| count.min(Named::MOST))
    }

    /// What does not change while the store is in use.
    pub(super) fn identity(&self) -> [&'a [u8]; 3] {
        let labels = if self.has_tail() { self.bytes(layout::LABELS) } else { &[] };
        [self.bytes(layout::SCHEMA_AT..layout::HEARTBEAT), self.bytes(layout::INSTANCE..layout::COUNTERS), labels]
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = (String, String)> {
        let pair = |name: &str, value: Cow<'_, str>| (name.to_owned(), value.into_owned());
        let pid = self.word(layout::PID).cast_signed().to_string();
        let labels = [
            pair("hostname", self.text(layout::HOSTNAME)),
            pair("agent_name", self.text(layout::AGENT)),
            pair("pid", pid.into()),
            pair("agent_instance", self.word(layout::INSTANCE).to_string().into()),
            pair("local_rank", self.text(layout::RANK)),
        ];
        // To Prometheus, an empty label is none.
        labels.into_iter().filter(|(_, value)| !value.is_empty())
    }

    pub(super) fn extra_labels(&self) -> impl Iterator<Item = (String, String)> {
        let labels = if self.has_tail() { self.bytes(layout::LABELS) } else { &[] };
        let mut texts = labels.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        std::iter::from_fn(move || Some((texts.next().filter(|name| !name.is_empty())?, texts.next()?)))
    }

    pub(super) fn bounds(&self) -> Box<[f64]> {
        let bounds = (0..self.word(layout::BOUND_COUNT)).zip(self.words(layout::BOUNDS));
        bounds.map(|(_, bound)| f64::from_bits(bound)).collect()
    }

    /// Copies all numbers but exponential histograms.
    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        self.copy(layout::COUNTERS, &mut snapshot.counters);
        self.copy(layout::GAUGES, &mut snapshot.gauges);
        for (kind, histogram) in TIMES.into_iter().zip(&mut snapshot.histograms) {
            let kind = kind.code() as usize;
            self.copy(layout::buckets(kind), &mut histogram.classic);
            histogram.sum = self.word(layout::SUMS + kind);
        }
        if self.has_tail() {
            let mut account = [0; 5];
            self.copy(layout::ACCOUNT.start, &mut account);
            let [events, aggregated, dropped, batches, last_success_us] = account;
            snapshot.account = Account { events, aggregated, dropped, batches, last_success_us, ..Account::default() };
            snapshot.created_us = self.word(layout::CREATED);
            self.fill_named(&mut snapshot.named);
        }
    }

    /// Copies exponential histograms, where the snapshot has them.
    pub(super) fn fill_exponential(&self, snapshot: &mut Snapshot) {
        for (time, histogram) in snapshot.histograms.iter_mut().enumerate() {
            if let Some(exponential) = &mut histogram.exponential {
                exponential.zeros = self.word(layout::exponential(time));
                self.copy(layout::exponential(time) + 1, &mut exponential.counts[..]);
            }
        }
    }

    fn fill_named(&self, named: &mut Vec<Named>) {
        for place in (0..self.name_count()).map(layout::name) {
            let name = self.text(place.start..place.end - 2);
            let (events, sum) = (self.word(place.end - 2), self.word(place.end - 1));
            match named.iter().position(|known| *known.name == *name) {
                Some(known) => (named[known].events, named[known].sum) = (events, sum),
                None if name.is_empty() || named.len() == Named::MOST => {}
                None => named.push(Named { name: name.into(), events, sum }),
            }
        }
    }

    fn copy(&self, from: usize, to: &mut [u64]) {
        let words = self.words(from..from + to.len());
        to.iter_mut().zip(words).for_each(|(number, word)| *number = word);
    }
}
