// SPDX-License-Identifier: Apache-2.0

//! Tests of what becomes of a batch whose process died, wherever it died and whatever others did before it is repeated.

use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
};

use nixl_telemetry_appender::Note;
use nixl_telemetry_sdk::{
    Agent, BatchId, Event, Kind, Settings,
    testing::{MemoWords, TestHost},
};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::Csv;

const COLUMNS: &str = "agent_name,event_name,value";
const HEADER: &str = "agent_name,event_name,value\n";

/// A file, those who write to it, and the memo of one of them.
struct World {
    folder: TempDir,
    memo: MemoWords,
    columns: &'static str,
    names: [&'static str; 3],
    /// Rows somebody else wrote.
    theirs: Cell<usize>,
}

/// What happens after a process died and before its batch is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    SomebodyOpens,
    SomebodyWrites,
    Rotation,
    RotationAndSomebodyWrites,
    TwoRotations,
}

impl Meanwhile {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::SomebodyOpens,
        Self::SomebodyWrites,
        Self::Rotation,
        Self::RotationAndSomebodyWrites,
        Self::TwoRotations,
    ];

    fn happen(self, world: &World) {
        match self {
            Self::Nothing => {}
            Self::SomebodyOpens => drop(world.open("them")),
            Self::SomebodyWrites => world.somebody_writes(),
            Self::Rotation => world.rotate(),
            Self::RotationAndSomebodyWrites => {
                world.rotate();
                world.somebody_writes();
            }
            Self::TwoRotations => {
                world.rotate();
                world.somebody_writes();
                world.rotate();
            }
        }
    }

    fn leaves_the_file_alone(self) -> bool {
        matches!(self, Self::Nothing | Self::SomebodyOpens)
    }
}

impl World {
    /// With this in the file; nothing is no file.
    fn new(before: &str) -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            memo: MemoWords::default(),
            columns: COLUMNS,
            names: ["first", "second", "third"],
            theirs: Cell::new(0),
        };
        if !before.is_empty() {
            fs::write(world.file(), before).unwrap();
        }
        world
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("events.csv")
    }

    fn open_at(&self, agent: &str, path: &Path) -> TestHost<Csv> {
        let path = path.to_str().unwrap();
        let settings = [("NIXL_TELEMETRY_CSV_FILE", path), ("NIXL_TELEMETRY_CSV_COLUMNS", self.columns)];
        TestHost::open(agent, &Settings::from_pairs(settings)).unwrap()
    }

    fn open(&self, agent: &str) -> TestHost<Csv> {
        self.open_at(agent, &self.file())
    }

    fn id(&self) -> BatchId<'_> {
        BatchId::new(7, 3).with_memo(&self.memo)
    }

    /// The batch this is about leaves a process of its own.
    fn export(&self, id: BatchId<'_>) {
        let mut host = self.open("us");
        host.export_batch(&self.names.map(|name| Event::backend(name, 10).at(1)), &[], Some(id));
        assert_eq!(host.close().exported, 3);
    }

    fn somebody_writes(&self) {
        let mut host = self.open("them");
        host.export(&[Event::backend("x", 1)]);
        assert_eq!(host.close().exported, 1);
        self.theirs.set(self.theirs.get() + 1);
    }

    /// As by the exporter: the newest is FILE.1.
    fn rotate(&self) {
        let numbered = |number| self.folder.path().join(format!("events.csv.{number}"));
        if numbered(1).exists() {
            fs::rename(numbered(1), numbered(2)).unwrap();
        }
        if self.file().exists() {
            fs::rename(self.file(), numbered(1)).unwrap();
        }
    }

    fn size(&self) -> u64 {
        fs::metadata(self.file()).map_or(0, |file| file.len())
    }

    /// The batch is exported, by a process that dies after so many bytes. Returns how many there would have been.
    fn die_after(&self, bytes: u64, repeated: bool) -> u64 {
        let before = self.size();
        self.export(if repeated { self.id().repeated() } else { self.id() });
        let more = self.size() - before;
        if bytes < more {
            File::options().write(true).open(self.file()).unwrap().set_len(before + bytes).unwrap();
        }
        more
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// Every row of the batch, and whatever else must be there, is in all files together once.
    fn check(&self, before: &str, context: &str) {
        let files = fs::read_dir(self.folder.path()).unwrap();
        let texts: Vec<_> = files.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
        for text in &texts {
            // Who died in the middle of a header nobody completed left no more than that.
            let begun = text.starts_with(HEADER) || HEADER.starts_with(text.as_str());
            assert!(begun && text.matches(HEADER).count() <= 1, "{context}: {text:?}");
        }
        let all = texts.concat();
        assert_eq!(all.matches("them,x,1\n").count(), self.theirs.get(), "{context}: {texts:#?}");
        let quoted = |name: &str| if name.contains('\n') { format!("\"{name}\"") } else { name.to_owned() };
        let ours = self.names.map(|name| format!("us,{},10\n", quoted(name)));
        for row in ours.iter().map(String::as_str).chain(before.lines().skip(1)) {
            assert_eq!(all.matches(row).count(), 1, "{context}: {row:?} in {texts:#?}");
        }
    }
}

/// What may stand in the file before.
const BEFORE: [&str; 4] = [
    "",
    HEADER,
    "agent_name,event_name,value\nthem,before,1\n",
    // Somebody else was killed in the middle of a line.
    "agent_name,event_name,value\nthem,before,1\nthem,cut o",
];

