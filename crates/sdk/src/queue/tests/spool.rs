// SPDX-License-Identifier: Apache-2.0

//! Queues that outlive their process.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixl_telemetry_event::{Event, Kind};

use super::all;
use super::model::{Reaction, Rig, events, plain};
use crate::queue::{
    QueueCounts,
    buffer::Outcome,
    spools::{self, Contents},
};

/// The test binary is the program that is killed: these say what it does.
const DIRECTORY: &str = "SDK_TEST_SPOOL";

fn settings(directory: &Path, more: &[(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
    let mut settings = all(&[("SHUTDOWN_TIMEOUT", "1")]);
    settings.push(("SPOOL_DIR", directory.to_str().unwrap().to_owned()));
    settings.extend(all(more));
    settings
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.extension().is_some_and(|is| is == extension)).collect();
    found.sort();
    found
}

/// A spool left behind by this process, with 5 batches of 10 events that no sink has.
fn leave(directory: &Path) -> PathBuf {
    let mut rig = Rig::open(&settings(directory, &[]));
    rig.sink.always(Reaction::Retry);
    for _ in 0..5 {
        rig.export(&events(10)).unwrap();
    }
    rig.close().unwrap();
    rig.until_over();
    assert_eq!(rig.counts().spooled, 50);
    let [segment] = &files(directory, "segment")[..] else { panic!("one file") };
    segment.clone()
}

/// Events that take more than 4096 bytes, so that each batch has a file of its own.
fn large() -> Vec<Event<'static>> {
    (0..400).map(|time| Event::new(Kind::TX_BYTES, u64::MAX).at(time * 1000)).collect()
}

/// The same, with a file for each of 3 batches of 400 events.
fn leave_many(directory: &Path) -> Vec<PathBuf> {
    let mut rig = Rig::open(&settings(directory, &[("SPOOL_MAX_BYTES", "32768")]));
    rig.sink.always(Reaction::Retry);
    let batch = large();
    for _ in 0..3 {
        rig.export(&batch).unwrap();
    }
    rig.close().unwrap();
    rig.until_over();
    let files = files(directory, "segment");
    assert_eq!((rig.counts().spooled, files.len()), (1200, 3));
    files
}

/// Lets another queue find what is there; tells what it recovered and delivered.
fn find(directory: &Path) -> (u64, Vec<u64>) {
    let (recovered, unreadable, numbers) = find_damaged(directory);
    assert_eq!(unreadable, 0);
    (recovered, numbers)
}

/// The same; tells what it recovered, could not read, and delivered.
fn find_damaged(directory: &Path) -> (u64, u64, Vec<u64>) {
    let mut rig = Rig::open(&settings(directory, &[]));
    rig.export(&events(1)).unwrap();
    rig.until(|counts| counts.spooled == 0 && counts.delivered > 0);
    let QueueCounts { recovered, dropped, .. } = rig.counts();
    assert_eq!((rig.close().is_err(), dropped.total()), (dropped.unreadable > 0, dropped.unreadable));
    let seen = rig.sink.seen();
    let own = seen.last().unwrap();
    assert_eq!((own.sequence, own.is_repeated, own.agent.as_str()), (0, false, rig.agent.name()));
    let old = &seen[..seen.len() - 1];
    assert!(old.iter().all(|seen| seen.origin != own.origin && seen.is_repeated));
    let numbers = old.iter().flat_map(|seen| seen.sequence..seen.sequence + seen.events.len() as u64).collect();
    (recovered, dropped.unreadable, numbers)
}

#[test]
fn what_is_delivered_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    let mut rig = Rig::open(&settings(&directory, &[("SPOOL_FSYNC", "batch")]));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    rig.export(&events(100)).unwrap();
    rig.until(|counts| counts.delivered == 100);
    assert_eq!((files(&directory, "segment").len(), files(&directory, "lock").len()), (1, 1));
    rig.close().unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn large_batches_come_from_the_disk_as_large() {
    let folder = tempfile::tempdir().unwrap();
    let more = [("BATCH_SIZE", "250000"), ("BATCH_TIMEOUT", "3600000"), ("SHUTDOWN_TIMEOUT", "60000")];
    let mut rig = Rig::open(&settings(folder.path(), &more));
    let batch = events(4096);
    for _ in 0..124 {
        rig.export(&batch).unwrap();
    }
    rig.close().unwrap();
    let sizes: Vec<_> = rig.sink.seen().iter().map(|seen| seen.events.len()).collect();
    // As many whole batches of the host as fit into 250000.
    assert_eq!(sizes, [61 * 4096, 61 * 4096, 2 * 4096]);
}

