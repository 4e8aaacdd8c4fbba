// SPDX-License-Identifier: Apache-2.0

//! Lines that may be there already: those of a batch over which a process died.
//!
//! It wrote down where its lines would begin before it wrote them. What stands there now is compared with them, since
//! nothing else tells how far it came: it may have died before the first byte, behind the last, or anywhere between.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
};

use nixl_telemetry_sdk::warn;
use rustix::fs::OFlags;

use super::{FileError, LineFile, Place, describe};

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
            let metadata = self.current.open.file.metadata().map_err(|error| describe(&error))?;
            let is_current = (metadata.dev(), metadata.ino()) == (place.device, place.inode);
            let found = match is_current {
                true => common(&self.current.open.file, place.at, lines),
                false => self.rotated(place).map_or(Ok(0), |file| common(&file, place.at, lines)),
            };
            there = found.unwrap_or_else(|error| {
                let (path, what) = (self.current.path.display(), describe(&error));
                warn!("{path} cannot be read, so that lines a process died over may come twice: {what}");
                0
            });
            if there == lines.len() {
                return Ok(());
            }
            let size = metadata.len();
            if is_current && lock.held && size == place.at + there as u64 {
                // Nobody has written since: even a line that was cut off can be continued.
                lock.write(size, &lines[there..]).map_err(|error| describe(&error))?;
                self.current.open.end = place.at + lines.len() as u64;
                return Ok(());
            }
        }
        let there = self.form.whole_lines(&lines[..there]);
        self.append_whole(&lines[there..], &|place| note(there, place))
    }

    /// The file among those that were rotated.
    fn rotated(&self, place: Place) -> Option<File> {
        let (folder, name) = (self.current.path.parent()?, self.current.path.file_name()?);
        // By their names rather than by counting: somebody may have removed one of them, or changed the settings.
        let numbered = fs::read_dir(folder).ok()?.flatten().filter(|entry| {
            let number = entry.file_name();
            let number = number.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
            number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        });
        let mut found = numbered.filter(|entry| {
            let file = entry.metadata().map(|file| (file.dev(), file.ino(), file.is_file()));
            file.is_ok_and(|file| file == (place.device, place.inode, true))
        });
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("open flags fit an int");
        File::options().read(true).custom_flags(flags).open(found.next()?.path()).ok()
    }
}

/// How many of these bytes, from the first one on, lie in the file at this place.
fn common(file: &File, at: u64, bytes: &[u8]) -> io::Result<usize> {
    let mut found = vec![0; bytes.len()];
    let mut read = 0;
    while read < found.len() {
        match file.read_at(&mut found[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found[..read].iter().zip(bytes).take_while(|(found, byte)| found == byte).count())
}
