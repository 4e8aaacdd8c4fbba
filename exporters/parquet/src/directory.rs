// SPDX-License-Identifier: Apache-2.0

//! Where files lie, what they are called, and how they come to be there.
//!
//! ```text
//! 20261126T152620Z.decode-1.3f….000000000000-000000999999.parquet
//! date=2026-11-26/agent=decode-1/20261126T152620Z.decode-1.3f….000000000000-000000999999.parquet
//! ```
//!
//! The time of the first event, the agent, the origin of its events, and the numbers of the first and the last: a file holds
//! all events of its origin between the two (those of its day, if it lies in a folder of a day), but for what other files hold.
//! So the names tell what is there.
//!
//! A file is written without a name, and gets it when all of it is on the disk. Where the file system has no files without a
//! name it is hidden, `.….parquet.<pid>.staging`, and locked by who writes it.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use nixl_telemetry_sdk::queue::{Delivery, Failed};
use nixl_telemetry_sdk::{Agent, Error, Event, Settings, absolute, escape_file_name, info};
use nixl_telemetry_shm::{NewFile, holder, lock};
use parquet::errors::ParquetError;

use crate::settings::{DIR, MODE, PARTITION, Partition};
use crate::table::Writer;

const DAY_US: i64 = 24 * 3600 * 1_000_000;
/// The beginning of the year 1, and the end of the year 9999, which stand for whatever is beyond.
const EARLIEST_US: i64 = -719_162 * DAY_US;
const LATEST_US: i64 = 2_932_897 * DAY_US - 1;
/// Of an agent's name in a file's, which has room for 255 bytes.
const LONGEST_AGENT: usize = 128;
/// Of an agent's name in a folder's, behind `agent=`.
const LONGEST_VALUE: usize = 249;

/// Names of the files that this process is writing: to the process that holds it, a lock says nothing.
static WRITING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The directory, and how files are kept apart in it.
pub(crate) struct Directory {
    path: PathBuf,
    /// The name in the files of the agent whose exporter this is.
    own: String,
    partition: Partition,
    mode: u32,
}

/// A folder in it that files go into.
pub(crate) struct Folder<'a> {
    path: PathBuf,
    directory: &'a Directory,
}

/// The name of a file that is being written, for as long as it is.
struct Writing<'a>(&'a str);

/// The day of a time, since the Unix epoch or, negative, before.
pub(crate) fn day_of(timestamp_us: u64) -> i64 {
    within_years(timestamp_us).div_euclid(DAY_US)
}

impl Directory {
    /// The directory of the settings.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open(settings: &Settings, agent: &Agent) -> Result<Self, Error> {
        let path = absolute(DIR.name(), &settings.get(&DIR)?.value)?;
        let refused = |what: &dyn std::fmt::Display| format!("{} is {}: {what}", DIR.name(), path.display());
        let found = fs::metadata(&path).map_err(|error| refused(&format!("{error}: expected a directory")))?;
        if !found.is_dir() {
            return Err(refused(&"is no directory: expected one").into());
        }
        let (partition, mode) = (settings.get(&PARTITION)?.value, settings.get(&MODE)?.value.0);
        Ok(Self { path, own: agent_part(agent), partition, mode })
    }

    /// The days whose events go into files of their own; a single `None` if all go into one.
    pub(crate) fn days(&self, batch: &Delivery<'_>) -> BTreeSet<Option<i64>> {
        if !self.partition.by_date {
            return [None].into();
        }
        let (mut days, mut last) = (BTreeSet::new(), None);
        for event in batch {
            let day = Some(day_of(event.timestamp_us().unwrap_or(0)));
            if day != last {
                days.insert(day);
                last = day;
            }
        }
        days
    }

    /// The folder of an agent's events of a day, made if it is not there.
    pub(crate) fn folder(&self, agent: &Agent, day: Option<i64>) -> Result<Folder<'_>, Failed> {
        let mut path = self.path.clone();
        let date = day.map(|day| format!("date={}", utc(day * DAY_US).format("%Y-%m-%d")));
        for name in date.into_iter().chain(self.partition.by_agent.then(|| agent_folder(agent))) {
            let parent = path.clone();
            path.push(name);
            self.make(&parent, &path).map_err(|error| failed(&path, &error))?;
        }
        Ok(Folder { path, directory: self })
    }

    /// Removes what processes that were killed have left of agents of this name, where the file system shows it.
    pub(crate) fn tidy(&self) {
        for folder in self.folders() {
            // What cannot be read today is left for another day.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str().and_then(|name| staged_for(name, &self.own)) else { continue };
                // Until it is gone nobody begins to write it.
                let writing = writing();
                if !writing.contains(name) && is_abandoned(&entry.path()) && fs::remove_file(entry.path()).is_ok() {
                    drop(writing);
                    info!(
                        "exporter parquet: removed {}, which a process that was killed has left",
                        entry.path().display()
                    );
                }
            }
        }
    }

    /// The directory, and the folders in it that are named as ours are.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.path.clone()];
        let mut at = 0;
        while at < folders.len() {
            let entries = fs::read_dir(&folders[at]).into_iter().flatten().flatten();
            let is_ours = |name: &str| name.starts_with("date=") || name.starts_with("agent=");
            let inner = entries.filter(|entry| {
                entry.file_name().to_str().is_some_and(is_ours) && entry.file_type().is_ok_and(|kind| kind.is_dir())
            });
            folders.extend(inner.map(|entry| entry.path()).collect::<Vec<_>>());
            at += 1;
        }
        folders
    }

    fn make(&self, parent: &Path, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => {}
            // A link would lead elsewhere.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // Who may read a file may enter its folder.
        let mode = self.mode | 0o700 | (self.mode & 0o044) >> 2;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        sync_names(parent)
    }
}

