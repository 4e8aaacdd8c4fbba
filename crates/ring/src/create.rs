// SPDX-License-Identifier: Apache-2.0

//! Making a writer's file, without touching anybody else's.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nixl_telemetry_event::Generation;
use nixl_telemetry_shm::{NewFile, lock, reserve};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::header::{HEADER_SIZE, Header};
use crate::reader::no_file;
use crate::writer::Keep;
use crate::{CreateError, Left, Malformed, Shape};

/// How a [`Writer`](crate::Writer) makes its file.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of slots, a power of two; one always stays free. Defaults to NIXL's 4096.
    pub capacity: u64,
    /// Of which release the file is. Defaults to the newest. [`Generation::V0_9`] has times and names.
    pub generation: Generation,
    /// What gives way when the ring is full. Defaults to [`Keep::Oldest`], as with NIXL.
    pub keep: Keep,
    /// The file's permissions. Defaults to 0600; NIXL's own are 0644 less the process's mask.
    pub mode: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { capacity: 4096, generation: Generation::V1_5, keep: Keep::Oldest, mode: 0o600 }
    }
}

/// What is where a file is to be.
enum There {
    Nothing,
    /// A ring of the right shape, which is ours to begin anew.
    Good(Claim),
    /// One of another shape, or a broken one, which is ours to replace.
    Other(Claim),
}

/// The largest number of slots, with which a file has 60 GiB.
const MOST: u64 = 1 << 30;

impl Options {
    /// The shape of the file.
    pub(crate) fn shape(&self) -> Result<Shape, CreateError> {
        let Self { capacity, .. } = *self;
        if !capacity.is_power_of_two() || !(2..=MOST).contains(&capacity) {
            return Err(CreateError::Capacity { capacity });
        }
        Ok(Shape { version: self.generation.ring_version(), layout: self.generation.layout(), capacity })
    }

    /// Makes the file, or takes one that a writer has left, if `save` has seen what is in it; `begin` fills in its header,
    /// and maps it.
    ///
    /// A ring of the same shape is begun anew where it is, so that readers that have it open go on, as with NIXL. One of
    /// another shape is replaced: whoever has the old one mapped keeps it whole.
    pub(crate) fn make<T>(
        &self,
        path: &Path,
        save: &mut dyn FnMut(&Left<'_>),
        begin: impl Fn(&File) -> io::Result<T>,
    ) -> Result<(Claim, T), CreateError> {
        let shape = self.shape()?;
        loop {
            // What is to be replaced is kept from others until it is.
            let old = match self.take(path, shape, save)? {
                There::Good(claim) => {
                    let begun = begin(claim.file())?;
                    return Ok((claim, begun));
                }
                There::Other(claim) => Some(claim),
                There::Nothing => None,
            };
            let new = NewFile::create(path)?;
            new.file().set_permissions(Permissions::from_mode(self.mode))?;
            reserve(new.file(), 0, shape.size())?;
            let begun = begin(new.file())?;
            let Some(mut claim) = Claim::new(&new.file().metadata()?) else { return Err(CreateError::Taken) };
            if !lock_or_go_without(new.file())? {
                return Err(CreateError::Taken);
            }
            match if old.is_some() { new.replace() } else { new.publish() } {
                Ok(file) => {
                    claim.file = Some(file);
                    return Ok((claim, begun));
                }
                // Somebody was faster; see whether it can be had.
                Err(error) if old.is_none() && error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is at the path.
    fn take(&self, path: &Path, shape: Shape, save: &mut dyn FnMut(&Left<'_>)) -> Result<There, CreateError> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
            Err(error) => return Err(error.into()),
        };
        if let Some(what) = no_file(&metadata) {
            return Err(CreateError::NoFile { what });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(CreateError::Foreign { owner, user });
        }
        // Before the file is opened: closing it would take the lock from another writer of this process.
        let Some(mut claim) = Claim::new(&metadata) else { return Err(CreateError::Taken) };
        let file = match openat(CWD, path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(There::Nothing),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let file = claim.file.insert(file);
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
            // Replaced in between.
            drop(claim);
            return self.take(path, shape, save);
        }
        if !lock_or_go_without(file)? {
            return Err(CreateError::Taken);
        }
        let found = found(file, opened.len());
        if let Ok((found, header)) = &found
            && let Some(left) = Left::new(path, file, *found, header)
        {
            save(&left);
        }
        match found {
            Ok((found, _)) if found == shape && opened.blocks() * 512 >= shape.size() => {
                file.set_permissions(Permissions::from_mode(self.mode))?;
                // Nothing changes but the time of the last change, by which readers know.
                file.set_len(shape.size())?;
                Ok(There::Good(claim))
            }
            Ok(_) | Err(Malformed::Unfinished | Malformed::Size { .. } | Malformed::Position { .. }) => {
                Ok(There::Other(claim))
            }
            // Somebody has made it for us, or took its contents away.
            Err(Malformed::Short { size: 0 }) => Ok(There::Other(claim)),
            Err(malformed) => Err(CreateError::Other(malformed)),
        }
    }
}

fn found(file: &File, size: u64) -> Result<(Shape, Header), Malformed> {
    let mut bytes = [0; HEADER_SIZE];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {
            let header = Header::decode(&bytes);
            Ok((Shape::of(&header, size)?, header))
        }
        Err(_) => Err(Malformed::Short { size }),
    }
}

/// False if another process has the lock; a file system without locks has nobody who holds one.
fn lock_or_go_without(file: &File) -> io::Result<bool> {
    match lock(file) {
        Err(error) if [Some(Errno::NOLCK), Some(Errno::NOTSUP)].contains(&Errno::from_io_error(&error)) => Ok(true),
        result => result,
    }
}

/// That a file is written by this process: the lock does not tell writers of one process apart.
#[derive(Debug)]
pub(crate) struct Claim {
    identity: (u64, u64),
    file: Option<File>,
}

static CLAIMED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

fn claimed() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claim {
    fn new(metadata: &fs::Metadata) -> Option<Self> {
        let identity = (metadata.dev(), metadata.ino());
        // Made only if it is one: dropping it gives the file back.
        let is_new = claimed().insert(identity);
        is_new.then(|| Self { identity, file: None })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        self.file.as_ref().expect("a claim that is handed out has its file")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // At once: a file that is gone when it is closed may give its number to the next.
        let mut claimed = claimed();
        self.file = None;
        claimed.remove(&self.identity);
    }
}
