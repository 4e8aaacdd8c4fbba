// SPDX-License-Identifier: Apache-2.0

//! Every line of csv and jsonl is there once, although those who write it are killed again and again.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    fs::File,
    hint,
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    ptr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use nixl_telemetry_e2e::{nixl_command, run_apart};
use nixl_telemetry_event::{BatchId, Event, Kind, MemoWords};
use nixl_telemetry_loader::{Batch, Exported, Exporter, Plugin};
use nixl_telemetry_testkit as testkit;

const ROUNDS: u64 = 40;
const EVENTS: u64 = 4096;

/// What a host remembers over a kill, in a file that all processes map.
struct Journal {
    memo: &'static MemoWords,
    /// Number of the batch that was handed over last.
    begun: &'static AtomicU64,
    /// Number of the batch that was last known to be exported.
    done: &'static AtomicU64,
}

impl Journal {
    fn open() -> Self {
        let file = File::options().read(true).write(true).open(env::var_os("KILLED_JOURNAL").unwrap()).unwrap();
        // SAFETY: a new mapping of a file that is long enough and is not shortened, aligned to a page, never unmapped, and
        // used by everybody as atomics.
        let words = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let address = libc::mmap(ptr::null_mut(), 80, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(address, libc::MAP_FAILED);
            &*address.cast::<[AtomicU64; 10]>()
        };
        let [memo @ .., begun, done] = words;
        Self { memo, begun, done }
    }
}

fn open() -> Exporter {
    let plugin = Plugin::load(env::var_os("KILLED_PLUGIN").unwrap()).unwrap();
    plugin.create_exporter("victim", EVENTS).unwrap()
}

fn export(exporter: &mut Exporter, id: BatchId<'_>) {
    let value = |index| id.number() * EVENTS + index;
    let events: Vec<_> = (0..EVENTS).map(|index| Event::new(Kind::TX_BYTES, value(index)).at(1)).collect();
    let exported = exporter.export_batch(&Batch { events: &events, totals: &[], id: Some(id) });
    assert_eq!(exported, Exported { accepted: EVENTS, ..Exported::default() });
}

#[test]
fn every_row_of_csv_is_there_once() {
    // The name comes last: a row that was cut off is none.
    let variables = [("COLUMNS", "value,agent_name")];
    every_line_is_there_once("csv", &variables, "value,agent_name", |row| row.split_once(','));
}

#[test]
fn every_line_of_jsonl_is_there_once() {
    every_line_is_there_once("jsonl", &[("COMPRESS", "gzip")], "", |line| {
        let (agent, rest) = line.split_once(r#","agent":""#)?.1.split_once('"')?;
        Some((rest.strip_suffix(r#","unit":"bytes"}"#)?.rsplit_once(':')?.1, agent))
    });
}

/// With these settings besides; what is left of a header and lines that were cut off is told from lines by `parse`, which finds
/// a line's value and agent.
fn every_line_is_there_once(
    exporter: &str,
    more: &[(&str, &str)],
    header: &str,
    parse: impl Fn(&str) -> Option<(&str, &str)>,
) {
    let folder = tempfile::tempdir().unwrap();
    let (journal, plugin) = (folder.path().join("journal"), testkit::plugin(exporter));
    fs::write(&journal, [0; 80]).unwrap();
    let lines = folder.path().join("lines");
    fs::create_dir(&lines).unwrap();
    let file = lines.join("events");
    let rotation = [("MAX_SIZE", "1000000"), ("MAX_FILES", "100000"), ("FILE", file.to_str().unwrap())];
    let settings = rotation.iter().chain(more);
    let settings: Vec<_> = settings
        .map(|(name, value)| (format!("NIXL_TELEMETRY_{}_{name}", exporter.to_uppercase()), Path::new(*value)))
        .collect();
    let mut variables = vec![("KILLED_JOURNAL", journal.as_path()), ("KILLED_PLUGIN", &plugin)];
    variables.extend(settings.iter().map(|(name, value)| (name.as_str(), *value)));
    run_apart("kill_again_and_again", &variables);

    let mut seen = BTreeMap::<u64, u32>::new();
    let text = all(&lines);
    let (mut others, mut stumps) = (0, 0);
    for line in text.lines().filter(|line| *line != header) {
        match parse(line) {
            Some((value, "victim")) => *seen.entry(value.parse().unwrap()).or_default() += 1,
            Some((_, "somebody")) => others += 1,
            _ => stumps += 1,
        }
    }
    let batches = seen.len() as u64 / EVENTS;
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (EVENTS..EVENTS * (batches + 1)).collect::<Vec<_>>());
    assert!(batches >= ROUNDS && others == ROUNDS && stumps <= ROUNDS, "{batches} batches, {others}, {stumps}");
}

/// All that is in the files of a folder. Where one is there compressed as well, or is about to be, it alone counts.
fn all(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.map(|path| match path.extension().and_then(OsStr::to_str) {
        Some("compressing") => String::new(),
        Some("gz") if path.with_extension("").exists() => String::new(),
        Some("gz") => {
            let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
        _ => fs::read_to_string(path).unwrap(),
    });
    texts.collect()
}

#[test]
#[ignore = "run by every_line_is_there_once"]
fn kill_again_and_again() {
    let journal = Journal::open();
    let somebody = Plugin::load(env::var_os("KILLED_PLUGIN").unwrap()).unwrap();
    let mut somebody = somebody.create_exporter("somebody", 1).unwrap();
    for round in 0..ROUNDS {
        let begun = journal.begun.load(SeqCst);
        let mut child = victim();
        // It is somewhere in a batch of its own; where, is left to chance.
        while journal.begun.load(SeqCst) < begun + 1 + round % 3 {
            assert_eq!(child.try_wait().unwrap(), None, "it goes on for ever");
            hint::spin_loop();
        }
        for _ in 0..round * 5000 {
            hint::spin_loop();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // Somebody else writes after that, or only when all is in order again.
        let mut interlude = || assert_eq!(somebody.export(&[Event::new(Kind::RX_BYTES, round)]).accepted, 1);
        if round % 2 == 0 {
            interlude();
        }
        let begun = journal.begun.load(SeqCst);
        if journal.done.load(SeqCst) < begun {
            export(&mut open(), BatchId::new(7, begun).with_memo(journal.memo).repeated());
        }
        if round % 2 == 1 {
            interlude();
        }
    }
}

/// A process that exports until it is killed.
fn victim() -> Child {
    let mut command = nixl_command(&env::current_exe().unwrap());
    let variables = env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NIXL_TELEMETRY_"));
    command.envs(variables).args(["--exact", "export_for_ever", "--include-ignored"]);
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
#[ignore = "run by kill_again_and_again"]
fn export_for_ever() {
    let journal = Journal::open();
    let mut exporter = open();
    for number in journal.begun.load(SeqCst) + 1.. {
        journal.begun.store(number, SeqCst);
        export(&mut exporter, BatchId::new(7, number).with_memo(journal.memo));
        journal.done.store(number, SeqCst);
    }
}
