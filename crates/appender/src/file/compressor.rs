// SPDX-License-Identifier: Apache-2.0

//! Rotated files are compressed by a thread that is never waited for while events come.
//!
//! One at a time, into FILE.compressing, which is locked by who is at it, and begun anew by the next if that one dies. Only
//! what is whole and on the disk gets the name of the rotated file and an ending, and only then is the rotated file removed.
//! So there is at any time one of them, or, for a moment or after a kill, both.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nixl_telemetry_sdk::{Worker, warn};

use super::{
    describe,
    lock::Lock,
    open::Current,
    rotation::{Identity, Rotated, with_ending},
};
use crate::codec::Compression;

/// The thread that compresses what is rotated of one file.
#[derive(Debug)]
pub(super) struct Compressor {
    worker: Worker,
    /// What is begun is given up.
    stop: Arc<AtomicBool>,
}

impl Compressor {
    /// How long the end of an exporter waits for what is not compressed yet. What is left then is so for whoever opens the
    /// file next.
    const GRACE: Duration = Duration::from_secs(3);

    /// Starts it, first with what others have left. `None`, and a line in the log, if the system has no thread for it.
    pub(super) fn start(path: &Path, compression: Compression) -> Option<Self> {
        let stop = Arc::<AtomicBool>::default();
        let job = Job { path: path.to_owned(), compression, stop: Arc::clone(&stop) };
        match Worker::start("nixl-tlm-pack", Duration::ZERO, move |_| job.run()) {
            Ok(worker) => Some(Self { worker, stop }),
            Err(error) => {
                warn!("{} is rotated without compression: no thread for it: {}", path.display(), describe(&error));
                None
            }
        }
    }

    /// Has it look for rotated files soon.
    pub(super) fn ask(&self) {
        self.worker.ask();
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        if self.worker.is_here() && !self.worker.end(Instant::now() + Self::GRACE) {
            self.stop.store(true, Ordering::Relaxed);
            // Between two reads it looks whether it is to stop.
            self.worker.end(Instant::now() + Self::GRACE);
        }
    }
}

struct Job {
    /// The file that is rotated.
    path: PathBuf,
    compression: Compression,
    stop: Arc<AtomicBool>,
}

/// What became of a rotated file.
enum Outcome {
    /// It is compressed, or gone.
    Done,
    /// Somebody else is at one.
    Busy,
}

impl Job {
    /// When to look again for what somebody else was at, who may have died over it.
    const RETRY: Duration = Duration::from_secs(5);
    /// How long to wait for the lock of the file: nobody is kept waiting by it.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Compresses what there is, and says when to look again.
    fn run(&self) -> Duration {
        let mut failed = Vec::new();
        loop {
            // Anew each time, since they are renamed meanwhile.
            let rotated = Rotated::all(&self.path, Some(self.compression));
            let mut plain = rotated.iter().filter(|file| file.codec.is_none());
            let Some(next) = plain.find(|file| !failed.contains(&file.identity)) else { return Duration::MAX };
            let result = self.compress(next);
            if self.stop.load(Ordering::Relaxed) {
                return Duration::MAX;
            }
            match result {
                Ok(Outcome::Done) => {}
                Ok(Outcome::Busy) => return Self::RETRY,
                Err(what) => {
                    warn!("{} stays uncompressed: {what}", next.path.display());
                    failed.push(next.identity);
                }
            }
        }
    }

    fn compress(&self, rotated: &Rotated) -> Result<Outcome, String> {
        let source = match rotated.open() {
            Ok(source) => source,
            // It was renamed, or was the last to be kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Done),
            Err(error) => return Err(describe(&error)),
        };
        let part = with_ending(&self.path, ".compressing");
        let claimed = claim(&part).map_err(|error| format!("{}: {}", part.display(), describe(&error)))?;
        let Some(target) = claimed else { return Ok(Outcome::Busy) };
        let done = self.fill(&source, &target.file).and_then(|size| self.publish(&source, size, &part));
        if done.is_err() {
            // Nobody else touches it while it is locked; if it cannot be removed, the next will begin it anew.
            let _ = fs::remove_file(&part);
        }
        done.map(|()| Outcome::Done)
    }

