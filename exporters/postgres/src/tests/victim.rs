// SPDX-License-Identifier: Apache-2.0

//! An agent in a process of its own, so that its log can be read, and it can be killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStderr, Command, Stdio};

use super::*;

/// A process with one agent, which exports what it is told to.
pub(super) struct Victim {
    child: Child,
    log: BufReader<ChildStderr>,
    /// What it has logged, as far as it was read.
    pub(super) lines: Vec<String>,
}

impl Victim {
    pub(super) fn start(database: &Database, more: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::victim::agent", "--include-ignored", "--nocapture"]);
        command.envs(database.pairs(more)).env("NIXL_LOG_LEVEL", "INFO");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, lines: Vec::new() }
    }

    /// It exports events of these values.
    pub(super) fn export(&mut self, values: Range<u64>) {
        let line = format!("{} {}\n", values.start, values.end);
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// Reads the log until a line has this text.
    pub(super) fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it has ended; no {text:?} in {:?}", self.lines);
            self.lines.push(line.trim_end().to_owned());
        }
    }

    /// Lets it end as it should. Returns its log.
    pub(super) fn end(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        self.lines.extend((&mut self.log).lines().map(Result::unwrap));
        assert!(self.child.wait().unwrap().success(), "{:?}", self.lines);
        self.lines
    }

    /// Kills it, whatever it is at.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "the process of a victim"]
fn agent() {
    let settings = Settings::from_pairs(std::env::vars().filter(|(name, _)| name.starts_with("NIXL_TELEMETRY_")));
    let mut host = Host::open("victim", &settings).unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (start, end) = line.split_once(' ').unwrap();
        host.export(&events(start.parse().unwrap()..end.parse().unwrap()));
    }
    host.close();
}
