// SPDX-License-Identifier: Apache-2.0

/// Bytes in front of the slots.
pub const HEADER_SIZE: usize = 40;

/// The first [`HEADER_SIZE`] bytes of a ring file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the next event is written: a slot's number.
    pub write_pos: u64,
    /// Where the next event is consumed.
    pub read_pos: u64,
    /// The version, 0 as long as the file is being made.
    pub version: i32,
    /// The version again.
    pub expected_version: i32,
    /// Number of slots, a power of two; one of them always stays free.
    pub capacity: u64,
    /// The capacity less one.
    pub mask: u64,
}

/// A buffer for it, at an address at which the kernel copies its words whole.
#[repr(align(8))]
pub(crate) struct Bytes(pub(crate) [u8; HEADER_SIZE]);

/// Offset of [`Header::read_pos`] in the file.
pub(crate) const READ_POS: u64 = 8;

impl Header {
    /// Reads the fields, whatever they are.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            write_pos: word(0),
            read_pos: word(8),
            version: half(16),
            expected_version: half(20),
            capacity: word(24),
            mask: word(32),
        }
    }

    /// The bytes of the fields.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&self.write_pos.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.read_pos.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.version.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.expected_version.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[32..].copy_from_slice(&self.mask.to_le_bytes());
        bytes
    }

    /// Events that nobody has consumed, of a header whose [`Shape`](crate::Shape) is sound.
    pub fn unread(&self) -> u64 {
        self.unread_of(self.mask)
    }

    /// The same by another mask: whatever somebody may have written into the header.
    pub(crate) fn unread_of(&self, mask: u64) -> u64 {
        self.write_pos.wrapping_sub(self.read_pos) & mask
    }

    /// Whether there is no room for one more.
    pub fn is_full(&self) -> bool {
        self.unread() == self.mask
    }
}
