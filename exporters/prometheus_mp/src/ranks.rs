// SPDX-License-Identifier: Apache-2.0

//! The stores of a directory: which there are, whose processes live, and what they hold.
//!
//! Whoever serves looks at them with each scrape, and removes what nobody has use for. Their files stay open from one
//! look to the next, so that a store costs a few system calls and no memory.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io, mem};

use nixl_telemetry_sdk::metrics::{Labels, Snapshot};
use nixl_telemetry_sdk::{debug, warn};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::store::{Detail, Reader, Store, Unreadable, is_store_name};

/// The most files that stay open: they count against what the process may have open.
const MOST_OPEN: usize = 256;

/// The stores of all processes that share a directory.
#[derive(Debug)]
pub(crate) struct Ranks {
    directory: PathBuf,
    stale_ns: u64,
    /// By file name.
    entries: BTreeMap<Box<[u8]>, Entry>,
    reader: Reader,
    looks: u64,
}

/// A file that is named like a store.
#[derive(Debug)]
struct Entry {
    inode: u64,
    /// `None` if it is not to be opened, or too many are open.
    file: Option<File>,
    is_foreign: bool,
    store: Option<Store>,
    is_alive: bool,
    is_shown: bool,
    /// What is wrong with it has been said.
    has_complained: bool,
    /// The last look that found it.
    seen: u64,
}

/// What is to become of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shown,
    Hidden,
    Removed,
}

impl Ranks {
    /// The stores in `directory`. One whose process is gone is shown until `stale` has passed since its last event.
    pub(crate) fn new(directory: PathBuf, stale: Duration) -> Self {
        let stale_ns = u64::try_from(stale.as_nanos()).map_or(i64::MAX as u64, |ns| ns.min(i64::MAX as u64));
        Self { directory, stale_ns, entries: BTreeMap::new(), reader: Reader::new(), looks: 0 }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks at all stores, and closely enough for what is to be shown, at a time of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// If the directory cannot be read; then there is nothing to show.
    pub(crate) fn look(&mut self, now_ns: u64, detail: Detail) -> io::Result<()> {
        self.looks += 1;
        self.reader.set_detail(detail);
        let looked = self.look_into_directory(now_ns);
        let looks = self.looks;
        self.entries.retain(|_, entry| looked.is_ok() && entry.seen == looks);
        self.hide_twins();
        looked
    }

    /// What is to be shown, by file name.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&Labels, &Snapshot)> {
        let shown = self.entries.values().filter(|entry| entry.is_shown);
        shown.filter_map(|entry| entry.store.as_ref().map(|store| (&store.labels, &store.snapshot)))
    }