    /// Compresses one file into another, until it is on the disk. Returns how many bytes it had.
    fn fill(&self, source: &File, mut target: &File) -> Result<u64, String> {
        let io = |error: io::Error| describe(&error);
        let metadata = source.metadata().map_err(io)?;
        let mut from = Source { file: source, size: 0, stop: &self.stop };
        self.compression.codec.compress(&Identity::of(&metadata).remark(), &mut from, &mut target).map_err(io)?;
        let size = from.size;
        target.set_permissions(metadata.permissions()).map_err(io)?;
        target.set_modified(metadata.modified().map_err(io)?).map_err(io)?;
        target.sync_all().map_err(io)?;
        Ok(size)
    }

    /// Puts the compressed file in the place of the rotated one, whatever that is called by now.
    fn publish(&self, source: &File, size: u64, part: &Path) -> Result<(), String> {
        let io = |error: io::Error| describe(&error);
        // Who rotates has the lock, so that under it every file keeps its name.
        let mut current = Current::open(self.path.clone(), Self::PATIENCE)?;
        let lock = current.lock()?;
        if !lock.held {
            return Err("the lock of the current file cannot be had".into());
        }
        let metadata = source.metadata().map_err(io)?;
        if metadata.len() != size {
            return Err("was written to while it was compressed".into());
        }
        let rotated = Rotated::all(&self.path, None);
        match rotated.iter().find(|file| file.identity == Identity::of(&metadata)) {
            Some(rotated) => {
                let name = with_ending(&rotated.path, self.compression.codec.ending());
                fs::rename(part, name).and_then(|()| fs::remove_file(&rotated.path)).map_err(io)
            }
            // It was the last to be kept.
            None => fs::remove_file(part).map_err(io),
        }
    }
}

