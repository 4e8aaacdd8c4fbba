// SPDX-License-Identifier: Apache-2.0

//! What `docs/writing-an-exporter.md` shows of this project's host, and that it does what the guide says.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use nixl_telemetry_sdk::{
    Agent, Aggregated, Batch, BatchId, Error, Event, Exporter, Kind, MetricsExporter, Setting, Settings, Total,
    metrics::{Buckets, HISTOGRAM_BUCKETS, Live, Publisher, Snapshot, Tally},
    testing::{MemoWords, TestHost},
};

static SENT: Mutex<u128> = Mutex::new(0);

/// Adds up the bytes that were sent.
struct Sent;

impl Exporter for Sent {
    const TOTALS: bool = true;

    fn open(_: &Agent, _: &Settings) -> Result<Self, Error> {
        Ok(Sent)
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let sent = batch.iter().filter(|event| event.kind() == Some(Kind::TX_BYTES));
        *SENT.lock().unwrap() += sent.map(|event| u128::from(event.value())).sum::<u128>();
        Ok(())
    }

    fn totals(&mut self, totals: &[Total]) -> Result<(), Error> {
        let sent = totals.iter().filter(|total| total.kind == Kind::TX_BYTES);
        *SENT.lock().unwrap() += sent.map(|total| total.sum).sum::<u128>();
        Ok(())
    }
}

#[test]
fn a_counter_adds_events_and_totals() {
    let mut host = TestHost::<Sent>::open("agentA", &Settings::empty()).unwrap();
    let total = |kind, sum| Total { kind, count: 3, sum };
    let events = [Event::new(Kind::TX_BYTES, 5), Event::new(Kind::RX_BYTES, 50)];
    host.export_batch(&events, &[total(Kind::TX_BYTES, 1 << 64), total(Kind::RX_BYTES, 7)], None);
    host.export_batch(&[], &[total(Kind::TX_BYTES, 100)], None);
    let counts = host.close();
    assert_eq!((counts.exported, counts.aggregated, counts.aggregates_failed), (2, 9, 0));
    assert_eq!(*SENT.lock().unwrap(), (1 << 64) + 105);
}

static FILE: Setting<PathBuf> = Setting::required("FILE", "File the events are appended to.");

/// Appends to a file of its own.
struct Lines(File);

impl Exporter for Lines {
    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        Ok(Self(File::options().append(true).create(true).open(settings.get(&FILE)?.value)?))
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let lines: String = batch.iter().map(|event| format!("{} {}\n", event.name(), event.value())).collect();
        if let Some(memo) = batch.memo() {
            match memo.recall() {
                // A process has died in the middle of this batch. It began here.
                Some([begin]) => self.0.set_len(begin)?,
                None => memo.set([self.0.metadata()?.len()]),
            }
        }
        Ok(self.0.write_all(lines.as_bytes())?)
    }
}

#[test]
fn a_file_has_every_line_once_wherever_a_process_died() {
    let path = std::env::temp_dir().join(format!("guide-{}", std::process::id()));
    let settings = Settings::from_pairs([("FILE", &path)]);
    let open = || TestHost::<Lines>::open("agentA", &settings).unwrap();
    let (first, second) = ([Event::new(Kind::TX_BYTES, 1)], [2, 3].map(|value| Event::new(Kind::TX_BYTES, value)));
    let (before, whole) = ("agent_tx_bytes 1\n", "agent_tx_bytes 1\nagent_tx_bytes 2\nagent_tx_bytes 3\n");
    for end in before.len()..=whole.len() {
        let words = MemoWords::default();
        let id = |number| BatchId::new(1, number).with_memo(&words);
        let mut killed = open();
        killed.export_batch(&first, &[], Some(id(1)));
        killed.export_batch(&second, &[], Some(id(2)));
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        // It did not come farther.
        File::options().write(true).open(&path).unwrap().set_len(end as u64).unwrap();

        let mut host = open();
        host.export_batch(&second, &[], Some(id(2).repeated()));
        assert_eq!(host.close().exported, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "cut at {end}");
        fs::remove_file(&path).unwrap();
    }
}

/// Keeps a file with what was moved so far.
struct Moved {
    path: PathBuf,
    buckets: Arc<Buckets>,
    publisher: Publisher,
}

impl MetricsExporter for Moved {
    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        let buckets: Arc<Buckets> = settings.get(&HISTOGRAM_BUCKETS)?.value.into();
        let (publisher, _live) = Live::new(Arc::clone(&buckets), 0);
        Ok(Moved { path: settings.get(&FILE)?.value, buckets, publisher })
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    fn publish(&mut self, tally: &mut Tally) {
        self.publisher.publish(tally, 0);
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut snapshot = Snapshot::new(Arc::clone(&self.buckets));
        self.publisher.live().read(&mut snapshot);
        let times = snapshot.histogram(Kind::XFER_TIME).map_or(0, |histogram| histogram.count());
        Ok(fs::write(&self.path, format!("{} bytes in {times} writes\n", snapshot.counter(Kind::TX_BYTES)))?)
    }
}

#[test]
fn an_exporter_of_sums_gets_them() {
    let path = std::env::temp_dir().join(format!("guide-moved-{}", std::process::id()));
    let mut host = TestHost::<Aggregated<Moved>>::open("agentA", &Settings::from_pairs([("FILE", &path)])).unwrap();
    for bytes in [4096, 100] {
        host.export(&[Event::new(Kind::XFER_TIME, 7), Event::new(Kind::TX_BYTES, bytes)]);
    }
    host.export_batch(&[], &[Total { kind: Kind::TX_BYTES, count: 2, sum: 4 }], None);
    assert_eq!(host.close().exported, 4);
    assert_eq!(fs::read_to_string(&path).unwrap(), "4200 bytes in 2 writes\n");
    fs::remove_file(&path).unwrap();
}
