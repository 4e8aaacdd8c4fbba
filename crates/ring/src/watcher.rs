// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::reader::changed;
use crate::{Batch, Follower, Mode, Polled, ReadError};

/// Ring files, and all those of directories, as they come and go.
#[derive(Debug)]
pub struct Watcher {
    directories: Vec<Directory>,
    files: BTreeMap<PathBuf, Watched>,
    mode: Mode,
    batch: Batch,
}

/// What has become of a file.
#[derive(Debug)]
pub enum Change<'a> {
    /// It is there, and is a sound ring.
    Came,
    /// It has events that are new, or lost some.
    Events(&'a Batch),
    /// It is there no more.
    Gone,
    /// It, or the directory, cannot be read.
    Unreadable(&'a ReadError),
    /// It is a directory that could not be read, and can be again; of a file it is told that it came.
    Readable,
    /// It was found in a directory, and is something else.
    Foreign(&'a ReadError),
}

/// Whether whoever visits events has had them. `()` is [`Taken::Yes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// In [`Mode::Consume`] they are taken out of their file.
    Yes,
    /// In [`Mode::Consume`] they stay there, and come again with the next [`Watcher::poll`].
    NotYet,
}

impl From<()> for Taken {
    fn from((): ()) -> Self {
        Self::Yes
    }
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Its time when it was read last.
    read: Option<(i64, i64)>,
    is_unreadable: bool,
}

#[derive(Debug)]
struct Watched {
    follower: Follower,
    /// Whether it was named, rather than found in a directory.
    is_named: bool,
    /// Whether it was told that it is there.
    is_told: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not looked at yet.
    New,
    Sound,
    Absent,
    /// Since when, and whether it was said.
    Unreadable {
        since: Instant,
        said: bool,
    },
    /// Something else, as of this time of its last change.
    Foreign {
        changed: Option<(i64, i64)>,
    },
}

/// Whoever begins a file anew makes it unreadable for a moment.
const PATIENCE: Duration = Duration::from_millis(200);

/// Reads of one file before others have their turn.
const IN_A_ROW: usize = 16;

impl Watcher {
    /// A watcher of these paths, directories and files, which need not exist yet.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>, mode: Mode) -> Self {
        let mut this = Self { directories: Vec::new(), files: BTreeMap::new(), mode, batch: Batch::new() };
        for path in paths {
            this.add(path.to_owned(), true);
        }
        this
    }

    /// Looks at everything once, and tells what is new. In [`Mode::Consume`], events are taken out of their file when
    /// `visit` has returned for them, unless it says that they are [not taken yet](Taken::NotYet).
    ///
    /// True if something was new: there may be more then. A file that cannot be read is told when that has lasted for a
    /// moment, once until it is well again; with `at_once`, at once.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn poll<T: Into<Taken>, E>(
        &mut self,
        at_once: bool,
        visit: impl FnMut(&Follower, Change<'_>) -> Result<T, E>,
    ) -> Result<bool, E> {
        self.poll_agents(at_once, |_| true, visit)
    }

    /// The same, if only some agents are wanted, by their names: the files of others are not opened, and nothing is taken
    /// out of them.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn poll_agents<T: Into<Taken>, E>(
        &mut self,
        at_once: bool,
        wants: impl Fn(&str) -> bool,
        mut visit: impl FnMut(&Follower, Change<'_>) -> Result<T, E>,
    ) -> Result<bool, E> {
        let mut visit = |follower: &Follower, change: Change<'_>| visit(follower, change).map(Into::into);
        self.find_directories();
        self.look_through_directories(&mut visit)?;
        // What was named may be a directory one day.
        self.files.retain(|_, watched| watched.is_named || wants(watched.follower.agent()));
        let patience = if at_once { Duration::ZERO } else { PATIENCE };
        let mut is_new = false;
        let mut gone = Vec::new();
        for (path, watched) in self.files.iter_mut().filter(|(_, watched)| wants(watched.follower.agent())) {
            is_new |= watched.poll(&mut self.batch, self.mode, patience, &mut visit)?;
            if !watched.is_named && matches!(watched.state, State::Absent) {
                gone.push(path.clone());
            }
        }
        for path in gone {
            self.files.remove(&path);
        }
        Ok(is_new)
    }

    /// The files it follows that are sound rings.
    pub fn rings(&self) -> impl Iterator<Item = &Follower> {
        self.files.values().filter(|watched| matches!(watched.state, State::Sound)).map(|watched| &watched.follower)
    }

    fn add(&mut self, path: PathBuf, is_named: bool) {
        let mode = self.mode;
        self.files.entry(path).or_insert_with_key(|path| Watched {
            follower: Follower::new(path, mode),
            is_named,
            is_told: false,
            state: State::New,
        });
    }

    /// A path that was named may be a directory, from the beginning or by now.
    fn find_directories(&mut self) {
        let is_directory = |path: &PathBuf, watched: &mut Watched| {
            watched.is_named && !matches!(watched.state, State::Sound) && path.is_dir()
        };
        for (path, _) in self.files.extract_if(.., is_directory) {
            self.directories.push(Directory { path, read: None, is_unreadable: false });
        }
    }

    fn look_through_directories<E>(
        &mut self,
        visit: &mut impl FnMut(&Follower, Change<'_>) -> Result<Taken, E>,
    ) -> Result<(), E> {
        let mut found = Vec::new();
        for directory in &mut self.directories {
            let read = directory.entries(&mut found);
            // Only what has changed is told.
            if std::mem::replace(&mut directory.is_unreadable, read.is_err()) == read.is_err() {
                continue;
            }
            let follower = Follower::new(&directory.path, self.mode);
            match read {
                Ok(()) => visit(&follower, Change::Readable)?,
                Err(error) => visit(&follower, Change::Unreadable(&error.into()))?,
            };
        }
        for path in found {
            self.add(path, false);
        }
        Ok(())
    }
}

impl Directory {
    /// Adds its files if it has changed. Agents' names make no hidden files.
    fn entries(&mut self, found: &mut Vec<PathBuf>) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        let changed = Some(changed(&metadata));
        if self.read == changed {
            return Ok(());
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !is_hidden && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
                found.push(entry.path());
            }
        }
        // What changes within one tick of its clock shows only if it is older than that.
        let is_settled =
            metadata.modified().ok().and_then(|time| time.elapsed().ok()) > Some(Duration::from_millis(50));
        self.read = changed.filter(|_| is_settled);
        Ok(())
    }
}

