// SPDX-License-Identifier: Apache-2.0

//! Events as rows of PostgreSQL's binary COPY, in messages of the protocol.

use bytes::{BufMut as _, BytesMut};
use nixl_telemetry_sdk::Event;

/// The columns, in the order they are written.
pub(crate) const COLUMNS: &str = "time, agent_id, kind_id, value, sequence";

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of the number of fields.
const TRAILER: i16 = -1;
/// A message is ended when it is that long: neither many of them, nor much for the server to keep.
const MESSAGE: usize = 1 << 16;
/// Five fields with their lengths.
const ROW: usize = 2 + 5 * 4 + 8 + 4 + 4 + 8 + 8;

/// 2000-01-01, where the server's clock begins, in microseconds since the Unix epoch.
const EPOCH_US: i64 = 946_684_800_000_000;
/// 294277-01-01, where it ends, in microseconds since 2000.
const END_US: i64 = 9_223_371_331_200_000_000;
/// What stands for the time after the end.
const INFINITY: i64 = i64::MAX;

/// Writes rows behind what is in a buffer.
pub(crate) struct Rows<'a> {
    out: &'a mut BytesMut,
    /// Where the length of the message stands that is being written.
    length_at: usize,
    agent_id: i32,
}

impl<'a> Rows<'a> {
    /// Begins with the header. Makes room for so many rows.
    pub(crate) fn new(out: &'a mut BytesMut, agent_id: i32, rows: usize) -> Self {
        out.reserve(rows * ROW + rows * ROW / MESSAGE * 8 + 64);
        let mut rows = Self { out, length_at: 0, agent_id };
        rows.begin();
        rows.out.put_slice(HEADER);
        rows
    }

    pub(crate) fn push(&mut self, event: &Event<'_>, kind_id: i32, sequence: u64) {
        if self.out.len() - self.length_at > MESSAGE - ROW {
            self.end();
            self.begin();
        }
        self.out.put_i16(5);
        self.put_i64(timestamp(event.timestamp_us().unwrap_or_default()));
        self.put_i32(self.agent_id);
        self.put_i32(kind_id);
        // Above the largest signed number, its two's complement: no bit is lost.
        self.put_i64(event.value().cast_signed());
        self.put_i64(sequence.cast_signed());
    }

    /// Writes the trailer.
    pub(crate) fn finish(mut self) {
        self.out.put_i16(TRAILER);
        self.end();
    }

    fn begin(&mut self) {
        self.out.put_u8(b'd');
        self.length_at = self.out.len();
        self.out.put_i32(0);
    }

    fn end(&mut self) {
        let length = i32::try_from(self.out.len() - self.length_at).expect("a message is short");
        self.out[self.length_at..][..4].copy_from_slice(&length.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.out.put_i32(4);
        self.out.put_i32(value);
    }

    fn put_i64(&mut self, value: i64) {
        self.out.put_i32(8);
        self.out.put_i64(value);
    }
}

/// A time as the server has it.
fn timestamp(unix_us: u64) -> i64 {
    match i64::try_from(unix_us) {
        Ok(unix_us) if unix_us - EPOCH_US < END_US => unix_us - EPOCH_US,
        _ => INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::Kind;

    use super::*;

    #[test]
    fn a_row_is_as_the_manual_has_it() {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut rows = Rows::new(&mut out, 7, 1);
        rows.push(&Event::new(Kind::TX_BYTES, u64::MAX).at(946_684_800_000_001), 3, 258);
        rows.finish();
        let fields = b"\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\x07\0\0\0\x04\0\0\0\x03\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x08\0\0\0\0\0\0\x01\x02";
        let body = [HEADER, b"\0\x05", fields, b"\xff\xff"].concat();
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        assert_eq!(out, [b"befored", &length[..], &body].concat());
        assert_eq!(body.len(), HEADER.len() + ROW + 2);
    }

    #[test]
    fn messages_are_whole_rows_and_none_is_long() {
        let mut out = BytesMut::new();
        let mut rows = Rows::new(&mut out, 1, 10_000);
        for sequence in 0..10_000 {
            rows.push(&Event::new(Kind::TX_BYTES, 1).at(1), 1, sequence);
        }
        rows.finish();
        let (mut rest, mut bytes, mut messages) = (&out[..], 0, 0);
        while let [b'd', a, b, c, d, ..] = *rest {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            assert!(length <= MESSAGE);
            bytes += length - 4;
            messages += 1;
            rest = &rest[1 + length..];
        }
        assert!(rest.is_empty());
        assert_eq!(bytes, HEADER.len() + 10_000 * ROW + 2);
        assert_eq!(messages, (10_000 * ROW).div_ceil(MESSAGE - MESSAGE % ROW));
    }

    #[test]
    fn times_the_server_does_not_know_are_after_all_others() {
        for (unix_us, expected) in [
            (0, -EPOCH_US),
            (946_684_800_000_000, 0),
            (9_224_318_015_999_999_999, INFINITY),
            (u64::MAX, INFINITY),
            (9_223_372_036_854_775_807, 9_222_425_352_054_775_807),
        ] {
            assert_eq!(timestamp(unix_us), expected, "{unix_us}");
        }
    }
}
