// SPDX-License-Identifier: Apache-2.0

use std::{
    fmt::Debug,
    fs::File,
    io::{self, Read, Write},
};

/// A way to compress files. The exporter brings it, so that who compresses nothing is not linked with it.
pub trait Codec: Debug + Sync {
    /// What the names of compressed files end with, the dot included.
    fn ending(&self) -> &'static str;

    /// Compresses all there is to read, and keeps a short remark beside it, in ASCII.
    ///
    /// # Errors
    /// Those of reading and writing.
    fn compress(&self, remark: &str, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()>;

    /// The remark, and what was compressed.
    ///
    /// # Errors
    /// If the file cannot be read, or was not made by [`compress`](Self::compress).
    fn read(&self, file: File) -> io::Result<(String, Box<dyn Read>)>;
}

/// How rotated files are compressed.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// With what from now on.
    pub codec: &'static dyn Codec,
    /// What they may be compressed with from before; `codec` is among them.
    pub known: &'static [&'static dyn Codec],
}
