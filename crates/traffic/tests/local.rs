// SPDX-License-Identifier: Apache-2.0

//! The embedded agent: bytes arrive, and exactly the promised events are recorded.

#![allow(clippy::cast_possible_truncation, reason = "sizes are a few MiB")]

mod support;

use std::path::Path;
use std::thread;

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_traffic::local::{
    Access, Agent, Descriptor, DescriptorList, Error, Fabric, Memory, MemoryType, Operation, Region, State,
};

use support::Observer;

const SMALL: u64 = 4096;
const LARGE: u64 = 3 << 20;

/// Two agents, `a` observed, and a region of `size` patterned bytes on each.
struct Pair {
    observer: Observer,
    fabric: Fabric,
    a: Agent,
    b: Agent,
    near: (Memory, Region),
    far: (Memory, Region),
}

impl Pair {
    fn new(size: u64) -> Self {
        let (observer, fabric) = (Observer::new("a"), Fabric::new());
        let a = Agent::new(&fabric, "a", observer.recorder()).unwrap();
        let b = Agent::new(&fabric, "b", None).unwrap();
        let near = (pattern(size, 3), Access::ReadWrite);
        let far = (pattern(size, 5), Access::ReadWrite);
        let near = (near.0.clone(), a.register_memory(&near.0, near.1).unwrap());
        let far = (far.0.clone(), b.register_memory(&far.0, far.1).unwrap());
        a.load_remote_metadata(&b.local_metadata()).unwrap();
        Self { observer, fabric, a, b, near, far }
    }

    fn create(
        &self,
        operation: Operation,
        local: &DescriptorList,
        remote: &DescriptorList,
    ) -> Result<nixl_telemetry_traffic::local::Request, Error> {
        self.a.create_request(operation, local, "b", remote)
    }

    fn write(&self) -> nixl_telemetry_traffic::local::Request {
        self.create(Operation::Write, &self.near.1.whole(), &self.far.1.whole()).unwrap()
    }

    /// The events after the registration of the near region.
    fn events(&self) -> Vec<(Kind, u64)> {
        let mut events = self.observer.events();
        assert_eq!(events.remove(0), (Kind::MEMORY_REGISTERED, self.near.1.length()));
        events
    }
}

fn pattern(size: u64, factor: u64) -> Memory {
    Memory::from((0..size).map(|i| (i.wrapping_mul(factor) >> 3) as u8).collect::<Vec<_>>())
}

fn kind(status: Status) -> Kind {
    status.kind().expect("an error has a kind")
}

/// Asserts the failure of an operation, and returns it.
#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, Error>, status: Status) -> Error {
    let error = result.expect_err("the operation is a mistake");
    assert_eq!(error.status(), status, "{error}");
    error
}

#[test]
fn small_writes_and_reads_are_complete_when_posted() {
    let pair = Pair::new(SMALL);
    let (before_near, before_far) = (pair.near.0.to_vec(), pair.far.0.to_vec());

    let mut read = pair.create(Operation::Read, &pair.near.1.range(0, 100), &pair.far.1.range(1000, 100)).unwrap();
    assert_eq!(read.post().unwrap(), State::Complete);
    let expected = [&before_far[1000..1100], &before_near[100..]].concat();
    assert_eq!(pair.near.0.to_vec(), expected);
    assert_eq!(pair.far.0.to_vec(), before_far);

    let mut write = pair.write();
    assert_eq!(write.post().unwrap(), State::Complete);
    assert_eq!(pair.far.0.to_vec(), expected);

    let (read, write) = (read.telemetry().unwrap().unwrap(), write.telemetry().unwrap().unwrap());
    assert_eq!((read.bytes, read.descriptors, write.bytes, write.descriptors), (100, 1, SMALL, 1));
    assert_eq!((read.post_us, write.post_us), (read.xfer_us, write.xfer_us));
    assert_eq!(
        pair.events(),
        [
            (Kind::XFER_POST_TIME, read.post_us),
            (Kind::XFER_TIME, read.xfer_us),
            (Kind::RX_BYTES, 100),
            (Kind::RX_REQUESTS_NUM, 1),
            (Kind::XFER_POST_TIME, write.post_us),
            (Kind::XFER_TIME, write.xfer_us),
            (Kind::TX_BYTES, SMALL),
            (Kind::TX_REQUESTS_NUM, 1),
        ]
    );
}

