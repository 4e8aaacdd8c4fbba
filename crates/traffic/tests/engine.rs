// SPDX-License-Identifier: Apache-2.0

//! What a run makes of an engine that does not do what it should.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_traffic::local;
use nixl_telemetry_traffic::workload::{
    Engine, Error, Lane, LanePlan, Ledger, Operation, Place, Side, Sizes, Stop, Times, Workload, run,
};

/// Moves bytes by copying them, except where told otherwise.
#[derive(Default)]
struct Fake {
    /// Every transfer of this size loses its last byte.
    corrupts: u64,
    /// Every transfer of this size fails.
    fails: u64,
    /// The lane of this number cannot be opened.
    lacks_lane: Option<usize>,
    refuses_to_connect: bool,
    open: AtomicU64,
    closed: AtomicU64,
}

struct FakeLane<'a> {
    engine: &'a Fake,
    ends: HashMap<&'static str, Vec<u8>>,
}

impl<'a> Engine for &'a Fake {
    type Lane = FakeLane<'a>;

    fn agents(&self) -> [&str; 2] {
        ["here", "there"]
    }

    fn open(&self, plan: &LanePlan, ledger: &mut Ledger) -> Result<FakeLane<'a>, Error> {
        if self.lacks_lane == Some(plan.number) {
            return Err(local::Error::EmptyRegion.into());
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        ledger.initiator.add(Kind::MEMORY_REGISTERED, plan.largest as u64);
        Ok(FakeLane { engine: self, ends: ["local", "remote", "file"].map(|end| (end, vec![0; plan.largest])).into() })
    }

    fn connect(&self) -> Result<(), Error> {
        if self.refuses_to_connect { Err(local::Error::Canceled.into()) } else { Ok(()) }
    }
}

fn end(side: Side, place: Place) -> &'static str {
    match (side, place) {
        (Side::Local, _) => "local",
        (Side::Remote, Place::Memory) => "remote",
        (Side::Remote, Place::File) => "file",
    }
}

impl Lane for FakeLane<'_> {
    fn fill(&mut self, side: Side, place: Place, bytes: &[u8]) -> Result<(), Error> {
        self.ends.get_mut(end(side, place)).unwrap()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn fetch(&mut self, side: Side, place: Place, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.copy_from_slice(&self.ends[end(side, place)][..bytes.len()]);
        Ok(())
    }

    fn transfer(&mut self, operation: Operation, place: Place, bytes: u64) -> Result<Option<Times>, Error> {
        if bytes == self.engine.fails {
            return Err(local::Error::Disconnected { name: "there".to_owned() }.into());
        }
        let moved = usize::try_from(if bytes == self.engine.corrupts { bytes - 1 } else { bytes }).unwrap();
        let ends = [end(Side::Local, place), end(Side::Remote, place)];
        let [from, to] = if operation == Operation::Write { ends } else { [ends[1], ends[0]] };
        let sent = self.ends[from][..moved].to_vec();
        self.ends.get_mut(to).unwrap()[..moved].copy_from_slice(&sent);
        Ok(Some(Times { post_us: 2, xfer_us: bytes }))
    }

    fn provoke(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        ledger.target.add_error(Status::Unknown);
        Ok(())
    }

    fn close(self, ledger: &mut Ledger) -> Result<(), Error> {
        self.engine.closed.fetch_add(1, Ordering::Relaxed);
        ledger.initiator.add(Kind::MEMORY_DEREGISTERED, self.ends["local"].len() as u64);
        Ok(())
    }
}

fn workload() -> Workload {
    // Neither a byte nor a few of them: what is lost must not be equal by chance.
    let sizes = Sizes::List(vec![1000, 2000, 3000]);
    Workload { transfers: 90, sizes, threads: 4, file_percent: 30, provoke_errors: true, ..Workload::default() }
}

#[test]
fn what_an_engine_says_is_counted() {
    let engine = &Fake::default();
    let report = run(&engine, &workload(), &Stop::new(), &mut |_| ()).unwrap();
    assert_eq!((report.verified, report.corrupt), (90, 0));
    let tally = |kind| (report.initiator().tally(kind).count, report.initiator().tally(kind).sum);
    assert_eq!(tally(Kind::XFER_POST_TIME), (90, Some(180)));
    assert_eq!(tally(Kind::XFER_TIME), (90, Some(30 * 6000)));
    assert_eq!(tally(Kind::MEMORY_REGISTERED), (4, Some(12_000)));
    assert_eq!(tally(Kind::MEMORY_DEREGISTERED), (4, Some(12_000)));
    assert_eq!(report.target().tally(Kind::ERR_UNKNOWN).count, 4);
    assert_eq!((report.xfer_us.min(), report.xfer_us.max(), report.xfer_us.sum()), (Some(1000), Some(3000), 180_000));
    assert_eq!(report.agents, ["here", "there"]);
}

#[test]
fn bytes_that_do_not_arrive_are_noticed() {
    let engine = &Fake { corrupts: 2000, ..Fake::default() };
    let report = run(&engine, &workload(), &Stop::new(), &mut |_| ()).unwrap();
    // One last byte in 256 is what was there before.
    assert!((25..=30).contains(&report.corrupt), "{}", report.corrupt);
    assert_eq!(report.verified + report.corrupt, 90);
}

#[test]
fn whatever_fails_the_lanes_are_closed() {
    let check = |engine: Fake, lanes, message: &str| {
        let error = run(&&engine, &workload(), &Stop::new(), &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!((engine.open.into_inner(), engine.closed.into_inner()), (lanes, lanes));
    };
    check(Fake { fails: 3000, ..Fake::default() }, 4, "embedded agent: remote agent \"there\" is gone");
    check(Fake { lacks_lane: Some(2), ..Fake::default() }, 2, "embedded agent: a region must have at least one byte");
    let refuses = Fake { refuses_to_connect: true, ..Fake::default() };
    check(refuses, 4, "embedded agent: the request was given up while it was running");
}
