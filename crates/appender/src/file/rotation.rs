// SPDX-License-Identifier: Apache-2.0

use std::{
    fs::{self, File},
    io,
    iter::once,
    num::NonZero,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::describe;
use crate::codec::{Codec, Compression};

/// When a file is full, how many full ones are kept, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    pub(crate) max_size: NonZero<u64>,
    pub(crate) keep: u32,
    pub(crate) compression: Option<Compression>,
}

impl Rotation {
    /// Renames FILE to FILE.1, FILE.1 to FILE.2 and so on, up to the first number that is free or the last to be kept. The
    /// caller has the file's lock.
    pub(super) fn rotate(&self, path: &Path) -> Result<(), String> {
        if self.keep == 0 {
            return fs::remove_file(path).map_err(|error| describe(&error));
        }
        let compressed = self.compression.map_or(&[][..], |compression| compression.known);
        let forms = |number: u32| {
            let plain = with_ending(path, &format!(".{number}"));
            let compressed = compressed.iter().map(|codec| with_ending(&plain, codec.ending())).collect::<Vec<_>>();
            once(plain).chain(compressed)
        };
        let free = (1..self.keep).find(|&number| !forms(number).any(|path| path.exists())).unwrap_or(self.keep);
        // What is not replaced by a file of the same form would stay beside it.
        for old in forms(free).skip(1).filter(|path| path.exists()) {
            fs::remove_file(&old).map_err(|error| format!("{}: {}", old.display(), describe(&error)))?;
        }
        for number in (1..free).rev() {
            for (from, to) in forms(number).zip(forms(number + 1)).filter(|(from, _)| from.exists()) {
                rename(&from, &to)?;
            }
        }
        rename(path, &with_ending(path, ".1"))
    }
}

/// The path with something behind its last byte.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|error| format!("{} to {}: {}", from.display(), to.display(), describe(&error)))
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    pub(super) fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }

    /// What a compressed file says of the one it was made of.
    pub(super) fn remark(self) -> String {
        format!("device {}, inode {}", self.device, self.inode)
    }
}

/// A file that was rotated.
pub(super) struct Rotated {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    /// With what it is compressed.
    pub(super) codec: Option<&'static dyn Codec>,
}

impl Rotated {
    /// Those there are of this file, in no order.
    ///
    /// By their names rather than by counting: somebody may have removed one of them, or changed the settings.
    pub(super) fn all(path: &Path, compression: Option<Compression>) -> Vec<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
        let known = compression.map_or(&[][..], |compression| compression.known);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let rotated = entries.filter_map(|entry| {
            let rest = entry.file_name();
            let rest = rest.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
            let compressed = known
                .iter()
                .find_map(|codec| rest.strip_suffix(codec.ending().as_bytes()).map(|number| (number, Some(*codec))));
            let (number, codec) = compressed.unwrap_or((rest, None));
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            is_number.then(|| Self { path: entry.path(), identity: Identity::of(&metadata), codec })
        });
        rotated.collect()
    }

    /// Opens it for reading.
    pub(super) fn open(&self) -> io::Result<File> {
        open_existing(&self.path)
    }
}

/// Opens a file that is there, for reading, and no link.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).expect("open flags fit an int");
    File::options().read(true).custom_flags(flags).open(path)
}
