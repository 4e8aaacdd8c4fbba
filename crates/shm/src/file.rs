// SPDX-License-Identifier: Apache-2.0

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, fcntl_lock, linkat, openat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// Why a directory is not one's own.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// There is none, or it cannot be looked at.
    #[error("{0}: expected a directory")]
    Missing(io::Error),
    /// It is something else.
    #[error("is no directory: expected one")]
    NoDirectory,
    /// It belongs to somebody else.
    #[error("belongs to user {owner}: expected a directory of user {user}")]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Others may write into it.
    #[error("may be written by others (mode {mode:o}): expected a directory that only its owner may write, mode 700")]
    Writable {
        /// Its permissions.
        mode: u32,
    },
}

/// Whether `directory` belongs to the user of this process and nobody else may write into it: whoever may could replace
/// what is in it.
///
/// # Errors
/// If it does not.
pub fn check_private(directory: &Path) -> Result<(), NotPrivate> {
    let found = fs::metadata(directory).map_err(NotPrivate::Missing)?;
    let (owner, user, mode) = (found.uid(), rustix::process::geteuid().as_raw(), found.mode() & 0o7777);
    if !found.is_dir() {
        Err(NotPrivate::NoDirectory)
    } else if owner != user {
        Err(NotPrivate::Foreign { owner, user })
    } else if mode & 0o022 != 0 {
        Err(NotPrivate::Writable { mode })
    } else {
        Ok(())
    }
}

/// A file that nobody sees until it is [published](Self::publish); dropped before, it is as if it had never been.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    staging: Option<Staging>,
}

/// The name of a new file for the time being, where the file system has no files without one.
#[derive(Debug)]
struct Staging(PathBuf);

impl NewFile {
    /// An empty file for reading and writing by its owner alone, which is to become `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR);
        let (file, staging) = match openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let staging = Staging::of(path);
                (openat(CWD, &staging.0, flags | OFlags::CREATE | OFlags::EXCL, mode)?, Some(staging))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file: file.into(), path: path.to_owned(), staging })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name. The descriptor stays the same one, and a [`lock`] is kept.
    ///
    /// # Errors
    /// If there is something of that name, or it cannot be given.
    pub fn publish(self) -> io::Result<File> {
        match &self.staging {
            None => self.link(&self.path)?,
            // A second name, which cannot replace anything; the first goes with `staging`.
            Some(Staging(staging)) => linkat(CWD, staging, CWD, &self.path, AtFlags::empty())?,
        }
        Ok(self.file)
    }

    /// Gives the file its name in place of the file that has it: at no moment there is none. The descriptor stays the same
    /// one, and a [`lock`] is kept.
    ///
    /// # Errors
    /// If it cannot be given; what had the name keeps it.
    pub fn replace(mut self) -> io::Result<File> {
        if self.staging.is_none() {
            let staging = Staging::of(&self.path);
            self.link(&staging.0)?;
            self.staging = Some(staging);
        }
        let staging = self.staging.as_ref().expect("it has one by now");
        fs::rename(&staging.0, &self.path)?;
        Ok(self.file)
    }

    /// Gives a file without a name this one, if there is nothing of it.
    fn link(&self, path: &Path) -> io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Staging {
    /// One that is hidden, and used by no other process that lives; what one that has died has left is taken away.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let staging = path.with_file_name(format!(".{name}.{}.staging", std::process::id()));
        let _ = fs::remove_file(&staging);
        Self(staging)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Fails only if somebody has taken it away, which is as well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the file have these bytes, on its disk and not only in its length; those that are new are zero.
///
/// # Errors
/// If the disk has no room, or the file system cannot promise it.
pub fn reserve(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), offset, bytes) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Takes the lock of a file for this process; false if another one has it.
///
/// It goes with the process, however that ends, and a forked child does not have it. So it tells who lives: but not
/// within one process, whose own lock is never in its way, and which loses it with any descriptor of the file it closes.
///
/// # Errors
/// If the file system has no locks.
pub fn lock(file: &File) -> io::Result<bool> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The process that holds a file's [`lock`]: 0 for one this process cannot see, `None` if no other process does.
///
/// Nothing is locked by asking.
///
/// # Errors
/// If the file system has no locks.
pub fn holder(file: &File) -> io::Result<Option<u32>> {
    let found = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(found.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_pid().cast_unsigned())))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_is_seen_when_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let count = || fs::read_dir(folder.path()).unwrap().count();
        drop(NewFile::create(&path).unwrap());
        assert_eq!(count(), 0);

        let new = NewFile::create(&path).unwrap();
        { new.file() }.write_all(b"complete").unwrap();
        assert!(!path.exists());
        new.publish().unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), count()), (&b"complete"[..], 1));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);

        assert_eq!(NewFile::create(&path).unwrap().publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);

        let new = NewFile::create(&path).unwrap();
        { new.file() }.write_all(b"another").unwrap();
        new.replace().unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), count()), (&b"another"[..], 1));
        assert!(NewFile::create(&path.join("y")).is_err());
    }

    #[test]
    fn whose_directory_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        let check = || check_private(&path).map_err(|error| error.to_string());
        assert!(check().unwrap_err().ends_with("expected a directory"));
        fs::write(&path, "").unwrap();
        assert_eq!(check().unwrap_err(), "is no directory: expected one");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for (mode, fine) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false), (0o1777, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check().is_ok(), fine, "{mode:o}");
        }
        // Everybody's is somebody else's, unless root asks.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
            assert!(check().unwrap_err().starts_with("belongs to user 4242: expected a directory of user 0"));
        }
    }

    #[test]
    fn what_is_reserved_is_there() {
        let file = tempfile::tempfile().unwrap();
        reserve(&file, 4096, 8192).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 12288);
        assert!(metadata.blocks() * 512 >= 8192);
        assert!(reserve(&file, 0, u64::MAX >> 1).is_err());
    }

    const LOCKED: &str = "SHM_TEST_LOCKED";

    #[test]
    fn a_lock_keeps_others_out_while_its_process_lives() {
        if let Some(path) = std::env::var_os(LOCKED) {
            let holder = holder(&File::open(&path).unwrap()).unwrap();
            assert_eq!(holder.is_some(), holder == Some(std::os::unix::process::parent_id()));
            let is_mine = lock(&File::options().write(true).open(path).unwrap()).unwrap();
            assert_eq!(is_mine, holder.is_none());
            std::process::exit(i32::from(is_mine));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let others_get_it = || {
            let mut other = Command::new(std::env::current_exe().unwrap());
            other.args(["--exact", "file::tests::a_lock_keeps_others_out_while_its_process_lives"]);
            match other.env(LOCKED, &path).status().unwrap().code() {
                Some(code @ (0 | 1)) => code == 1,
                code => panic!("it ended with {code:?}"),
            }
        };
        let new = NewFile::create(&path).unwrap();
        assert!(lock(new.file()).unwrap());
        let file = new.publish().unwrap();
        assert!(!others_get_it());
        // One's own lock is in nobody's way here, and is not told.
        assert_eq!(holder(&file).unwrap(), None);
        assert!(lock(&file).unwrap());
        drop(file);
        assert!(others_get_it());
    }
}