#[test]
fn large_transfers_are_in_progress_until_the_worker_has_moved_them() {
    let pair = Pair::new(LARGE);
    let mut write = pair.write();
    pair.near.0.with_mut(|_| {
        assert_eq!(write.post().unwrap(), State::InProgress);
        assert_eq!(write.status().unwrap(), State::InProgress);
        assert_eq!(write.telemetry().unwrap(), None);
        // The post and the polls of a run that goes on are no events.
        assert_eq!(pair.events(), []);
    });
    write.wait().unwrap();
    assert_eq!(write.status().unwrap(), State::Complete);
    assert_eq!(pair.near.0.to_vec(), pair.far.0.to_vec());

    let first = write.telemetry().unwrap().unwrap();
    assert!(first.post_us <= first.xfer_us);
    // Posted again, it moves what is there now.
    pair.near.0.with_mut(|bytes| bytes.fill(9));
    assert_eq!(write.post().unwrap(), State::InProgress);
    write.wait().unwrap();
    assert_eq!(pair.far.0.to_vec(), vec![9; LARGE as usize]);
    let second = write.telemetry().unwrap().unwrap();
    let group = |of: nixl_telemetry_traffic::local::XferTelemetry| {
        [
            (Kind::XFER_POST_TIME, of.post_us),
            (Kind::XFER_TIME, of.xfer_us),
            (Kind::TX_BYTES, LARGE),
            (Kind::TX_REQUESTS_NUM, 1),
        ]
    };
    assert_eq!(pair.events(), [group(first), group(second)].concat());
    write.release().unwrap();
}

#[test]
fn a_run_nobody_asked_about_is_recorded_by_the_next_post() {
    let pair = Pair::new(LARGE);
    let mut write = pair.write();
    write.post().unwrap();
    // A second request behind the first one in the worker's queue: when it is over, so is the first.
    let mut behind = pair.write();
    behind.post().unwrap();
    behind.wait().unwrap();
    assert_eq!(pair.events().len(), 4);
    write.post().unwrap();
    assert_eq!(pair.events().len(), 8);
    write.wait().unwrap();
    assert_eq!(pair.events().iter().filter(|(kind, _)| *kind == Kind::TX_REQUESTS_NUM).count(), 3);
}

#[test]
fn the_edge_between_post_and_worker_is_64_kib() {
    let pair = Pair::new(LARGE);
    for (size, state) in [(1, State::Complete), (65536, State::Complete), (65537, State::InProgress)] {
        let (near, far) = (pair.near.1.range(0, size), pair.far.1.range(0, size));
        let mut request = pair.create(Operation::Write, &near, &far).unwrap();
        assert_eq!(request.post().unwrap(), state, "{size}");
        request.wait().unwrap();
    }
    assert_eq!(pair.far.0.to_vec()[..65537], pair.near.0.to_vec()[..65537]);
    assert_ne!(pair.far.0.to_vec()[65537..], pair.near.0.to_vec()[65537..]);
}

