// SPDX-License-Identifier: Apache-2.0

//! Layout of 1.1.0 (plugin API 2, ring 2), 48 bytes.
//!
//! | offset | field |
//! |---|---|
//! | 0 | u32 category |
//! | 4 | name, 32 bytes, NUL-terminated |
//! | 36 | 4 bytes of padding |
//! | 40 | u64 value |

use super::{decode_named, encode_category, encode_name, field_at, u32_at, u64_at};
use crate::Event;

/// Size in bytes.
pub const SIZE: usize = 48;

/// Reads one event; its name is borrowed from the bytes.
#[inline]
pub fn decode(bytes: &[u8; SIZE]) -> Event<'_> {
    decode_named(u32_at(bytes, 0), field_at(bytes, 4), u64_at(bytes, 40))
}

/// Writes one event. Names longer than 31 bytes are cut on a character boundary; there is no room for a timestamp.
pub fn encode(event: &Event<'_>) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0..4].copy_from_slice(&encode_category(event));
    bytes[4..36].copy_from_slice(&encode_name(event));
    bytes[40..48].copy_from_slice(&event.value().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn bytes_of_a_registration() {
        let event = Event::new(Kind::MEMORY_REGISTERED, 4096);
        let mut expected = [0; SIZE];
        expected[4..27].copy_from_slice(b"agent_memory_registered");
        expected[41] = 16;
        assert_eq!(encode(&event), expected);

        expected[36..40].fill(0xaa);
        assert_eq!(decode(&expected), event);
    }
}
