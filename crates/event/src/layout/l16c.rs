// SPDX-License-Identifier: Apache-2.0

//! Layout of 1.2.0 (plugin API 2 and ring 2, as 1.1.0 has them with another stride), 16 bytes.
//!
//! | offset | field |
//! |---|---|
//! | 0 | u32 category |
//! | 4 | u32 kind |
//! | 8 | u64 value |

use super::{encode_category, u32_at, u64_at};
use crate::{Event, Kind};

/// Size in bytes.
pub const SIZE: usize = 16;

/// Reads one event. The kind decides; the category that came with it says nothing more.
#[inline]
pub fn decode(bytes: &[u8; SIZE]) -> Event<'static> {
    Event::new(Kind::from_code(u32_at(bytes, 4)), u64_at(bytes, 8))
}

/// Writes one event, or returns `None` for a named event, which this layout cannot hold.
pub fn encode(event: &Event<'_>) -> Option<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    bytes[0..4].copy_from_slice(&encode_category(event));
    bytes[4..8].copy_from_slice(&event.kind()?.code().to_le_bytes());
    bytes[8..16].copy_from_slice(&event.value().to_le_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_transfer_time() {
        let event = Event::new(Kind::XFER_TIME, 258);
        let expected = [5, 0, 0, 0, 6, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(encode(&event), Some(expected));
        assert_eq!(decode(&expected), event);
    }
}
