// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::Layout;

use crate::header::{HEADER_SIZE, Header};
use crate::{Malformed, stamp};

/// What a ring file's slots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The version in its header.
    pub version: i32,
    /// The layout of its events.
    pub layout: Layout,
    /// Number of slots.
    pub capacity: u64,
}

impl Shape {
    /// The shape of a file with this header, of `size` bytes.
    ///
    /// The version alone does not tell: version 2 means events of 48 bytes in 1.1.0 and of 16 in 1.2.0. The size does, and
    /// nothing is allocated or read for a capacity that the file has no room for.
    ///
    /// # Errors
    /// If the header is none of a ring of this size.
    pub fn of(header: &Header, size: u64) -> Result<Self, Malformed> {
        let Header { write_pos, read_pos, version, expected_version, capacity, mask } = *header;
        let layouts: &[Layout] = match version {
            0 => return Err(Malformed::Unfinished),
            1 => &[Layout::L56],
            2 => &[Layout::L48, Layout::L16c],
            3 | 4 => &[Layout::L16],
            version => return Err(Malformed::Version { version }),
        };
        if expected_version != version {
            return Err(Malformed::Versions { version, expected_version });
        }
        if !capacity.is_power_of_two() {
            return Err(Malformed::Capacity { capacity });
        }
        if mask != capacity - 1 {
            return Err(Malformed::Mask { mask, capacity });
        }
        let bytes = |layout: Layout| capacity.checked_mul(layout.size() as u64)?.checked_add(HEADER_SIZE as u64);
        let Some(&layout) = layouts.iter().find(|layout| bytes(**layout) == Some(size)) else {
            return Err(Malformed::Size { size, capacity, version, expected: bytes(layouts[0]) });
        };
        for (name, position) in [("write", write_pos), ("read", read_pos)] {
            if position > mask {
                return Err(Malformed::Position { name, position, capacity });
            }
        }
        Ok(Self { version, layout, capacity })
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        HEADER_SIZE as u64 + self.capacity * self.layout.size() as u64
    }

    /// The header of a new file.
    pub(crate) fn header(&self) -> Header {
        let (version, expected_version, capacity, mask) =
            (self.version, self.version, self.capacity, self.capacity - 1);
        Header { write_pos: 0, read_pos: 0, version, expected_version, capacity, mask }
    }

    /// Whether a slot can be an event at all. Only the two layouts that share a version are asked: a name of a file that
    /// was taken for the wrong one would be made of numbers.
    pub(crate) fn fits(&self, slot: &[u8]) -> bool {
        match self.layout {
            Layout::L48 | Layout::L16c => {
                let field = |at: usize| slot[at..].first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
                let is_category = field(0) <= 8;
                // No release with this layout has more kinds.
                is_category && (self.layout == Layout::L48 || field(4) < 1 << 16)
            }
            Layout::L56 | Layout::L16 => true,
        }
    }

    /// Where in a slot its stamp is, if the layout has room for one.
    pub(crate) fn stamp(&self) -> Option<usize> {
        stamp::offset(self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Header = Header { write_pos: 3, read_pos: 1, version: 4, expected_version: 4, capacity: 64, mask: 63 };

    #[test]
    fn version_and_size_make_the_layout() {
        let table = [
            (1, 40 + 64 * 56, Layout::L56),
            (2, 40 + 64 * 48, Layout::L48),
            (2, 40 + 64 * 16, Layout::L16c),
            (3, 40 + 64 * 16, Layout::L16),
            (4, 40 + 64 * 16, Layout::L16),
        ];
        for (version, size, layout) in table {
            let header = Header { version, expected_version: version, ..SOUND };
            let shape = Shape::of(&header, size).unwrap();
            assert_eq!(shape, Shape { version, layout, capacity: 64 });
            assert_eq!(shape.size(), size);
        }
    }

    #[test]
    fn what_is_no_ring_is_told_with_what_was_expected() {
        let size = 40 + 64 * 16;
        let table = [
            (Header { version: 0, ..SOUND }, size, "has version 0: its writer did not finish making it"),
            (Header { version: 7, ..SOUND }, size, "has version 7: expected a ring of version 1 to 4"),
            (
                Header { expected_version: 3, ..SOUND },
                size,
                "has version 4 in one place and 3 in another: expected the same",
            ),
            (Header { capacity: 0, ..SOUND }, size, "has 0 slots: expected a power of two"),
            (Header { capacity: 65, ..SOUND }, size, "has 65 slots: expected a power of two"),
            (Header { mask: 64, ..SOUND }, size, "has the mask 64 for 64 slots: expected 63"),
            (SOUND, size - 1, "has 1063 bytes: expected 1064 for 64 slots of version 4"),
            (
                Header { capacity: 1 << 63, mask: (1 << 63) - 1, ..SOUND },
                size,
                "has 1064 bytes: expected more than there can be for 9223372036854775808 slots of version 4",
            ),
            (Header { write_pos: 64, ..SOUND }, size, "has the write position 64: expected less than 64"),
            (
                Header { read_pos: u64::MAX, ..SOUND },
                size,
                "has the read position 18446744073709551615: expected less than 64",
            ),
        ];
        for (header, size, message) in table {
            assert_eq!(Shape::of(&header, size).unwrap_err().to_string(), message);
        }
    }
}
