// SPDX-License-Identifier: Apache-2.0

//! How rows leave: appended to a file that others may append to, rotate, or remove at the same time.
//!
//! Everyone who writes takes the file's lock for the moment of one append. Under it a file is measured, given its
//! header if it is empty, rotated if it is full, and shortened again if the disk was full in the middle of a batch.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    num::NonZero,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

/// When a file is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    pub(crate) max_size: NonZero<u64>,
    pub(crate) keep: u32,
}

/// A file open for appending.
#[derive(Debug)]
pub(crate) struct CsvFile {
    path: PathBuf,
    header: String,
    rotation: Option<Rotation>,
    file: File,
}

/// What is wrong with a file; the path comes first.
#[derive(Debug)]
pub(crate) struct FileError {
    path: PathBuf,
    what: String,
}

impl std::error::Error for FileError {}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl CsvFile {
    /// Opens or creates the file, and writes the header into an empty one.
    ///
    /// # Errors
    /// If the path is no place for a file, or the file has another header: rows of two sorts are not mixed.
    pub(crate) fn open(path: PathBuf, header: String, rotation: Option<Rotation>) -> Result<Self, FileError> {
        let file = open_file(&path).map_err(|what| FileError { path: path.clone(), what })?;
        let mut this = Self { path, header, rotation, file };
        this.prepare().map_err(|what| this.error(what))?;
        Ok(this)
    }

    /// Appends whole lines, all of them or none.
    ///
    /// # Errors
    /// If there is no room or the file cannot be written; what stood in it before is untouched.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        self.append_locked(lines).map_err(|error| self.error(describe(&error)))
    }

    fn append_locked(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.file.metadata()?.is_file() {
            // A device has no size to measure and nothing to take back.
            return self.file.write_all(lines);
        }
        let lock = self.lock_current()?;
        let size = self.file.metadata()?.len();
        if let Some(Rotation { max_size, keep }) = self.rotation
            && lock.held
            && size > self.header.len() as u64
            && size + lines.len() as u64 > max_size.get()
        {
            rotate(&self.path, keep)?;
            drop(lock);
            // The path names a fresh file now, or one that another process has begun, or nothing.
            return self.append_locked(lines);
        }
        if size == 0 {
            // Fresh after a rotation, or somebody truncated it.
            return lock.write(size, &[self.header.as_bytes(), lines].concat());
        }
        lock.write(size, lines)
    }

    /// Checks the header of the file, or writes it.
    fn prepare(&mut self) -> Result<(), String> {
        let metadata = self.file.metadata().map_err(|error| describe(&error))?;
        if !metadata.is_file() {
            return self.file.write_all(self.header.as_bytes()).map_err(|error| describe(&error));
        }
        let lock = self.lock_current().map_err(|error| describe(&error))?;
        let size = self.file.metadata().map_err(|error| describe(&error))?.len();
        if size == 0 {
            return lock.write(size, self.header.as_bytes()).map_err(|error| describe(&error));
        }
        match first_line(&self.path, self.header.len()) {
            // Who may write but not read cannot look; appending is what was asked for.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(describe(&error)),
            Ok(first) if first == self.header.as_bytes() => Ok(()),
            Ok(first) => Err(format!(
                "starts with {:?}, expected an empty file or one that starts with {:?} \
                 (NIXL_TELEMETRY_CSV_COLUMNS chooses the columns)",
                String::from_utf8_lossy(&first),
                self.header
            )),
        }
    }

    /// Locks the file that the path names now, which may have become another since it was opened.
    fn lock_current(&mut self) -> io::Result<Lock> {
        loop {
            let lock = Lock::take(&self.file)?;
            let (open, named) = (self.file.metadata()?, fs::symlink_metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
                return Ok(lock);
            }
            drop(lock);
            self.file = open_again(&self.path)?;
        }
    }

    fn error(&self, what: String) -> FileError {
        FileError { path: self.path.clone(), what }
    }
}

/// The lock of an open file: it excludes other agents of this process as well as other processes.
struct Lock {
    /// A second descriptor of the open file, so that the first may be replaced while this one is locked.
    file: File,
    held: bool,
}

impl Lock {
    /// How long to wait for somebody who holds the lock, usually for microseconds. A process that was stopped in that
    /// moment must not stop everybody else.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Takes the lock, or goes without it: then lines are still appended whole, but nothing is rotated or taken back.
    fn take(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let started = Instant::now();
        let held = loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break true,
                Err(Errno::WOULDBLOCK) if started.elapsed() < Self::PATIENCE => {
                    thread::sleep(Duration::from_micros(200))
                }
                // Nobody lets go, or the file system knows no locks.
                Err(Errno::WOULDBLOCK | Errno::NOTSUP | Errno::NOLCK) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Self { file, held })
    }

    /// Appends in one write if the system lets it, and takes back what a full disk cut off, so that the file has its
    /// former size again.
    fn write(&self, size: u64, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes).inspect_err(|_| {
            if self.held {
                // If even that fails the cut line stays; the error is reported all the same.
                let _ = self.file.set_len(size);
            }
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.held {
            // Fails only for a descriptor that is not open.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

fn open_file(path: &Path) -> Result<File, String> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err("is a directory, expected a file".into());
        }
        if kind.is_symlink() {
            return Err("is a symbolic link, expected the file itself".into());
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() {
            return Err("is a pipe, a socket or a disk, expected a file".into());
        }
    } else if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        return Err(format!("its folder {} does not exist, expected one that does", folder.display()));
    }
    open_again(path).map_err(|error| describe(&error))
}

