// SPDX-License-Identifier: Apache-2.0

//! How lines leave: appended to a file that others may append to, rotate, or remove at the same time.
//!
//! Everyone who writes takes the file's lock for the moment of one append. Under it a file is measured, given its
//! header if it is empty, rotated if it is full, and shortened again if the disk was full in the middle of a batch.
//!
//! Where the lock cannot be had (a file system without locks, a process stopped while it held it) lines are appended
//! without it: still whole, but nothing is rotated or taken back, two that begin a file at the same moment may both write
//! a header, and where lines begin is not noted.

mod compressor;
mod form;
mod lock;
mod open;
mod repeat;
mod rotation;

use std::{
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    time::Duration,
};

use nixl_telemetry_sdk::warn;

pub use self::form::Form;
pub(crate) use self::rotation::Rotation;
use self::{compressor::Compressor, lock::Lock, open::Current};

/// Where lines begin: in which file, by device and inode, since it may be renamed, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the file system.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
    /// Bytes before them.
    pub at: u64,
}

/// A file open for appending.
#[derive(Debug)]
pub(crate) struct LineFile {
    current: Current,
    form: Form,
    rotation: Option<Rotation>,
    /// There if it compresses what is rotated.
    compressor: Option<Compressor>,
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

impl LineFile {
    /// Opens or creates the file, and writes the header into an empty one.
    ///
    /// # Errors
    /// If the path is no place for a file, or the file has another header: rows of two sorts are not mixed.
    pub(crate) fn open(path: PathBuf, form: Form, rotation: Option<Rotation>) -> Result<Self, FileError> {
        Self::open_patiently(path, form, rotation, Lock::PATIENCE)
    }

    fn open_patiently(
        path: PathBuf,
        form: Form,
        rotation: Option<Rotation>,
        patience: Duration,
    ) -> Result<Self, FileError> {
        let error = |what| FileError { path: path.clone(), what };
        let absolute = std::path::absolute(&path).map_err(|cause| error(describe(&cause)))?;
        let current = Current::open(absolute, patience).map_err(error)?;
        let mut this = Self { current, form, rotation, compressor: None };
        // An append of nothing: it begins an empty file, and looks at one that is not.
        this.append(b"", &|_| {})?;
        Ok(this)
    }

    /// Starts compressing what was rotated and will be, if that is wanted.
    pub(crate) fn start_compressing(&mut self) {
        if let Some(Rotation { keep: 1.., compression: Some(compression), .. }) = self.rotation
            && self.current.open.regular
        {
            self.compressor = Compressor::start(&self.current.path, compression);
        }
    }

    /// Appends whole lines, all of them or none. If nobody can get between, `note` is told before where they will begin.
    ///
    /// # Errors
    /// If there is no room or the file cannot be written; what stood in it before is untouched.
    pub(crate) fn append(&mut self, lines: &[u8], note: &dyn Fn(Place)) -> Result<(), FileError> {
        self.append_whole(lines, note).map_err(|what| self.error(what))
    }

    fn append_whole(&mut self, lines: &[u8], note: &dyn Fn(Place)) -> Result<(), String> {
        let io = |error: io::Error| describe(&error);
        if !self.current.open.regular {
            let begin = if std::mem::replace(&mut self.current.open.checked, true) { "" } else { &self.form.header };
            return (&*self.current.open.file).write_all(&[begin.as_bytes(), lines].concat()).map_err(io);
        }
        let mut rotated = false;
        loop {
            let lock = self.current.lock()?;
            let metadata = self.current.open.file.metadata().map_err(io)?;
            let size = metadata.len();
            let header = self.missing_header(size, &lock);
            if header == 0 && !self.current.open.checked {
                self.check_header()?;
            }
            self.current.open.checked = true;
            if header == 0 && lines.is_empty() {
                // A line that was cut off is left as it is, for who may know how it goes on.
                return Ok(());
            }
            if let Some(rotation) = self.rotation
                && !rotated
                && lock.held
                && self.is_full(size, lines.len(), rotation.max_size.get())
            {
                // If it cannot be rotated, a file that is too big is better than none.
                rotated = true;
                match rotation.rotate(&self.current.path) {
                    Ok(()) => {
                        if let Some(compressor) = &self.compressor {
                            compressor.ask();
                        }
                        continue;
                    }
                    Err(what) => warn!("{} is full and cannot be rotated: {what}", self.current.path.display()),
                }
            }
            let begin: &[u8] = match header {
                // Somebody else wrote, and may have been killed in the middle of a line.
                0 if size != self.current.open.end && !self.ends_with_line(size) => b"\n",
                missing => &self.form.header.as_bytes()[self.form.header.len() - missing..],
            };
            if lock.held {
                let (device, inode, at) = (metadata.dev(), metadata.ino(), size + begin.len() as u64);
                note(Place { device, inode, at });
            }
            let written =
                if begin.is_empty() { lock.write(size, lines) } else { lock.write(size, &[begin, lines].concat()) };
            written.map_err(io)?;
            self.current.open.end = size + (begin.len() + lines.len()) as u64;
            return Ok(());
        }
    }

