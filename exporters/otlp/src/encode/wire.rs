// SPDX-License-Identifier: Apache-2.0

//! The wire format of protobuf, as far as OTLP needs it: fields in rising order, defaults left out.

/// Writes the fields of a message, each with its number.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    /// A text that is there even if it is empty.
    pub(super) fn present_text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A message in a message, which may be empty.
    pub(super) fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    pub(super) fn uint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, 0);
            self.varint(value);
        }
    }

    pub(super) fn sint(&mut self, field: u32, value: i32) {
        let zigzag = (value << 1) ^ (value >> 31);
        self.uint(field, u64::from(zigzag.cast_unsigned()));
    }

    pub(super) fn fixed(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.present_fixed(field, value);
        }
    }

    /// A field that is there even if it is zero: one of a `oneof`, or an optional one.
    pub(super) fn present_fixed(&mut self, field: u32, value: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn packed_fixed(&mut self, field: u32, values: impl ExactSizeIterator<Item = u64>) {
        if values.len() > 0 {
            self.tag(field, 2);
            self.varint(values.len() as u64 * 8);
            values.for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        }
    }

    pub(super) fn packed_varints(&mut self, field: u32, values: &[u64]) {
        let mut inner = Self::default();
        values.iter().for_each(|value| inner.varint(*value));
        if !inner.0.is_empty() {
            self.bytes(field, &inner.0);
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A field that was read; those of four and eight bytes are passed over.
#[derive(Debug, PartialEq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers, up to its end or the first thing that is none.
pub(crate) fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut message)?;
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut message)?),
                2 => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    Field::Bytes(message.split_off(..length)?)
                }
                1 => {
                    message.split_off(..8)?;
                    continue;
                }
                5 => {
                    message.split_off(..4)?;
                    continue;
                }
                _ => return None,
            };
            return Some((key >> 3, field));
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bytes_of_the_specification() {
        let mut message = Message::default();
        message.uint(1, 150);
        message.text(2, "testing");
        message.sint(3, -2);
        message.sint(4, i32::MAX);
        message.fixed(5, 1);
        message.uint(6, 0);
        message.fixed(6, 0);
        message.text(6, "");
        message.packed_varints(6, &[3, 270, 86_942]);
        message.packed_fixed(7, [258].into_iter());
        message.packed_varints(8, &[]);
        message.message(9, |inner| inner.uint(1, u64::MAX));
        let expected: Vec<u8> = [
            &b"\x08\x96\x01\x12\x07testing\x18\x03\x20\xfe\xff\xff\xff\x0f\x29\x01\0\0\0\0\0\0\0"[..],
            b"\x32\x06\x03\x8e\x02\x9e\xa7\x05\x3a\x08\x02\x01\0\0\0\0\0\0",
            b"\x4a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ]
        .concat();
        assert_eq!(message.into_bytes(), expected);
        let read: Vec<_> = fields(&expected).collect();
        assert_eq!(read.len(), 7, "the fixed ones are passed over, and nothing is lost after them: {read:?}");
        assert_eq!(read[..2], [(1, Field::Varint(150)), (2, Field::Bytes(b"testing"))]);
        let Field::Bytes(inner) = read[6].1 else { panic!("a message") };
        assert_eq!(fields(inner).collect::<Vec<_>>(), [(1, Field::Varint(u64::MAX))]);
    }

    #[test]
    fn nonsense_ends_the_reading() {
        for nonsense in
            [&b"\x12\xff"[..], b"\x08", b"\x0b", b"\x09\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert_eq!(fields(nonsense).collect::<Vec<_>>(), []);
        }
    }
}
