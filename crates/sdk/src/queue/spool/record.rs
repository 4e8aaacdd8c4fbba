// SPDX-License-Identifier: Apache-2.0

//! The bytes of a spool. Numbers are little-endian.
//!
//! A segment begins with a header:
//!
//! | bytes | |
//! |---|---|
//! | 8 | `NIXLTLMS` |
//! | 4 | version, 1 |
//! | 4 | length of the header |
//! | 16 | origin |
//! | 8 | sequence number of the first event |
//! | 8 | number of the agent in its process |
//! | 4 | process |
//! | 4, 4 | lengths of the agent's and the machine's name |
//! | | these names |
//! | 4 | CRC-32 of all this |
//!
//! Records follow, one for each batch, or part of one:
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of what follows the checksum |
//! | 4 | its CRC-32 |
//! | 8 | sequence number of the first event |
//! | 8 | when the queue got it, in microseconds since the Unix epoch |
//! | 4 | 1 if the host has exported it before |
//! | 4, 4 | how many names and events |
//! | | names: category, 4, length, 4, and text |
//! | | events |
//!
//! An event takes as many bytes as its numbers need, five or six as a rule: what the host waits for is that they are copied.
//!
//! | bytes | |
//! |---|---|
//! | 1 | lengths, each from 0 to 8: of the value, low four bits, and of the time, high four |
//! | 1 | twice the kind, or twice the index of a name and 1; 254 or 255 if that is from 127 |
//! | 4 | the kind or index, if so |
//! | | value |
//! | | time in microseconds, as twice the difference from the event before, the first time from when the queue got it; |
//! | | its complement if it is less |

use std::ops::Range;

use nixl_telemetry_event::Category;

use crate::Agent;
use crate::batch::{Buffer, Record};
use crate::queue::delivery::{Chunk, OriginId, Part, Source};

const MAGIC: [u8; 8] = *b"NIXLTLMS";
const VERSION: u32 = 1;

/// Bytes before those a record's checksum is of.
pub(super) const PREFIX: usize = 8;
/// Bytes of a record before its names.
const HEAD: usize = PREFIX + 28;

/// Most bytes of a segment.
pub(super) const MOST_BYTES: u64 = 1 << 30;

/// Why a file of a spool, or a part of one, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It is something else.
    #[error("does not begin as a segment of a spool does: expected NIXLTLMS")]
    Magic,
    /// It was written by another version of this crate.
    #[error("is a segment of version {0}: expected {VERSION}")]
    Version(u32),
    /// It does not say whose it is.
    #[error("its header is damaged")]
    Header,
    /// The record that begins at this byte is not what was written.
    #[error("its record at byte {0} is damaged")]
    Record(u64),
    /// As many bytes at its end are what is left of a write that was not finished.
    #[error("its last {0} bytes are no whole record")]
    Torn(u64),
    /// No segment is as large: this one has so many bytes.
    #[error("has {0} bytes: expected {MOST_BYTES} at most")]
    Size(u64),
    /// The system says so.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What a segment's header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) origin: OriginId,
    pub(super) first: u64,
    pub(super) agent: String,
    pub(super) hostname: String,
    pub(super) pid: u32,
    pub(super) instance: u64,
    /// Its own bytes.
    pub(super) len: usize,
}

/// The header of a segment.
pub(super) fn header(source: &Source, first: u64) -> Vec<u8> {
    let Source { origin, agent } = source;
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(origin.0.to_le_bytes());
    bytes.extend(first.to_le_bytes());
    bytes.extend(agent.instance().to_le_bytes());
    bytes.extend(agent.pid().to_le_bytes());
    bytes.extend(length(agent.name()));
    bytes.extend(length(agent.hostname()));
    bytes.extend(agent.name().as_bytes());
    bytes.extend(agent.hostname().as_bytes());
    let len = u32::try_from(bytes.len() + 4).unwrap_or(u32::MAX);
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Reads a header, from all bytes of a segment or at least those of its header.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, Broken> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Broken::Magic);
    }
    let mut reader = Reader(&bytes[MAGIC.len()..]);
    match reader.u32().ok_or(Broken::Header)? {
        VERSION => {}
        other => return Err(Broken::Version(other)),
    }
    let read = (|| {
        let len = usize::try_from(reader.u32()?).ok()?;
        let (body, sum) = bytes.get(..len)?.split_last_chunk()?;
        let mut reader = Reader(body.get(16..).filter(|_| crc32fast::hash(body) == u32::from_le_bytes(*sum))?);
        let (origin, first) = (OriginId(u128::from_le_bytes(reader.array()?)), reader.u64()?);
        let (instance, pid) = (reader.u64()?, reader.u32()?);
        let (agent, hostname) = (reader.u32()?, reader.u32()?);
        let (agent, hostname) = (reader.text(agent)?, reader.text(hostname)?);
        Some(Header { origin, first, agent, hostname, pid, instance, len })
    })();
    read.ok_or(Broken::Header)
}

