// SPDX-License-Identifier: Apache-2.0

//! Lines that may be there already: those of a batch over which a process died.
//!
//! It wrote down where its lines would begin before it wrote them. What stands there now is compared with them, since
//! nothing else tells how far it came: it may have died before the first byte, behind the last, or anywhere between.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
};

use nixl_telemetry_sdk::warn;

use super::{
    FileError, LineFile, Place, describe,
    rotation::{Identity, Rotated},
};

impl LineFile {
    /// Appends what is missing of lines that another process was to write at this place. If that is done at another
    /// place, `note` is told before how many bytes are not missing, and where the rest begins.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(crate) fn complete(
        &mut self,
        lines: &[u8],
        place: Place,
        note: &dyn Fn(usize, Place),
    ) -> Result<(), FileError> {
        self.complete_whole(lines, place, note).map_err(|what| self.error(what))
    }

    fn complete_whole(&mut self, lines: &[u8], place: Place, note: &dyn Fn(usize, Place)) -> Result<(), String> {
        let mut there = 0;
        if self.current.open.regular {
            // Who rotates a file has its lock, so that under it every file keeps its name.
            let lock = self.current.lock()?;
            let metadata = || self.current.open.file.metadata().map_err(|error| describe(&error));
            let identity = Identity { device: place.device, inode: place.inode };
            let is_current = Identity::of(&metadata()?) == identity;
            let here = if is_current {
                self.readable(common(At { file: &self.current.open.file, at: place.at }, lines))
            } else {
                0
            };
            // What was compressed left its inode to others: there may be several of the same identity.
            let elsewhere = if here < lines.len() { self.rotated(identity, place.at, lines) } else { 0 };
            there = here.max(elsewhere);
            if there == lines.len() {
                return Ok(());
            }
            // By now, since who waits too long for the lock goes without.
            let size = metadata()?.len();
            if is_current && lock.held && there == here && size == place.at + here as u64 {
                // Nobody has written since: even a line that was cut off can be continued.
                lock.write(size, &lines[here..]).map_err(|error| describe(&error))?;
                self.current.open.end = place.at + lines.len() as u64;
                return Ok(());
            }
        }
        let there = self.form.whole_lines(&lines[..there]);
        self.append_whole(&lines[there..], &|place| note(there, place))
    }

    /// How many of these bytes lie at this place in a rotated file that is, or was before it was compressed, this one.
    fn rotated(&self, identity: Identity, at: u64, lines: &[u8]) -> usize {
        let compression = self.rotation.and_then(|rotation| rotation.compression);
        let all = Rotated::all(&self.current.path, compression).into_iter();
        let found = all.filter_map(|rotated| match rotated.codec {
            None if rotated.identity == identity => {
                let open = rotated.open().ok()?;
                Some(self.readable(common(At { file: &open, at }, lines)))
            }
            None => None,
            Some(codec) => {
                // One that cannot be read so far is none of ours.
                let (remark, mut from) = codec.read(rotated.open().ok()?).ok()?;
                (remark == identity.remark()).then(|| {
                    let before = io::copy(&mut from.by_ref().take(at), &mut io::sink());
                    self.readable(before.and_then(|_| common(from, lines)))
                })
            }
        });
        found.max().unwrap_or(0)
    }

    /// What was found, or nothing, and a line in the log, if that cannot be told.
    fn readable(&self, found: io::Result<usize>) -> usize {
        found.unwrap_or_else(|error| {
            let (path, what) = (self.current.path.display(), describe(&error));
            warn!("{path} cannot be read, so that lines a process died over may come twice: {what}");
            0
        })
    }
}

/// How many of these bytes, from the first one on, there are to read.
fn common(from: impl Read, bytes: &[u8]) -> io::Result<usize> {
    let mut found = Vec::new();
    from.take(bytes.len() as u64).read_to_end(&mut found)?;
    Ok(found.iter().zip(bytes).take_while(|(found, byte)| found == byte).count())
}

/// A file from some byte on.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
