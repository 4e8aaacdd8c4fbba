// SPDX-License-Identifier: Apache-2.0

//! Layout of 0.9.0 to 1.0.1 (plugin API 1, ring 1), 56 bytes.
//!
//! | offset | field |
//! |---|---|
//! | 0 | u64 timestamp, microseconds since the Unix epoch |
//! | 8 | u32 category |
//! | 12 | name, 32 bytes, NUL-terminated |
//! | 44 | 4 bytes of padding |
//! | 48 | u64 value |

use super::{decode_named, encode_category, encode_name, field_at, u32_at, u64_at};
use crate::Event;

/// Size in bytes.
pub const SIZE: usize = 56;

/// Reads one event; its name is borrowed from the bytes.
#[inline]
pub fn decode(bytes: &[u8; SIZE]) -> Event<'_> {
    decode_named(u32_at(bytes, 8), field_at(bytes, 12), u64_at(bytes, 48)).at(u64_at(bytes, 0))
}

/// Writes one event. Names longer than 31 bytes are cut on a character boundary; a missing timestamp becomes 0.
pub fn encode(event: &Event<'_>) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0..8].copy_from_slice(&event.timestamp_us().unwrap_or(0).to_le_bytes());
    bytes[8..12].copy_from_slice(&encode_category(event));
    bytes[12..44].copy_from_slice(&encode_name(event));
    bytes[48..56].copy_from_slice(&event.value().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn bytes_of_an_error_event() {
        let event = Event::new(Kind::ERR_NOT_FOUND, 1).at(1_764_000_000_000_001);
        let mut expected = [0; SIZE];
        expected[0..8].copy_from_slice(&1_764_000_000_000_001_u64.to_le_bytes());
        expected[8] = 4;
        expected[12..30].copy_from_slice(b"NIXL_ERR_NOT_FOUND");
        expected[48] = 1;
        assert_eq!(encode(&event), expected);

        expected[44..48].fill(0xaa);
        assert_eq!(decode(&expected), event);
    }
}