impl Header {
    /// Whose events these are; what a header does not tell is `like`.
    pub(super) fn source(self, like: &Agent) -> Source {
        Source { origin: self.origin, agent: like.of_another(self.agent, self.hostname, self.pid, self.instance) }
    }
}

/// Appends the record of these events.
pub(super) fn write(part: &Part<'_>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let Part { first, at_us, is_repeated, records, names } = *part;
    bytes.extend([0; PREFIX]);
    bytes.extend(first.to_le_bytes());
    bytes.extend(at_us.to_le_bytes());
    bytes.extend(u32::from(is_repeated).to_le_bytes());
    bytes.extend(count(names.len()));
    bytes.extend(count(records.len()));
    for (category, name) in names {
        bytes.extend(category.code().to_le_bytes());
        bytes.extend(length(name));
        bytes.extend(name.as_bytes());
    }
    write_events(records, at_us, bytes);
    let body = &bytes[start + PREFIX..];
    let (len, sum) = (count(body.len()), crc32fast::hash(body).to_le_bytes());
    bytes[start..start + 4].copy_from_slice(&len);
    bytes[start + 4..start + PREFIX].copy_from_slice(&sum);
}

/// Reads the record that begins here: its chunk, and its length; `None` if there is no whole and sound one.
pub(super) fn read(bytes: &[u8]) -> Option<(Chunk, usize)> {
    let mut reader = Reader(bytes);
    let (len, sum) = (reader.u32()?, reader.u32()?);
    let len = usize::try_from(len).ok()?;
    let body = reader.0.get(..len).filter(|body| crc32fast::hash(body) == sum)?;
    let mut reader = Reader(body);
    let (first, at_us) = (reader.u64()?, reader.u64()?);
    let (is_repeated, names, events) = (reader.u32()? != 0, reader.u32()?, reader.u32()?);
    let names = (0..names)
        .map(|_| {
            let (category, length) = (reader.u32()?, reader.u32()?);
            Some((Category::from_code(category), reader.text(length)?))
        })
        .collect::<Option<Vec<_>>>()?;
    let mut records = Vec::with_capacity(usize::try_from(events).ok()?.min(reader.0.len() / LEAST));
    let mut time = at_us;
    for _ in 0..events {
        let [lengths, code] = reader.array()?;
        let (named, code) = match code {
            LONG.. => (code == LONG + 1, reader.u32()?),
            _ => (code & 1 == 1, u32::from(code / 2)),
        };
        let is_known = !named || usize::try_from(code).is_ok_and(|code| code < names.len());
        let value = reader.number(lengths & 15).filter(|_| is_known)?;
        let step = reader.number(lengths >> 4)?;
        time = time.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
        records.push(Record { code, named, value, timestamp_us: time });
    }
    let is_whole = reader.0.is_empty() && !records.is_empty();
    let sequence_fits = first.checked_add(records.len() as u64).is_some();
    let events = Buffer::of(records, names);
    (is_whole && sequence_fits).then_some((Chunk { first, at_us, is_repeated, events }, PREFIX + len))
}

/// The records of a segment, each with the bytes it is in.
///
/// What is damaged is told once, and passed over to the next sound record.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The least number the next event may have.
    next: u64,
}

