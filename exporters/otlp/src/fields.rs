// SPDX-License-Identifier: Apache-2.0

//! Reads protobuf, as far as an answer has it.

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
    use nixl_telemetry_metrics::wire;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut message = Vec::new();
        wire::uint(&mut message, 1, u64::MAX);
        wire::fixed64(&mut message, 2, 7);
        wire::string(&mut message, 300, "testing");
        message.extend_from_slice(b"\x25\x01\x02\x03\x04");
        wire::message(&mut message, 5, |inner| wire::uint(inner, 1, 150));
        let read: Vec<_> = fields(&message).collect();
        assert_eq!(
            read,
            [(1, Field::Varint(u64::MAX)), (300, Field::Bytes(b"testing")), (5, Field::Bytes(b"\x08\x96\x01"))]
        );
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
