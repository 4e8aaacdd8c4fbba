// SPDX-License-Identifier: Apache-2.0

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;

use crate::allowlist::Allowlist;
use crate::block::{self, SEGMENT, SEGMENT_WORDS, SEGMENTS};
use crate::choose::{self, Context};
use crate::clock::Clock;
use crate::flusher::{Flusher, Recipients};
use crate::journal::{self, Broken, Journal, Unfinished};
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::lenient::Lenient;
use crate::memory::{Memory, Piece};
use crate::outlet::Outlet;
use crate::record::Expansion;
use crate::settings::{EXPORTER, ON_ERROR, Overflow, Timestamps};
use crate::shared::{Inheritance, Shared};
use crate::staging::{self, Rules, Staging};
use crate::sync::Arc as LaneArc;
use crate::sync::atomic::Ordering;
use crate::totals::Totals;
use crate::{Counts, Error};

/// The telemetry of a process that has died: a journal, and what is in it that was not exported.
///
/// While this lives, nobody else opens the journal.
#[derive(Debug)]
pub struct Abandoned {
    journal: Arc<Journal>,
    lanes: Vec<LaneArc<Lane>>,
    unfinished: Option<Unfinished>,
    damage: Vec<String>,
}

/// What became of the events of a journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The accounts, as of a collector. What an exporter has `exported_before`, the dead process had exported.
    pub counts: Counts,
    /// Whether the journal was removed: everything was exported, and nothing was damaged.
    pub is_removed: bool,
}