impl Watched {
    fn poll<E>(
        &mut self,
        batch: &mut Batch,
        mode: Mode,
        patience: Duration,
        visit: &mut impl FnMut(&Follower, Change<'_>) -> Result<Taken, E>,
    ) -> Result<bool, E> {
        if let State::Foreign { changed: known } = self.state
            && known.is_some()
            && fs::metadata(self.follower.path()).ok().as_ref().map(changed) == known
        {
            return Ok(false);
        }
        let mut is_new = false;
        for _ in 0..IN_A_ROW {
            match self.follower.poll(batch) {
                Polled::Events => {
                    self.sound(visit)?;
                    if visit(&self.follower, Change::Events(batch))? == Taken::NotYet && mode == Mode::Consume {
                        break;
                    }
                    is_new = true;
                    if mode == Mode::Consume
                        && let Err(error) = self.follower.commit()
                    {
                        self.unreadable(error, patience, visit)?;
                        break;
                    }
                    if batch.is_empty() {
                        break;
                    }
                }
                Polled::Quiet => {
                    self.sound(visit)?;
                    break;
                }
                Polled::Gone => {
                    if !matches!(self.state, State::Absent) {
                        (self.state, self.is_told) = (State::Absent, false);
                        visit(&self.follower, Change::Gone)?;
                    }
                    break;
                }
                Polled::Unreadable(error) => {
                    self.unreadable(error, patience, visit)?;
                    break;
                }
            }
        }
        Ok(is_new)
    }

    fn sound<E>(&mut self, visit: &mut impl FnMut(&Follower, Change<'_>) -> Result<Taken, E>) -> Result<(), E> {
        self.state = State::Sound;
        if std::mem::replace(&mut self.is_told, true) { Ok(()) } else { visit(&self.follower, Change::Came).map(drop) }
    }

    fn unreadable<E>(
        &mut self,
        error: ReadError,
        patience: Duration,
        visit: &mut impl FnMut(&Follower, Change<'_>) -> Result<Taken, E>,
    ) -> Result<(), E> {
        if !self.is_named && error.is_foreign() {
            let is_known = matches!(self.state, State::Foreign { .. });
            let changed = fs::metadata(self.follower.path()).ok().as_ref().map(changed);
            self.state = State::Foreign { changed };
            return if is_known { Ok(()) } else { visit(&self.follower, Change::Foreign(&error)).map(drop) };
        }
        let (since, said) = match self.state {
            State::Unreadable { since, said } => (since, said),
            _ => (Instant::now(), false),
        };
        let is_time = since.elapsed() >= patience;
        self.state = State::Unreadable { since, said: said || is_time };
        if !is_time || said {
            return Ok(());
        }
        self.is_told = false;
        visit(&self.follower, Change::Unreadable(&error)).map(drop)
    }
}