fn open_again(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("open flags fit an int");
    File::options().append(true).create(true).custom_flags(flags).open(path)
}

fn first_line(path: &Path, at_most: usize) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(at_most as u64).read_to_end(&mut start)?;
    if let Some(end) = start.iter().position(|&byte| byte == b'\n') {
        start.truncate(end + 1);
    }
    Ok(start)
}

/// An error without Rust's ` (os error 28)`.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((message, _)) => message.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::Barrier};

    use super::*;

    const HEADER: &str = "a,b\n";

    fn open(path: &Path) -> Result<CsvFile, String> {
        CsvFile::open(path.to_owned(), HEADER.into(), None).map_err(|error| error.to_string())
    }

    fn rotating(path: &Path, max_size: u64, keep: u32) -> CsvFile {
        let rotation = Rotation { max_size: NonZero::new(max_size).unwrap(), keep };
        CsvFile::open(path.to_owned(), HEADER.into(), Some(rotation)).unwrap()
    }

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_header_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        open(&path).unwrap().append(b"1,2\n").unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n");
        let mut again = open(&path).unwrap();
        again.append(b"3,4\n5,6\n").unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n5,6\n");

        // Truncated, removed, replaced while it is open: the next batch begins anew, with a header.
        fs::write(&path, "").unwrap();
        again.append(b"7,8\n").unwrap();
        assert_eq!(read(&path), "a,b\n7,8\n");
        fs::remove_file(&path).unwrap();
        again.append(b"9,9\n").unwrap();
        assert_eq!(read(&path), "a,b\n9,9\n");
    }

    #[test]
    fn what_is_no_place_for_rows() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other.csv"), "x,y\n1,2\n").unwrap();
        symlink(at("other.csv"), at("link.csv")).unwrap();
        fs::write(at("file"), "").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let table = [
            (at("."), "is a directory, expected a file"),
            (at("missing/x.csv"), "its folder"),
            (at("file/x.csv"), "does not exist, expected one that does"),
            (at("link.csv"), "is a symbolic link, expected the file itself"),
            (at("pipe"), "is a pipe, a socket or a disk, expected a file"),
            (at("other.csv"), r#"starts with "x,y\n", expected an empty file or one that starts with "a,b\n""#),
            (PathBuf::from("/dev/full"), "no space left on device"),
            (PathBuf::from("/proc/version"), "permission denied"),
        ];
        for (path, what) in table {
            let error = open(&path).unwrap_err();
            let named = error.starts_with(path.to_str().unwrap());
            // Root may open what others may not; then it cannot be written.
            let what_else = if what == "permission denied" { "input/output error" } else { what };
            assert!(named && (error.contains(what) || error.contains(what_else)), "{error}");
        }
        assert_eq!(read(at("other.csv")), "x,y\n1,2\n");
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let mut file = rotating(&path, 12, 2);
        for line in ["1,1\n", "2,2\n", "3,3\n", "4,4\n", "5,5\n", "6,6\n", "7,7\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "a,b\n7,7\n");
        assert_eq!(read(folder.path().join("x.csv.1")), "a,b\n5,5\n6,6\n");
        assert_eq!(read(folder.path().join("x.csv.2")), "a,b\n3,3\n4,4\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);

        // A batch bigger than a file has a file of its own.
        file.append(b"a batch that is too big\n").unwrap();
        assert_eq!(read(&path), "a,b\na batch that is too big\n");

        let path = folder.path().join("none-kept.csv");
        let mut file = rotating(&path, 12, 0);
        for line in ["1,1\n", "2,2\n", "3,3\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "a,b\n3,3\n");
        assert!(!folder.path().join("none-kept.csv.1").exists());
    }

    #[test]
    fn writers_share_a_rotating_file_and_no_line_is_lost_or_cut() {
        const WRITERS: usize = 8;
        const BATCHES: usize = 200;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let start = Barrier::new(WRITERS);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut file = rotating(path, 2000, 1000);
                    for batch in 0..BATCHES {
                        let lines: String = (0..3).map(|line| format!("{writer},{batch}-{line}\n")).collect();
                        file.append(lines.as_bytes()).unwrap();
                    }
                });
            }
        });
        let mut lines = Vec::new();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let text = read(entry.unwrap().path());
            assert!(text.len() <= 2000, "{}", text.len());
            let rows = text.strip_prefix(HEADER).expect("every file has a header");
            assert!(!rows.contains(HEADER), "and only one");
            lines.extend(rows.lines().map(str::to_owned));
        }
        lines.sort();
        let mut expected: Vec<_> = (0..WRITERS)
            .flat_map(|writer| {
                (0..BATCHES).flat_map(move |batch| (0..3).map(move |line| format!("{writer},{batch}-{line}")))
            })
            .collect();
        expected.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_stopped_holder_of_the_lock_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let mut file = open(&path).unwrap();
        let holder = File::open(&path).unwrap();
        flock(&holder, FlockOperation::LockExclusive).unwrap();
        file.append(b"1,2\n").unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n");
    }
}
