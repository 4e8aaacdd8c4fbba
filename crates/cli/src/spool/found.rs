// SPDX-License-Identifier: Apache-2.0

//! A spool as it is found: what waits in it, and what of it cannot be read.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nixl_telemetry_sdk::queue::spools::{Broken, Contents, Record, Spool};

use crate::common::human;
use crate::common::table::{Side, Table};
use crate::common::terminal::{Style, complain};
use crate::rings::remark;

/// A spool, and what is in it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) directory: PathBuf,
    pub(crate) spool: Spool,
    /// The process that has it, 0 for one that cannot be seen from here.
    pub(crate) writer: Option<u32>,
    pub(crate) whose: Option<Whose>,
    /// Those that are there.
    pub(crate) segments: Vec<Segment>,
    pub(crate) bytes: u64,
    /// When the first and the last event that wait were queued, in microseconds since the Unix epoch.
    pub(crate) span: Option<(u64, u64)>,
    /// When a file of it was changed last.
    changed: SystemTime,
    pub(crate) problems: Vec<Problem>,
}

/// A segment, and what waits in it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// The numbers of the events in each record that waits.
    pub(crate) waits: Vec<Range<u64>>,
    /// How many of these records are in front of what is damaged: queues deliver them.
    sound: usize,
}

/// Whose events they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) agent: String,
    pub(crate) hostname: String,
    pub(crate) pid: u32,
}

/// Something that cannot be read.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) error: Broken,
}

impl Found {
    /// Looks at a spool, and hands what waits to `visit`. Whoever goes on writing is not followed.
    pub(crate) fn visit<E>(
        directory: PathBuf,
        spool: Spool,
        mut visit: impl FnMut(&Whose, &Record) -> Result<(), E>,
    ) -> Result<io::Result<Self>, E> {
        let begun = (|| Ok((spool.writer()?, spool.progress()?.next())))();
        let (writer, next) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        // What was set aside waits for nobody, and is shown whole.
        let set_aside = spool.damaged().iter().map(|path| (path.clone(), None));
        let paths: Vec<_> = spool.segments().iter().map(|path| (path.clone(), Some(next))).chain(set_aside).collect();
        let (whose, segments, problems) = (None, Vec::new(), Vec::new());
        let (bytes, span, changed) = (0, None, SystemTime::UNIX_EPOCH);
        let mut this = Self { directory, spool, writer, whose, segments, bytes, span, changed, problems };
        for (path, next) in paths {
            // Delivered meanwhile, if it is not there.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            this.bytes += metadata.len();
            this.changed = metadata.modified().map_or(this.changed, |changed| changed.max(this.changed));
            let contents = match Contents::read(&path) {
                Ok(contents) => contents,
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    this.problems.push(Problem { path: path.clone(), error });
                    this.segments.push(Segment { path, waits: Vec::new(), sound: 0 });
                    continue;
                }
            };
            this.visit_segment(path, &contents, next, &mut visit)?;
        }
        Ok(Ok(this))
    }

    /// The same without anybody who is interested in events.
    pub(crate) fn look(directory: PathBuf, spool: Spool) -> io::Result<Self> {
        Self::visit(directory, spool, |_, _| Ok::<_, std::convert::Infallible>(()))
            .unwrap_or_else(|never| match never {})
    }

    fn visit_segment<E>(
        &mut self,
        path: PathBuf,
        contents: &Contents,
        next: Option<u64>,
        visit: &mut impl FnMut(&Whose, &Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let (agent, hostname) = (contents.agent().to_owned(), contents.hostname().to_owned());
        let whose = Whose { agent, hostname, pid: contents.pid() };
        let (mut waits, mut sound) = (Vec::new(), None);
        for record in contents.records() {
            match record {
                Ok(record) if next.is_some_and(|next| record.sequence() + record.len() <= next) => {}
                Ok(record) if next.is_none() => visit(&whose, &record)?,
                Ok(record) => {
                    waits.push(record.sequence()..record.sequence() + record.len());
                    let (first, last) = self.span.unwrap_or((u64::MAX, 0));
                    self.span = Some((first.min(record.queued_us()), last.max(record.queued_us())));
                    visit(&whose, &record)?;
                }
                // It is being written.
                Err(Broken::Torn(_)) if self.writer.is_some() => {}
                Err(error) => {
                    sound.get_or_insert(waits.len());
                    self.problems.push(Problem { path: path.clone(), error });
                }
            }
        }
        self.whose = Some(whose);
        let sound = sound.unwrap_or(waits.len());
        self.segments.push(Segment { path, waits, sound });
        Ok(())
    }

    /// Events that wait and can be read.
    pub(crate) fn waiting(&self) -> u64 {
        self.segments.iter().flat_map(|segment| &segment.waits).map(|numbers| numbers.end - numbers.start).sum()
    }

    /// Whether a queue would deliver anything of it.
    pub(crate) fn is_deliverable(&self) -> bool {
        self.segments.iter().any(|segment| !segment.deliverable().is_empty())
    }

    /// The name of the agent; of one that cannot be read, nothing.
    pub(crate) fn agent(&self) -> Option<&str> {
        self.whose.as_ref().map(|whose| whose.agent.as_str())
    }

    /// Since when nothing came that waits, in microseconds since the Unix epoch.
    pub(crate) fn newest_us(&self) -> u64 {
        let changed = || self.changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        self.span.map_or_else(|| u64::try_from(changed()).unwrap_or(u64::MAX), |(_, newest)| newest)
    }

    /// Whether a file of it can be read in part at most. What is left of a write that was not finished is no such thing.
    pub(crate) fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| !problem.is_torn())
    }

    /// Says what cannot be read.
    pub(crate) fn complain(&self) {
        for problem in &self.problems {
            let (style, word) = if problem.is_torn() { (Style::Odd, "warning") } else { (Style::Bad, "error") };
            complain(style, word, &format!("{} {}", remark::name(&problem.path), problem.error));
        }
    }

    /// Who has it, for people: `4711`, `ended`.
    pub(crate) fn process(&self) -> String {
        match self.writer {
            Some(0) => "alive, elsewhere".to_owned(),
            Some(process) => process.to_string(),
            None => "ended".to_owned(),
        }
    }
}