#[test]
fn many_descriptors_go_where_they_should_and_neighbours_are_merged() {
    let pair = Pair::new(SMALL);
    let list = |region: &Region, runs: &[(u64, u64)]| DescriptorList {
        memory_type: MemoryType::Dram,
        descriptors: runs.iter().map(|&(offset, length)| Descriptor { region: region.id(), offset, length }).collect(),
    };
    // The first two continue each other on both sides; the third only on one; the last two on none.
    let local = list(&pair.near.1, &[(0, 10), (10, 20), (30, 5), (200, 7), (100, 8)]);
    let remote = list(&pair.far.1, &[(50, 10), (60, 20), (500, 5), (1000, 7), (2000, 8)]);
    let mut expected = pair.far.0.to_vec();
    let source = pair.near.0.to_vec();
    for (from, to) in local.descriptors.iter().zip(&remote.descriptors) {
        let (from, to, length) = (from.offset as usize, to.offset as usize, from.length as usize);
        expected[to..to + length].copy_from_slice(&source[from..from + length]);
    }
    let mut request = pair.create(Operation::Write, &local, &remote).unwrap();
    assert_eq!((request.bytes(), request.descriptors()), (50, 4));
    request.post().unwrap();
    assert_eq!(pair.far.0.to_vec(), expected);
    let telemetry = request.telemetry().unwrap().unwrap();
    assert_eq!((telemetry.bytes, telemetry.descriptors), (50, 4));
}

#[test]
fn files_are_written_and_read_by_the_agent_itself() {
    let (observer, fabric, folder) = (Observer::new("a"), Fabric::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("kv");
    let agent = Agent::new(&fabric, "a", observer.recorder()).unwrap();
    let (out, back) = (pattern(LARGE, 7), Memory::zeroed(LARGE as usize));
    let out_region = agent.register_memory(&out, Access::ReadOnly).unwrap();
    let back_region = agent.register_memory(&back, Access::ReadWrite).unwrap();
    let file = agent.register_file(&path, LARGE, Access::ReadWrite).unwrap();

    // No metadata needs to be loaded: an agent knows itself.
    let mut store = agent.create_request(Operation::Write, &out_region.whole(), "a", &file.whole()).unwrap();
    assert_eq!(store.post().unwrap(), State::InProgress);
    store.wait().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), out.to_vec());
    let mut load = agent.create_request(Operation::Read, &back_region.whole(), "a", &file.whole()).unwrap();
    load.post().unwrap();
    load.wait().unwrap();
    assert_eq!(back.to_vec(), out.to_vec());

    agent.deregister(&file).unwrap();
    let totals = |kind| {
        let values: Vec<_> = observer.events().iter().filter(|(of, _)| *of == kind).map(|(_, value)| *value).collect();
        (values.len(), values.iter().sum::<u64>())
    };
    assert_eq!(totals(Kind::MEMORY_REGISTERED), (3, 3 * LARGE));
    assert_eq!(totals(Kind::MEMORY_DEREGISTERED), (1, LARGE));
    assert_eq!(totals(Kind::TX_BYTES), (1, LARGE));
    assert_eq!(totals(Kind::RX_BYTES), (1, LARGE));
    assert_eq!(observer.events().len(), 3 + 1 + 2 * 4);
}

#[test]
fn the_target_and_an_agent_without_recorder_record_nothing() {
    let (observer, fabric) = (Observer::new("target"), Fabric::new());
    let target = Agent::new(&fabric, "target", observer.recorder()).unwrap();
    let initiator = Agent::new(&fabric, "initiator", None).unwrap();
    let (from, to) = (pattern(SMALL, 3), Memory::zeroed(SMALL as usize));
    let from_region = initiator.register_memory(&from, Access::ReadOnly).unwrap();
    let to_region = target.register_memory(&to, Access::ReadWrite).unwrap();
    assert_eq!(initiator.load_remote_metadata(&target.local_metadata()).unwrap(), "target");
    let mut write =
        initiator.create_request(Operation::Write, &from_region.whole(), "target", &to_region.whole()).unwrap();
    write.post().unwrap();
    assert_eq!(to.to_vec(), from.to_vec());
    fails(write.telemetry(), Status::NoTelemetry);
    target.deregister(&to_region).unwrap();
    assert_eq!(observer.events(), [(Kind::MEMORY_REGISTERED, SMALL), (Kind::MEMORY_DEREGISTERED, SMALL)]);
}

#[test]
fn not_posted() {
    let pair = Pair::new(SMALL);
    let mut write = pair.write();
    fails(write.status(), Status::NotPosted);
    fails(write.telemetry(), Status::NotPosted);
    fails(write.wait(), Status::NotPosted);
    write.release().unwrap();
    assert_eq!(pair.events(), [(kind(Status::NotPosted), 1); 3]);
}

