// SPDX-License-Identifier: Apache-2.0

//! What rotated files are compressed with: files as `gzip` and `zstd` make them, with a remark in a place that both pass
//! over.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write},
};

use flate2::{GzBuilder, read::GzDecoder};
use nixl_telemetry_appender::{Codec, Compression};
use nixl_telemetry_sdk::{Dialect, Malformed, Value, one_of};

/// What is done with rotated files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compress {
    None,
    Gzip,
    Zstd,
}

impl Compress {
    const WORDS: [(&str, Self); 3] = [("none", Self::None), ("gzip", Self::Gzip), ("zstd", Self::Zstd)];

    pub(crate) fn compression(self) -> Option<Compression> {
        let codec: &'static dyn Codec = match self {
            Self::None => return None,
            Self::Gzip => &Gzip,
            Self::Zstd => &Zstd,
        };
        Some(Compression { codec, known: &[&Gzip, &Zstd] })
    }
}

impl Value for Compress {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "none, gzip or zstd";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &Self::WORDS)
    }
}

/// Level 6, which `gzip` has by default; the remark is the comment of its header.
#[derive(Debug)]
struct Gzip;

impl Codec for Gzip {
    fn ending(&self) -> &'static str {
        ".gz"
    }

    fn compress(&self, remark: &str, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let mut encoder = GzBuilder::new().comment(remark).write(to, flate2::Compression::default());
        io::copy(from, &mut encoder)?;
        encoder.finish()?;
        Ok(())
    }

    fn read(&self, file: File) -> io::Result<(String, Box<dyn Read>)> {
        let decoder = GzDecoder::new(file);
        let comment = decoder.header().and_then(flate2::GzHeader::comment);
        let remark = comment.ok_or(io::ErrorKind::InvalidData)?;
        Ok((String::from_utf8_lossy(remark).into_owned(), Box::new(decoder)))
    }
}

/// Level 3, which `zstd` has by default; the remark is in a frame behind the others, of a kind that is skipped.
///
/// Behind them, since there are readers that stop after the first frame.
#[derive(Debug)]
struct Zstd;

impl Zstd {
    const LEVEL: i32 = 3;
    const SKIPPED: u32 = 0x184d_2a50;
    /// Bytes of the remark, filled up with blanks so that it is found from the end.
    const REMARK: usize = 64;
}

impl Codec for Zstd {
    fn ending(&self) -> &'static str {
        ".zst"
    }

    fn compress(&self, remark: &str, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let mut encoder = zstd::Encoder::new(to, Self::LEVEL)?;
        encoder.include_checksum(true)?;
        io::copy(from, &mut encoder)?;
        let to = encoder.finish()?;
        let remark = format!("{remark:<0$}", Self::REMARK);
        let size = u32::try_from(remark.len()).map_err(io::Error::other)?;
        to.write_all(&[&Self::SKIPPED.to_le_bytes()[..], &size.to_le_bytes(), remark.as_bytes()].concat())
    }

    fn read(&self, mut file: File) -> io::Result<(String, Box<dyn Read>)> {
        const FRAME: usize = 8 + Zstd::REMARK;
        let mut frame = [0; FRAME];
        file.seek(SeekFrom::End(-(FRAME as i64)))?;
        file.read_exact(&mut frame)?;
        file.rewind()?;
        let remark = frame.strip_prefix(&Self::SKIPPED.to_le_bytes()).ok_or(io::ErrorKind::InvalidData)?;
        let remark = String::from_utf8_lossy(&remark[4..]).trim_end().to_owned();
        Ok((remark, Box::new(zstd::Decoder::new(file)?)))
    }
}