    /// Bytes of the header that a file of this size lacks: all if it is empty, some if somebody was killed in the middle
    /// of writing it. That somebody is still at it can be told only without the lock.
    fn missing_header(&self, size: u64, lock: &Lock) -> usize {
        match usize::try_from(size) {
            Ok(0) => self.form.header.len(),
            Ok(size) if size < self.form.header.len() && lock.held => match self.start() {
                Ok(start) if start == self.form.header.as_bytes()[..size] => self.form.header.len() - size,
                _ => 0,
            },
            _ => 0,
        }
    }

    fn is_full(&self, size: u64, more: usize, max_size: u64) -> bool {
        more > 0 && size > self.form.header.len() as u64 && size + more as u64 > max_size
    }

    fn check_header(&self) -> Result<(), String> {
        if !self.current.open.readable {
            // Who may write but not read cannot look; appending is what was asked for.
            return Ok(());
        }
        let start = self.start().map_err(|error| describe(&error))?;
        if start == self.form.header.as_bytes() {
            return Ok(());
        }
        let line = start.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        Err(format!(
            "starts with {:?}, expected an empty file or one that starts with {:?} ({})",
            String::from_utf8_lossy(line),
            self.form.header,
            self.form.chosen_by
        ))
    }

    /// As many bytes of the file as the header has.
    fn start(&self) -> io::Result<Vec<u8>> {
        let mut start = vec![0; self.form.header.len()];
        let read = self.current.open.file.read_at(&mut start, 0)?;
        start.truncate(read);
        Ok(start)
    }

    fn ends_with_line(&self, size: u64) -> bool {
        let mut last = [0];
        size == 0
            || !self.current.open.readable
            || self.current.open.file.read_at(&mut last, size - 1).is_ok_and(|_| last == *b"\n")
    }

    fn error(&self, what: String) -> FileError {
        FileError { path: self.current.path.clone(), what }
    }
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
    use std::{
        fs::{self, File, Permissions},
        num::NonZero,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
        sync::Barrier,
        thread,
    };

    use rustix::{
        fs::{FlockOperation, flock},
        thread::{CapabilitySet, capabilities, set_capabilities},
    };

    use super::{open::NO_FILE, *};

    /// For whom it does not matter where lines begin.
    const UNNOTED: &dyn Fn(Place) = &|_| {};

    const HEADER: &str = "a,b\n";

    fn form() -> Form {
        Form::rows(HEADER.into(), "COLUMNS chooses the columns")
    }

    fn open(path: &Path) -> Result<LineFile, String> {
        LineFile::open(path.to_owned(), form(), None).map_err(|error| error.to_string())
    }

    fn rotating(path: &Path, max_size: u64, keep: u32) -> LineFile {
        let rotation = Rotation { max_size: NonZero::new(max_size).unwrap(), keep, compression: None };
        // Who goes without the lock cannot rotate, and makes a file too big: on a busy machine a second is soon over.
        LineFile::open_patiently(path.to_owned(), form(), Some(rotation), Duration::from_secs(600)).unwrap()
    }

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_header_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        open(&path).unwrap().append(b"1,2\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n");
        let mut again = open(&path).unwrap();
        again.append(b"3,4\n5,6\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n5,6\n");

