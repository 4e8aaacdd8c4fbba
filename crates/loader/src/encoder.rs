// SPDX-License-Identifier: Apache-2.0

//! From a batch to the memory an exporter reads.

use core::ptr;

use nixl_telemetry_abi::raw::{self, RichEvent};
use nixl_telemetry_event::{BatchId, Event, Layout, MemoWords, Total};

use crate::Form;
use crate::guard::Events;

/// Number of a rich event that has a name instead, and therefore of no kind.
pub(crate) const NAMED: u32 = RichEvent::NAMED;

/// Events in the form of one exporter; keeps its memory from batch to batch.
pub(crate) enum Encoder {
    /// Words rather than bytes, because C++ expects its events aligned to 8.
    Layout { layout: Layout, words: Vec<u64>, scratch: Vec<u8> },
    /// Names in it are borrowed from the events of the call at hand, so that it is empty between calls.
    Rich(Vec<RichEvent>),
}

impl Encoder {
    pub(crate) fn new(form: Form) -> Self {
        match form {
            Form::Layout(layout) => Self::Layout { layout, words: Vec::new(), scratch: Vec::new() },
            Form::Rich => Self::Rich(Vec::new()),
        }
    }

    /// Encodes these events, hands them to `export`, and forgets them. Returns what `export` returned, and the
    /// number of events the form does not hold, which were left out.
    pub(crate) fn with<R>(&mut self, events: &[Event<'_>], export: impl FnOnce(&Events) -> R) -> (R, u64) {
        let mut unsupported = 0;
        let result = match self {
            Self::Layout { layout, words, scratch } => {
                words.clear();
                for event in events {
                    scratch.clear();
                    if layout.encode(event, scratch) {
                        words.extend(scratch.chunks_exact(8).map(word));
                    } else {
                        unsupported += 1;
                    }
                }
                let count = words.len() / (layout.size() / 8);
                export(&Events { first: words.as_ptr().cast(), count, stride: layout.size() })
            }
            Self::Rich(rich) => {
                rich.clear();
                for event in events {
                    match encode_rich(event) {
                        Some(event) => rich.push(event),
                        None => unsupported += 1,
                    }
                }
                let stride = size_of::<RichEvent>();
                let result = export(&Events { first: rich.as_ptr().cast(), count: rich.len(), stride });
                rich.clear();
                result
            }
        };
        (result, unsupported)
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// A total, as a negotiated plugin reads it.
pub(crate) fn encode_total(total: &Total) -> raw::Total {
    let half = |sum: u128| u64::try_from(sum & u128::from(u64::MAX)).expect("it was cut to 64 bits");
    let (sum_low, sum_high) = (half(total.sum), half(total.sum >> 64));
    raw::Total { kind: total.kind.code(), reserved: 0, count: total.count, sum_low, sum_high }
}

/// An identity, as a negotiated plugin reads it. It holds a pointer to the memo.
pub(crate) fn encode_id(id: &BatchId<'_>) -> raw::BatchId {
    const { assert!(size_of::<raw::BatchId>() == 40 && size_of::<MemoWords>() == 64) };
    // Of atomics, so that whoever has the pointer may write, too.
    let memo = id.memo_words().map_or(ptr::null_mut(), |words| words.as_ptr().cast::<u64>().cast_mut());
    let memo_words = if memo.is_null() { 0 } else { 8 };
    let flags = if id.is_repeated() { raw::BatchId::REPEATED } else { 0 };
    raw::BatchId { size: 40, flags, origin: id.origin(), number: id.number(), memo, memo_words }
}

/// `None` for the kind whose number says that an event has a name.
fn encode_rich(event: &Event<'_>) -> Option<RichEvent> {
    let name = event.name().as_str();
    let (kind, name) = match event.kind() {
        Some(kind) if kind.code() == NAMED => return None,
        Some(kind) => (kind.code(), None),
        None => (NAMED, name),
    };
    Some(RichEvent {
        kind,
        category: event.category().map_or(0, nixl_telemetry_event::Category::code),
        value: event.value(),
        timestamp_us: event.timestamp_us().unwrap_or(0),
        name: name.map_or(ptr::null(), str::as_ptr),
        name_len: name.map_or(0, str::len),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nixl_telemetry_event::{Category, Kind};

    fn layouts() -> impl Iterator<Item = Form> {
        Layout::ALL.into_iter().map(Form::Layout)
    }

    #[test]
    fn every_form_holds_what_it_says() {
        let events = [
            Event::new(Kind::TX_BYTES, 1),
            Event::new(Kind::from_code(77), 2).at(3),
            Event::backend("ucx_rndv", 4),
            Event::named(Category::CUSTOM, "", 5),
            Event::new(Kind::from_code(NAMED), 6),
        ];
        for form in layouts().chain([Form::Rich]) {
            let mut encoder = Encoder::new(form);
            for event in events {
                let (count, unsupported) = encoder.with(&[event], |events| events.count);
                let held = form.holds(&event);
                assert_eq!((count, unsupported), if held { (1, 0) } else { (0, 1) }, "{form} {event:?}");
            }
            let held = events.iter().filter(|event| form.holds(event)).count();
            let (count, unsupported) = encoder.with(&events, |events| events.count);
            assert_eq!((count, unsupported), (held, (events.len() - held) as u64), "{form}");
        }
    }

    #[test]
    fn sums_are_split_in_halves() {
        for (sum, halves) in [(0, (0, 0)), ((7 << 64) + 5, (5, 7)), (u128::MAX, (u64::MAX, u64::MAX))] {
            let total = encode_total(&Total { kind: Kind::TX_BYTES, count: 1, sum });
            assert_eq!((total.sum_low, total.sum_high), halves);
        }
    }

    #[test]
    fn events_are_aligned_and_strided() {
        let events = [Event::new(Kind::RX_BYTES, 1); 5];
        for (form, size) in layouts().chain([Form::Rich]).zip([56, 48, 16, 16, 40]) {
            let ((stride, aligned), _) = Encoder::new(form)
                .with(&events, |events| (events.stride, events.first.addr() % align_of::<u64>() == 0));
            assert_eq!((stride, aligned), (size, true), "{form}");
        }
    }
}