#[test]
fn mistakes_in_a_request_have_their_statuses() {
    let pair = Pair::new(SMALL);
    let locked = pair.a.register_memory(&pair.near.0, Access::ReadOnly).unwrap();
    let far_locked = pair.b.register_memory(&pair.far.0, Access::ReadOnly).unwrap();
    let late = {
        pair.a.load_remote_metadata(&pair.b.local_metadata()).unwrap();
        pair.b.register_memory(&pair.far.0, Access::ReadWrite).unwrap()
    };
    let (near, far) = (&pair.near.1, &pair.far.1);
    let empty = DescriptorList { memory_type: MemoryType::Dram, descriptors: vec![] };
    let typed = |memory_type, region: &Region| DescriptorList { memory_type, ..region.whole() };
    let both = |region: &Region, a: (u64, u64), b: (u64, u64)| {
        let mut list = region.range(a.0, a.1);
        list.descriptors.extend(region.range(b.0, b.1).descriptors);
        list
    };
    use Operation::{Read, Write};
    let table = [
        (Write, empty.clone(), far.whole(), Status::InvalidParam, "the local descriptor list is empty"),
        (Write, near.whole(), empty, Status::InvalidParam, "the remote descriptor list is empty"),
        (
            Write,
            near.range(0, 0),
            far.range(0, 0),
            Status::InvalidParam,
            "local descriptor 0 has offset 0 and length 0, expected 1 byte or more below 2^64",
        ),
        (
            Write,
            near.whole(),
            far.range(u64::MAX, 1),
            Status::InvalidParam,
            "remote descriptor 0 has offset 18446744073709551615 and length 1, expected 1 byte or more below 2^64",
        ),
        (
            Write,
            both(near, (0, 8), (8, 8)),
            both(far, (0, 8), (7, 8)),
            Status::InvalidParam,
            "descriptors 0 and 1 overlap in the destination",
        ),
        (
            Write,
            typed(MemoryType::Vram, near),
            far.whole(),
            Status::NotSupported,
            "no backend for VRAM memory, expected DRAM or FILE",
        ),
        (
            Write,
            near.whole(),
            typed(MemoryType::Block, far),
            Status::NotSupported,
            "no backend for BLK memory, expected DRAM or FILE",
        ),
        (
            Write,
            near.whole(),
            typed(MemoryType::Object, far),
            Status::NotSupported,
            "no backend for OBJ memory, expected DRAM or FILE",
        ),
        (Write, near.whole(), typed(MemoryType::File, far), Status::NotFound, "agent \"b\" has no FILE region 1"),
        (Write, near.whole(), late.whole(), Status::NotFound, "agent \"b\" has no DRAM region 3"),
        (
            Write,
            near.range(1, SMALL),
            far.range(0, SMALL),
            Status::NotFound,
            "local descriptor 0 ends at 4097, but its region has 4096 bytes",
        ),
        (
            Write,
            near.range(0, 8),
            far.range(SMALL - 7, 8),
            Status::NotFound,
            "remote descriptor 0 ends at 4097, but its region has 4096 bytes",
        ),
        (
            Write,
            both(near, (0, 8), (8, 8)),
            far.range(0, 16),
            Status::Mismatch,
            "2 local descriptors, but 1 remote ones",
        ),
        (
            Write,
            near.range(0, 8),
            far.range(0, 9),
            Status::Mismatch,
            "descriptor 0 has 8 bytes on the local side, but 9 on the remote one",
        ),
        (
            Write,
            near.whole(),
            far_locked.whole(),
            Status::NotAllowed,
            "remote region 2 is read-only, expected read-write",
        ),
        (Read, locked.whole(), far.whole(), Status::NotAllowed, "local region 2 is read-only, expected read-write"),
    ];
    let mut expected = vec![(Kind::MEMORY_REGISTERED, SMALL)];
    for (operation, local, remote, status, message) in table {
        let error = fails(pair.create(operation, &local, &remote), status);
        assert_eq!(error.to_string(), message);
        expected.push((kind(status), 1));
    }
    // Sources may overlap, and may be read-only.
    pair.create(Write, &both(&locked, (0, 8), (4, 8)), &both(far, (0, 8), (8, 8))).unwrap();
    pair.create(Read, &near.whole(), &far_locked.whole()).unwrap();
    assert_eq!(pair.events(), expected);
}