/// The journals in a directory, those of living processes among them, in order of their names.
///
/// # Errors
/// If the directory cannot be read.
pub fn journals(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == journal::EXTENSION) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Abandoned {
    /// Opens a journal; `None` if its process lives, in which case nothing of it is touched.
    ///
    /// A journal that was cut short or damaged is opened with what is whole in it; see [`damage`](Self::damage).
    ///
    /// # Errors
    /// If the file is no journal, or cannot be opened.
    pub fn open(path: &Path) -> Result<Option<Self>, Broken> {
        let Some(journal) = Journal::open(path)? else { return Ok(None) };
        let unfinished = journal.unfinished()?;
        let ranges = unfinished.iter().flat_map(|batch| &batch.ranges);
        let taken: HashMap<u64, [u64; 3]> =
            ranges.map(|&[lane, head, read, time]| (lane, [head, read, time])).collect();
        let (expansion, _) = journal.meaning();
        let (mut lanes, mut damage) = (Vec::new(), Vec::new());
        for (number, offset) in (0..).zip(journal.lanes()?) {
            match find(&journal, offset, taken.get(&number).copied(), &expansion) {
                Some(lane) => lanes.push(lane),
                None => damage.push(format!("the ring at byte {offset} is damaged or cut off: its events are lost")),
            }
        }
        Ok(Some(Self { journal: Arc::new(journal), lanes, unfinished, damage }))
    }

    /// The name of the agent.
    pub fn agent(&self) -> String {
        self.journal.agent()
    }

    /// The process that has died. Its number may be another's by now.
    pub fn process(&self) -> u64 {
        self.journal.made_by().0
    }

    /// When the collector was created.
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.journal.made_by().1)
    }

    /// The exporters it fed, in order.
    pub fn exporters(&self) -> Vec<String> {
        self.journal.exporters()
    }

    /// How many events it holds that not every exporter has.
    pub fn events(&self) -> u64 {
        let (expansion, _) = self.journal.meaning();
        let unfinished = self.unfinished.as_ref().map_or(0, |batch| expansion.count(&batch.slots));
        unfinished + self.lanes.iter().map(|lane| lane.standing(&expansion).0).sum::<u64>()
    }

    /// What is not whole, in words.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Exports what was not exported, through exporters of these names, which get their settings from `settings`; through
    /// those it had if there are none. Then the journal is removed.
    ///
    /// An exporter that was exporting a batch when the process died is given that batch again and told so; one that
    /// knows how, as csv does, takes what it has not. All others may have it twice.
    ///
    /// Where an exporter fails it ends, and the journal stays with what is not exported. So it does where something is
    /// damaged. After each batch that was exported, `progress` is told how many events it had.
    ///
    /// # Errors
    /// If a setting is malformed or an exporter cannot be had, be it because its address is taken. Then the journal is as
    /// it was.
    pub fn recover(
        mut self,
        exporters: &[String],
        settings: &Settings,
        path: Option<SearchPath>,
        progress: impl FnMut(u64),
    ) -> Result<Recovered, Error> {
        let agent: Arc<str> = self.agent().into();
        let (names, to, old) = self.order(if exporters.is_empty() { self.exporters() } else { exporters.to_vec() });
        let settings = settings.clone().with_override(ON_ERROR.name(), "fail");
        let settings = settings.with_override(EXPORTER.name(), names.join(","));
        let mut lenient = Lenient::new(&agent, settings);
        let context = Context {
            agent: Arc::clone(&agent),
            buffer_size: staging::MOST_EVENTS,
            search_path: path,
            // Where there was no exporter, there is none now.
            has_sinks: names.is_empty(),
            needs_all: true,
        };
        let outlets = choose::choose(context, &mut lenient)?.into_iter().map(|(outlet, _)| outlet).collect();
        self.journal.feed(&names, to, old);
        if let Some(batch) = &mut self.unfinished {
            batch.to = to;
            self.journal.set_handed(&batch.handed);
        }
        Ok(self.export(agent, outlets, progress))
    }

    /// These exporters in the order of who has the unfinished batch, who may have it, and who has not; who does not have
    /// it; and where the first of those stood in the journal.
    fn order(&self, mut names: Vec<String>) -> (Vec<String>, Recipients, Option<usize>) {
        let known = self.exporters();
        let place = |name: &String| known.iter().position(|known| known == name).unwrap_or(usize::MAX);
        let Some(Unfinished { to, .. }) = &self.unfinished else {
            return (names, Recipients { first: 0, is_in_doubt: false }, None);
        };
        names.sort_by_key(place);
        let first = names.iter().filter(|name| place(name) < to.first).count();
        let is_in_doubt = to.is_in_doubt && names.get(first).is_some_and(|name| place(name) == to.first);
        let old = names.get(first).map(place).filter(|old| *old < known.len());
        (names, Recipients { first, is_in_doubt }, old)
    }

    fn export(self, agent: Arc<str>, outlets: Vec<Outlet>, mut progress: impl FnMut(u64)) -> Recovered {
        let Self { journal, lanes, unfinished, damage } = self;
        let (expansion, reports_drops) = journal.meaning();
        let ledger = Ledger::new(outlets.iter().map(|outlet| (outlet.name().to_owned(), None)));
        let rules = Rules {
            expansion,
            bound: None,
            overflow: Overflow::DropNewest,
            batch: staging::MOST_EVENTS,
            interval: Duration::ZERO,
            memory: Memory { budget: 0, journal: Some(Arc::clone(&journal)) },
        };
        let names: Vec<Arc<str>> = journal.names().into_iter().map(Into::into).collect();
        let drained =
            unfinished.as_ref().map_or((0, Totals::default()), |batch| (expansion.count(&batch.slots), batch.totals));
        let staging = Staging::found(rules, lanes, (names.clone(), journal.number()), journal.handed(), drained);
        let shared = Arc::new(Shared {
            agent,
            origin: journal.origin(),
            // Nothing is recorded any more.
            allowlist: Allowlist::All,
            reports_drops,
            clock: Clock::new(Timestamps::Batch),
            staging,
            ledger,
            shutdown_timeout: Duration::MAX,
            thread: Mutex::new(None),
            process: std::process::id(),
            inheritance: Inheritance::none(),
        });
        let mut flusher = Flusher::of_found(Arc::clone(&shared), outlets);
        let mut is_well = true;
        if let Some(batch) = unfinished {
            is_well = flusher.export_unfinished(batch, names);
            progress(drained.0);
        }
        is_well = is_well && flusher.export_all(progress);
        drop(flusher);
        let is_removed = is_well && damage.is_empty() && journal.remove().is_ok();
        Recovered { counts: shared.counts(), is_removed }
    }
}

/// The lane at this place of a journal, if all of it is there.
fn find(journal: &Journal, offset: u64, taken: Option<[u64; 3]>, expansion: &Expansion) -> Option<LaneArc<Lane>> {
    let block = journal.part(offset, block::WORDS as u64)?;
    let count = usize::try_from(block[SEGMENTS].load(Ordering::Acquire)).ok()?;
    let entries = block[SEGMENT..].chunks_exact(SEGMENT_WORDS).take(block::MOST_SEGMENTS).take(count);
    let segments = entries.map(|entry| {
        let [start, offset, length] = [0, 1, 2].map(|at| entry[at].load(Ordering::Relaxed));
        let words = length.is_power_of_two().then(|| length.checked_mul(2)).flatten()?;
        Some((start, Piece::found(journal.part(offset, words)?, offset)))
    });
    let segments: Vec<_> = segments.collect::<Option<_>>()?;
    Lane::found(Piece::found(block, offset), segments, taken, expansion)
}
