// SPDX-License-Identifier: Apache-2.0

//! An agent in a process of its own, which can be killed, and whose log can be read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;

use super::*;

/// What an agent counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) exported: u64,
    pub(super) recovered: u64,
    pub(super) delivered: u64,
    pub(super) waiting: u64,
    pub(super) spooled: u64,
    pub(super) dropped: u64,
}

/// The other process. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Process {
    /// Starts an agent with these settings.
    pub(super) fn start(url: &str, pairs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "tests::agent::obey", "--include-ignored", "--nocapture"]);
        command.env("NIXL_LOG_LEVEL", "INFO");
        for (name, value) in common(url).iter().chain(pairs) {
            command.env(format!("NIXL_TELEMETRY_NATS_{name}"), value);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(folder.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { commands: child.stdin.take().unwrap(), child, answers, folder }
    }

    /// Has it export events of these values.
    pub(super) fn export(&mut self, values: Range<u64>) {
        let exported = self.ask(&format!("{} {}", values.start, values.end)).exported;
        assert!(exported >= values.end - values.start);
    }

    /// What it counts.
    pub(super) fn seen(&mut self) -> Seen {
        self.ask("")
    }

    /// Waits until it counts what has to come. In between, everything is somewhere.
    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = self.seen();
            let Seen { exported, recovered, delivered, waiting, spooled, dropped } = seen;
            assert_eq!(exported + recovered, delivered + waiting + spooled + dropped, "{seen:?}");
            if condition(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "waited for {what}: {seen:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until its log says so.
    pub(super) fn until_logged(&mut self, text: &str) {
        let path = self.folder.path().join("log");
        until(&format!("{text:?} in the log"), || fs::read_to_string(&path).unwrap().contains(text));
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Ends it as a host does; returns its log.
    pub(super) fn close(mut self) -> String {
        self.commands.write_all(b"close\n").unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        self.log()
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
    }

    fn ask(&mut self, command: &str) -> Seen {
        writeln!(self.commands, "{command}").unwrap();
        loop {
            let line = self.answers.next().expect("it lives").unwrap();
            let Some(answer) = line.strip_prefix('@') else { continue };
            let mut numbers = answer.split(' ').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            return Seen {
                exported: next(),
                recovered: next(),
                delivered: next(),
                waiting: next(),
                spooled: next(),
                dropped: next(),
            };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "run by others, as an agent"]
fn obey() {
    let mut host = Host::open("a.b", &Settings::from_process()).unwrap();
    for line in io::stdin().lines() {
        let line = line.unwrap();
        if line == "close" {
            host.close();
            return;
        }
        if let Some((from, to)) = line.split_once(' ') {
            for start in (from.parse().unwrap()..to.parse().unwrap()).step_by(1000) {
                export(&mut host, start..(start + 1000).min(to.parse().unwrap()));
            }
        }
        let QueueCounts { exported, recovered, delivered, waiting, spooled, dropped, .. } = counts(&host);
        // On a line of its own, whatever the harness has written.
        println!("\n@{exported} {recovered} {delivered} {waiting} {spooled} {}", dropped.total());
    }
}
