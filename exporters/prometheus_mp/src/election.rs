// SPDX-License-Identifier: Apache-2.0

//! Which process serves: the one that holds the lock of a file in the directory, as NIXL's own exporter does it.
//!
//! The kernel takes the lock away when its process dies, so that nobody has to find out who lives. Where locks do not
//! work every process believes it has won, and the port decides.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nixl_telemetry_sdk::warn;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::lock::Lock;

const PREFIX: &str = "nixl-owner.";
const SUFFIX: &str = ".lock";

/// The election of the process that serves an address for a directory.
#[derive(Debug)]
pub(crate) struct Election {
    path: PathBuf,
    state: State,
    /// That locks do not work has been said.
    has_warned: bool,
}

#[derive(Debug)]
enum State {
    Lost,
    #[expect(dead_code, reason = "held, not used")]
    Won(Lock),
    /// Without a lock.
    Believed,
}

impl Election {
    pub(crate) fn new(directory: &Path, address: SocketAddr) -> Self {
        let path = directory.join(format!("{PREFIX}{address}{SUFFIX}"));
        Self { path, state: State::Lost, has_warned: false }
    }

    /// Stands for election; whether this process is the one, now.
    pub(crate) fn stand(&mut self) -> bool {
        if !matches!(self.state, State::Lost) {
            return true;
        }
        self.state = match lock(&self.path) {
            Ok(Some(lock)) => State::Won(lock),
            Ok(None) => State::Lost,
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    let path = self.path.display();
                    warn!("exporter prometheus_mp: {path}: {error}; whoever gets the port serves");
                }
                State::Believed
            }
        };
        !matches!(self.state, State::Lost)
    }

    /// Leaves it to others.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Lost;
    }

    /// The addresses that other processes serve for the same directory.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn others(&self) -> io::Result<Vec<String>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut others = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let address = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            if let Some(address) = address.filter(|_| entry.path() != self.path)
                && is_held(&entry.path())
            {
                others.push(address.to_owned());
            }
        }
        others.sort();
        Ok(others)
    }
}

/// Takes the lock; `None` if somebody has it.
fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("is no file of this user"));
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock::of(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody holds the lock of a file. What cannot be asked is held by nobody.
fn is_held(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(CWD, path, flags, Mode::empty());
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn one_is_elected_for_each_address() {
        let folder = tempfile::tempdir().unwrap();
        let [mut one, mut two] = [9090, 9090].map(|port| Election::new(folder.path(), address(port)));
        let mut other = Election::new(folder.path(), address(9091));
        assert!(one.stand() && one.stand() && !two.stand() && other.stand());
        assert_eq!(two.others().unwrap(), ["127.0.0.1:9091"]);
        assert_eq!(other.others().unwrap(), ["127.0.0.1:9090"]);
        one.give_up();
        assert!(two.stand() && !one.stand());
        drop(two);
        assert!(one.stand());
        other.give_up();
        assert!(one.others().unwrap().is_empty());
    }

    #[test]
    fn the_file_is_nixl_s() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Election::new(folder.path(), address(19395)).stand());
        let metadata = std::fs::metadata(folder.path().join("nixl-owner.127.0.0.1:19395.lock")).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (0, 0o600));
    }

    #[test]
    fn where_nothing_can_be_locked_everybody_wins() {
        let folder = tempfile::tempdir().unwrap();
        let [mut one, mut two] = [1, 2].map(|_| Election::new(&folder.path().join("missing"), address(9090)));
        assert!(one.stand() && two.stand());
        let link = folder.path().join("nixl-owner.127.0.0.1:9090.lock");
        std::os::unix::fs::symlink("/dev/null", link).unwrap();
        let [mut one, mut two] = [1, 2].map(|_| Election::new(folder.path(), address(9090)));
        assert!(one.stand() && two.stand() && one.others().unwrap().is_empty());
    }
}
