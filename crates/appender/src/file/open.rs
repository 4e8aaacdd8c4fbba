// SPDX-License-Identifier: Apache-2.0

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};

use super::{describe, lock::Lock};

/// The file a path names, which may become another at any time.
#[derive(Debug)]
pub(super) struct Current {
    /// Absolute: the process may change its directory.
    pub(super) path: PathBuf,
    pub(super) open: Open,
    /// How long to wait for the lock.
    patience: Duration,
    /// The lock could not be had last time: do not wait for it again until somebody has let go.
    pub(super) impatient: bool,
}

impl Current {
    /// Opens it, creating it if need be. The path is absolute.
    pub(super) fn open(path: PathBuf, patience: Duration) -> Result<Self, String> {
        let open = Open::new(&path)?;
        Ok(Self { path, open, patience, impatient: false })
    }

    /// Locks the file that the path names now, which may have become another since it was opened.
    pub(super) fn lock(&mut self) -> Result<Lock, String> {
        // Who keeps replacing the file, or a file system that cannot say which is which, must not hold us up.
        for _ in 0..16 {
            let patience = if self.impatient { Duration::ZERO } else { self.patience };
            let lock = Lock::take(&self.open.file, patience).map_err(|error| describe(&error))?;
            self.impatient = !lock.held;
            let open = self.open.file.metadata().map_err(|error| describe(&error))?;
            let named = fs::symlink_metadata(&self.path);
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
                return Ok(lock);
            }
            drop(lock);
            self.open = Open::new(&self.path)?;
            if !self.open.regular {
                return Err("was replaced by something else, expected a file".into());
            }
        }
        Err("is replaced again and again, expected a file that stays for a moment".into())
    }
}

/// What the path named when it was opened.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: Arc<File>,
    /// Not a device, which has no size to measure and nothing to take back.
    pub(super) regular: bool,
    pub(super) readable: bool,
    /// Its first line was looked at.
    pub(super) checked: bool,
    /// Its size after our own last append.
    pub(super) end: u64,
}

impl Open {
    /// Opens a regular file, creating it if need be, or a device.
    pub(super) fn new(path: &Path) -> Result<Self, String> {
        // NONBLOCK: whoever put a pipe there must not stop the process; on a regular file it changes nothing.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).expect("open flags fit an int");
        let open = |readable: bool| {
            let file = File::options().read(readable).append(true).create(true).custom_flags(flags).open(path);
            file.map(|file| (file, readable))
        };
        let opened = open(true).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => open(false),
            _ => Err(error),
        });
        let (file, readable) = opened.map_err(|error| {
            let folder = path.parent().unwrap_or(Path::new("/"));
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::ISDIR) => "is a directory, expected a file".into(),
                Some(Errno::LOOP) => "is a symbolic link, expected the file itself".into(),
                Some(Errno::NXIO) => NO_FILE.into(),
                Some(Errno::NOENT | Errno::NOTDIR) if !folder.is_dir() => {
                    format!("its folder {} does not exist, expected one that does", folder.display())
                }
                _ => describe(&error),
            }
        })?;
        let kind = file.metadata().map_err(|error| describe(&error))?.file_type();
        if kind.is_char_device() {
            fcntl_setfl(&file, OFlags::APPEND).map_err(|error| describe(&error.into()))?;
        } else if !kind.is_file() {
            return Err(NO_FILE.into());
        }
        Ok(Self { file: Arc::new(file), regular: kind.is_file(), readable, checked: false, end: 0 })
    }
}

pub(super) const NO_FILE: &str = "is a pipe, a socket or a disk, expected a file";
