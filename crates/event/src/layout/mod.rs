// SPDX-License-Identifier: Apache-2.0

//! The four binary layouts an event has had, side by side: bytes to [`Event`] and back.
//!
//! All are little endian with natural alignment. Padding is uninitialised in every release, garbage was seen in it, so
//! nothing here reads, compares or copies it; encoding writes zeros.
//!
//! How a next layout is added: a module with `SIZE`, `decode` and `encode`, a variant of [`Layout`], a row in
//! [`Generation::layout`](crate::Generation::layout), and its bytes in the tests.

pub mod l16;
pub mod l16c;
pub mod l48;
pub mod l56;

use crate::{Category, Event, Kind, Name};

/// One of the binary layouts of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 56 bytes: timestamp, category, name, value (0.9.0 to 1.0.1).
    L56,
    /// 48 bytes: category, name, value (1.1.0).
    L48,
    /// 16 bytes with category: category, kind, value (1.2.0).
    L16c,
    /// 16 bytes: kind, padding, value (1.3.0 and later).
    L16,
}

/// Bytes of a name field, the terminating NUL included.
pub const NAME_SIZE: usize = 32;

impl Layout {
    /// Every layout, oldest first.
    pub const ALL: [Self; 4] = [Self::L56, Self::L48, Self::L16c, Self::L16];

    /// Size of an event in bytes, which is also its stride in a ring file.
    pub const fn size(self) -> usize {
        match self {
            Self::L56 => l56::SIZE,
            Self::L48 => l48::SIZE,
            Self::L16c => l16c::SIZE,
            Self::L16 => l16::SIZE,
        }
    }

    /// Reads the event at the start of `bytes`, or `None` if they are fewer than [`Layout::size`].
    pub fn decode(self, bytes: &[u8]) -> Option<Event<'_>> {
        Some(match self {
            Self::L56 => l56::decode(bytes.first_chunk()?),
            Self::L48 => l48::decode(bytes.first_chunk()?),
            Self::L16c => l16c::decode(bytes.first_chunk()?),
            Self::L16 => l16::decode(bytes.first_chunk()?),
        })
    }

    /// Appends the event's bytes to `out`.
    ///
    /// Returns `false`, and appends nothing, for a named event in a layout that has only numbers.
    pub fn encode(self, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::L56 => out.extend_from_slice(&l56::encode(event)),
            Self::L48 => out.extend_from_slice(&l48::encode(event)),
            Self::L16c => match l16c::encode(event) {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return false,
            },
            Self::L16 => match l16::encode(event) {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return false,
            },
        }
        true
    }
}

/// The longest start of `name` that fits a name field: at most 31 bytes, cut on a character boundary and before any
/// NUL, which would end the name for its reader.
pub fn fit_name(name: &str) -> &str {
    let end = name.find('\0').unwrap_or(name.len()).min(NAME_SIZE - 1);
    &name[..name.floor_char_boundary(end)]
}

/// The event in a name field and a category, without its timestamp.
///
/// Almost all names are those of the agent's own events, and almost all fields are NUL from the name's end on: such a
/// field is compared as a whole, which spares looking for the end and for the name.
#[inline]
fn decode_named(category: u32, field: &[u8; NAME_SIZE], value: u64) -> Event<'_> {
    const FIELDS: [[u8; NAME_SIZE]; Kind::ALL.len()] = {
        let mut fields = [[0; NAME_SIZE]; Kind::ALL.len()];
        let mut i = 0;
        while i < fields.len() {
            let name = match (Kind::ALL[i].status(), Kind::ALL[i].name()) {
                (Some(status), _) => status.name(),
                (None, Some(name)) => name,
                (None, None) => panic!("every kind of the table has a name"),
            };
            fields[i].split_at_mut(name.len()).0.copy_from_slice(name.as_bytes());
            i += 1;
        }
        fields
    };
    let category = Category::from_code(category);
    if category != Category::BACKEND
        && let Some(index) = FIELDS.iter().position(|known| known == field)
    {
        return Event::new(Kind::ALL[index], value);
    }
    Event::named(category, decode_name(field), value)
}

