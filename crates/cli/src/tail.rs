// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry tail`: events as they come.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nixl_telemetry_ring::{Batch, Change, Follower, Watcher};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::interrupt::Interrupt;
use crate::common::terminal::Unprintable;
use crate::rings;
use crate::rings::backlog::Backlog;
use crate::rings::printer::Printer;
use crate::rings::remark::{self, Remarks};

/// Print events as they come
///
/// Prints the events that ring files hold, as read does, and then each one that is added, until Ctrl-C. Of a directory, all
/// agents are followed as they come and go; a file that was named need not be there yet. A file that is begun anew by the
/// next agent of its name, or replaced, is followed on.
///
/// Nothing is changed in the files unless --consume says so. Without it, a NIXL whose file is full drops what comes, since
/// nobody takes anything out; that is told. With it, events are taken out once they are written to standard output, and one
/// reader of a file can do that.
///
/// Where the file does not say when an event was, which only those of NIXL 0.9 to 1.0 do, text shows when it was found, with
/// ~ before it, and - for those that were there at first; JSON and CSV leave the time out. --since takes the former as the
/// event's time, and leaves the latter out.
///
/// Agents that come and go, events that were lost, and files that cannot be read are told on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: rings::reading::Reading,
    /// Do not say which agents come and go
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry tail /tmp/telemetry                         all agents of a directory
  nixl-telemetry tail --since 0s /tmp/telemetry              without what is there already
  nixl-telemetry tail --event 'agent_err_*' --agent 'prefill-*' /tmp/telemetry
  nixl-telemetry tail -q --consume --format json /tmp/telemetry >> events.jsonl

Exit codes: 0 standard output was closed; 1 it takes nothing more; 130 ended by Ctrl-C, 143 by SIGTERM.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let what = &arguments.what;
    let interrupt = Interrupt::catch().context("cannot catch Ctrl-C")?;
    let mut watcher = Watcher::new(what.paths.iter().map(PathBuf::as_path), what.mode());
    let mut tail = Tail::new(arguments)?;
    let mut pause = Pause::new();
    loop {
        tail.is_behind = false;
        let wants = |agent: &str| what.selection.wants_agent(agent);
        let is_new = watcher.poll_agents(false, wants, |follower, change| tail.visit(follower, change))?;
        tail.after_round();
        if let Some(signal) = interrupt.signal() {
            return Ok(End::Stopped(signal));
        }
        pause.wait(is_new, tail.is_behind)?;
    }
}

/// What is known of the files that are followed.
struct Tail<'a> {
    arguments: &'a Arguments,
    printer: Printer<'a>,
    remarks: Remarks,
    backlog: Backlog,
    is_first_round: bool,
    /// Whether a file was so full that the next round must not wait.
    is_behind: bool,
}

impl<'a> Tail<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self, Unprintable> {
        Ok(Self {
            arguments,
            printer: Printer::new(&arguments.what)?,
            remarks: Remarks::default(),
            backlog: Backlog::default(),
            is_first_round: true,
            is_behind: false,
        })
    }

    fn visit(&mut self, follower: &Follower, change: Change<'_>) -> Result<(), Unprintable> {
        let path = follower.path();
        match change {
            Change::Came => self.came(follower),
            Change::Events(batch) => self.events(follower, batch)?,
            Change::Gone if self.is_first_round => remark::absent(path),
            Change::Gone => {
                self.forget(path);
                self.note(follower, "has gone");
            }
            Change::Unreadable(error) => {
                self.forget(path);
                remark::unreadable(path, error);
            }
            Change::Readable | Change::Foreign(_) => {}
        }
        Ok(())
    }

    fn came(&mut self, follower: &Follower) {
        if self.is_first_round {
            self.backlog.begin(follower);
        }
        if let Some(shape) = follower.reader().map(|reader| reader.shape()) {
            let slots = human::count(shape.capacity);
            self.note(follower, &format!("is followed: ring version {}, {slots} slots", shape.version));
        }
    }

    fn events(&mut self, follower: &Follower, batch: &Batch) -> Result<(), Unprintable> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).ok();
        let capacity = follower.reader().map_or(u64::MAX, |reader| reader.shape().capacity);
        self.is_behind |= batch.len() as u64 >= capacity / 4;
        self.remarks.batch(follower, batch, self.arguments.what.mode());
        let old = self.backlog.take(follower, batch);
        self.printer.print(follower, batch, old, now)
    }

    /// Tells once what is left out of what was there at first.
    fn after_round(&mut self) {
        self.is_first_round = false;
        if self.backlog.is_read() {
            remark::left_out(self.printer.take_left_out());
        }
    }

    fn forget(&mut self, path: &Path) {
        self.printer.forget(path);
        self.remarks.forget(path);
        self.backlog.forget(path);
    }

    fn note(&self, follower: &Follower, what: &str) {
        if !self.arguments.quiet {
            remark::note(&format!("{} {what}", human::line(follower.agent())));
        }
    }
}

/// How long nobody looks: less where events come, so that none is shown late, and none is refused for want of room.
struct Pause(Duration);

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(25);

impl Pause {
    fn new() -> Self {
        Self(SHORTEST)
    }

    /// Waits until it is time to look again, a signal comes, or nobody reads standard output any more, which is an error.
    fn wait(&mut self, is_new: bool, is_behind: bool) -> Result<(), Unprintable> {
        self.0 = if is_new { SHORTEST } else { (self.0 + Duration::from_millis(1)).min(LONGEST) };
        let time = if is_behind { Duration::ZERO } else { self.0 };
        let time = Timespec::try_from(time).expect("a short time");
        let out = io::stdout();
        let mut out = [PollFd::new(&out, PollFlags::empty())];
        match poll(&mut out, Some(&time)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(Unprintable(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
