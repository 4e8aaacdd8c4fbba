// SPDX-License-Identifier: Apache-2.0

//! Columns of few distinct values, encoded as they are known: not row by row.
//!
//! `parquet` would look up the text of every row in a hash table, several times the cost of everything else that happens to an
//! event. Here the rows bring the number of their subject, and each subject its text, so that what is left is packing
//! numbers. The pages are made by hand; their headers, and the rest of the file, by `parquet`.
//!
//! A chunk is a dictionary page, in which values are sorted, and one data page (`RLE_DICTIONARY`, version 1):
//!
//! | bytes | |
//! |---|---|
//! | 4, and that many | definition levels, a bit a row, if the column has nulls: one run |
//! | 1 | bits of an index |
//! | | the indices of the rows that have a value: one run |
//!
//! A run is either so many times the same, or packed bits.

use std::borrow::Cow;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

/// A longer text is not in the statistics, which stand in the footer of the file.
const LONGEST_STATISTIC: usize = 256;

/// A column chunk, to be appended to a row group.
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) close: ColumnCloseResult,
}

/// What pages are compressed with.
pub(crate) struct Codec {
    pub(crate) compression: Compression,
    pub(crate) compressor: Option<Compressor<'static>>,
}

impl Chunk {
    /// Texts: for each row the text of its subject.
    pub(crate) fn of_texts(
        column: &ColumnDescPtr,
        texts: &[Option<Cow<'_, str>>],
        subjects: &[u32],
        codec: &mut Codec,
    ) -> Result<Self> {
        let mut values: Vec<&str> = texts.iter().flatten().map(AsRef::as_ref).collect();
        values.sort_unstable();
        values.dedup();
        let index = |text: &Cow<'_, str>| values.binary_search(&text.as_ref()).map_or(0, to_u32);
        let keys: Vec<Option<u32>> = texts.iter().map(|text| text.as_ref().map(index)).collect();
        let mut dictionary = Vec::new();
        for value in &values {
            dictionary.extend(to_u32(value.len()).to_le_bytes());
            dictionary.extend(value.as_bytes());
        }
        let bound = |value: Option<&&str>| {
            value
                .filter(|value| value.len() <= LONGEST_STATISTIC)
                .map(|value| ByteArray::from(value.as_bytes().to_vec()))
        };
        let (first, last) = (bound(values.first()), bound(values.last()));
        let statistics = |nulls| Statistics::byte_array(first, last, None, Some(nulls), false);
        Self::new(column, (dictionary, values.len()), &keys, subjects, statistics, codec)
    }

    /// The same number in each row.
    pub(crate) fn of_number(column: &ColumnDescPtr, number: i32, subjects: &[u32], codec: &mut Codec) -> Result<Self> {
        let keys = vec![Some(0); subjects.iter().max().map_or(0, |most| *most as usize + 1)];
        let statistics = |nulls| Statistics::int32(Some(number), Some(number), None, Some(nulls), false);
        Self::new(column, (number.to_le_bytes().to_vec(), 1), &keys, subjects, statistics, codec)
    }

    fn new(
        column: &ColumnDescPtr,
        (dictionary, values): (Vec<u8>, usize),
        keys: &[Option<u32>],
        subjects: &[u32],
        statistics: impl FnOnce(u64) -> Statistics,
        codec: &mut Codec,
    ) -> Result<Self> {
        let rows = to_u32(subjects.len());
        let (data, nulls) = data_page(column.max_def_level() > 0, values, keys, subjects);
        // A dictionary of nothing is left out: a page of nulls has no value to encode.
        let encoding = if values > 0 { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
        let mut sink = TrackedWrite::new(Vec::new());
        let mut pages = SerializedPageWriter::new(&mut sink);
        let mut uncompressed = 0;
        let mut data_offset = 0;
        if values > 0 {
            let (buf, size) = codec.compress(dictionary)?;
            let page =
                Page::DictionaryPage { buf, num_values: to_u32(values), encoding: Encoding::PLAIN, is_sorted: true };
            let written = pages.write_page(CompressedPage::new(page, size))?;
            uncompressed += written.uncompressed_size;
            data_offset = written.bytes_written;
        }
        let (buf, size) = codec.compress(data)?;
        let page = Page::DataPage {
            buf,
            num_values: rows,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        uncompressed += pages.write_page(CompressedPage::new(page, size))?.uncompressed_size;
        let bytes = Bytes::from(sink.into_inner()?);

        let mut encodings = vec![Encoding::RLE, encoding];
        if values > 0 {
            encodings.push(Encoding::PLAIN);
        }
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(codec.compression)
            .set_encodings(encodings)
            .set_num_values(rows.into())
            .set_total_compressed_size(to_i64(bytes.len()))
            .set_total_uncompressed_size(to_i64(uncompressed))
            .set_dictionary_page_offset((values > 0).then_some(0))
            .set_data_page_offset(data_offset.cast_signed())
            .set_statistics(statistics(nulls as u64))
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows.into(),
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok(Self { bytes, close })
    }
}

impl Codec {
    /// The page as it stands in the file, and how long it was.
    fn compress(&mut self, page: Vec<u8>) -> Result<(Bytes, usize)> {
        let size = page.len();
        let page = match &mut self.compressor {
            Some(compressor) => compressor.compress(&page)?,
            None => page,
        };
        Ok((page.into(), size))
    }
}

/// A data page of the table above, and how many rows of it have no value.
fn data_page(has_levels: bool, values: usize, keys: &[Option<u32>], subjects: &[u32]) -> (Vec<u8>, usize) {
    let (mut page, mut nulls) = (Vec::with_capacity(subjects.len() + 64), 0);
    let key = |subject: &u32| keys[*subject as usize];
    if has_levels {
        page.extend([0; 4]);
        if keys.iter().all(Option::is_some) {
            repeat(1, 1, subjects.len(), &mut page);
        } else {
            let levels = subjects.iter().map(|subject| u32::from(key(subject).is_some()));
            nulls = levels.clone().filter(|level| *level == 0).count();
            pack(levels, 1, &mut page);
        }
        let levels = to_u32(page.len() - 4).to_le_bytes();
        page[..4].copy_from_slice(&levels);
    }
    if values > 0 {
        let bits = (values - 1).max(1).ilog2() + 1;
        page.push(bits.to_le_bytes()[0]);
        if values == 1 {
            repeat(0, bits, subjects.len() - nulls, &mut page);
        } else {
            pack(subjects.iter().filter_map(key), bits, &mut page);
        }
    }
    (page, nulls)
}

/// Appends a run of `times` the same number.
fn repeat(number: u32, bits: u32, times: usize, bytes: &mut Vec<u8>) {
    varint(times << 1, bytes);
    bytes.extend(&number.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Appends a run of numbers, of so many bits each: the first in the lowest bits of the first byte. There are eight times as many
/// as the run says, of which the last may be nobody's.
fn pack(numbers: impl Iterator<Item = u32> + Clone, bits: u32, bytes: &mut Vec<u8>) {
    let groups = numbers.clone().count().div_ceil(8);
    varint(groups << 1 | 1, bytes);
    let end = bytes.len() + groups * bits as usize;
    let (mut word, mut filled) = (0_u64, 0);
    for number in numbers {
        word |= u64::from(number) << filled;
        filled += bits;
        if filled >= 32 {
            bytes.extend(&word.to_le_bytes()[..4]);
            word >>= 32;
            filled -= 32;
        }
    }
    bytes.extend(word.to_le_bytes());
    bytes.resize(end, 0);
}

/// Seven bits a byte, the lowest first; all bytes but the last have the highest bit set.
fn varint(mut number: usize, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn to_u32(number: usize) -> u32 {
    // Rows of a group, and what they hold in memory.
    u32::try_from(number).expect("fewer than 2^32")
}

fn to_i64(number: usize) -> i64 {
    i64::try_from(number).expect("nothing in memory is as long as that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_the_format_has_them() {
        let mut bytes = Vec::new();
        // The example of the specification: 0 to 7 in three bits each.
        pack(0..8, 3, &mut bytes);
        assert_eq!(bytes, [0b11, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
        bytes.clear();
        pack([1, 1, 0, 1, 0, 0, 0, 0, 1].into_iter(), 1, &mut bytes);
        assert_eq!(bytes, [0b101, 0b1011, 0b1]);
        bytes.clear();
        pack((0..100).map(|number| number * 1000), 17, &mut bytes);
        assert_eq!(bytes.len(), 1 + 13 * 17);
        let number = |at: usize| {
            let (byte, bit) = (1 + at * 17 / 8, at * 17 % 8);
            let word = (0..4).map(|next| u64::from(bytes[byte + next]) << (8 * next)).sum::<u64>();
            (word >> bit) & 0x1_ffff
        };
        assert_eq!((0..100).map(number).collect::<Vec<_>>(), (0..100).map(|number| number * 1000).collect::<Vec<_>>());
        bytes.clear();
        repeat(1, 1, 1000, &mut bytes);
        assert_eq!(bytes, [0xd0, 0x0f, 1]);
    }
}