#[test]
fn a_kill_loses_nothing_and_says_what_may_come_twice() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let mut rig = Rig::try_open("killed", Reaction::Accept, &settings(Path::new(&directory), &[])).unwrap();
        rig.sink.then([Reaction::Accept]);
        rig.sink.always(Reaction::Hang);
        rig.export(&[Event::backend("ucx_a", 7).at(8)]).unwrap();
        rig.until(|counts| counts.delivered == 1);
        for _ in 0..10 {
            rig.export(&events(1000)).unwrap();
        }
        Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
        unreachable!("it is dead");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Command::new(std::env::current_exe().unwrap());
    killed.args(["--exact", "queue::tests::spool::a_kill_loses_nothing_and_says_what_may_come_twice"]);
    let status = killed.env(DIRECTORY, folder.path()).output().unwrap().status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));

    let mut rig = Rig::open(&settings(folder.path(), &[]));
    rig.export(&events(3)).unwrap();
    rig.until(|counts| counts.delivered == 10_003);
    rig.close().unwrap();
    let seen = rig.sink.seen();
    let (old, new) = seen.split_at(seen.len() - 1);
    assert!(old.iter().all(|seen| seen.agent == "killed" && seen.is_repeated && seen.origin != new[0].origin));
    // The first event was delivered, and that was noted.
    assert_eq!(old[0].sequence, 1);
    let recovered: Vec<_> = old.iter().flat_map(|seen| seen.events.clone()).collect();
    let exported: Vec<_> = (0..10).flat_map(|_| events(1000)).map(|event| plain(&event)).collect();
    assert_eq!(recovered, exported);
    assert_eq!((new[0].sequence, new[0].events.len(), rig.counts().recovered), (0, 3, 10_000));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_spool_whose_process_lives_is_left_to_it() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        assert_eq!(find(Path::new(&directory)), (0, vec![]));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&settings(folder.path(), &[]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(10)).unwrap();
    // Neither another agent of this process nor another process takes it.
    assert_eq!(find(folder.path()), (0, vec![]));
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "queue::tests::spool::a_spool_whose_process_lives_is_left_to_it"]);
    let output = other.env(DIRECTORY, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    rig.sink.release();
    rig.until(|counts| counts.delivered == 10);
}

#[test]
fn a_spool_is_seen_from_outside_and_removed_only_if_nobody_has_it() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let [living] = &spools::find(Path::new(&directory)).unwrap()[..] else { panic!("one spool") };
        assert!(living.writer().unwrap().is_some_and(|process| process > 0) && !living.remove().unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&settings(folder.path(), &[("BATCH_SIZE", "10")]));
    rig.sink.always(Reaction::Hang);
    for name in ["model.lock", "other.x.lock", "Model.00000000000000000000000000000001.lock", "x"] {
        fs::write(folder.path().join(name), "of somebody else").unwrap();
    }
    rig.export(&events(10)).unwrap();
    rig.export(&events(5)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::tests::spool::a_spool_is_seen_from_outside_and_removed_only_if_nobody_has_it"])
        .env(DIRECTORY, folder.path())
        .output();
    assert!(other.as_ref().is_ok_and(|output| output.status.success()), "{other:?}");

    let [spool] = &spools::find(folder.path()).unwrap()[..] else { panic!("one spool") };
    let progress = spool.progress().unwrap();
    assert_eq!((spool.sink(), spool.segments().len(), progress.next()), ("model", 1, 0));
    let contents = Contents::read(&spool.segments()[0]).unwrap();
    assert_eq!((contents.origin(), contents.agent()), (spool.origin(), rig.agent.name()));
    assert_eq!((contents.pid(), contents.hostname()), (rig.agent.pid(), rig.agent.hostname()));
    let records: Vec<_> = contents.records().map(Result::unwrap).collect();
    let told: Vec<_> = records.iter().map(|record| (record.sequence(), record.len())).collect();
    assert_eq!(told, [(0, 10), (10, 5)]);
    let seen: Vec<_> = records[0].events().map(|event| plain(&event)).collect();
    assert_eq!(seen, events(10).iter().map(plain).collect::<Vec<_>>());

    rig.sink.release();
    rig.until(|counts| counts.delivered == 15);
    assert_eq!(progress.next(), 15);
    rig.close().unwrap();
    assert!(spools::find(folder.path()).unwrap().is_empty());
    leave(folder.path());
    let [dead] = &spools::find(folder.path()).unwrap()[..] else { panic!("one spool") };
    assert_eq!(dead.writer().unwrap(), None);
    assert!(dead.remove().unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "the others' files");
}

