// SPDX-License-Identifier: Apache-2.0

//! Standard output for many lines.

use std::io::{self, Write as _};

use crate::common::terminal::Unprintable;

/// What is written at once.
const ENOUGH: usize = 256 << 10;

/// Lines on their way to standard output, in large pieces.
#[derive(Debug)]
pub(crate) struct Output {
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(ENOUGH + 4096) }
    }

    /// Adds a line, which `write` appends to what it is given, without its end.
    #[inline]
    pub(crate) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Unprintable> {
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        if self.buffer.len() >= ENOUGH { self.flush() } else { Ok(()) }
    }

    /// Writes all there is.
    pub(crate) fn flush(&mut self) -> Result<(), Unprintable> {
        let mut out = io::stdout().lock();
        out.write_all(&self.buffer).and_then(|()| out.flush()).map_err(Unprintable)?;
        self.buffer.clear();
        Ok(())
    }
}
