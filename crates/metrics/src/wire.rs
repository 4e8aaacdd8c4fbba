// SPDX-License-Identifier: Apache-2.0

//! A writer of protobuf messages: fields go to the end of a buffer, in the order in which they are written.
//!
//! Everything asked for is written, zeros and empty strings included. Nothing is allocated but what the buffer grows by:
//! a nested message is written behind one byte for its length, and moved if the length turns out to need more.
//!
//! ```
//! use nixl_telemetry_metrics::wire;
//!
//! let mut out = Vec::new();
//! wire::message(&mut out, 3, |out| {
//!     wire::uint(out, 1, 150);
//!     wire::string(out, 2, "hi");
//! });
//! assert_eq!(out, [0x1a, 7, 0x08, 0x96, 0x01, 0x12, 2, b'h', b'i']);
//! ```

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

/// Writes a `uint32`, `uint64`, `bool`, enum, or an `int32` or `int64` that is not negative.
#[inline]
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

/// Writes a `sint32` or `sint64`.
#[inline]
pub fn sint(out: &mut Vec<u8>, field: u32, value: i64) {
    uint(out, field, zigzag(value));
}

/// Writes a `fixed64`.
#[inline]
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a `double`.
#[inline]
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64(out, field, value.to_bits());
}

/// Writes a `bytes`.
#[inline]
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes a `string`.
#[inline]
pub fn string(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

/// Writes a nested message, or a packed list whose elements `write` writes without tags.
#[inline]
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, DELIMITED);
    let length = begin(out);
    write(out);
    length.end(out);
}

/// Leaves room for a length; what is written from here to [`Length::end`] is what it counts.
#[inline]
pub fn begin(out: &mut Vec<u8>) -> Length {
    out.push(0);
    Length { at: out.len() - 1 }
}

/// Where a length will stand that is not known yet.
#[derive(Debug)]
#[must_use = "a length that is not ended is zero"]
pub struct Length {
    at: usize,
}

impl Length {
    /// Writes the length, before what has been written to the same buffer since [`begin`].
    ///
    /// # Panics
    /// If the buffer is shorter than it was.
    #[inline]
    pub fn end(self, out: &mut Vec<u8>) {
        let length = out.len() - self.at - 1;
        match u8::try_from(length) {
            Ok(byte @ ..0x80) => out[self.at] = byte,
            _ => self.end_long(out, length),
        }
    }

    fn end_long(self, out: &mut Vec<u8>, length: usize) {
        let (start, end) = (self.at + 1, out.len());
        // Behind the message for a moment, which also makes the room that it needs before it.
        varint(out, length as u64);
        let needed = out.len() - end;
        let mut bytes = [0; LONGEST];
        bytes[..needed].copy_from_slice(&out[end..]);
        out.truncate(end + needed - 1);
        out.copy_within(start..end, start + needed - 1);
        out[self.at..self.at + needed].copy_from_slice(&bytes[..needed]);
    }
}

/// Writes a number without a tag, in as few bytes as it needs.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lowest seven bits at a time")]
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number that stands for a signed one: 0, -1, 1, -2 … become 0, 1, 2, 3 …
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The most bytes of a [`varint`].
const LONGEST: usize = 10;

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_bytes_the_specification_shows() {
        let written = |write: fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        assert_eq!(written(|out| uint(out, 1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|out| uint(out, 16, 0)), [0x80, 0x01, 0]);
        assert_eq!(written(|out| sint(out, 5, -2)), [0x28, 3]);
        assert_eq!(written(|out| double(out, 2, 1.0)), [0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(written(|out| fixed64(out, 2, 0x0102)), [0x11, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|out| string(out, 2, "testing")), *b"\x12\x07testing");
        assert_eq!(written(|out| message(out, 3, |out| uint(out, 1, 150))), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(written(|out| message(out, 3, |_| {})), [0x1a, 0]);
        let packed =
            |out: &mut Vec<u8>| message(out, 6, |out| [3, 270, 86942].into_iter().for_each(|value| varint(out, value)));
        assert_eq!(written(packed), [0x32, 6, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
        let signed = [0, -1, 1, -2, i64::MAX, i64::MIN].map(zigzag);
        assert_eq!(signed, [0, 1, 2, 3, u64::MAX - 1, u64::MAX]);
        let most = written(|out| varint(out, u64::MAX));
        assert_eq!(most, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn a_message_moves_for_its_length() {
        for length in [0, 1, 127, 128, 129, 16383, 16384, 3 << 20] {
            let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let (mut direct, mut nested) = (b"before".to_vec(), b"before".to_vec());
            bytes(&mut direct, 7, &body);
            message(&mut nested, 7, |out| out.extend_from_slice(&body));
            assert!(direct == nested, "{length}");
        }
    }
}