#[test]
fn within_one_agent_source_and_destination_must_not_overlap() {
    let (fabric, memory) = (Fabric::new(), pattern(100, 9));
    let agent = Agent::new(&fabric, "a", None).unwrap();
    let region = agent.register_memory(&memory, Access::ReadWrite).unwrap();
    let check = |from: (u64, u64), to: (u64, u64), overlaps: bool| {
        let result =
            agent.create_request(Operation::Write, &region.range(from.0, from.1), "a", &region.range(to.0, to.1));
        match result {
            Err(error) => assert!(overlaps && matches!(error, Error::Overlap { .. }), "{from:?} {to:?}: {error}"),
            Ok(mut request) => {
                assert!(!overlaps, "{from:?} {to:?}");
                assert_eq!(request.post().unwrap(), State::Complete);
            }
        }
    };
    check((0, 10), (10, 10), false);
    check((10, 10), (0, 10), false);
    check((0, 10), (9, 10), true);
    check((9, 10), (0, 10), true);
    check((0, 10), (0, 10), true);
    check((0, 30), (10, 30), true);
}

#[test]
fn unknown_and_forgotten_agents_and_regions_are_not_found() {
    let pair = Pair::new(SMALL);
    let (near, far) = (pair.near.1.whole(), pair.far.1.whole());
    fails(pair.a.create_request(Operation::Write, &near, "nobody", &far), Status::NotFound);
    let mut write = pair.write();
    pair.a.invalidate_remote("b").unwrap();
    fails(pair.a.invalidate_remote("b"), Status::NotFound);
    fails(write.post(), Status::NotFound);
    // Asked again, the failed run is the same failure, not another event.
    fails(write.status(), Status::NotFound);
    fails(write.telemetry(), Status::NotFound);
    pair.a.load_remote_metadata(&pair.b.local_metadata()).unwrap();
    assert_eq!(write.post().unwrap(), State::Complete);
    pair.b.deregister(&pair.far.1).unwrap();
    fails(write.post(), Status::NotFound);
    // A region of another agent is not ours, even if ours has the same number.
    fails(pair.a.deregister(&pair.far.1), Status::NotFound);
    pair.a.deregister(&pair.near.1).unwrap();
    fails(pair.a.deregister(&pair.near.1), Status::NotFound);
    fails(pair.a.register_file(Path::new("/nonexistent/kv"), 1, Access::ReadWrite), Status::NotFound);

    let events = pair.events();
    let count = |kind| events.iter().filter(|(of, _)| *of == kind).count();
    assert_eq!(count(kind(Status::NotFound)), 7);
    assert_eq!(count(Kind::TX_BYTES), 1);
    assert_eq!(count(Kind::MEMORY_DEREGISTERED), 1);
    assert_eq!(events.len(), 7 + 4 + 1);
}

#[test]
fn empty_things_and_taken_names_are_invalid() {
    let pair = Pair::new(SMALL);
    fails(pair.a.register_memory(&Memory::zeroed(0), Access::ReadWrite), Status::InvalidParam);
    fails(pair.a.register_file(Path::new("/dev/null"), 0, Access::ReadWrite), Status::InvalidParam);
    fails(pair.a.load_remote_metadata(&pair.a.local_metadata()), Status::InvalidParam);
    fails(Agent::new(&pair.fabric, "", None), Status::InvalidParam);
    fails(Agent::new(&pair.fabric, "b", None), Status::InvalidParam);
    assert_eq!(pair.events(), [(kind(Status::InvalidParam), 1); 3]);
}