impl<'a> Walk<'a> {
    /// Begins behind the header of a segment.
    pub(super) const fn new(bytes: &'a [u8], header: &Header) -> Self {
        Self { bytes, at: header.len, next: header.first }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Chunk, Range<u64>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, rest) = (self.at, self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?);
        if let Some((chunk, len)) = read(rest) {
            self.at += len;
            self.next = chunk.end();
            return Some(Ok((chunk, at as u64..self.at as u64)));
        }
        let is_sound = |bytes: &[u8]| may_be_record(bytes, self.next) && read(bytes).is_some();
        let sound = (1..rest.len()).find(|skipped| is_sound(&rest[*skipped..]));
        self.at = sound.map_or(self.bytes.len(), |skipped| at + skipped);
        let is_torn = sound.is_none() && is_torn(rest);
        Some(Err(if is_torn { Broken::Torn(rest.len() as u64) } else { Broken::Record(at as u64) }))
    }
}

/// Whether bytes that are no sound record, and behind which there is none, are what is left of a write: shorter than it was to
/// be, or never written.
fn is_torn(rest: &[u8]) -> bool {
    let Some(([len, sum], body)) = rest.split_first_chunk::<PREFIX>().map(|(prefix, body)| (halves(prefix), body))
    else {
        return true;
    };
    // If its sum fits it is all there, and its length is what is damaged.
    let is_short = body.len() < len as usize && crc32fast::hash(body) != sum;
    is_short || rest.iter().all(|byte| *byte == 0)
}

/// Whether it is worth the time to see whether a sound record begins here, of events that have at least this number.
fn may_be_record(bytes: &[u8], least: u64) -> bool {
    let (Some(prefix), Some(head)) = (bytes.first_chunk(), bytes.get(PREFIX..HEAD)) else { return false };
    let mut reader = Reader(head);
    let (first, _, is_repeated) = (reader.u64(), reader.u64(), reader.u32());
    let [len, _] = halves(prefix);
    let is_near = |first: u64| first.checked_sub(least).is_some_and(|ahead| ahead <= MOST_BYTES);
    len as usize <= bytes.len() - PREFIX && first.is_some_and(is_near) && is_repeated.is_some_and(|flag| flag <= 1)
}

/// A record's length and sum.
pub(super) fn halves(prefix: &[u8; PREFIX]) -> [u32; 2] {
    let (len, sum) = prefix.split_at(PREFIX / 2);
    [len, sum].map(|half| half.try_into().map_or(0, u32::from_le_bytes))
}

/// Least and most bytes of an event.
const LEAST: usize = 2;
const MOST: usize = LEAST + 4 + WORD + WORD;
/// What is written at once, however long the number in it is.
const WORD: usize = 8;
/// The least code that does not fit into its byte, with the bit for a name.
const LONG: u8 = 254;

fn write_events(records: &[Record], mut time: u64, bytes: &mut Vec<u8>) {
    const AT_ONCE: usize = 64;
    let mut block = [0; MOST * AT_ONCE + WORD];
    for records in records.chunks(AT_ONCE) {
        let mut at = 0;
        for record in records {
            let step = record.timestamp_us.wrapping_sub(time).cast_signed();
            let room = block[at..].first_chunk_mut().expect("there is room for each");
            at += write_event(record, (step << 1 ^ step >> 63).cast_unsigned(), room);
            time = record.timestamp_us;
        }
        bytes.extend(&block[..at]);
    }
}

/// Writes an event, and tells its length; what is in a word behind it may change.
#[inline]
fn write_event(record: &Record, step: u64, to: &mut [u8; MOST + WORD]) -> usize {
    let Record { code, named, value, .. } = *record;
    // As a rule all of it fits into a word.
    if code < u32::from(LONG / 2) && value <= u64::from(u32::MAX) && step <= u64::from(u16::MAX) {
        let (of_value, of_step) = (length_of(value), length_of(step));
        let head = u64::from(of_value | of_step << 4) | u64::from(2 * code + u32::from(named)) << 8;
        let word = head | value << 16 | step << (16 + 8 * of_value);
        to[..WORD].copy_from_slice(&word.to_le_bytes());
        return LEAST + usize::from(of_value + of_step);
    }
    let lengths = [value, step].map(length_of);
    to[0] = lengths[0] | lengths[1] << 4;
    let mut at = LEAST;
    match u8::try_from(code) {
        Ok(code) if code < LONG / 2 => to[1] = 2 * code + u8::from(named),
        _ => {
            to[1] = LONG + u8::from(named);
            to[at..at + 4].copy_from_slice(&code.to_le_bytes());
            at += 4;
        }
    }
    for (number, length) in [value, step].into_iter().zip(lengths) {
        to[at..at + WORD].copy_from_slice(&number.to_le_bytes());
        at += usize::from(length);
    }
    at
}