        // Truncated, removed, replaced while it is open: the next batch begins anew, with a header.
        fs::write(&path, "").unwrap();
        again.append(b"7,8\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n7,8\n");
        fs::remove_file(&path).unwrap();
        again.append(b"9,9\n", UNNOTED).unwrap();
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
            (
                at("other.csv"),
                r#"starts with "x,y\n", expected an empty file or one that starts with "a,b\n" (COLUMNS"#,
            ),
            (PathBuf::from("/dev/full"), "no space left on device"),
            (PathBuf::from("/proc/version"), "input/output error"),
        ];
        for (path, what) in table {
            let error = open(&path).unwrap_err();
            assert!(error.starts_with(path.to_str().unwrap()) && error.contains(what), "{error}");
        }
        assert_eq!(read(at("other.csv")), "x,y\n1,2\n");
    }

    #[test]
    fn no_permission_is_said_so() {
        // Root may do what others may not: for the duration of a thread it gives that up.
        let error = thread::spawn(|| {
            let mut capabilities = capabilities(None).unwrap();
            capabilities.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            set_capabilities(None, capabilities).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("x.csv");
            fs::write(&file, "a,b\n").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
            open(&file).unwrap_err()
        });
        assert!(error.join().unwrap().ends_with("/x.csv: permission denied"));
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let mut file = rotating(&path, 12, 2);
        for line in ["1,1\n", "2,2\n", "3,3\n", "4,4\n", "5,5\n", "6,6\n", "7,7\n"] {
            file.append(line.as_bytes(), UNNOTED).unwrap();
        }
        assert_eq!(read(&path), "a,b\n7,7\n");
        assert_eq!(read(folder.path().join("x.csv.1")), "a,b\n5,5\n6,6\n");
        assert_eq!(read(folder.path().join("x.csv.2")), "a,b\n3,3\n4,4\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);

        // A batch bigger than a file has a file of its own.
        file.append(b"a batch that is too big\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\na batch that is too big\n");

        let path = folder.path().join("none-kept.csv");
        let mut file = rotating(&path, 12, 0);
        for line in ["1,1\n", "2,2\n", "3,3\n"] {
            file.append(line.as_bytes(), UNNOTED).unwrap();
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
                        file.append(lines.as_bytes(), UNNOTED).unwrap();
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
        file.append(b"1,2\n", UNNOTED).unwrap();
        assert!(file.current.impatient, "the next append does not wait");
        file.append(b"3,4\n", UNNOTED).unwrap();
        flock(&holder, FlockOperation::Unlock).unwrap();
        file.append(b"5,6\n", UNNOTED).unwrap();
        assert!(!file.current.impatient);
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n5,6\n");
    }

    #[test]
    fn what_replaces_the_file_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let mut file = open(&path).unwrap();
        let mut refused = |what: &str| {
            let error = file.append(b"1,2\n", UNNOTED).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        };
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(NO_FILE);
        symlink("/dev/null", &path).unwrap();
        refused("is a symbolic link, expected the file itself");
        fs::create_dir(&path).unwrap();
        refused("is a directory, expected a file");
        fs::write(&path, "x,y,z\n").unwrap();
        refused(r#"starts with "x,y,", expected"#);
        // And when all is well again, the rows go on.
        file.append(b"3,4\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n3,4\n");
    }

    #[test]
    fn a_line_cut_off_by_somebody_else_stays_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "a,b\n1,2").unwrap();
        let mut file = open(&path).unwrap();
        file.append(b"3,4\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n");
        File::options().append(true).open(&path).unwrap().write_all(b"5,").unwrap();
        file.append(b"6,7\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n5,\n6,7\n");
    }

    #[test]
    fn without_a_header_there_are_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut file = LineFile::open(path.clone(), Form::lines(), None).unwrap();
        assert_eq!(read(&path), "");
        file.append(b"1\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "1\n");
        fs::write(&path, "").unwrap();
        file.append(b"2\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "2\n");
        fs::write(&path, "cut o").unwrap();
        file.append(b"3\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "cut o\n3\n");
        // Whatever it begins with.
        LineFile::open(path.clone(), Form::lines(), None).unwrap().append(b"4\n", UNNOTED).unwrap();
        assert_eq!(read(&path), "cut o\n3\n4\n");
    }

    #[test]
    fn a_file_that_cannot_be_rotated_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::create_dir_all(folder.path().join("x.csv.2/not-empty")).unwrap();
        fs::write(folder.path().join("x.csv.1"), "old").unwrap();
        let mut file = rotating(&path, 12, 2);
        for line in ["1,1\n", "2,2\n", "3,3\n"] {
            file.append(line.as_bytes(), UNNOTED).unwrap();
        }
        assert_eq!(read(&path), "a,b\n1,1\n2,2\n3,3\n");
        assert_eq!(read(folder.path().join("x.csv.1")), "old");
    }

    #[test]
    fn keeping_all_costs_what_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let mut file = rotating(&path, 8, u32::MAX);
        for line in ["1,1\n", "2,2\n", "3,3\n"] {
            file.append(line.as_bytes(), UNNOTED).unwrap();
        }
        assert_eq!(read(folder.path().join("x.csv.2")), "a,b\n1,1\n");
        assert_eq!(read(&path), "a,b\n3,3\n");
    }
}