    fn look_into_directory(&mut self, now_ns: u64) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = Dir::new(openat(CWD, &self.directory, flags, Mode::empty())?)?;
        // A heartbeat from the future is from before the machine was started.
        let fresh = now_ns.saturating_sub(self.stale_ns)..=now_ns;
        let mut open = self.entries.values().filter(|entry| entry.file.is_some()).count();
        while let Some(found) = directory.read() {
            let found = found?;
            let name = found.file_name().to_bytes();
            if !is_store_name(name) || !matches!(found.file_type(), FileType::RegularFile | FileType::Unknown) {
                continue;
            }
            if self.entries.get(name).is_none_or(|entry| entry.inode != found.ino()) {
                self.entries.insert(name.into(), Entry::new(found.ino()));
            }
            let Some(entry) = self.entries.get_mut(name) else { continue };
            entry.seen = self.looks;
            let had_file = entry.file.is_some();
            let fate = entry.look(directory.fd()?, found.file_name(), &mut self.reader, &fresh);
            entry.is_shown = fate == Fate::Shown;
            if fate == Fate::Removed {
                remove(directory.fd()?, found.file_name());
                entry.seen = 0;
            }
            match (had_file, entry.file.is_some()) {
                (false, true) if open >= MOST_OPEN => entry.file = None,
                (false, true) => open += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Of stores with the same labels shows only one, since nobody could tell them apart: of a process that lives if
    /// there is one, and of these that which came last.
    fn hide_twins(&mut self) {
        // Of two that have had the same number, the name of the one that came later is greater.
        let shown = self.entries.values_mut().rev().filter(|entry| entry.is_shown);
        let mut shown: Vec<&mut Entry> = shown.collect();
        shown.sort_by(|one, other| other.precedence().cmp(&one.precedence()));
        shown.dedup_by(|entry, better| {
            let ((labels, is_alive), (better, _)) = (entry.precedence(), better.precedence());
            if labels != better {
                return false;
            }
            // A container that is started again has the same number as before, as a matter of course.
            if is_alive && !mem::replace(&mut entry.has_complained, true) {
                warn!(
                    "exporter prometheus_mp: two processes that live have the labels {better}, and only one is shown: \
                     expected another agent_name, local_rank or label of NIXL_TELEMETRY_LABELS for each"
                );
            }
            entry.is_shown = false;
            true
        });
    }
}

impl Entry {
    fn new(inode: u64) -> Self {
        Self {
            inode,
            file: None,
            is_foreign: false,
            store: None,
            is_alive: false,
            is_shown: false,
            has_complained: false,
            seen: 0,
        }
    }

    /// What it is called, then whether it is to be preferred to others of that name.
    fn precedence(&self) -> (&str, bool) {
        (self.store.as_ref().map_or("", |store| store.labels.before()), self.is_alive)
    }

    /// Finds out whether its process lives and what it holds. Of those whose processes are gone, the ones with a
    /// `fresh` heartbeat are still worth showing.
    fn look(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        reader: &mut Reader,
        fresh: &RangeInclusive<u64>,
    ) -> Fate {
        let file = match &self.file {
            _ if self.is_foreign => return Fate::Hidden,
            Some(file) => file,
            None => match open(directory, name) {
                Ok(Some(file)) => self.file.insert(file),
                Ok(None) => {
                    self.is_foreign = true;
                    return self.hide(name, &"is no file of this user: expected none but its own");
                }
                Err(error) => return self.hide(name, &format_args!("cannot be opened: {error}")),
            },
        };
        // What cannot be asked counts as alive.
        let lock = flock(file, FlockOperation::NonBlockingLockShared);
        self.is_alive = lock.is_err();
        let read = reader.read(file, self.is_alive, &mut self.store);
        let fate = match (read, &self.store) {
            (Ok(()), Some(store)) if self.is_alive || fresh.contains(&store.heartbeat_ns) => Fate::Shown,
            (Ok(()), _) => Fate::Removed,
            (Err(error), _) => {
                let is_removed = !self.is_alive && !matches!(error, Unreadable::Read(_));
                if !error.is_quiet() {
                    self.hide(name, &error);
                }
                if is_removed { Fate::Removed } else { Fate::Hidden }
            }
        };
        // What is removed stays locked until it is closed, so that nobody else takes it up.
        if let (Ok(()), Some(file)) = (lock, &self.file)
            && fate != Fate::Removed
        {
            let _ = flock(file, FlockOperation::Unlock);
        }
        fate
    }

    /// Says what is wrong, once.
    fn hide(&mut self, name: &CStr, problem: &dyn fmt::Display) -> Fate {
        if !mem::replace(&mut self.has_complained, true) {
            warn!("exporter prometheus_mp: {} {problem}; it is not shown", name.to_string_lossy());
        }
        Fate::Hidden
    }
}

/// Opens a file of this user, without waiting for anything; `None` if it is something else.
fn open(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(directory, name, flags, Mode::empty())?;
    let found = fstat(&file)?;
    let is_own = found.st_uid == geteuid().as_raw() && FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    Ok(is_own.then(|| file.into()))
}

fn remove(directory: BorrowedFd<'_>, name: &CStr) {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => debug!("exporter prometheus_mp: removed {}, whose process is gone", name.to_string_lossy()),
        Err(Errno::NOENT) => {}
        Err(error) => {
            let name = name.to_string_lossy();
            warn!("exporter prometheus_mp: {name}, whose process is gone, cannot be removed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Event, Kind};
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::store::tests::{identity, tally};
    use crate::store::{Moment, Writer};

    const STALE: Duration = Duration::from_nanos(30);

    struct Run {
        folder: tempfile::TempDir,
        ranks: Ranks,
    }

    impl Run {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let ranks = Ranks::new(folder.path().to_owned(), STALE);
            Self { folder, ranks }
        }

        /// A process that has counted so many bytes, the last time at `now_ns`.
        fn process(&self, pid: u32, bytes: u64, now_ns: u64) -> Writer {
            let mut writer = Writer::create(self.folder.path(), identity("a", pid, "")).unwrap();
            let now = Moment { monotonic_ns: now_ns, unix_us: 1 };
            writer.publish(&mut tally(&[Event::new(Kind::TX_BYTES, bytes)]), now);
            writer
        }

        /// Looks, and says who has sent how many bytes.
        fn look(&mut self, now_ns: u64) -> Vec<(String, u64)> {
            self.ranks.look(now_ns, Detail::Classic).unwrap();
            let sent = |(labels, snapshot): (&Labels, &Snapshot)| {
                (labels.get("pid").unwrap().to_owned(), snapshot.counter(Kind::TX_BYTES))
            };
            self.ranks.shown().map(sent).collect()
        }

        fn files(&self) -> usize {
            fs::read_dir(self.folder.path()).unwrap().count()
        }
    }

    fn seen(seen: &[(&str, u64)]) -> Vec<(String, u64)> {
        seen.iter().map(|(pid, bytes)| ((*pid).to_owned(), *bytes)).collect()
    }

    #[test]
    fn the_living_are_shown_and_the_dead_for_a_while() {
        let mut run = Run::new();
        assert_eq!(run.look(0), []);
        let mut one = run.process(1, 10, 1000);
        let two = run.process(2, 20, 1000);
        assert_eq!(run.look(u64::MAX), seen(&[("1", 10), ("2", 20)]), "whatever their age");
        one.publish(&mut tally(&[Event::new(Kind::TX_BYTES, 5)]), Moment { monotonic_ns: 1010, unix_us: 1 });
        assert_eq!(run.look(1010), seen(&[("1", 15), ("2", 20)]));
        drop(two);
        assert_eq!((run.look(1030), run.files()), (seen(&[("1", 15), ("2", 20)]), 2));
        assert_eq!((run.look(1031), run.files()), (seen(&[("1", 15)]), 1));
        drop(one);
        assert_eq!((run.look(1009), run.files()), (vec![], 0), "from before the machine was started");
    }

    #[test]
    fn without_patience_the_dead_go_at_once() {
        let mut run = Run::new();
        run.ranks.stale_ns = 0;
        let one = run.process(1, 10, 1000);
        assert_eq!(run.look(2000), seen(&[("1", 10)]));
        drop(one);
        assert_eq!((run.look(1001), run.files()), (vec![], 0));
    }

    #[test]
    fn what_shows_nothing_is_removed_unless_somebody_holds_it() {
        let mut run = Run::new();
        let folder = run.folder.path().to_owned();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        let held = folder.join("nixl.held.mmap");
        put("nixl.held.mmap", b"something else");
        let held = File::open(held).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        put("nixl.1.2.3.mmap", b"");
        put("nixl.1.2.4.mmap", &[0; 6800]);
        put("nixl.junk.mmap", &[7; 9000]);
        // Not stores by their names, or by what they are.
        put("nixl.1.2.5.mmap.staging", b"");
        put("other.mmap", b"");
        put("nixl-owner.127.0.0.1:1.lock", b"");
        fs::create_dir(folder.join("nixl.folder.mmap")).unwrap();
        std::os::unix::fs::symlink("other.mmap", folder.join("nixl.link.mmap")).unwrap();
        rustix::fs::mknodat(CWD, folder.join("nixl.pipe.mmap"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _one = run.process(1, 10, 1000);
        for _ in 0..2 {
            assert_eq!(run.look(1000), seen(&[("1", 10)]));
            assert_eq!(run.files(), 8);
        }
        drop(held);
        run.look(1000);
        assert_eq!(run.files(), 7);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_left_alone() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: files of another user; they need root");
            return;
        }
        let mut run = Run::new();
        let one = run.process(1, 10, 1000);
        std::os::unix::fs::chown(one.path(), Some(4242), None).unwrap();
        assert_eq!((run.look(1000), run.files()), (vec![], 1));
        drop(one);
        assert_eq!((run.look(9000), run.files()), (vec![], 1));
    }

    #[test]
    fn twins_are_shown_once() {
        let mut run = Run::new();
        // Another file, but the same process number and instance: of a container that has been started again.
        let alive = run.process(1, 10, 1000);
        let before = run.folder.path().join("nixl.1.1.0.mmap");
        fs::copy(alive.path(), &before).unwrap();
        let file = File::options().write(true).open(&before).unwrap();
        file.write_all_at(&1005_u64.to_le_bytes(), 24).unwrap();
        file.write_all_at(&99_u64.to_le_bytes(), 752).unwrap();
        let _other = run.process(2, 20, 1000);
        assert_eq!(run.look(1010), seen(&[("1", 10), ("2", 20)]));
        // Of two that live, and of two that are gone, the one that came later; each of the others if it is the only
        // one.
        flock(&file, FlockOperation::LockExclusive).unwrap();
        assert_eq!(run.look(1010), seen(&[("1", 10), ("2", 20)]));
        let path = alive.path().to_owned();
        drop(alive);
        assert_eq!(run.look(1010), seen(&[("1", 99), ("2", 20)]));
        drop(file);
        assert_eq!(run.look(1010), seen(&[("1", 10), ("2", 20)]));
        fs::remove_file(path).unwrap();
        assert_eq!(run.look(1010), seen(&[("1", 99), ("2", 20)]));
    }

    #[test]
    fn files_come_and_go_and_change_their_size() {
        let mut run = Run::new();
        let one = run.process(1, 10, 1000);
        let path = one.path().to_owned();
        assert_eq!(run.look(1000).len(), 1);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(100).unwrap();
        assert_eq!((run.look(1000), run.files()), (vec![], 1));
        fs::remove_file(&path).unwrap();
        assert_eq!(run.look(1000), []);
        assert!(run.ranks.entries.is_empty());
        fs::remove_dir(run.folder.path()).unwrap();
        assert_eq!(run.ranks.look(1000, Detail::Classic).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(run.ranks.shown().count(), 0);
    }

    #[test]
    fn a_thousand_stores_do_not_need_a_thousand_files() {
        let mut run = Run::new();
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let template = run.process(0, 1, 1000);
        for pid in 1..1000_u64 {
            let path = run.folder.path().join(format!("nixl.{pid}.1.0.mmap"));
            fs::copy(template.path(), &path).unwrap();
            File::options().write(true).open(&path).unwrap().write_all_at(&pid.to_le_bytes(), 16).unwrap();
        }
        let before = open();
        for _ in 0..2 {
            let sent = run.look(1000);
            assert_eq!((sent.len(), sent.iter().map(|(_, bytes)| bytes).sum::<u64>()), (1000, 1000));
        }
        // Other tests of this process open files, too.
        assert!(open() < before + MOST_OPEN + 100, "{} after {before}", open());
        let is_store = |path: &Path| path.extension().is_some_and(|extension| extension == "mmap");
        assert_eq!(
            fs::read_dir(run.folder.path()).unwrap().filter(|entry| is_store(&entry.as_ref().unwrap().path())).count(),
            1000
        );
    }
}