#[test]
fn wherever_a_process_dies_every_row_is_there_once() {
    for before in BEFORE {
        let world = World::new(before);
        let whole = world.die_after(u64::MAX, false);
        let expected = world.text();
        for meanwhile in Meanwhile::ALL {
            for bytes in 0..=whole {
                let world = World::new(before);
                assert_eq!(world.die_after(bytes, false), whole);
                meanwhile.happen(&world);
                world.export(world.id().repeated());
                let context = format!("after {bytes} bytes behind {before:?}, then {meanwhile:?}");
                world.check(before, &context);
                // If nobody wrote, it is as if nothing had happened.
                if meanwhile.leaves_the_file_alone() {
                    assert_eq!(world.text(), expected, "{context}");
                }
                // And nothing happens if it is repeated once more.
                let text = world.text();
                world.export(world.id().repeated());
                assert_eq!(world.text(), text, "{context}, repeated again");
            }
        }
    }
}

#[test]
fn who_repeats_it_may_die_as_well() {
    use Meanwhile::{Nothing, RotationAndSomebodyWrites, SomebodyWrites};
    let before = BEFORE[2];
    let whole = World::new(before).die_after(u64::MAX, false);
    for (first, second) in [
        (Nothing, SomebodyWrites),
        (SomebodyWrites, Nothing),
        (SomebodyWrites, SomebodyWrites),
        (RotationAndSomebodyWrites, SomebodyWrites),
        (SomebodyWrites, RotationAndSomebodyWrites),
    ] {
        // Into the first line, to its end, into the next, almost to the end; and the last one into the next or not at all.
        for (bytes, last) in [(0, whole), (5, 25), (whole / 3, 3), (whole / 3 + 5, 25), (whole - 1, whole)] {
            let mut again = 0;
            loop {
                let world = World::new(before);
                world.die_after(bytes, false);
                first.happen(&world);
                let more = world.die_after(again, true);
                second.happen(&world);
                world.die_after(last, true);
                world.somebody_writes();
                world.export(world.id().repeated());
                let context = format!("after {bytes} bytes, {first:?}, {again} bytes, {second:?}, {last} bytes");
                world.check(before, &context);
                if again >= more {
                    break;
                }
                again += 1;
            }
        }
    }
}

#[test]
fn line_breaks_in_names_do_not_end_rows() {
    let world = || World { names: ["a\nb", "c\n\nd", "e"], ..World::new("") };
    let whole = world().die_after(u64::MAX, false);
    for meanwhile in Meanwhile::ALL {
        for bytes in 0..=whole {
            let world = world();
            world.die_after(bytes, false);
            meanwhile.happen(&world);
            world.export(world.id().repeated());
            world.check("", &format!("after {bytes} bytes, then {meanwhile:?}"));
        }
    }
}

#[test]
fn what_is_gone_is_written_anew() {
    let removed: fn(&World) = |world| fs::remove_file(world.file()).unwrap();
    let emptied: fn(&World) = |world| fs::write(world.file(), "").unwrap();
    // Another file, maybe under the same inode.
    let replaced: fn(&World) = |world| {
        fs::remove_file(world.file()).unwrap();
        fs::write(world.file(), BEFORE[2]).unwrap();
    };
    for (before, go) in [("", removed), ("", emptied), (BEFORE[2], replaced)] {
        let world = World::new(BEFORE[2]);
        world.die_after(u64::MAX, false);
        go(&world);
        world.export(world.id().repeated());
        world.check(before, "gone");
    }
}

#[test]
fn without_a_note_nothing_was_written() {
    // It died before it came to this batch: what the memo holds is about another.
    let world = World::new("");
    world.export(BatchId::new(7, 2).with_memo(&world.memo));
    world.export(world.id().repeated());
    assert_eq!(world.text().matches("us,first,10\n").count(), 2);
    // Or without the lock, under which alone it can be told where rows will lie.
    let world = World::new(HEADER);
    let holder = File::open(world.file()).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    world.export(world.id());
    assert_eq!(world.id().memo().unwrap().recall::<5>(), None);
    // Neither is there a note about a device.
    let world = World::new("");
    world.open_at("us", Path::new("/dev/null")).export_batch(&[Event::backend("x", 1)], &[], Some(world.id()));
    assert_eq!(world.id().memo().unwrap().recall::<5>(), None);
}

#[test]
fn rows_of_another_process_bear_its_number() {
    const THEIR_PID: u32 = 1_234_567_890;
    let own_pid = Agent::new("us").pid().to_string();
    let events = [Event::new(Kind::TX_BYTES, 10), Event::new(Kind::TX_BYTES, 20)];
    let expected = "pid,value\n1234567890,10\n1234567890,20\n";
    for name in ["events.csv", "events-{pid}.csv"] {
        for bytes in 0..=expected.len() {
            let world = World { columns: "pid,value", ..World::new("") };
            let path = world.folder.path().join(name);
            let real = |pid: &str| PathBuf::from(path.to_str().unwrap().replace("{pid}", pid));
            world.open_at("us", &path).export_batch(&events, &[], Some(world.id()));
            // Had another process done that, there would be its number.
            let (ours, theirs) = (real(&own_pid), real("1234567890"));
            let text = fs::read_to_string(&ours).unwrap().replace(&format!("\n{own_pid},"), "\n1234567890,");
            assert_eq!(text, expected);
            fs::write(&ours, &expected[..bytes]).unwrap();
            fs::rename(&ours, &theirs).unwrap();
            let memo = world.id().memo().unwrap();
            let note = memo.recall().and_then(Note::from_numbers).unwrap();
            memo.set(Note { pid: THEIR_PID, ..note }.to_numbers());

            world.open_at("us", &path).export_batch(&events, &[], Some(world.id().repeated()));
            assert_eq!(fs::read_to_string(&theirs).unwrap(), expected, "after {bytes} bytes");
        }
    }
}
