// SPDX-License-Identifier: Apache-2.0

//! One journal, from its file to what became of its events.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nixl_telemetry_host::{Abandoned, Broken, Counts, Error};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;

use crate::common::human;
use crate::common::progress::{Line, bar};

/// How events leave journals.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// Through these exporters; none for those each journal names.
    pub(crate) exporters: Vec<String>,
    pub(crate) settings: &'a Settings,
    pub(crate) path: SearchPath,
}

/// A journal, and what became of it.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    pub(crate) fate: Fate,
}

/// What became of a journal.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Its process lives.
    InUse,
    /// It is none, or cannot be opened.
    Unreadable(String),
    /// Nothing: it was only looked at.
    Found(Contents),
    /// Nothing: exporters cannot be had.
    Refused(Contents, String),
    /// Everything was exported, and it was removed.
    Recovered(Contents, Counts),
    /// It was exported as far as possible, and stays for these reasons.
    Kept(Contents, Counts, Vec<String>),
}

/// What is in a journal.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) agent: String,
    pub(crate) process: u64,
    pub(crate) created: SystemTime,
    /// The exporters of the process that died.
    pub(crate) exporters: Vec<String>,
    pub(crate) events: u64,
    pub(crate) damage: Vec<String>,
}

/// Opens a journal, and recovers it if there is a way. `None` if somebody else has just done that.
pub(crate) fn look(path: &Path, way: Option<&Way<'_>>) -> Option<Journal> {
    let fate = match Abandoned::open(path) {
        Err(Broken::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(broken) => Fate::Unreadable(broken.to_string()),
        Ok(None) => Fate::InUse,
        Ok(Some(journal)) => {
            let contents = Contents {
                agent: journal.agent(),
                process: journal.process(),
                created: journal.created(),
                exporters: journal.exporters(),
                events: journal.events(),
                damage: journal.damage().to_vec(),
            };
            match way {
                None => Fate::Found(contents),
                Some(way) => recover(path, journal, contents, way),
            }
        }
    };
    Some(Journal { path: path.to_owned(), fate })
}

fn recover(path: &Path, journal: Abandoned, contents: Contents, way: &Way<'_>) -> Fate {
    let is_own = way.exporters.is_empty();
    // By itself nothing is thrown away.
    if is_own && contents.exporters.iter().all(|name| name == "NOP") {
        let problem = "its process had no exporter: --exporter says which is to have the events".to_owned();
        return Fate::Refused(contents, problem);
    }
    let (mut line, begun, mut done) = (Line::new(), Instant::now(), 0);
    let name = path.file_name().unwrap_or(path.as_os_str()).display().to_string();
    let mut progress = |events: u64| {
        done += events;
        let fraction = done as f64 / contents.events.max(1) as f64;
        line.show(begun.elapsed(), || {
            format!("{} {} of {} events  {name}", bar(fraction), human::count(done), human::count(contents.events))
        });
    };
    progress(0);
    let outcome = journal.recover(&way.exporters, way.settings, Some(way.path.clone()), progress);
    drop(line);
    match outcome {
        Ok(recovered) if recovered.is_removed => Fate::Recovered(contents, recovered.counts),
        Ok(recovered) => {
            let reasons = reasons(&recovered.counts, &contents.damage);
            Fate::Kept(contents, recovered.counts, reasons)
        }
        Err(Error::Exporter { name, cause, .. }) if is_own => {
            let problem = format!(
                "its exporter {name:?} cannot be had: {cause}; --set gives it settings, --exporter chooses another"
            );
            Fate::Refused(contents, problem)
        }
        Err(Error::Exporter { name, cause, .. }) => {
            Fate::Refused(contents, format!("exporter {name:?} cannot be had: {cause}"))
        }
        Err(error) => Fate::Refused(contents, error.to_string()),
    }
}

/// Why a journal stays.
fn reasons(counts: &Counts, damage: &[String]) -> Vec<String> {
    let failed = counts.exporters.iter().filter(|exporter| exporter.failed > 0);
    let mut reasons: Vec<_> = failed
        .map(|exporter| {
            let why = exporter.problem.as_deref().unwrap_or("its log line says why");
            format!("{} failed at {} events ({why})", exporter.name, human::count(exporter.failed))
        })
        .collect();
    reasons.extend_from_slice(damage);
    if reasons.is_empty() {
        reasons.push("everything is exported, but the file cannot be removed".to_owned());
    }
    reasons
}