/// Makes this file, locked; `None` while somebody else is at it.
fn claim(part: &Path) -> io::Result<Option<Lock>> {
    let is_named = |lock: &Lock| {
        let (file, named) = (lock.file.metadata(), fs::symlink_metadata(part));
        matches!((file, named), (Ok(file), Ok(named)) if Identity::of(&file) == Identity::of(&named))
    };
    loop {
        match File::options().write(true).create_new(true).mode(0o600).open(part) {
            Ok(file) => {
                let lock = Lock::take(&Arc::new(file), Duration::ZERO)?;
                // Before it was locked, somebody may have taken it for one that was left behind.
                return Ok((lock.held && is_named(&lock)).then_some(lock));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let lock = match super::rotation::open_existing(part) {
            Ok(file) => Lock::take(&Arc::new(file), Duration::ZERO)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !lock.held {
            return Ok(None);
        }
        // Whoever made it has died, or is done with it and has renamed it.
        if is_named(&lock) {
            fs::remove_file(part)?;
        }
    }
}

/// A file that is read until it is to stop.
struct Source<'a> {
    file: &'a File,
    /// Bytes that were read.
    size: u64,
    stop: &'a AtomicBool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let read = self.file.read(buffer)?;
        self.size += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::{BufRead as _, BufReader, Write},
        num::NonZero,
        os::unix::fs::symlink,
        thread,
    };

    use rustix::fs::{FlockOperation, flock};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        codec::Codec,
        file::{Form, LineFile, Rotation},
    };

    /// Puts the remark before what it is given, does something else in the middle, and fails over what begins with `bad`.
    struct Marker(Box<dyn Fn() + Send + Sync>);

    impl std::fmt::Debug for Marker {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Marker")
        }
    }

    impl Codec for Marker {
        fn ending(&self) -> &'static str {
            ".packed"
        }

        fn compress(&self, remark: &str, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
            writeln!(to, "{remark}")?;
            let mut text = String::new();
            from.read_to_string(&mut text)?;
            to.write_all(text.as_bytes())?;
            (self.0)();
            if text.starts_with("bad") { Err(io::Error::other("bad")) } else { Ok(()) }
        }

        fn read(&self, file: File) -> io::Result<(String, Box<dyn Read>)> {
            let mut file = BufReader::new(file);
            let mut remark = String::new();
            file.read_line(&mut remark)?;
            Ok((remark.trim_end().to_owned(), Box::new(file)))
        }
    }

    fn marker(meanwhile: impl Fn() + Send + Sync + 'static) -> Compression {
        let codec: &'static Marker = Box::leak(Box::new(Marker(Box::new(meanwhile))));
        Compression { codec, known: Box::leak(Box::new([codec as &dyn Codec])) }
    }

    fn rotating(path: &Path, max_size: u64, keep: u32, compression: Compression) -> LineFile {
        let rotation = Rotation { max_size: NonZero::new(max_size).unwrap(), keep, compression: Some(compression) };
        let patience = Duration::from_secs(600);
        let mut file = LineFile::open_patiently(path.to_owned(), Form::lines(), Some(rotation), patience).unwrap();
        file.start_compressing();
        file
    }

    fn append(file: &mut LineFile, line: &str) {
        file.append(line.as_bytes(), &|_| {}).unwrap();
    }

    /// A folder with these files in it.
    fn folder(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let path = folder.path().join("x");
        (folder, path)
    }

    /// The files there are, without the remarks.
    fn files(folder: &TempDir) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.map(|path| {
            let (name, text) = (path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap());
            let text = if name.ends_with(".packed") { text.split_once('\n').unwrap().1.to_owned() } else { text };
            (name.to_owned(), text)
        });
        files.collect()
    }

    fn expected<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
        files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    }

    /// One run of the job, in this thread.
    fn run(path: &Path, compression: Compression) -> Duration {
        Job { path: path.to_owned(), compression, stop: Arc::default() }.run()
    }

    #[test]
    fn what_is_rotated_is_compressed_and_the_oldest_goes() {
        let (folder, path) = folder(&[]);
        let mut file = rotating(&path, 8, 2, marker(|| {}));
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n"] {
            append(&mut file, line);
        }
        drop(file);
        let left = [("x", "seven\n"), ("x.1.packed", "six\n"), ("x.2.packed", "five\n")];
        assert_eq!(files(&folder), expected(left));

        // With room for one only, a compressed file gives way as well, and one of a lower number that is free is taken first.
        append(&mut rotating(&path, 8, 1, marker(|| {})), "eight\n");
        let left = [("x", "eight\n"), ("x.1.packed", "seven\n"), ("x.2.packed", "five\n")];
        assert_eq!(files(&folder), expected(left));
        fs::remove_file(folder.path().join("x.1.packed")).unwrap();
        append(&mut rotating(&path, 8, 2, marker(|| {})), "nine\n");
        let left = [("x", "nine\n"), ("x.1.packed", "eight\n"), ("x.2.packed", "five\n")];
        assert_eq!(files(&folder), expected(left));
    }

    #[test]
    fn what_the_killed_have_left_is_compressed_by_the_next() {
        // In the middle of a file, or when it had its name and the rotated file was still there.
        for left in [("x.compressing", "device 1, ino"), ("x.3.packed", "device 1, inode 1\nanother")] {
            let (folder, path) = folder(&[("x", "a\n"), ("x.1", "b\n"), ("x.3", "c\n"), ("x.old", "d\n"), left]);
            drop(rotating(&path, 8, 5, marker(|| {})));
            let all = [("x", "a\n"), ("x.1.packed", "b\n"), ("x.3.packed", "c\n"), ("x.old", "d\n")];
            assert_eq!(files(&folder), expected(all), "{left:?}");
        }
    }

    #[test]
    fn what_cannot_be_compressed_stays_and_holds_up_nobody() {
        let (folder, path) = folder(&[("x", ""), ("x.1", "bad\n"), ("x.2", "good\n"), ("x.3", "bad, too\n")]);
        assert_eq!(run(&path, marker(|| {})), Duration::MAX);
        let left = [("x", ""), ("x.1", "bad\n"), ("x.2.packed", "good\n"), ("x.3", "bad, too\n")];
        assert_eq!(files(&folder), expected(left));
    }

    #[test]
    fn it_is_put_beside_what_the_file_is_called_by_then() {
        let meanwhile: [(fn(&Path), _); 3] = [
            (|folder| fs::rename(folder.join("x.1"), folder.join("x.2")).unwrap(), Some(("x.2.packed", "text\n"))),
            (|folder| fs::remove_file(folder.join("x.1")).unwrap(), None),
            // Somebody who had no lock. It is compressed another time.
            (|folder| fs::write(folder.join("x.1"), "more text\n").unwrap(), Some(("x.1", "more text\n"))),
        ];
        for (act, left) in meanwhile {
            let (folder, path) = folder(&[("x", ""), ("x.1", "text\n")]);
            let place = folder.path().to_owned();
            assert_eq!(run(&path, marker(move || act(&place))), Duration::MAX);
            let mut all = expected([("x", "")]);
            all.extend(left.map(|(name, text)| (name.to_owned(), text.to_owned())));
            assert_eq!(files(&folder), all);
        }
    }

    #[test]
    fn who_is_at_it_is_left_alone() {
        let all = [("x", ""), ("x.1", "text\n"), ("x.compressing", "half")];
        let (folder, path) = folder(&all);
        let other = File::open(folder.path().join("x.compressing")).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        assert_eq!(run(&path, marker(|| {})), Job::RETRY);
        assert_eq!(files(&folder), expected(all));
        flock(&other, FlockOperation::Unlock).unwrap();
        assert_eq!(run(&path, marker(|| {})), Duration::MAX);
        assert_eq!(files(&folder), expected([("x", ""), ("x.1.packed", "text\n")]));
    }

    #[test]
    fn no_link_is_followed() {
        let (folder, path) = folder(&[("x", ""), ("x.1", "text\n"), ("victim", "theirs")]);
        symlink(folder.path().join("victim"), folder.path().join("x.compressing")).unwrap();
        symlink(folder.path().join("victim"), folder.path().join("x.2")).unwrap();
        assert_eq!(run(&path, marker(|| {})), Duration::MAX);
        let left = [("x", ""), ("x.1", "text\n"), ("x.2", "theirs"), ("x.compressing", "theirs"), ("victim", "theirs")];
        assert_eq!(files(&folder), expected(left));
    }

    #[test]
    fn told_to_stop_it_leaves_things_as_they_were() {
        let all = [("x", ""), ("x.1", "text\n"), ("x.2", "more\n")];
        let (folder, path) = folder(&all);
        let job = Job { path, compression: marker(|| {}), stop: Arc::new(AtomicBool::new(true)) };
        assert_eq!(job.run(), Duration::MAX);
        assert_eq!(files(&folder), expected(all));
    }

    #[test]
    fn writers_share_a_file_whose_past_is_compressed_and_no_line_is_lost() {
        const WRITERS: usize = 4;
        const LINES: usize = 50;
        let (folder, path) = folder(&[]);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                scope.spawn(move || {
                    let mut file = rotating(path, 100, 1000, marker(|| {}));
                    for line in 0..LINES {
                        append(&mut file, &format!("{writer}-{line}\n"));
                    }
                });
            }
        });
        let files = files(&folder);
        let plain: Vec<_> = files.keys().filter(|name| !name.ends_with(".packed")).collect();
        assert_eq!(plain, ["x"]);
        let mut lines: Vec<_> = files.values().flat_map(|text| text.lines()).map(str::to_owned).collect();
        lines.sort();
        let mut all: Vec<_> = (0..WRITERS * LINES).map(|n| format!("{}-{}", n / LINES, n % LINES)).collect();
        all.sort();
        assert_eq!(lines, all);
    }
}
