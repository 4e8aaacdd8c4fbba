// SPDX-License-Identifier: Apache-2.0

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nixl_telemetry_event::{Allowlist, Generation};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;

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
    /// The whole ones, each with its number.
    lanes: Vec<(usize, LaneArc<Lane>)>,
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
        for (number, offset) in journal.lanes()?.into_iter().enumerate() {
            match find(&journal, offset, taken.get(&(number as u64)).copied(), &expansion) {
                Some(lane) => lanes.push((number, lane)),
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
        unfinished + self.lanes.iter().map(|(_, lane)| lane.standing(&expansion).0).sum::<u64>()
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
        self,
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
            generation: Generation::V1_5,
            reports_drops: false,
            // Where there was no exporter, there is none now.
            has_sinks: names.is_empty(),
            needs_all: true,
        };
        let outlets = choose::choose(context, &mut lenient)?.into_iter().map(|(outlet, _)| outlet).collect();
        Ok(self.recover_into(&names, (to, old), (agent, outlets), progress))
    }

    fn recover_into(
        mut self,
        names: &[String],
        (to, old): (Recipients, Option<usize>),
        (agent, outlets): (Arc<str>, Vec<Outlet>),
        progress: impl FnMut(u64),
    ) -> Recovered {
        self.journal.feed(names, to, old);
        if let Some(batch) = &mut self.unfinished {
            batch.to = to;
            self.journal.set_handed(&batch.handed);
        }
        self.export(agent, outlets, progress)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::sync::mpsc;

    use nixl_telemetry_event::{Event, Kind, Status, Total};
    use nixl_telemetry_loader::Batch;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::{Collector, Direction, Exported, Recorder, Sink, Transfer};

    /// What a sink was given: name or number, value and time of each event, and of which batch.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Seen {
        events: Vec<(String, u64, u64)>,
        totals: Vec<Total>,
        /// Number, whether it is repeated, and what was in the memo.
        batches: Vec<(u64, bool, Option<[u64; 1]>)>,
    }

    /// A sink that keeps what it is given, writes the number of the batch into its memo, and is stuck in the batch of this
    /// number until the sender is gone.
    struct Keeper {
        seen: Arc<Mutex<Seen>>,
        takes_totals: bool,
        stuck: Option<(u64, mpsc::Sender<()>, mpsc::Receiver<()>)>,
    }

    impl Keeper {
        fn new(takes_totals: bool) -> (Self, Arc<Mutex<Seen>>) {
            let seen = Arc::default();
            (Self { seen: Arc::clone(&seen), takes_totals, stuck: None }, seen)
        }
    }

    impl Sink for Keeper {
        fn export(&mut self, _: &[Event<'_>]) -> Exported {
            unreachable!("whole batches are exported")
        }

        fn takes_totals(&self) -> bool {
            self.takes_totals
        }

        fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
            let id = batch.id.expect("each batch has an identity");
            let memo = id.memo().and_then(|memo| memo.recall());
            if let Some(memo) = id.memo() {
                memo.set([id.number().wrapping_mul(100)]);
            }
            if let Some((_, entered, go_on)) = self.stuck.as_ref().filter(|(number, ..)| *number == id.number()) {
                entered.send(()).unwrap();
                let _ = go_on.recv();
            }
            let mut seen = self.seen.lock().unwrap();
            let events = batch.events.iter();
            seen.events.extend(events.map(|e| (e.name().to_string(), e.value(), e.timestamp_us().unwrap())));
            seen.totals.extend(batch.totals);
            seen.batches.push((id.number(), id.is_repeated(), memo));
            Exported::whole(batch)
        }
    }

    /// The journal of a collector, as it was in the middle of its life.
    struct Snapshot {
        folder: TempDir,
        path: PathBuf,
    }

    impl Snapshot {
        /// Of a collector with these settings and sinks of these names, after `live`, whose result is dropped then.
        fn take<R>(variables: &[(&str, &str)], sinks: Vec<(&str, Keeper)>, live: impl FnOnce(&Recorder) -> R) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let journals = folder.path().to_str().unwrap();
            let own = [("NIXL_TELEMETRY_ENABLE", "y"), ("NIXL_TELEMETRY_JOURNAL_DIR", journals)];
            let settings = Settings::from_pairs(own.iter().chain(variables).copied());
            let mut builder = Collector::builder("agent").settings(settings);
            for (name, sink) in sinks {
                builder = builder.sink(name, Box::new(sink));
            }
            let collector = builder.build().unwrap().unwrap();
            let alive = live(&collector.recorder());
            let [journal] = super::journals(folder.path()).unwrap().try_into().unwrap();
            let path = folder.path().join("copy.journal");
            fs::copy(&journal, &path).unwrap();
            drop(alive);
            drop(collector);
            assert!(!journal.exists(), "a collector that ends removes its journal");
            Self { folder, path }
        }

        fn open(&self) -> Abandoned {
            Abandoned::open(&self.path).unwrap().expect("nobody holds a copy")
        }

        /// Recovers it into keepers of these names, each of which takes totals or not.
        fn recover(&self, names: &[(&str, bool)]) -> (Vec<Seen>, Recovered) {
            let (mut outlets, mut seen) = (Vec::new(), HashMap::new());
            let abandoned = self.open();
            let (ordered, to, old) = abandoned.order(names.iter().map(|(name, _)| (*name).to_owned()).collect());
            for name in &ordered {
                let takes_totals = names.iter().any(|(known, takes)| known == name && *takes);
                let (keeper, what) = Keeper::new(takes_totals);
                outlets.push(Outlet::new("agent".into(), name.clone(), Some(Box::new(keeper))));
                seen.insert(name.clone(), what);
            }
            let recovered = abandoned.recover_into(&ordered, (to, old), ("agent".into(), outlets), |_| {});
            assert!(recovered.counts.is_balanced(), "{recovered:?}");
            (names.iter().map(|(name, _)| seen[*name].lock().unwrap().clone()).collect(), recovered)
        }
    }

    const NEVER: (&str, &str) = ("NIXL_TELEMETRY_RUN_INTERVAL", "3600000");
    const AT_ONCE: (&str, &str) = ("NIXL_TELEMETRY_RUN_INTERVAL", "0");

    fn transfer(bytes: u64) -> Transfer {
        Transfer { direction: Direction::Write, bytes, post_time_us: 3, transfer_time_us: u64::MAX - bytes }
    }

    fn values(seen: &Seen) -> Vec<u64> {
        seen.events.iter().map(|(_, value, _)| *value).collect()
    }

    #[test]
    fn what_was_recorded_is_there_with_name_value_and_time() {
        let (keeper, expected) = Keeper::new(false);
        let before = crate::clock::wall_us();
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| {
            recorder.memory_registered(7);
            // No more than rings take without waking anybody.
            (0..1500).for_each(|bytes| recorder.transfer(transfer(bytes)));
            recorder.backend("mine\nalone", 8);
            recorder.error(Status::NotFound);
            std::thread::scope(|scope| drop(scope.spawn(|| recorder.transfer(transfer(u64::MAX)))));
        });
        let abandoned = snapshot.open();
        assert_eq!((abandoned.agent(), abandoned.process()), ("agent".to_owned(), u64::from(std::process::id())));
        assert_eq!((abandoned.exporters(), abandoned.events()), (vec!["kept".to_owned()], 4 * 1501 + 3));
        assert!(abandoned.created() <= SystemTime::now() && abandoned.damage().is_empty());
        drop(abandoned);

        let (seen, recovered) = snapshot.recover(&[("kept", false)]);
        let mut expected = expected.lock().unwrap().clone();
        // In a journal a name has one line.
        expected.events.iter_mut().for_each(|(name, ..)| *name = name.replace('\n', " "));
        assert_eq!(seen[0].events, expected.events);
        assert!(seen[0].events.iter().all(|(_, _, time)| (before..=crate::clock::wall_us()).contains(time)));
        assert!(recovered.is_removed && !snapshot.path.exists());
        assert_eq!((recovered.counts.produced, recovered.counts.drops()), (4 * 1501 + 3, vec![]));
    }

    /// Three exporters, the second of which is at the second batch: the first has it, the third has not.
    #[test]
    fn each_exporter_gets_what_it_has_not() {
        let [(first, _), (mut second, _), (third, _)] = [false; 3].map(Keeper::new);
        let (entered, enters) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        second.stuck = Some((2, entered, goes_on));
        let sinks = vec![("first", first), ("second", second), ("third", third)];
        let snapshot = Snapshot::take(&[AT_ONCE, ("NIXL_TELEMETRY_TIMESTAMPS", "batch")], sinks, |recorder| {
            recorder.memory_registered(1);
            while recorder.counts().exporters[2].exported < 1 {
                std::thread::yield_now();
            }
            recorder.memory_registered(2);
            enters.recv().unwrap();
            recorder.memory_registered(3);
            go_on
        });
        let (seen, recovered) =
            snapshot.recover(&[("third", false), ("second", false), ("first", false), ("new", false)]);
        let [third, second, first, new] = seen.try_into().unwrap();
        assert_eq!((values(&first), first.batches), (vec![3], vec![(3, false, None)]));
        assert_eq!((values(&second), second.batches), (vec![2, 3], vec![(2, true, Some([200])), (3, false, None)]));
        assert_eq!((values(&third), third.batches), (vec![2, 3], vec![(2, false, None), (3, false, None)]));
        assert_eq!((values(&new), new.batches), (vec![2, 3], vec![(2, false, None), (3, false, None)]));
        // All of a batch that was stamped as a whole have the same time, whoever gets them when.
        assert_eq!(second.events[0], third.events[0]);
        let before = |name| recovered.counts.exporter(name).unwrap().exported_before;
        assert_eq!(["first", "second", "third", "new"].map(before), [1, 0, 0, 0]);
    }

    #[test]
    fn totals_are_recovered_too_and_told_once() {
        for overflow in ["drop_newest", "drop_oldest"] {
            let [(mut reports, _), (totals, _)] = [false, true].map(Keeper::new);
            let (entered, enters) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel();
            reports.stuck = Some((1, entered, goes_on));
            let sinks = vec![("reports", reports), ("totals", totals)];
            let small = ("NIXL_TELEMETRY_BUFFER_SIZE", "8");
            let snapshot =
                Snapshot::take(&[AT_ONCE, small, ("NIXL_TELEMETRY_OVERFLOW", overflow)], sinks, |recorder| {
                    recorder.memory_registered(1);
                    enters.recv().unwrap();
                    (1..=100).for_each(|bytes| recorder.transfer(transfer(bytes)));
                    go_on
                });
            let (seen, recovered) = snapshot.recover(&[("reports", false), ("totals", true)]);
            let [reports, totals] = seen.try_into().unwrap();
            let told = reports.events.iter().filter(|(name, ..)| name == "agent_telemetry_events_dropped");
            let told: u64 = told.map(|(_, value, _)| value).sum();
            assert_eq!((recovered.counts.produced, told), (401, recovered.counts.queue_full));
            for kind in [Kind::TX_BYTES, Kind::XFER_POST_TIME, Kind::XFER_TIME, Kind::TX_REQUESTS_NUM] {
                let single = totals.events.iter().filter(|(name, ..)| name == kind.name().unwrap());
                let (count, sum) =
                    single.fold((0, 0), |(count, sum), (_, value, _)| (count + 1, sum + u128::from(*value)));
                let total = totals.totals.iter().find(|total| total.kind == kind).unwrap();
                let all: u128 = (1..=100)
                    .map(|bytes| match kind {
                        Kind::TX_BYTES => bytes.into(),
                        Kind::XFER_POST_TIME => 3,
                        Kind::XFER_TIME => (u64::MAX - bytes).into(),
                        _ => 1,
                    })
                    .sum();
                assert_eq!((count + total.count, sum + total.sum), (100, all), "{overflow} {kind}");
            }
        }
    }

    #[test]
    fn what_an_exporter_fails_at_stays() {
        struct Fails(u64);
        impl Sink for Fails {
            fn export(&mut self, batch: &[Event<'_>]) -> Exported {
                self.0 += 1;
                if self.0 == 2 { Exported::default() } else { Exported::all(batch) }
            }
        }
        let (keeper, _) = Keeper::new(false);
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| {
            // No more than rings take without waking anybody.
            (0..1500).for_each(|bytes| recorder.transfer(transfer(bytes)));
        });
        let abandoned = snapshot.open();
        let outlet = Outlet::new("agent".into(), "kept".to_owned(), Some(Box::new(Fails(0))));
        let names = ["kept".to_owned()];
        let to = Recipients { first: 0, is_in_doubt: false };
        let recovered = abandoned.recover_into(&names, (to, None), ("agent".into(), vec![outlet]), |_| {});
        let first = recovered.counts.exporters[0].exported;
        assert!(!recovered.is_removed && first > 0 && first < 6000, "{recovered:?}");
        let (seen, recovered) = snapshot.recover(&[("kept", false)]);
        assert_eq!(seen[0].events.len() as u64, 6000 - first);
        assert_eq!(seen[0].batches.iter().map(|batch| batch.1).filter(|repeated| *repeated).count(), 1);
        assert!(recovered.is_removed);
    }

    /// More lanes with something to read than a batch can be taken from.
    #[test]
    fn a_batch_is_taken_from_so_many_lanes_and_no_more() {
        const THREADS: usize = crate::journal::MOST_RANGES + 50;
        let (mut keeper, _) = Keeper::new(false);
        let (entered, enters) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        keeper.stuck = Some((2, entered, goes_on));
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| {
            let mut producers: Vec<_> = (0..THREADS).map(|_| recorder.producer_for_tests()).collect();
            (1..).zip(&mut producers).for_each(|(value, producer)| producer.event(Kind::MEMORY_REGISTERED, value));
            recorder.urge_for_tests();
            enters.recv().unwrap();
            go_on
        });
        let (seen, recovered) = snapshot.recover(&[("kept", false)]);
        // The first batch was exported before, and the second may have been.
        let expected: Vec<_> = (crate::journal::MOST_RANGES as u64 + 1..=THREADS as u64).collect();
        assert_eq!((values(&seen[0]), seen[0].batches[0].1), (expected, true));
        assert!(recovered.is_removed);
    }

    #[test]
    fn names_keep_their_places_where_one_does_not_fit() {
        let (keeper, _) = Keeper::new(false);
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| {
            recorder.backend(&"a".repeat(8000), 1);
            recorder.backend(&"b".repeat(300), 2);
            recorder.backend("short", 3);
        });
        let (seen, _) = snapshot.recover(&[("kept", false)]);
        let names: Vec<_> = seen[0].events.iter().map(|(name, value, _)| (name.len(), *value)).collect();
        assert_eq!(names, [(8000, 1), (0, 2), (5, 3)]);
    }

    /// Those who have no ring of their own do not make the journal grow each time.
    #[test]
    fn a_journal_grows_with_its_rings_only() {
        let (keeper, _) = Keeper::new(false);
        let small = ("NIXL_TELEMETRY_MEMORY_BUDGET", "65536");
        let snapshot = Snapshot::take(&[NEVER, small], vec![("kept", keeper)], |recorder| {
            for _ in 0..20 {
                let recorder = recorder.clone();
                std::thread::spawn(move || {
                    (0..3000).for_each(|_| recorder.memory_registered(1));
                    // Its ring is not for the next thread.
                    std::thread::park_timeout(Duration::from_millis(300));
                });
            }
            std::thread::sleep(Duration::from_millis(200));
        });
        assert!(fs::metadata(&snapshot.path).unwrap().len() < 212_992 + 20 * 65536);
    }

    #[test]
    fn what_is_no_journal_is_said() {
        let (keeper, _) = Keeper::new(false);
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| recorder.memory_registered(1));
        let whole = fs::read(&snapshot.path).unwrap();
        let other = snapshot.folder.path().join("other.journal");
        let complaint = |bytes: &[u8]| {
            fs::write(&other, bytes).unwrap();
            Abandoned::open(&other).unwrap_err().to_string()
        };
        assert_eq!(complaint(b""), "has 0 bytes: expected at least 212992");
        assert_eq!(complaint(&whole[..5000]), "has 5000 bytes: expected at least 212992");
        assert_eq!(complaint(&[0; 300_000]), "does not begin as a journal does: expected NIXLTLMJ");
        let with = |word: usize, value: u64| {
            let mut bytes = whole.clone();
            bytes[8 * word..][..8].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        assert_eq!(complaint(&with(1, 2)), "is a journal of version 2: expected 1");
        assert_eq!(complaint(&with(9, 5000)), "its header is damaged: more lanes than there can be");
        fs::remove_file(&other).unwrap();
        std::os::unix::fs::symlink(&snapshot.path, &other).unwrap();
        assert!(Abandoned::open(&other).unwrap_err().to_string().contains("is a symbolic link"));
        assert!(Abandoned::open(snapshot.folder.path()).is_err());
        assert!(Abandoned::open(&snapshot.folder.path().join("missing")).is_err());
    }

    #[test]
    fn what_is_whole_of_a_journal_that_was_cut_is_recovered() {
        let (keeper, _) = Keeper::new(false);
        let snapshot = Snapshot::take(&[NEVER], vec![("kept", keeper)], |recorder| {
            recorder.memory_registered(1);
            std::thread::scope(|scope| drop(scope.spawn(|| recorder.memory_registered(2)).join()));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Not the ring of the thread before, which it would get.
                    let more = recorder.clone();
                    std::thread::scope(|scope| {
                        scope.spawn(move || (0..2000).for_each(|_| more.memory_registered(3))).join().unwrap();
                    });
                });
            });
        });
        let length = fs::metadata(&snapshot.path).unwrap().len();
        // The end of the largest ring's last segment.
        File::options().write(true).open(&snapshot.path).unwrap().set_len(length - 4096).unwrap();
        let abandoned = snapshot.open();
        assert_eq!(abandoned.damage().len(), 1);
        drop(abandoned);
        let (seen, recovered) = snapshot.recover(&[("kept", false)]);
        assert_eq!(values(&seen[0]), [1]);
        assert!(!recovered.is_removed && snapshot.path.exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

        /// Nothing that stands in a file makes it panic, hang, or take memory out of proportion.
        #[test]
        fn damaged_journals_do_no_harm(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3u8), 0..20),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let (mut bytes, folder) = (damaged_template(), tempfile::tempdir().unwrap());
            let words = bytes.len() / 8;
            for (place, value, size) in changes {
                // Mostly where something stands: the first words of the header, and of the blocks behind it.
                let word = match size {
                    0 => place.index(300),
                    1 => 26624 + place.index(600),
                    _ => place.index(words),
                };
                let value = if value % 2 == 0 { value % 5000 } else { value };
                bytes[8 * word..][..8].copy_from_slice(&value.to_ne_bytes());
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let path = folder.path().join("x.journal");
            fs::write(&path, &bytes).unwrap();
            if let Ok(Some(abandoned)) = Abandoned::open(&path) {
                abandoned.events();
                let (ordered, to, old) = abandoned.order(vec!["kept".to_owned()]);
                let (keeper, seen) = Keeper::new(true);
                let outlet = Outlet::new("agent".into(), "kept".to_owned(), Some(Box::new(keeper)));
                abandoned.recover_into(&ordered, (to, old), ("agent".into(), vec![outlet]), |_| {});
                prop_assert!(seen.lock().unwrap().events.len() <= bytes.len());
            }
        }
    }

    /// A journal with a bit of everything, and a batch that is not finished.
    fn damaged_template() -> Vec<u8> {
        static TEMPLATE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let made = TEMPLATE.get_or_init(|| {
            let (mut keeper, _) = Keeper::new(true);
            let (entered, enters) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel();
            keeper.stuck = Some((1, entered, goes_on));
            let small = ("NIXL_TELEMETRY_BUFFER_SIZE", "3000");
            let snapshot = Snapshot::take(&[AT_ONCE, small], vec![("kept", keeper)], |recorder| {
                recorder.backend("mine", 1);
                enters.recv().unwrap();
                (0..1000).for_each(|bytes| recorder.transfer(transfer(bytes << 40)));
                go_on
            });
            fs::read(&snapshot.path).unwrap()
        });
        made.clone()
    }
}