impl Folder<'_> {
    /// Which numbers of the delivery's are in files here.
    pub(crate) fn numbers(&self, batch: &Delivery<'_>) -> Result<Vec<RangeInclusive<u64>>, Failed> {
        let (origin, asked) = (batch.origin().to_string(), batch.sequence()..batch.sequence() + batch.len() as u64);
        let entries = fs::read_dir(&self.path).map_err(|error| failed(&self.path, &error))?;
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(&self.path, &error))?.file_name();
            let numbers = name.to_str().and_then(|name| numbers_of(name, &origin));
            found.extend(numbers.filter(|numbers| *numbers.start() < asked.end && *numbers.end() >= asked.start));
        }
        Ok(found)
    }

    /// Writes a file of these rows of a delivery, if there are any.
    pub(crate) fn write<'a>(
        &self,
        batch: &Delivery<'a>,
        rows: impl Iterator<Item = (u64, Event<'a>)> + Clone,
        writer: &mut Writer,
    ) -> Result<(), Failed> {
        let Some((first, event)) = rows.clone().next() else { return Ok(()) };
        let last = rows.clone().last().map_or(first, |(number, _)| number);
        let time = utc(within_years(event.timestamp_us().unwrap_or(0))).format("%Y%m%dT%H%M%SZ");
        let (agent, origin) = (agent_part(batch.agent()), batch.origin());
        let name = format!("{time}.{agent}.{origin}.{first:012}-{last:012}.parquet");
        let (_writing, path) = (Writing::begin(&name), self.path.join(&name));
        let write = || -> Result<(), ParquetError> {
            let new = NewFile::create(&path)?;
            // For `tidy`. Where there are no locks it leaves everything alone.
            let _ = lock(new.file());
            new.file().set_permissions(Permissions::from_mode(self.directory.mode))?;
            writer.write(new.file(), batch.agent(), origin, rows)?;
            new.file().sync_all()?;
            new.publish()?;
            Ok(sync_names(&self.path)?)
        };
        write().map_err(|error| match error {
            ParquetError::External(error) => failed(&path, error.as_ref()),
            error => failed(&path, &error),
        })
    }
}

impl<'a> Writing<'a> {
    fn begin(name: &'a str) -> Self {
        writing().insert(name.to_owned());
        Self(name)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        writing().remove(self.0);
    }
}

fn writing() -> MutexGuard<'static, BTreeSet<String>> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings the names in a directory to the disk, so that they outlive the machine; where the file system cannot, it does not.
fn sync_names(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// What went wrong in the file system, which somebody may mend.
fn failed(path: &Path, error: &dyn std::error::Error) -> Failed {
    Failed::retry(format!("{}: {error}: expected a directory that can be written, with room", path.display()))
}

/// A time of an event, which is negative if it is from 2^63 on, if it has four digits for the year.
fn within_years(timestamp_us: u64) -> i64 {
    timestamp_us.cast_signed().clamp(EARLIEST_US, LATEST_US)
}

/// A time as people have it.
fn utc(time_us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time_us).unwrap_or_default()
}

