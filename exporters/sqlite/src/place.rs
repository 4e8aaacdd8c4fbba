// SPDX-License-Identifier: Apache-2.0

//! Where a database lies: which file a path names, and who may make it.
//!
//! SQLite's locks belong to a process and a file. Whoever opens that file by other means and closes it lets go of them, in
//! the whole process. So it is opened by SQLite only; everything here looks at names.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nixl_telemetry_sdk::{now_us, warn};

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
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The files that SQLite has beside a database while it is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Companions {
    log: Identity,
    memory: Identity,
}

/// Nobody else makes or prepares a database in the folder until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Place {
    /// The place that an absolute path names.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::NoFile) };
        let folder = folder.canonicalize().map_err(|error| no_folder(folder, error))?;
        let path = folder.join(name);
        Ok(Self { folder, path })
    }

    /// Which file is there now.
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        let metadata = fs::symlink_metadata(&self.path)?;
        match metadata.file_type() {
            kind if kind.is_symlink() => Err(Error::SymbolicLink),
            kind if kind.is_file() => Ok(Identity::of(&metadata)),
            _ => Err(Error::NoFile),
        }
    }

    /// Whether it is this file that is there now.
    pub(crate) fn has(&self, identity: Identity) -> io::Result<bool> {
        leads_to(&self.path, identity)
    }

    /// The file beside the database in which SQLite writes ahead.
    pub(crate) fn log(&self) -> PathBuf {
        self.beside("-wal")
    }

    /// The file beside the database that SQLite maps.
    fn memory(&self) -> PathBuf {
        self.beside("-shm")
    }

    /// What lies beside a database that is open.
    pub(crate) fn companions(&self) -> io::Result<Companions> {
        let identity = |path| fs::symlink_metadata(path).map(|metadata| Identity::of(&metadata));
        Ok(Companions { log: identity(self.log())?, memory: identity(self.memory())? })
    }

    /// Waits until nobody else is about to make or prepare a database in this folder.
    pub(crate) fn lock(&self, patience: Duration) -> Result<Turn, Error> {
        let until = Instant::now() + patience;
        let folder = File::open(&self.folder).map_err(|error| no_folder(&self.folder, error))?;
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
    /// new database must not share that memory. A log that has something in it is kept, under another name.
    pub(crate) fn create(&self, _: &Turn, mode: u32) -> Result<(), Error> {
        if fs::symlink_metadata(&self.path).is_ok() {
            return Ok(());
        }
        if fs::symlink_metadata(self.log()).is_ok_and(|metadata| metadata.len() > 0) {
            let aside = self.put_log_aside().map_err(Error::Create)?;
            warn!("exporter sqlite: {} has no database, and is {} from now on", self.log().display(), aside.display());
        }
        for left in [self.log(), self.memory()] {
            remove(&left).map_err(Error::Create)?;
        }
        match File::options().write(true).create_new(true).mode(mode).open(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::Create(error)),
            _ => Ok(()),
        }
    }

    /// Removes what a database that is not there any more has left, so that the next does not take it for its own.
    pub(crate) fn clear(&self, _: &Turn, left: Companions) -> io::Result<()> {
        for (path, identity) in [(self.log(), left.log), (self.memory(), left.memory)] {
            if leads_to(&path, identity)? {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// The same, but the log is kept, under a name that is returned.
    pub(crate) fn clear_but_log(&self, turn: &Turn, left: Companions) -> io::Result<Option<PathBuf>> {
        let aside = if leads_to(&self.log(), left.log)? { Some(self.put_log_aside()?) } else { None };
        self.clear(turn, left)?;
        Ok(aside)
    }

    fn put_log_aside(&self) -> io::Result<PathBuf> {
        let aside = self.beside(&format!("-wal.{}", now_us()));
        fs::rename(self.log(), &aside)?;
        Ok(aside)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

fn no_folder(folder: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NoFolder(folder.to_owned()),
        _ => error.into(),
    }
}

fn leads_to(path: &Path, identity: Identity) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Identity::of(&metadata) == identity),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Drop for Turn {
    /// Not by closing alone: a child that was forked meanwhile has the folder open as well.
    fn drop(&mut self) {
        // That fails only for what is no lock.
        let _ = self.0.unlock();
    }
}
