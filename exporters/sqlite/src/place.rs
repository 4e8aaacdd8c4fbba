// SPDX-License-Identifier: Apache-2.0

//! Where a database lies: which file a path names, and who may make it.
//!
//! SQLite's locks belong to a process and a file. Whoever opens that file by other means and closes it lets go of them, in
//! the whole process. So it is opened by SQLite only; everything here looks at names.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::error::Error;

/// The place of a database, without a symbolic link in its path.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) path: PathBuf,
}

/// What tells a file from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// Nobody else makes or prepares a database in the folder until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Place {
    /// The place that an absolute path names.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::NoFile) };
        let folder = folder.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NoFolder(folder.to_owned()),
            _ => error.into(),
        })?;
        let path = folder.join(name);
        Ok(Self { folder, path })
    }

    /// Which file is there now.
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        let metadata = fs::symlink_metadata(&self.path)?;
        match metadata.file_type() {
            kind if kind.is_symlink() => Err(Error::SymbolicLink),
            kind if kind.is_file() => Ok(Identity { device: metadata.dev(), inode: metadata.ino() }),
            _ => Err(Error::NoFile),
        }
    }

    /// The file beside the database in which SQLite writes ahead.
    pub(crate) fn log(&self) -> PathBuf {
        self.beside("-wal")
    }

    /// Waits until nobody else is about to make or prepare a database in this folder.
    pub(crate) fn lock(&self, patience: Duration) -> Result<Turn, Error> {
        let until = Instant::now() + patience;
        let folder = File::open(&self.folder)?;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Turn(folder)),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(Error::NoTurn(patience)),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Makes an empty file if there is none, when it is one's turn.
    ///
    /// What a database that was removed has left goes first: a process that has not noticed may still be at it, and the
    /// new database must not share that memory.
    pub(crate) fn create(&self, _: &Turn, mode: u32) -> Result<(), Error> {
        if fs::symlink_metadata(&self.path).is_ok() {
            return Ok(());
        }
        for left in [self.log(), self.beside("-shm")] {
            match fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::Create(error)),
                _ => {}
            }
        }
        match File::options().write(true).create_new(true).mode(mode).open(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::Create(error)),
            _ => Ok(()),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}

impl Drop for Turn {
    /// Not by closing alone: a child that was forked meanwhile has the folder open as well.
    fn drop(&mut self) {
        // That fails only for what is no lock.
        let _ = self.0.unlock();
    }
}