/// The text of a name field: up to the first NUL, or the first byte that is not UTF-8, or the field's end.
fn decode_name(field: &[u8; NAME_SIZE]) -> &str {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    text.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// The name field as releases with names fill it: errors carry the name of their status.
fn encode_name(event: &Event<'_>) -> [u8; NAME_SIZE] {
    let mut field = [0; NAME_SIZE];
    let mut fill = |name: &str| {
        let name = fit_name(name);
        field[..name.len()].copy_from_slice(name.as_bytes());
    };
    match (event.kind().and_then(Kind::status), event.name()) {
        (Some(status), _) => fill(status.name()),
        (None, Name::Text(name)) => fill(name),
        (None, unknown) => fill(&unknown.to_string()),
    }
    field
}

/// The category field. Kinds without one are younger than categories; `SYSTEM`, which NIXL reserves and never emits,
/// stands for them.
fn encode_category(event: &Event<'_>) -> [u8; 4] {
    event.category().unwrap_or(Category::SYSTEM).code().to_le_bytes()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

fn field_at(bytes: &[u8], offset: usize) -> &[u8; NAME_SIZE] {
    bytes[offset..].first_chunk().expect("a layout's name lies inside it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes with the name at its start and, where there is room, garbage behind the NUL.
    fn field(name: &[u8]) -> [u8; NAME_SIZE] {
        let mut field = [0xee; NAME_SIZE];
        field[..name.len()].copy_from_slice(name);
        if name.len() < NAME_SIZE {
            field[name.len()] = 0;
        }
        field
    }

    #[test]
    fn names_end_at_nul_bad_utf8_or_the_field() {
        let table: [(&[u8], &str); 5] = [
            (b"agent_tx_bytes", "agent_tx_bytes"),
            (b"", ""),
            (b"ab\xffcd", "ab"),
            (b"0123456789012345678901234567890", "0123456789012345678901234567890"),
            (b"01234567890123456789012345678901", "01234567890123456789012345678901"),
        ];
        for (bytes, name) in table {
            assert_eq!(decode_name(&field(bytes)), name);
        }
    }

    #[test]
    fn long_names_are_cut_on_a_character_boundary() {
        let table = [
            ("short", "short"),
            ("0123456789012345678901234567890", "0123456789012345678901234567890"),
            ("01234567890123456789012345678901", "0123456789012345678901234567890"),
            ("012345678901234567890123456789é", "012345678901234567890123456789"),
            ("nul\0inside", "nul"),
        ];
        for (name, fits) in table {
            assert_eq!(fit_name(name), fits);
        }
    }

    #[test]
    fn every_kind_survives_every_layout() {
        for layout in Layout::ALL {
            for kind in Kind::ALL {
                let event = Event::new(kind, u64::MAX - u64::from(kind.code()));
                let mut bytes = Vec::new();
                assert!(layout.encode(&event, &mut bytes));
                assert_eq!(bytes.len(), layout.size());
                let back = layout.decode(&bytes).unwrap();
                assert_eq!((back.kind(), back.value()), (Some(kind), event.value()), "{layout:?}");
            }
            assert_eq!(layout.decode(&vec![0; layout.size() - 1]), None);
        }
    }

    #[test]
    fn named_events_need_a_layout_with_names() {
        let event = Event::backend("ucx_rndv_get", 5);
        for layout in Layout::ALL {
            let mut bytes = Vec::new();
            let encoded = layout.encode(&event, &mut bytes);
            assert_eq!(encoded, matches!(layout, Layout::L56 | Layout::L48));
            if encoded {
                let back = layout.decode(&bytes).unwrap();
                assert_eq!((back.name(), back.category()), (event.name(), event.category()));
            } else {
                assert!(bytes.is_empty());
            }
        }
    }

    #[test]
    fn decoding_any_bytes_never_panics() {
        // A small xorshift stands for a random generator: the crate has no dependencies, its tests neither.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = [0; 64];
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[0];
            }
            for layout in Layout::ALL {
                let event = layout.decode(&bytes).expect("64 bytes are enough for every layout");
                assert!(!event.name().to_string().contains('\0'));
            }
        }
    }
}