#[test]
fn a_file_that_fails_is_a_backend_error() {
    let (observer, fabric, folder) = (Observer::new("a"), Fabric::new(), tempfile::tempdir().unwrap());
    let agent = Agent::new(&fabric, "a", observer.recorder()).unwrap();
    let region = agent.register_memory(&pattern(SMALL, 3), Access::ReadWrite).unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, [1; 100]).unwrap();
    let table = [
        (
            Operation::Write,
            Path::new("/dev/full"),
            Access::ReadWrite,
            "cannot write /dev/full: No space left on device (os error 28)".to_owned(),
        ),
        (
            Operation::Read,
            &short,
            Access::ReadOnly,
            format!("{} ends at offset 100, expected bytes up to 4096", short.display()),
        ),
    ];
    let mut expected = vec![(Kind::MEMORY_REGISTERED, SMALL)];
    for (operation, path, access, message) in table {
        let file = agent.register_file(path, SMALL, access).unwrap();
        let mut request = agent.create_request(operation, &region.whole(), "a", &file.whole()).unwrap();
        assert_eq!(request.post().unwrap(), State::InProgress);
        let error = fails(request.wait(), Status::Backend);
        assert_eq!(error.to_string(), message);
        expected.extend([(Kind::MEMORY_REGISTERED, SMALL), (kind(Status::Backend), 1)]);
    }
    assert_eq!(observer.events(), expected);
    let locked = agent.register_file(&short, 100, Access::ReadOnly).unwrap();
    fails(agent.create_request(Operation::Write, &region.range(0, 100), "a", &locked.whole()), Status::NotAllowed);
}

#[test]
fn reposting_and_releasing_a_running_request() {
    let pair = Pair::new(LARGE);
    let mut write = pair.write();
    pair.near.0.with_mut(|_| {
        write.post().unwrap();
        fails(write.post(), Status::RepostActive);
        // The run itself goes on.
        assert_eq!(write.status().unwrap(), State::InProgress);
        fails(write.release(), Status::Canceled);
    });
    assert_eq!(pair.events(), [(kind(Status::RepostActive), 1), (kind(Status::Canceled), 1)]);
    // The worker has given the request up and is free for the next one.
    let mut next = pair.write();
    next.post().unwrap();
    next.wait().unwrap();
    assert_eq!(pair.far.0.to_vec(), pair.near.0.to_vec());
}

#[test]
fn a_released_request_stops_within_a_chunk() {
    let pair = Pair::new(LARGE);
    let (near, far) = (pair.near.0.to_vec(), pair.far.0.to_vec());
    let mut write = pair.write();
    pair.near.0.with_mut(|_| {
        write.post().unwrap();
        fails(write.release(), Status::Canceled);
    });
    let mut behind = pair.create(Operation::Write, &pair.near.1.range(0, 65537), &pair.far.1.range(0, 65537)).unwrap();
    behind.post().unwrap();
    behind.wait().unwrap();
    assert_ne!(near[256 * 1024..], far[256 * 1024..]);
    assert_eq!(pair.far.0.to_vec()[256 * 1024..], far[256 * 1024..]);
}

#[test]
fn a_dropped_remote_agent_is_disconnected() {
    let pair = Pair::new(LARGE);
    let mut running = pair.write();
    let mut later = pair.write();
    let Pair { observer, a, b, near, fabric, .. } = pair;
    near.0.with_mut(|_| {
        running.post().unwrap();
        drop(b);
    });
    fails(running.wait(), Status::RemoteDisconnect);
    fails(later.post(), Status::RemoteDisconnect);
    // Another agent of that name is another agent.
    let namesake = Agent::new(&fabric, "b", None).unwrap();
    fails(later.post(), Status::RemoteDisconnect);
    a.load_remote_metadata(&namesake.local_metadata()).unwrap();
    fails(later.post(), Status::NotFound);
    assert_eq!(
        observer.events(),
        [
            (Kind::MEMORY_REGISTERED, LARGE),
            (kind(Status::RemoteDisconnect), 1),
            (kind(Status::RemoteDisconnect), 1),
            (kind(Status::RemoteDisconnect), 1),
            (kind(Status::NotFound), 1),
        ]
    );
}

