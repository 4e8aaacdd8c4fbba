// SPDX-License-Identifier: Apache-2.0

//! What the exporter csv wrote, read back from its files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nixl_telemetry_sdk::{Agent, PathTemplate};
use nixl_telemetry_settings::Settings;

/// The setting that names the file.
pub(crate) const FILE: &str = "NIXL_TELEMETRY_CSV_FILE";
/// The setting by which a full file is put aside for a new one.
const MAX_SIZE: &str = "NIXL_TELEMETRY_CSV_MAX_SIZE";

/// The files of the exporter, and how long they were before the demo.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<(PathBuf, u64)>,
    rotate: bool,
}

/// The rows of this demo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// All of them.
    pub(crate) count: u64,
    /// Number and sum of values by name of the event, if the columns tell.
    pub(crate) events: Option<BTreeMap<String, (u64, u64)>>,
}

impl Files {
    /// Where the agents' rows will go; `None` if no file is named or its name is malformed, which the exporter will
    /// complain about.
    pub(crate) fn before(settings: &Settings, agents: [&str; 2]) -> Option<Self> {
        let template = settings.find_named::<PathTemplate>(FILE).ok().flatten()?.value;
        let rotate = settings.find_named::<u64>(MAX_SIZE).ok().flatten().is_some_and(|found| found.value > 0);
        let mut files: Vec<(PathBuf, u64)> = Vec::new();
        for agent in agents {
            let path = template.resolve(&Agent::new(agent));
            let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if files.iter().all(|(other, _)| *other != path) {
                files.push((path, length));
            }
        }
        Some(Self { files, rotate })
    }

    /// The files, in words.
    pub(crate) fn names(&self) -> String {
        self.files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Why rows cannot be counted, if they cannot.
    pub(crate) fn uncountable(&self) -> Option<String> {
        if self.rotate {
            return Some(format!("{MAX_SIZE} has full files put aside"));
        }
        let special = self.files.iter().find(|(path, _)| fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()));
        special.map(|(path, _)| format!("{} is no regular file", path.display()))
    }

    /// The rows that were added.
    pub(crate) fn rows(&self) -> anyhow::Result<Rows> {
        let mut all = Rows { count: 0, events: Some(BTreeMap::new()) };
        for (path, before) in &self.files {
            read(path, *before, &mut all).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(all)
    }
}

fn read(path: &Path, before: u64, all: &mut Rows) -> io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut header = String::new();
    let length = file.read_line(&mut header)? as u64;
    let column = |name: &str| header.trim_end().split(',').position(|column| column == name);
    let columns = column("event_name").zip(column("value"));
    file.seek(SeekFrom::Start(before.max(length)))?;
    for line in file.lines() {
        let line = line?;
        all.count += 1;
        // No column of an agent of the demo has a comma in it, so that none is quoted.
        let cells = columns.and_then(|(name, value)| {
            let cell = |index: usize| line.split(',').nth(index);
            Some((cell(name)?.to_owned(), cell(value)?.parse::<u64>().ok()?))
        });
        match (&mut all.events, cells) {
            (Some(events), Some((name, value))) => {
                let (count, sum) = events.entry(name).or_default();
                (*count, *sum) = (*count + 1, sum.saturating_add(value));
            }
            (events, _) => *events = None,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str) -> Files {
        Files::before(&Settings::from_pairs([(FILE, path)]), ["a", "b"]).unwrap()
    }

    #[test]
    fn only_new_rows_count() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.csv");
        let header = "timestamp_us,event_name,value\n";
        fs::write(&path, format!("{header}1,agent_tx_bytes,5\n")).unwrap();
        let files = files(path.to_str().unwrap());
        assert_eq!(files.rows().unwrap(), Rows { count: 0, events: Some(BTreeMap::new()) });
        fs::write(&path, format!("{header}1,agent_tx_bytes,5\n2,agent_tx_bytes,6\n3,x,7\n4,x,8\n")).unwrap();
        let events = [("agent_tx_bytes".to_owned(), (1, 6)), ("x".to_owned(), (2, 15))];
        assert_eq!(files.rows().unwrap(), Rows { count: 3, events: Some(BTreeMap::from(events)) });
        assert_eq!((files.names(), files.uncountable()), (path.display().to_string(), None));
    }

    #[test]
    fn agents_may_have_a_file_each() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path().join("{agent}.csv").to_str().unwrap());
        for agent in ["a", "b"] {
            fs::write(root.path().join(format!("{agent}.csv")), "value\n1\n").unwrap();
        }
        assert_eq!(files.rows().unwrap(), Rows { count: 2, events: None });
        assert!(files.names().contains("a.csv, "), "{}", files.names());
    }

    #[test]
    fn what_cannot_be_counted_says_why() {
        assert_eq!(files("/dev/null").uncountable().as_deref(), Some("/dev/null is no regular file"));
        let settings = Settings::from_pairs([(FILE, "/tmp/x"), (MAX_SIZE, "1000")]);
        let files = Files::before(&settings, ["a", "b"]).unwrap();
        assert_eq!(files.uncountable().unwrap(), "NIXL_TELEMETRY_CSV_MAX_SIZE has full files put aside");
        assert!(Files::before(&Settings::from_pairs([(FILE, "{x}")]), ["a", "b"]).is_none());
        assert!(Files::before(&Settings::empty(), ["a", "b"]).is_none());
    }
}