#[test]
fn a_torn_tail_costs_what_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let length = {
        let segment = leave(folder.path());
        let length = fs::metadata(&segment).unwrap().len();
        assert_eq!(find(folder.path()), (50, (0..50).collect()));
        assert!(!segment.exists());
        length
    };
    for (torn, left) in [(1, 40), (100, 30), (10_000, 50)] {
        let segment = leave(folder.path());
        let file = fs::File::options().write(true).open(&segment).unwrap();
        // Cut off, or as a file system leaves it whose machine has crashed.
        file.set_len(if torn < length { length - torn } else { length + torn }).unwrap();
        assert_eq!(find(folder.path()), (left, (0..left).collect()), "{torn}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_in_front_of_damage_is_delivered_and_the_file_set_aside() {
    // In the header, and in length, sum, number, and events of each record.
    let in_records = (0..5).flat_map(|record| [0, 1, 2, 3, 4, 8, 20, 28 + 8].map(|at| (Some(record), at)));
    for (record, at) in [(None, 0), (None, 20)].into_iter().chain(in_records) {
        let sound = 10 * record.unwrap_or(0);
        // How many events the last record had is not known.
        let lost = if record.is_some_and(|record| record < 4) { 50 - sound } else { 0 };
        let folder = tempfile::tempdir().unwrap();
        let segment = leave(folder.path());
        let mut bytes = fs::read(&segment).unwrap();
        let header = u32::from_le_bytes(*bytes[12..].first_chunk().unwrap()) as usize;
        let start = record.map_or(0, |record| header + usize::try_from(record).unwrap() * (bytes.len() - header) / 5);
        bytes[start + at] ^= 1 << (at % 8);
        fs::write(&segment, &bytes).unwrap();
        assert_eq!(find_damaged(folder.path()), (sound + lost, lost, (0..sound).collect()), "{record:?} {at}");
        for _ in 0..2 {
            assert_eq!(fs::read(segment.with_added_extension("damaged")).unwrap(), bytes, "{record:?} {at}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{record:?} {at}");
            assert_eq!(find(folder.path()), (0, vec![]), "{record:?} {at}");
        }
        let [spool] = &spools::find(folder.path()).unwrap()[..] else { panic!("one spool") };
        assert_eq!((spool.segments().len(), spool.damaged().len()), (0, 1));
        assert!(spool.remove().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_another_version_wrote_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let segments = leave_many(folder.path());
    let mut bytes = fs::read(&segments[1]).unwrap();
    bytes[8] = 2;
    fs::write(&segments[1], &bytes).unwrap();
    for _ in 0..2 {
        assert_eq!(find(folder.path()), (0, vec![]));
        assert_eq!(files(folder.path(), "segment"), segments);
    }
}

#[test]
fn what_cannot_be_read_for_now_is_taken_over_later_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let segments = leave_many(folder.path());
    let away = folder.path().join("away");
    fs::rename(&segments[0], &away).unwrap();
    std::os::unix::fs::symlink(&away, &segments[0]).unwrap();
    assert_eq!(find(folder.path()), (0, vec![]));
    fs::rename(&away, &segments[0]).unwrap();
    assert_eq!(find(folder.path()), (1200, (0..1200).collect()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_torn_tail_among_others_costs_what_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let segments = leave_many(folder.path());
    let file = fs::File::options().write(true).open(&segments[1]).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert_eq!(find_damaged(folder.path()), (1200, 400, (0..400).chain(800..1200).collect()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn pipes_and_giants_are_no_segments() {
    let folder = tempfile::tempdir().unwrap();
    let segments = leave_many(folder.path());
    let giant = fs::File::options().write(true).open(&segments[2]).unwrap();
    giant.set_len(1 << 40).unwrap();
    let sound = fs::read(&segments[0]).unwrap();
    fs::remove_file(&segments[0]).unwrap();
    assert!(Command::new("mkfifo").arg(&segments[0]).status().unwrap().success());
    assert_eq!(find(folder.path()), (0, vec![]));
    fs::remove_file(&segments[0]).unwrap();
    fs::write(&segments[0], sound).unwrap();
    assert_eq!(find(folder.path()), (800, (0..800).collect()));
    assert_eq!(files(folder.path(), "damaged"), [segments[2].with_added_extension("damaged")]);
}

#[test]
fn what_is_damaged_under_a_living_queue_is_counted_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&settings(folder.path(), &[]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(10)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    rig.export(&events(20)).unwrap();
    let [segment] = &files(folder.path(), "segment")[..] else { panic!("one file") };
    let mut bytes = fs::read(segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // In its place, as a bad disk would do it.
    let file = fs::File::options().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    rig.sink.release();
    rig.until(|counts| counts.dropped.unreadable == 20 && counts.delivered == 10);
    rig.export(&events(5)).unwrap();
    rig.until(|counts| counts.delivered == 15);
    rig.close().unwrap_err();
    assert_eq!(fs::read(segment.with_added_extension("damaged")).unwrap(), bytes);
}

#[test]
fn what_cannot_be_read_for_now_waits_with_all_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, away) = (folder.path().join("spool"), folder.path().join("away"));
    let mut rig = Rig::open(&settings(&directory, &[("SPOOL_MAX_BYTES", "32768"), ("BATCH_TIMEOUT", "3600000")]));
    let queue = rig.queue();
    let batch = large();
    for _ in 0..2 {
        rig.export(&batch).unwrap();
    }
    assert_eq!(files(&directory, "segment").len(), 2);
    fs::rename(&directory, &away).unwrap();
    for _ in 0..2 {
        assert_eq!(queue.take(true).unwrap_err().as_millis(), 1000);
        assert_eq!((rig.counts().spooled, rig.counts().dropped.total()), (800, 0));
    }
    fs::rename(&away, &directory).unwrap();
    // But what somebody has removed does not come back.
    fs::remove_file(&files(&directory, "segment")[0]).unwrap();
    let parcel = queue.take(true).unwrap();
    assert_eq!((parcel.chunks[0].first, rig.counts().dropped.unreadable), (400, 400));
    queue.settle(&parcel, Outcome::Delivered);
    rig.close().unwrap_err();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_full_spool_drops_as_it_is_told() {
    for (overflow, newest_goes) in [("drop_newest", true), ("drop_oldest", false)] {
        let folder = tempfile::tempdir().unwrap();
        let more = [("SPOOL_MAX_BYTES", "20000"), ("QUEUE_OVERFLOW", overflow), ("BATCH_SIZE", "100")];
        let mut rig = Rig::open(&settings(folder.path(), &more));
        rig.sink.always(Reaction::Hang);
        rig.export(&events(100)).unwrap();
        rig.sink.until(|seen| seen.len() == 1);
        for _ in 1..200 {
            let _ = rig.export(&events(100));
            rig.check().unwrap();
            let bytes: u64 = files(folder.path(), "segment").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
            assert!(bytes <= 20_000);
        }
        let QueueCounts { spooled, waiting, dropped, .. } = rig.counts();
        assert_eq!((waiting, spooled + dropped.total()), (0, 20_000));
        // A segment of a fifth may be missing.
        assert!((3400..4500).contains(&spooled), "{spooled}");
        assert_eq!(dropped.total(), if newest_goes { dropped.full } else { dropped.displaced });
        rig.sink.release();
        rig.until(|counts| counts.spooled == 0);
        let seen = rig.sink.seen();
        assert_eq!(seen[0].sequence, 0, "what the sink is at does not give way");
        let last = seen.last().unwrap().sequence;
        assert_eq!(last, if newest_goes { spooled - 100 } else { 19_900 });
    }
}

#[test]
fn what_others_left_takes_room_too() {
    let folder = tempfile::tempdir().unwrap();
    let left = fs::metadata(leave(folder.path())).unwrap().len();
    // Room for that, and for one of the two below.
    let most = (left + 700).to_string();
    let mut settings = settings(folder.path(), &[]);
    settings.push(("SPOOL_MAX_BYTES", most));
    let mut rig = Rig::open_to(Reaction::Hang, &settings);
    rig.sink.until(|seen| seen.len() == 1);
    rig.export(&events(100)).unwrap();
    rig.export(&events(100)).unwrap_err();
    let QueueCounts { recovered, spooled, dropped, .. } = rig.counts();
    assert_eq!((recovered, spooled, dropped.full), (50, 150, 100));
    rig.sink.release();
    rig.until(|counts| counts.delivered == 150);
    rig.export(&events(100)).unwrap();
    rig.until(|counts| counts.delivered == 250);
}

#[test]
fn what_is_too_old_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path());
    std::thread::sleep(std::time::Duration::from_millis(2));
    let rig = Rig::open(&settings(folder.path(), &[("SPOOL_MAX_AGE", "1")]));
    rig.until(|counts| counts.dropped.expired == 50);
    assert_eq!(rig.counts().recovered, 50);
}

#[test]
fn time_does_not_end_attempts_with_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&settings(folder.path(), &[("RETRY_MAX_ELAPSED_TIME", "1")]));
    rig.sink.always(Reaction::Retry);
    rig.export(&events(3)).unwrap();
    rig.sink.until(|seen| seen.len() > 5);
    assert_eq!(rig.counts().spooled, 3);
    rig.sink.always(Reaction::Accept);
    rig.until(|counts| counts.delivered == 3);
}

#[test]
fn without_retries_the_spool_keeps_what_fails() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path());
    let more = [("RETRY_ENABLED", "n"), ("RETRY_MAX_INTERVAL", "3600000")];
    let mut rig = Rig::open_to(Reaction::Retry, &settings(folder.path(), &more));
    rig.sink.until(|seen| !seen.is_empty());
    rig.sink.until_idle();
    rig.close().unwrap();
    rig.until_over();
    assert_eq!((rig.counts().spooled, rig.counts().recovered), (50, 50));
    drop(rig);
    assert_eq!(find(folder.path()), (50, (0..50).collect()));
}

#[test]
fn what_is_lost_is_noted_beside_how_far_it_is() {
    // All of three deliveries, and one event of each.
    for (reaction, lost) in [(Reaction::Refuse, 50), (Reaction::RefuseOne, 3)] {
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path());
        let [spool] = &spools::find(folder.path()).unwrap()[..] else { panic!("one spool") };
        let progress = spool.progress().unwrap();
        assert_eq!((progress.next(), progress.lost()), (0, 0));
        let mut rig = Rig::open_to(reaction, &settings(folder.path(), &[("BATCH_SIZE", "20")]));
        rig.until(|counts| counts.dropped.refused == lost && counts.spooled == 0);
        rig.close().unwrap_err();
        assert_eq!((progress.next(), progress.lost()), (50, lost));
    }
}

#[test]
fn memory_does_what_a_broken_disk_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    let mut rig = Rig::open(&settings(&directory, &[("SPOOL_MAX_BYTES", "8000000")]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(10)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    fs::rename(&directory, folder.path().join("away")).unwrap();
    // A new file is needed, and there is no place for it.
    let big: Vec<_> = events(4096);
    for _ in 0..90 {
        rig.export(&big).unwrap();
    }
    let QueueCounts { waiting, spooled, .. } = rig.counts();
    assert!(waiting > 0 && spooled > 0);
    fs::rename(folder.path().join("away"), &directory).unwrap();
    rig.export(&big).unwrap();
    assert_eq!(rig.counts().waiting, waiting, "it is used again");
    rig.sink.release();
    rig.until(|counts| counts.delivered == 10 + 91 * 4096);
    assert!(rig.sink.accepted().is_sorted());
    rig.close().unwrap();
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Rig::try_open("refused", Reaction::Accept, &settings(folder.path(), &[])).err().unwrap().to_string();
    let expected = format!("NIXL_TELEMETRY_MODEL_SPOOL_DIR is {}: may be written by others", folder.path().display());
    assert!(error.starts_with(&expected), "{error}");
}