/// The folder of an agent. Where its name is too long for one, the end gives way to what tells it from others.
fn agent_folder(agent: &Agent) -> String {
    let mut name = escape_file_name(agent.name());
    if name.len() > LONGEST_VALUE {
        // FNV-1a. No name that is escaped has a tilde.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let hash = format!("~{hash:016x}");
        name.truncate(LONGEST_VALUE - hash.len());
        name += &hash;
    }
    format!("agent={name}")
}

/// The agent in the name of a file, of which a long one has only the beginning.
fn agent_part(agent: &Agent) -> String {
    let mut name = escape_file_name(agent.name());
    name.truncate(LONGEST_AGENT);
    name
}

/// The numbers in a file's name, if it is one of this origin.
fn numbers_of(name: &str, origin: &str) -> Option<RangeInclusive<u64>> {
    let (name, numbers) = name.strip_suffix(".parquet")?.rsplit_once('.')?;
    let (_, found) = name.rsplit_once('.')?;
    let (first, last) = numbers.split_once('-')?;
    (found == origin).then_some(first.parse().ok()?..=last.parse().ok()?)
}

/// What a file with this name is to be called once it is written, if it is for an agent that is called so in files.
fn staged_for<'a>(name: &'a str, agent: &str) -> Option<&'a str> {
    let (file, _pid) = name.strip_prefix('.')?.strip_suffix(".staging")?.rsplit_once('.')?;
    let (name, _numbers) = file.strip_suffix(".parquet")?.rsplit_once('.')?;
    let (name, _origin) = name.rsplit_once('.')?;
    let (_time, found) = name.split_once('.')?;
    (found == agent).then_some(file)
}

/// Whether nobody holds the lock of this file.
fn is_abandoned(path: &Path) -> bool {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).write(true).custom_flags(nofollow).open(path);
    file.is_ok_and(|file| holder(&file).is_ok_and(|holder| holder.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_there() {
        let origin = "0123456789abcdef0123456789abcdef";
        let name = format!("20251124T160000Z.a.b.{origin}.000000000007-1000000000000.parquet");
        assert_eq!(numbers_of(&name, origin), Some(7..=1_000_000_000_000));
        assert_eq!(numbers_of(&name, &origin.replace('0', "1")), None);
        for other in [
            "",
            ".parquet",
            "a.parquet",
            "a.0-1.parquet",
            &format!(".{name}.7.staging"),
            &format!("{origin}.0.parquet"),
        ] {
            assert_eq!(numbers_of(other, origin), None, "{other}");
        }
    }

    #[test]
    fn times_have_four_digits_for_the_year() {
        let table = [
            (0, "1970-01-01", 0),
            (1_764_028_799_999_999, "2025-11-24", 20_416),
            (1_764_028_800_000_000, "2025-11-25", 20_417),
            (LATEST_US.cast_unsigned(), "9999-12-31", 2_932_896),
            (1 << 62, "9999-12-31", 2_932_896),
            (u64::MAX, "1969-12-31", -1),
            (1 << 63, "0001-01-01", -719_162),
        ];
        for (timestamp_us, date, day) in table {
            let time = utc(within_years(timestamp_us));
            assert_eq!((time.format("%Y-%m-%d").to_string().as_str(), day_of(timestamp_us)), (date, day));
        }
    }

    #[test]
    fn what_this_process_is_writing_is_not_taken_for_left() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::from_pairs([("NIXL_TELEMETRY_PARQUET_DIR", folder.path().to_str().unwrap())]);
        let directory = Directory::open(&settings, &Agent::new("a")).unwrap();
        let name = format!("20251124T160000Z.a.{}.0-1.parquet", "0".repeat(32));
        let staged = folder.path().join(format!(".{name}.{}.staging", std::process::id()));
        fs::write(&staged, "half").unwrap();
        let writing = Writing::begin(&name);
        directory.tidy();
        assert!(staged.exists());
        drop(writing);
        directory.tidy();
        assert!(!staged.exists());
    }

    #[test]
    fn a_name_that_is_too_long_for_a_folder_is_told_from_others() {
        let folder = |name: &str| agent_folder(&Agent::new(name));
        let fits = "x".repeat(LONGEST_VALUE);
        assert_eq!(folder(&fits), format!("agent={fits}"));
        let long = ["", "a", "b"].map(|end| folder(&format!("{fits}é{end}")));
        assert!(long.iter().all(|name| name.len() == 255 && name.starts_with("agent=xxx")), "{long:?}");
        assert!(long[0] != long[1] && long[1] != long[2], "{long:?}");
        assert_eq!(long[1], format!("agent={}~14b15cca9778e474", "x".repeat(232)));
    }
}