/// Bytes a number needs.
#[inline]
fn length_of(number: u64) -> u8 {
    // Of a number that is known to be short fewer comparisons are left; and what counts leading zeros takes longer on many
    // processors, as it is compiled for all.
    (0..u64::BITS).step_by(8).map(|bits| u8::from(number >> bits > 0)).sum()
}

fn length(text: &str) -> [u8; 4] {
    count(text.len())
}

fn count(number: usize) -> [u8; 4] {
    // Nothing of this kind in memory is as long as that.
    u32::try_from(number).expect("fewer than 2^32 bytes").to_le_bytes()
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        self.0.split_off(..len)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of so many bytes, at most 8.
    fn number(&mut self, len: u8) -> Option<u64> {
        let mut bytes = [0; 8];
        let len = usize::from(len);
        bytes.get_mut(..len)?.copy_from_slice(self.bytes(len)?);
        Some(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, len: u32) -> Option<String> {
        let bytes = self.bytes(usize::try_from(len).ok()?)?;
        str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::{Event, Kind};
    use proptest::prelude::*;

    use super::*;

    fn chunk() -> Chunk {
        let mut events = Buffer::new();
        events.push(&Event::new(Kind::TX_BYTES, u64::MAX).at(1));
        events.push(&Event::backend("ucx_a", 2).at(u64::MAX));
        events.push(&Event::named(Category::from_code(77), "", 3).at(3));
        events.push(&Event::new(Kind::from_code(u32::MAX), 4).at(4));
        Chunk { first: 42, at_us: 4711, is_repeated: true, events }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut bytes = Vec::new();
        write(&chunk().as_part(), &mut bytes);
        let len = bytes.len();
        write(&chunk().as_part(), &mut bytes);
        let (read, end) = super::read(&bytes).unwrap();
        assert_eq!((read.first, read.at_us, read.is_repeated, end), (42, 4711, true, len));
        assert_eq!(read.events.iter().collect::<Vec<_>>(), chunk().events.iter().collect::<Vec<_>>());
        assert_eq!(super::read(&bytes[end..]).unwrap().1, len);
    }

    #[test]
    fn events_of_transfers_take_few_bytes() {
        let mut events = Buffer::new();
        for transfer in 0..1000 {
            for (kind, value) in [(Kind::XFER_TIME, 96), (Kind::TX_BYTES, 65536), (Kind::TX_REQUESTS_NUM, 1)] {
                events.push(&Event::new(kind, value).at(1_764_000_000_000_000 + transfer));
            }
        }
        let mut bytes = Vec::new();
        let chunk = Chunk { first: 0, at_us: 1_764_000_000_000_000, is_repeated: false, events };
        write(&chunk.as_part(), &mut bytes);
        // Lengths, kind and value of each, and a byte for each new time.
        assert_eq!(bytes.len(), PREFIX + 28 + 1000 * (3 + 5 + 3) + 999);
        assert_eq!(super::read(&bytes).unwrap().0.events.iter().len(), 3000);
    }

    #[test]
    fn a_header_tells_whose_it_is() {
        let source = Source { origin: OriginId(7 << 100), agent: Agent::new("decode/0 ü") };
        let bytes = header(&source, 99);
        let read = read_header(&bytes).unwrap();
        assert_eq!((read.first, read.len, read.origin), (99, bytes.len(), source.origin));
        let agent = read.source(&Agent::new("another")).agent;
        let told =
            |agent: &Agent| (agent.name().to_owned(), agent.hostname().to_owned(), agent.pid(), agent.instance());
        assert_eq!(told(&agent), told(&source.agent));

        let damaged = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            read_header(&bytes).unwrap_err().to_string()
        };
        assert_eq!(damaged(0), "does not begin as a segment of a spool does: expected NIXLTLMS");
        assert_eq!(damaged(8), "is a segment of version 0: expected 1");
        for at in 12..bytes.len() {
            assert_eq!(damaged(at), "its header is damaged", "{at}");
        }
        assert!(matches!(read_header(&bytes[..bytes.len() - 1]), Err(Broken::Header)));
    }

    #[test]
    fn what_is_damaged_is_passed_over_where_there_is_a_way() {
        let mut record = Vec::new();
        write(&chunk().as_part(), &mut record);
        let len = record.len();
        let walk = |bytes: &[u8]| -> Vec<String> {
            let told = Walk { bytes, at: 0, next: 0 }.map(|record| match record {
                Ok((chunk, bytes)) => format!("{} at {}", chunk.len(), bytes.start / len as u64),
                Err(error) => error.to_string(),
            });
            told.collect()
        };
        let mut three = record.clone();
        for first in [46, 50] {
            write(&Chunk { first, ..chunk() }.as_part(), &mut three);
        }
        assert_eq!(walk(&three), ["4 at 0", "4 at 1", "4 at 2"]);
        let damaged = |at: usize| {
            let mut bytes = three.clone();
            bytes[at] ^= 1;
            walk(&bytes)
        };
        assert_eq!(damaged(len + 20), ["4 at 0", &format!("its record at byte {len} is damaged"), "4 at 2"]);
        // Its length leads astray, or beyond the end, also where nothing follows.
        for at in 0..4 {
            assert_eq!(damaged(at), ["its record at byte 0 is damaged", "4 at 1", "4 at 2"]);
            let last = format!("its record at byte {} is damaged", 2 * len);
            assert_eq!(damaged(2 * len + at), ["4 at 0", "4 at 1", &last]);
            assert_eq!(damaged(3 * len - 1), ["4 at 0", "4 at 1", &last]);
        }
        let torn = |torn: usize| format!("its last {torn} bytes are no whole record");
        assert_eq!(walk(&three[..2 * len + 3]), ["4 at 0", "4 at 1", &torn(3)]);
        assert_eq!(walk(&[&record[..], &[0; 100]].concat()), ["4 at 0", &torn(100)]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(
            records in proptest::collection::vec((any::<u32>(), any::<bool>(), any::<u64>(), any::<u64>(), 0..64u32), 1..50),
            at_us: u64,
        ) {
            let records: Vec<_> = records.into_iter().map(|(code, named, value, timestamp_us, shift)| Record {
                code: if named { code % 300 } else { code >> (shift % 32) },
                named,
                value: value >> shift,
                timestamp_us: if shift % 2 == 0 { at_us.wrapping_add(timestamp_us >> shift) } else { timestamp_us },
            }).collect();
            let names: Vec<_> = (0..300).map(|number| (Category::from_code(number), number.to_string())).collect();
            let chunk = Chunk { first: 7, at_us, is_repeated: false, events: Buffer::of(records, names) };
            let mut bytes = Vec::new();
            write(&chunk.as_part(), &mut bytes);
            let (read, len) = super::read(&bytes).unwrap();
            prop_assert_eq!(len, bytes.len());
            prop_assert!(read.events.iter().eq(chunk.events.iter()));
        }

        #[test]
        fn no_bytes_are_trusted(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<usize>()) {
            // Neither made-up ones, with a sum that fits,
            if bytes.len() > PREFIX {
                let (len, sum) = (count(bytes.len() - PREFIX), crc32fast::hash(&bytes[PREFIX..]).to_le_bytes());
                bytes[..4].copy_from_slice(&len);
                bytes[4..PREFIX].copy_from_slice(&sum);
            }
            let _ = super::read(&bytes);
            let _ = read_header(&[&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat());
            // nor damaged ones.
            let mut bytes = Vec::new();
            write(&chunk().as_part(), &mut bytes);
            let at = flip % (8 * bytes.len());
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(super::read(&bytes).is_none());
        }
    }
}
