// SPDX-License-Identifier: Apache-2.0

//! From the host's calls to the exporter's: one batch after another, on every host.

use std::{
    mem, process,
    time::{Duration, Instant},
};

use nixl_telemetry_abi::plugin::{self, CreateParams};
use nixl_telemetry_event::{BatchId, Event, Status, Total};
use nixl_telemetry_log as log;
use nixl_telemetry_metrics::Tally;
use nixl_telemetry_settings::{ON_ERROR, OnError, Settings};

use crate::{
    Agent, Exporter,
    pump::{Pump, contained},
    timed::Timed,
};

/// What a host holds: the exporter of one agent.
///
/// A host that announces its batches is believed: between begin and end nothing but the host's thread touches the
/// exporter, and no lock is needed. The first event outside a batch shows that this host announces none; from then on
/// a thread of ours closes batches (`Timed`).
pub struct Adapter<E: Exporter> {
    mode: Mode<E>,
    /// Of an exporter that folds, from the announced begin of a batch to its end.
    tally: Option<Box<Tally>>,
    in_batch: bool,
    /// No thread could be had at this moment.
    no_thread_at: Option<Instant>,
    pid: u32,
}

enum Mode<E: Exporter> {
    Announced(Box<Pump<E>>),
    Timed(Timed<E>),
    /// In a forked child, and while one of the others becomes the other.
    Inert,
}

/// Opens an exporter for a host, or decides what to do if it does not open: the body of `create_exporter`.
pub fn create<E: Exporter>(name: &'static str, params: CreateParams<'_>) -> Option<Adapter<E>> {
    create_with(name, Agent::from_params(&params), Settings::process())
}

pub(crate) fn create_with<E: Exporter>(name: &'static str, agent: Agent, settings: &Settings) -> Option<Adapter<E>> {
    // Looked at while all is well, too: who misspells it should not learn so on the bad day.
    let policy = settings.get(&ON_ERROR).map(|found| found.value).unwrap_or_else(|error| {
        log::error!("{error}; taking degrade");
        OnError::Degrade
    });
    let exporter = match contained(|| E::open(&agent, settings)) {
        Ok(exporter) => Some(exporter),
        Err(failure) => {
            let agent = agent.name();
            if policy == OnError::Fail {
                log::error!("exporter {name} of agent {agent} is refused: {failure}");
                return None;
            }
            log::error!("exporter {name} of agent {agent} is off, its events are discarded: {failure}");
            None
        }
    };
    if exporter.is_some() {
        log::info!("exporter {name} of agent {} is open; the host is {}", agent.name(), agent.host());
    }
    let pump = Box::new(Pump::new(name, agent, exporter));
    Some(Adapter { mode: Mode::Announced(pump), tally: None, in_batch: false, no_thread_at: None, pid: process::id() })
}

impl<E: Exporter> Adapter<E> {
    /// An event outside a batch: this host announces none.
    #[inline(never)]
    fn export_unannounced(&mut self, event: &Event<'_>) -> Status {
        if let Mode::Announced(pump) = &mut self.mode {
            if pump.is_off() {
                return pump.push(event);
            }
            self.start_timer();
        }
        match &mut self.mode {
            Mode::Timed(timed) => timed.push(event),
            Mode::Announced(pump) => {
                // Without a thread nobody would close the batch.
                let status = pump.push(event);
                pump.close_batch(None);
                status
            }
            Mode::Inert => Status::Unknown,
        }
    }

    #[cold]
    fn start_timer(&mut self) {
        const RETRY: Duration = Duration::from_secs(1);
        if self.no_thread_at.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let Mode::Announced(pump) = mem::replace(&mut self.mode, Mode::Inert) else { return };
        self.mode = match Timed::start(pump) {
            Ok(timed) => Mode::Timed(timed),
            Err((pump, error)) => {
                log::error!("{pump}: no thread to close batches: {error}; each event is a batch until there is one");
                self.no_thread_at = Some(Instant::now());
                Mode::Announced(pump)
            }
        };
    }

    fn take_back_tally(&mut self) {
        if let Mode::Announced(pump) = &mut self.mode {
            pump.return_tally(self.tally.take());
        }
    }

