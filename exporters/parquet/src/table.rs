// SPDX-License-Identifier: Apache-2.0

//! The table, and how its rows become a file.

use std::fs::File;
use std::sync::Arc;

use nixl_telemetry_sdk::queue::OriginId;
use nixl_telemetry_sdk::{Agent, Error, Event, Settings};
use parquet::basic::{Compression as Codecs, Encoding, ZstdLevel};
use parquet::data_type::Int64Type;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::{
    parser::parse_message_type,
    types::{ColumnPath, SchemaDescriptor},
};
use zstd::bulk::Compressor;

use crate::chunk::{Chunk, Codec};
use crate::rows::Rows;
use crate::settings::{COMPRESSION, Compression, ROW_GROUP_SIZE};

/// What every file looks like. Who changes it gives it another [version](VERSION).
const SCHEMA: &str = "
    message nixl_telemetry {
        required int64 timestamp (timestamp(micros, true));
        required binary agent (string);
        required binary hostname (string);
        required int32 pid;
        required binary event (string);
        optional binary category (string);
        required int64 value (integer(64, false));
        optional binary unit (string);
        required binary origin (string);
        required int64 sequence (integer(64, false));
    }";
const VERSION: &str = "1";

/// Writes files.
pub(crate) struct Writer {
    schema: SchemaDescriptor,
    properties: Arc<WriterProperties>,
    codec: Codec,
    row_group_size: usize,
}

impl Writer {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let (compression, compressor) = match settings.get(&COMPRESSION)?.value {
            Compression::None => (Codecs::UNCOMPRESSED, None),
            Compression::Zstd { level } => (Codecs::ZSTD(ZstdLevel::try_new(level)?), Some(Compressor::new(level)?)),
        };
        let rising = |column: &str| (ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by(concat!("nixl-telemetry version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![KeyValue::new("nixl_telemetry.schema".to_owned(), VERSION.to_owned())]))
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            // Who looks for something skips row groups; a page is most of one.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_data_page_row_count_limit(usize::MAX);
        for (column, encoding) in [rising("timestamp"), rising("sequence")] {
            properties = properties.set_column_encoding(column, encoding);
        }
        Ok(Self {
            schema: SchemaDescriptor::new(Arc::new(parse_message_type(SCHEMA)?)),
            properties: Arc::new(properties.build()),
            codec: Codec { compression, compressor },
            row_group_size: settings.get(&ROW_GROUP_SIZE)?.value as usize,
        })
    }

    /// Writes numbered events of one agent into an empty file.
    pub(crate) fn write<'a>(
        &mut self,
        file: &File,
        agent: &'a Agent,
        origin: OriginId,
        events: impl Iterator<Item = (u64, Event<'a>)>,
    ) -> Result<()> {
        let origin = origin.to_string();
        let mut writer = SerializedFileWriter::new(file, self.schema.root_schema_ptr(), Arc::clone(&self.properties))?;
        let mut rows = Rows::default();
        for (number, event) in events {
            rows.push(number, &event);
            if rows.len() == self.row_group_size {
                self.write_group(&mut writer, agent, &origin, &rows)?;
                rows.clear();
            }
        }
        if rows.len() > 0 {
            self.write_group(&mut writer, agent, &origin, &rows)?;
        }
        writer.close()?;
        Ok(())
    }

    fn write_group(
        &mut self,
        writer: &mut SerializedFileWriter<&File>,
        agent: &Agent,
        origin: &str,
        rows: &Rows<'_>,
    ) -> Result<()> {
        let mut group = writer.next_row_group()?;
        let (columns, codec, subjects) = (self.schema.columns(), &mut self.codec, rows.subjects.as_slice());
        let pid = agent.pid().cast_signed();
        for column in columns {
            let chunk = match column.name() {
                "timestamp" => {
                    write_numbers(&mut group, &rows.timestamps)?;
                    continue;
                }
                "value" => {
                    write_numbers(&mut group, &rows.values)?;
                    continue;
                }
                "sequence" => {
                    write_numbers(&mut group, &rows.sequences)?;
                    continue;
                }
                "pid" => Chunk::of_number(column, pid, subjects, codec)?,
                "agent" => Chunk::of_texts(column, &rows.all(agent.name()), subjects, codec)?,
                "hostname" => Chunk::of_texts(column, &rows.all(agent.hostname()), subjects, codec)?,
                "event" => Chunk::of_texts(column, &rows.names(), subjects, codec)?,
                "category" => Chunk::of_texts(column, &rows.categories(), subjects, codec)?,
                "unit" => Chunk::of_texts(column, &rows.units(), subjects, codec)?,
                _ => Chunk::of_texts(column, &rows.all(origin), subjects, codec)?,
            };
            group.append_column(&chunk.bytes, chunk.close)?;
        }
        group.close()?;
        Ok(())
    }
}

/// Writes the next column, of 64-bit integers.
fn write_numbers(group: &mut SerializedRowGroupWriter<'_, &File>, numbers: &[i64]) -> Result<()> {
    let no_column = || ParquetError::General("a row group ends before its schema".to_owned());
    let mut column = group.next_column()?.ok_or_else(no_column)?;
    column.typed::<Int64Type>().write_batch(numbers, None, None)?;
    column.close()
}