#[test]
fn without_its_worker_an_agent_moves_nothing() {
    let pair = Pair::new(LARGE);
    let mut running = pair.write();
    pair.near.0.with_mut(|_| {
        running.post().unwrap();
        pair.a.stop_worker();
    });
    fails(running.wait(), Status::Unknown);
    fails(running.status(), Status::Unknown);
    let (near, far) = (pair.near.1.range(0, 1), pair.far.1.range(0, 1));
    fails(pair.create(Operation::Read, &near, &far).unwrap().post(), Status::Unknown);
    assert_eq!(pair.events(), [(kind(Status::Unknown), 1); 2]);
}

#[test]
fn dropping_an_agent_ends_its_requests_and_its_worker() {
    let pair = Pair::new(LARGE);
    let mut running = pair.write();
    let mut queued = pair.write();
    let mut unposted = pair.write();
    let Pair { observer, a, near, fabric, .. } = pair;
    let dropping = near.0.with_mut(|_| {
        running.post().unwrap();
        queued.post().unwrap();
        // It waits for the worker, which may be waiting for the memory.
        let dropping = thread::spawn(move || drop(a));
        // The name is free once the agent counts as ended.
        while Agent::new(&fabric, "a", None).is_err() {
            thread::yield_now();
        }
        fails(unposted.post(), Status::Unknown);
        dropping
    });
    dropping.join().unwrap();
    fails(running.status(), Status::Canceled);
    fails(queued.status(), Status::Canceled);
    let events = observer.events();
    let count = |kind| events.iter().filter(|(of, _)| *of == kind).count();
    assert_eq!((count(kind(Status::Canceled)), count(Kind::TX_REQUESTS_NUM)), (2, 0));
}

#[test]
fn threads_share_agents() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 200;
    let (observer, fabric) = (Observer::new("a"), Fabric::new());
    let a = Agent::new(&fabric, "a", observer.recorder()).unwrap();
    let b = Agent::new(&fabric, "b", None).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (a, b) = (&a, &b);
            scope.spawn(move || {
                let size = 50_000 + 20_000 * thread;
                let (near, far) = (Memory::zeroed(size as usize), Memory::zeroed(size as usize));
                let near_region = a.register_memory(&near, Access::ReadWrite).unwrap();
                let far_region = b.register_memory(&far, Access::ReadWrite).unwrap();
                for round in 0..ROUNDS {
                    a.load_remote_metadata(&b.local_metadata()).unwrap();
                    let byte = (thread * ROUNDS + round) as u8;
                    near.with_mut(|bytes| bytes.fill(byte));
                    let mut write = loop {
                        // Another thread may have loaded an older state of b in between.
                        match a.create_request(Operation::Write, &near_region.whole(), "b", &far_region.whole()) {
                            Ok(write) => break write,
                            Err(error) => assert_eq!(error.status(), Status::NotFound),
                        }
                        a.load_remote_metadata(&b.local_metadata()).unwrap();
                    };
                    write.post().unwrap();
                    write.wait().unwrap();
                    assert!(far.with(|bytes| bytes.iter().all(|b| *b == byte)));
                    write.release().unwrap();
                }
                a.deregister(&near_region).unwrap();
            });
        }
    });
    let events = observer.events();
    let total = |kind| events.iter().filter(|(of, _)| *of == kind).map(|(_, value)| value).sum::<u64>();
    let bytes: u64 = (0..THREADS).map(|thread| 50_000 + 20_000 * thread).sum();
    assert_eq!(total(Kind::TX_BYTES), ROUNDS * bytes);
    assert_eq!(total(Kind::TX_REQUESTS_NUM), ROUNDS * THREADS);
    assert_eq!((total(Kind::MEMORY_REGISTERED), total(Kind::MEMORY_DEREGISTERED)), (bytes, bytes));
}