    fn is_forked(&self) -> bool {
        self.pid != process::id()
    }

    /// Lets go of what is the parent's.
    fn abandon(&mut self) {
        self.tally = None;
        match mem::replace(&mut self.mode, Mode::Inert) {
            Mode::Announced(mut pump) => pump.abandon(),
            Mode::Timed(timed) => timed.abandon(),
            Mode::Inert => {}
        }
    }
}

impl<E: Exporter> plugin::Exporter for Adapter<E> {
    #[inline(always)]
    fn fold(&mut self, event: &Event<'_>) -> bool {
        match &mut self.tally {
            Some(tally) => E::FOLDS && tally.fold_known(event),
            None => false,
        }
    }

    #[inline(always)]
    fn export(&mut self, event: &Event<'_>) -> Status {
        if self.in_batch
            && let Mode::Announced(pump) = &mut self.mode
        {
            return match &mut self.tally {
                Some(tally) if E::FOLDS => {
                    tally.fold(event);
                    Status::Success
                }
                _ => pump.push(event),
            };
        }
        self.export_unannounced(event)
    }

    fn batch_begin(&mut self) {
        if self.is_forked() {
            self.abandon();
        }
        // Of a batch that was begun and never ended: what is in it goes with this one.
        self.take_back_tally();
        self.in_batch = true;
        if let Mode::Announced(pump) = &mut self.mode {
            self.tally = pump.lend_tally();
        }
    }

    fn batch_end(&mut self, id: Option<BatchId<'_>>) {
        self.in_batch = false;
        self.take_back_tally();
        match &mut self.mode {
            Mode::Announced(pump) => pump.close_batch(id),
            Mode::Timed(timed) => timed.close_batch(),
            Mode::Inert => {}
        }
    }

    fn take_lost(&mut self) -> u64 {
        match &mut self.mode {
            Mode::Announced(pump) => pump.take_lost(),
            Mode::Timed(timed) => timed.take_lost(),
            Mode::Inert => 0,
        }
    }

    fn takes_totals(&self) -> bool {
        E::TOTALS
    }

    fn export_total(&mut self, total: Total) -> Status {
        match &mut self.mode {
            Mode::Announced(pump) => pump.push_total(total),
            Mode::Timed(timed) => timed.push_total(total),
            Mode::Inert => Status::Unknown,
        }
    }

    fn take_lost_totals(&mut self) -> u64 {
        match &mut self.mode {
            Mode::Announced(pump) => pump.take_lost_totals(),
            Mode::Timed(timed) => timed.take_lost_totals(),
            Mode::Inert => 0,
        }
    }
}

impl<E: Exporter> Drop for Adapter<E> {
    fn drop(&mut self) {
        if self.is_forked() {
            return self.abandon();
        }
        self.take_back_tally();
        match mem::replace(&mut self.mode, Mode::Inert) {
            Mode::Announced(mut pump) => {
                pump.finish();
            }
            Mode::Timed(timed) => timed.finish(),
            Mode::Inert => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, LazyLock, Mutex, mpsc},
        time::Duration,
    };

    use nixl_telemetry_abi::plugin::Exporter as _;
    use nixl_telemetry_event::{Kind, MemoWords};

    use super::*;
    use crate::metrics::{Aggregated, Buckets, MetricsExporter};
    use crate::{Batch, Error};

    /// Where the exporter of an agent reports, so that tests in parallel do not hear each other.
    static REPORTS: LazyLock<Mutex<HashMap<String, mpsc::Sender<String>>>> = LazyLock::new(Mutex::default);

    struct Reporter {
        agent: String,
        report: mpsc::Sender<String>,
    }

    impl Exporter for Reporter {
        const TOTALS: bool = true;

        fn open(agent: &Agent, _: &Settings) -> Result<Self, Error> {
            match agent.name() {
                "fails to open" => Err("no such place".into()),
                "panics in open" => panic!("on purpose"),
                name => {
                    let report = REPORTS.lock().unwrap()[name].clone();
                    Ok(Self { agent: name.to_owned(), report })
                }
            }
        }

        fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
            let values: Vec<u64> = batch.iter().map(|event| event.value()).collect();
            assert!(!values.contains(&666), "an unlucky value");
            if values.contains(&13) {
                return Err("unlucky".into());
            }
            if values.contains(&31) {
                return Err(Unprintable.into());
            }
            let text = if values.len() > 8 { format!("{} events", values.len()) } else { format!("{values:?}") };
            let which = batch.id().map_or(String::new(), |id| {
                let memo = batch.memo().map(|memo| {
                    let recalled = memo.recall();
                    memo.set([id.origin()]);
                    recalled.map(|[noted]: [u64; 1]| noted)
                });
                format!(" {} of {}, {} {memo:?}", id.number(), id.origin(), batch.is_repeated())
            });
            self.report.send(text + &which)?;
            Ok(())
        }

        fn totals(&mut self, totals: &[Total]) -> Result<(), Error> {
            let numbers: Vec<_> = totals.iter().map(|total| (total.count, total.sum)).collect();
            assert!(!numbers.contains(&(666, 1)), "an unlucky total");
            if numbers.contains(&(13, 1)) {
                return Err("unlucky".into());
            }
            Ok(self.report.send(format!("{numbers:?}"))?)
        }

        fn flush(&mut self) -> Result<(), Error> {
            self.report.send("flush".into())?;
            assert_ne!(self.agent, "panics in flush");
            Ok(())
        }
    }

    impl Drop for Reporter {
        fn drop(&mut self) {
            let _ = self.report.send("drop".into());
            assert_ne!(self.agent, "panics in drop");
        }
    }

    fn open(agent: &str) -> (Adapter<Reporter>, mpsc::Receiver<String>) {
        let (report, reports) = mpsc::channel();
        REPORTS.lock().unwrap().insert(agent.to_owned(), report);
        let adapter = create_with("reporter", Agent::new(agent), &Settings::empty()).expect("it opens");
        REPORTS.lock().unwrap().remove(agent);
        (adapter, reports)
    }

    fn export(adapter: &mut Adapter<Reporter>, values: impl IntoIterator<Item = u64>) -> Vec<Status> {
        values.into_iter().map(|value| adapter.export(&Event::new(Kind::TX_BYTES, value))).collect()
    }

    fn rest<T>(reports: mpsc::Receiver<T>) -> Vec<T> {
        reports.into_iter().collect()
    }

    #[test]
    fn announced_batches_arrive_as_announced() {
        let (mut adapter, reports) = open("announced");
        for values in [vec![1, 2, 3], vec![], vec![4]] {
            adapter.batch_begin();
            export(&mut adapter, values);
            adapter.batch_end(None);
        }
        assert!(matches!(adapter.mode, Mode::Announced(_)), "no thread is started");
        drop(adapter);
        assert_eq!(rest(reports), ["[1, 2, 3]", "[4]", "flush", "drop"]);
    }

    #[test]
    fn without_announcement_a_batch_closes_by_itself() {
        let (mut adapter, reports) = open("by itself");
        assert_eq!(export(&mut adapter, [1, 2]), [Status::Success; 2]);
        // Nobody closes the batch but time.
        let mut seen = reports.recv_timeout(Duration::from_secs(10)).expect("the batch closes");
        if seen == "[1]" {
            seen = reports.recv_timeout(Duration::from_secs(10)).expect("the next batch closes");
            assert_eq!(seen, "[2]");
        } else {
            assert_eq!(seen, "[1, 2]");
        }
        export(&mut adapter, [3]);
        assert_eq!(reports.recv_timeout(Duration::from_secs(10)).expect("the batch closes"), "[3]");
        // What is still open at the end is not lost.
        export(&mut adapter, [4]);
        drop(adapter);
        assert_eq!(rest(reports), ["[4]", "flush", "drop"]);
    }

    #[test]
    fn a_host_that_announces_late_is_served_too() {
        let (mut adapter, reports) = open("late");
        export(&mut adapter, [1]);
        adapter.batch_begin();
        export(&mut adapter, [2]);
        adapter.batch_end(None);
        drop(adapter);
        let seen = rest(reports).join(" ");
        assert!(["[1, 2] flush drop", "[1] [2] flush drop"].contains(&seen.as_str()), "{seen}");
    }

    #[test]
    fn a_batch_that_does_not_fit_leaves_in_parts() {
        let (mut adapter, reports) = open("full");
        adapter.batch_begin();
        export(&mut adapter, (0..10_000).map(|i| 1000 + i));
        // Neither part is the batch of this identity, but the next batch is.
        adapter.batch_end(Some(BatchId::new(7, 1)));
        adapter.batch_begin();
        export(&mut adapter, [1]);
        adapter.batch_end(Some(BatchId::new(7, 2)));
        drop(adapter);
        let parts = ["4096 events", "4096 events", "1808 events", "[1] 2 of 7, false None", "flush", "drop"];
        assert_eq!(rest(reports), parts);
    }

    #[test]
    fn a_full_batch_nobody_announced_leaves_at_once() {
        let (mut adapter, reports) = open("full by itself");
        export(&mut adapter, (0..10_000).map(|i| 1000 + i));
        // Time may have closed batches besides, of any size.
        let events = |text: String| match text.strip_suffix(" events") {
            Some(number) => number.parse().unwrap(),
            None => text.split(',').count(),
        };
        let mut seen = 0;
        while seen < 10_000 - 4095 {
            seen += events(reports.try_recv().expect("what is full has left"));
        }
        drop(adapter);
    }

    #[test]
    fn an_identified_batch_arrives_whole() {
        let (mut adapter, reports) = open("identified");
        let words = MemoWords::default();
        for events in [1, 4095, 4096] {
            let id = BatchId::new(7, events).with_memo(&words);
            for id in [id, id.repeated()] {
                adapter.batch_begin();
                export(&mut adapter, (0..events).map(|i| 1000 + i));
                adapter.batch_end(Some(id));
            }
        }
        adapter.batch_begin();
        adapter.batch_end(Some(BatchId::new(7, 4)));
        drop(adapter);
        let expected = ["[1000] 1", "4095 events 4095", "4096 events 4096"]
            .map(|batch| [format!("{batch} of 7, false Some(None)"), format!("{batch} of 7, true Some(Some(7))")]);
        assert_eq!(rest(reports), [expected.as_flattened(), &["flush".into(), "drop".into()]].concat());
    }

    fn totals(adapter: &mut Adapter<Reporter>, counts: impl IntoIterator<Item = u64>) -> Vec<Status> {
        let total = |count| Total { kind: Kind::TX_BYTES, count, sum: 1 };
        counts.into_iter().map(|count| adapter.export_total(total(count))).collect()
    }

    #[test]
    fn totals_come_after_their_batch() {
        let (mut adapter, reports) = open("totals");
        assert!(adapter.takes_totals());
        for (values, counts) in [(vec![1], vec![5, 6]), (vec![], vec![7]), (vec![2], vec![]), (vec![13], vec![8])] {
            adapter.batch_begin();
            export(&mut adapter, values);
            assert!(totals(&mut adapter, counts).iter().all(|status| *status == Status::Success));
            adapter.batch_end(None);
        }
        assert_eq!((adapter.take_lost(), adapter.take_lost_totals()), (1, 0));
        // An error costs all of them, and the host learns it, once.
        adapter.batch_begin();
        totals(&mut adapter, [9, 13]);
        adapter.batch_end(None);
        assert_eq!([adapter.take_lost_totals(), adapter.take_lost_totals()], [22, 0]);
        let Mode::Announced(pump) = &mut adapter.mode else { panic!("announced") };
        let counts = pump.finish();
        assert_eq!((counts.taken, counts.aggregated, counts.aggregates_failed), (3, 26, 22));
        drop(adapter);
        let expected = ["[1]", "[(5, 1), (6, 1)]", "[(7, 1)]", "[2]", "[(8, 1)]", "flush", "drop"];
        assert_eq!(rest(reports), expected);
    }

    #[test]
    fn totals_after_a_panic_are_lost() {
        for (agent, values, counts) in [("panics first", vec![666], vec![5]), ("panics then", vec![1], vec![666])] {
            let (mut adapter, reports) = open(agent);
            adapter.batch_begin();
            export(&mut adapter, values);
            assert_eq!(totals(&mut adapter, counts.clone()), [Status::Success]);
            adapter.batch_end(None);
            assert_eq!(adapter.take_lost_totals(), counts[0], "{agent}");
            assert_eq!(totals(&mut adapter, [4]), [Status::Unknown]);
            drop(adapter);
            assert_eq!(rest(reports).last().map(String::as_str), Some("drop"));
        }
    }

    #[test]
    fn an_error_costs_its_batch() {
        let (mut adapter, reports) = open("error");
        for values in [[1, 2], [3, 13], [4, 5]] {
            adapter.batch_begin();
            assert_eq!(export(&mut adapter, values), [Status::Success; 2]);
            adapter.batch_end(None);
            // A host that asks learns it, once.
            assert_eq!([adapter.take_lost(), adapter.take_lost()], [if values == [3, 13] { 2 } else { 0 }, 0]);
        }
        let Mode::Announced(pump) = &mut adapter.mode else { panic!("announced") };
        let counts = pump.finish();
        assert_eq!((counts.taken, counts.exported, counts.failed, counts.discarded), (6, 4, 2, 0));
        drop(adapter);
        assert_eq!(rest(reports), ["[1, 2]", "[4, 5]", "flush", "drop"]);
    }

    /// An error is the author's code as well.
    #[derive(Debug)]
    struct Unprintable;

    impl std::error::Error for Unprintable {}

    impl std::fmt::Display for Unprintable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("an error that does not print")
        }
    }

    #[test]
    fn an_error_that_panics_is_a_panic() {
        for timed in [false, true] {
            let (mut adapter, reports) = open("unprintable");
            if !timed {
                adapter.batch_begin();
            }
            export(&mut adapter, [1, 31]);
            adapter.batch_end(None);
            export(&mut adapter, [2]);
            drop(adapter);
            assert_eq!(rest(reports).last().map(String::as_str), Some("drop"));
        }
    }

    #[test]
    fn a_forked_child_touches_nothing() {
        let (mut adapter, reports) = open("forked");
        adapter.batch_begin();
        export(&mut adapter, [1]);
        // What the child sees of its parent's exporter.
        adapter.pid += 1;
        adapter.batch_begin();
        assert_eq!(export(&mut adapter, [2]), [Status::Unknown]);
        adapter.batch_end(None);
        drop(adapter);
        assert!(reports.try_iter().next().is_none(), "neither exported, flushed nor dropped");
    }

    /// Adds up what it is handed, and tells after each batch.
    struct Summer(mpsc::Sender<u64>);

    impl MetricsExporter for Summer {
        fn open(agent: &Agent, _: &Settings) -> Result<Self, Error> {
            Ok(Self(SUMS.lock().unwrap()[agent.name()].clone()))
        }

        fn buckets(&self) -> Arc<Buckets> {
            Arc::default()
        }

        fn publish(&mut self, tally: &mut Tally) {
            let sum = tally.sum(Kind::TX_BYTES);
            assert_ne!(sum, 666, "an unlucky sum");
            self.0.send(sum).expect("somebody listens");
            tally.clear();
        }
    }

    static SUMS: LazyLock<Mutex<HashMap<String, mpsc::Sender<u64>>>> = LazyLock::new(Mutex::default);

    /// What a host does: begins a batch, hands over an event, ends the batch.
    enum Do {
        Begin,
        Event(u64),
        Total(u64),
        End,
    }

    /// An event as the vtable brings it.
    fn fold(adapter: &mut Adapter<Aggregated<Summer>>, value: u64) -> Status {
        let event = Event::new(Kind::TX_BYTES, value);
        if adapter.fold(&event) { Status::Success } else { adapter.export(&event) }
    }

    fn summer(agent: &str) -> (Adapter<Aggregated<Summer>>, mpsc::Receiver<u64>) {
        let (report, reports) = mpsc::channel();
        SUMS.lock().unwrap().insert(agent.to_owned(), report);
        let adapter = create_with("summer", Agent::new(agent), &Settings::empty()).expect("it opens");
        SUMS.lock().unwrap().remove(agent);
        (adapter, reports)
    }

    #[test]
    fn no_order_of_calls_loses_what_is_folded() {
        use Do::{Begin, End, Event as One, Total as Many};
        let orders: [&[Do]; 7] = [
            &[Begin, One(1), One(2), End, Begin, End, Begin, One(4), Many(8), End],
            // Begun twice, and never ended.
            &[Begin, One(1), Begin, One(2), End, Begin, One(4), Begin, One(8)],
            // Ended without a begin, and twice.
            &[End, Begin, One(1), Many(2), End, End, Begin, One(4), One(8), End],
            // Announced late.
            &[One(1), One(2), Begin, One(4), Many(8), End],
            // Between two batches that are announced.
            &[Begin, One(1), End, One(2), Begin, One(4), End, One(8)],
            &[One(15)],
            &[Begin, Many(15)],
        ];
        for (number, order) in orders.into_iter().enumerate() {
            let (mut adapter, reports) = summer(&format!("order {number}"));
            for step in order {
                match step {
                    Begin => adapter.batch_begin(),
                    One(value) => assert_eq!(fold(&mut adapter, *value), Status::Success),
                    Many(sum) => {
                        let total = Total { kind: Kind::TX_BYTES, count: 1, sum: (*sum).into() };
                        assert_eq!(adapter.export_total(total), Status::Success);
                    }
                    End => adapter.batch_end(None),
                }
            }
            drop(adapter);
            assert_eq!(reports.into_iter().sum::<u64>(), 15, "order {number}");
        }
    }

    #[test]
    fn nothing_is_folded_after_a_panic_or_a_fork() {
        let (mut adapter, reports) = summer("unlucky");
        adapter.batch_begin();
        assert_eq!(fold(&mut adapter, 666), Status::Success);
        adapter.batch_end(None);
        assert_eq!(adapter.take_lost(), 1);
        adapter.batch_begin();
        assert_eq!(fold(&mut adapter, 1), Status::Unknown);
        adapter.batch_end(None);
        drop(adapter);
        assert_eq!(rest(reports), [0; 0]);

        let (mut adapter, reports) = summer("forked in a batch");
        adapter.batch_begin();
        fold(&mut adapter, 1);
        adapter.pid += 1;
        adapter.batch_begin();
        assert_eq!(fold(&mut adapter, 2), Status::Unknown);
        adapter.batch_end(None);
        drop(adapter);
        assert!(reports.try_iter().next().is_none());
    }

    #[test]
    fn an_exporter_that_is_off_needs_no_thread() {
        let mut adapter = create_with::<Reporter>("reporter", Agent::new("fails to open"), &Settings::empty()).unwrap();
        assert_eq!(export(&mut adapter, [1, 2]), [Status::Unknown; 2]);
        assert!(matches!(adapter.mode, Mode::Announced(_)));
    }

    #[test]
    fn a_panic_ends_the_exporter_alone() {
        let (mut adapter, reports) = open("panic");
        adapter.batch_begin();
        export(&mut adapter, [1, 666]);
        adapter.batch_end(None);
        assert_eq!(export(&mut adapter, [2]), [Status::Unknown]);
        drop(adapter);
        assert_eq!(rest(reports), ["drop"]);

        for agent in ["panics in flush", "panics in drop"] {
            let (mut adapter, reports) = open(agent);
            adapter.batch_begin();
            export(&mut adapter, [1]);
            adapter.batch_end(None);
            drop(adapter);
            assert_eq!(rest(reports), ["[1]", "flush", "drop"], "{agent}");
        }
    }

    #[test]
    fn the_policy_decides_about_an_exporter_that_does_not_open() {
        let policy = |agent: &str, value: &str| {
            let settings = Settings::from_pairs([("NIXL_TELEMETRY_ON_ERROR", value)]);
            create_with::<Reporter>("reporter", Agent::new(agent), &settings)
        };
        for agent in ["fails to open", "panics in open"] {
            assert!(policy(agent, "fail").is_none(), "{agent}");
            // An unknown word is no reason to take the process down.
            for value in ["degrade", "explode"] {
                let mut adapter = policy(agent, value).expect("a discarding exporter");
                adapter.batch_begin();
                assert_eq!(export(&mut adapter, [1, 2, 3]), [Status::Unknown; 3]);
                adapter.batch_end(None);
                let Mode::Announced(pump) = &mut adapter.mode else { panic!("announced") };
                let counts = pump.finish();
                assert_eq!((counts.taken, counts.discarded), (3, 3));
            }
        }
    }
}
