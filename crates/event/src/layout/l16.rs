// SPDX-License-Identifier: Apache-2.0

//! Layout of 1.3.0 and later (plugin API 2, ring 3 and 4), 16 bytes.
//!
//! | offset | field |
//! |---|---|
//! | 0 | u32 kind |
//! | 4 | 4 bytes of padding |
//! | 8 | u64 value |

use super::{u32_at, u64_at};
use crate::{Event, Kind};

/// Size in bytes.
pub const SIZE: usize = 16;

/// Reads one event.
#[inline]
pub fn decode(bytes: &[u8; SIZE]) -> Event<'static> {
    Event::new(Kind::from_code(u32_at(bytes, 0)), u64_at(bytes, 8))
}

/// Writes one event, or returns `None` for a named event, which this layout cannot hold.
pub fn encode(event: &Event<'_>) -> Option<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    bytes[0..4].copy_from_slice(&event.kind()?.code().to_le_bytes());
    bytes[8..16].copy_from_slice(&event.value().to_le_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_unknown_kind() {
        let event = Event::new(Kind::from_code(300), u64::MAX);
        let mut expected = [44, 1, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(encode(&event), Some(expected));

        expected[4..8].fill(0xaa);
        assert_eq!(decode(&expected), event);
    }
}