impl Segment {
    /// The numbers of the events in each record that a queue would deliver.
    pub(crate) fn deliverable(&self) -> &[Range<u64>] {
        &self.waits[..self.sound]
    }
}

impl Problem {
    pub(crate) fn is_torn(&self) -> bool {
        matches!(self.error, Broken::Torn(_))
    }
}

/// Looks at spools, and says which ones cannot be looked at.
pub(crate) fn look(spools: Vec<(PathBuf, Spool)>) -> (Vec<Found>, Vec<String>) {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for (directory, spool) in spools {
        let name = name(&directory, &spool);
        match Found::look(directory, spool) {
            Ok(found) => all.push(found),
            Err(error) => errors.push(format!("cannot look at {name}: {error}")),
        }
    }
    (all, errors)
}

/// `the spool rows 3f2a91c0… in /var/lib/telemetry`
pub(crate) fn name(directory: &Path, spool: &Spool) -> String {
    format!("the spool {} {} in {}", spool.sink(), spool.origin(), directory.display())
}

/// Spools for people, a row each.
pub(crate) fn table(spools: &[&Found]) -> String {
    let mut table = Table::new([
        ("sink", Side::Left),
        ("agent", Side::Left),
        ("origin", Side::Left),
        ("process", Side::Left),
        ("files", Side::Right),
        ("size", Side::Right),
        ("events", Side::Right),
        ("oldest", Side::Left),
        ("newest", Side::Left),
    ]);
    for found in spools {
        let [oldest, newest] = match found.span {
            Some((oldest, newest)) => {
                [oldest, newest].map(|us| human::moment(SystemTime::UNIX_EPOCH + Duration::from_micros(us)))
            }
            None => [(); 2].map(|()| "-".to_owned()),
        };
        table.row([
            found.spool.sink().to_owned(),
            human::line(found.agent().unwrap_or("-")),
            short(&found.spool),
            found.process(),
            human::count(found.segments.len() as u64),
            human::bytes(found.bytes as f64),
            human::count(found.waiting()),
            oldest,
            newest,
        ]);
    }
    table.render()
}

/// As much of an origin as people need to tell it from others.
pub(crate) fn short(spool: &Spool) -> String {
    let mut digits = spool.origin().to_string();
    digits.truncate(8);
    digits
}

/// `1 spool`, `2 spools`.
pub(crate) fn spools(number: usize) -> String {
    format!("{} spool{}", human::count(number as u64), if number == 1 { "" } else { "s" })
}
