// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry collect`: NIXL's ring files through exporters, in a process of their own.
//!
//! Three threads: [`worker`] reads rings and calls exporters; the one of [`socket`] answers who asks how it goes; the main
//! one waits for signals, and for the worker's end no longer than it should. What they know in common is the
//! [`ledger`].

pub(crate) mod ask;
mod feeds;
mod ledger;
mod outlet;
mod socket;
mod status;
mod worker;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use nixl_telemetry_host::settings::{EXPORTER, ON_ERROR};
use nixl_telemetry_loader::Plugin;
use nixl_telemetry_ring::{Malformed, Mode, ReadError, Reader};
use nixl_telemetry_settings::Settings;

use crate::collect::feeds::Feeds;
use crate::collect::ledger::Ledger;
use crate::collect::outlet::{Kind, NOP};
use crate::collect::socket::Socket;
use crate::collect::status::Status;
use crate::collect::worker::Worker;
use crate::common::end::{End, Outcome, usage};
use crate::common::human;
use crate::common::interrupt::Interrupt;
use crate::common::terminal::{Stream, Style, Unprintable, complain, print};
use crate::common::{again, help, nixl, plugins};
use crate::rings::selection::Selection;

/// Export what is in NIXL's ring files, as a sidecar
///
/// A NIXL that runs with NIXL_TELEMETRY_ENABLE=y and NIXL_TELEMETRY_DIR=DIR writes the events of each agent into a ring file
/// there, DIR/AGENT. This command follows the rings of a directory, of every release, as they come and go, and hands their
/// events to exporters, one of each for every ring, in the process of nobody else: whatever an exporter does, the server does
/// not feel it. A directory that does not exist yet is waited for.
///
/// With --consume it takes the events out, once every exporter has had them, and so makes room for new ones: what a
/// process that is killed had not taken out is there for the next one, which may export the batch that was under way
/// again. That is what a server on its own needs, since its ring, once full, takes nothing more. There must be one consumer
/// only, and it must run as the user that owns the files. Without --consume nothing is changed: it sees what others see who
/// read the same ring, as long as somebody consumes, and begins with what is in the ring, whoever has exported that before.
///
/// Events of NIXL 1.1 and later bear no time; they get that of reading. An exporter that cannot be made, say because its
/// address is taken, is tried again after 1 s, 2 s and so on up to a minute. Meanwhile events wait in their ring, with
/// --consume, for at most 10 s and half a ring; from then on, and without --consume, the other exporters go on, and what
/// this one misses counts as failed. So does a batch at which an exporter fails; it is not tried again. A slow exporter
/// delays reading, and what is overwritten meanwhile is counted as lost.
///
/// SIGTERM and Ctrl-C end it after everything that is in the rings is exported; a second one ends it at once. It says in the
/// end, or in --status at any time, what became of all events: read = exported + failed + unsupported + pending, for each
/// agent and exporter.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[nixl_telemetry_loader::SETTINGS]))]
pub(crate) struct Arguments {
    /// A directory of ring files, or a ring file; may be repeated
    #[arg(long, required = true, value_name = "DIR|FILE")]
    from: Vec<PathBuf>,
    /// Exporters that get the events, separated by commas; NOP discards
    #[arg(long, required = true, value_name = "NAME[,NAME]")]
    exporter: String,
    /// Take events out of the rings when all exporters have had them
    #[arg(long)]
    consume: bool,
    #[command(flatten)]
    selection: Selection,
    /// An environment variable for the exporters, over those of this environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::demo::parse_setting)]
    settings: Vec<(String, String)>,
    /// A directory to look for plugins in first; may be repeated
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// A socket to make, which tells everyone who connects how it goes; collect-status asks it
    #[arg(long, value_name = "PATH")]
    status: Option<PathBuf>,
    /// Export what is there, and end
    #[arg(long)]
    once: bool,
    /// How long the end may take, before it goes without exporters that do not come back
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = super::demo::parse_duration)]
    stop_timeout: Duration,
    /// In the end, print the status as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Say nothing but what goes wrong
    #[arg(short, long)]
    quiet: bool,
    /// The environment is made
    #[arg(long, hide = true)]
    prepared: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry collect --consume --from /run/nixl --exporter csv --status /run/collect/status
  nixl-telemetry collect-status /run/collect/status                how that one is
  nixl-telemetry collect --from /run/nixl --exporter csv --event 'agent_err_*' --agent 'prefill-*'
  nixl-telemetry collect --consume --once --from /run/nixl --exporter csv
                                                                   what is there, from a timer

Exit codes: 0 done, with --once, and everything was exported; 1 something was not, or cannot begin; 2 called the wrong
way; 143 and 130 ended by SIGTERM and Ctrl-C, with nothing left behind.";

/// How often the main thread looks for a signal.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.settings.iter().any(|(name, _)| name == EXPORTER.name()) {
        usage(
            ErrorKind::ArgumentConflict,
            "NIXL_TELEMETRY_EXPORTER has no say in where events go: expected --exporter",
        );
    }
    let names = plugins::names(&arguments.exporter)?;
    if names.is_empty() {
        usage(ErrorKind::InvalidValue, "--exporter names none: expected NAME[,NAME]");
    }
    if !arguments.prepared {
        // In a program, an exporter that cannot be had is not worth failing for; here it is tried again.
        let strict = (ON_ERROR.name(), "fail");
        let given = arguments.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        return Err(again::start(1, iter::once("--prepared".into()), iter::once(strict).chain(given)));
    }
    let mode = if arguments.consume { Mode::Consume } else { Mode::Peek };
    for path in &arguments.from {
        check_path(path, arguments.once)?;
    }
    let kinds = kinds(&names, &arguments.plugin_dir)?;
    let interrupt = Interrupt::catch().context("cannot catch signals")?;
    let ledger = Arc::new(Ledger::new(arguments.consume));
    let socket = arguments.status.as_deref().map(|path| {
        let ledger = Arc::clone(&ledger);
        Socket::serve(path, move || ledger.status().json() + "\n")
    });
    let socket = socket.transpose()?;
    let feeds = Feeds {
        mode,
        kinds,
        selection: arguments.selection.clone(),
        is_patient: arguments.once,
        quiet: arguments.quiet,
        ledger: Arc::clone(&ledger),
        feeds: BTreeMap::new(),
    };
    let worker = Worker::new(&arguments.from, feeds);
    let is_in_time = work(worker, arguments, &interrupt)?;
    drop(socket);
    let status = ledger.status();
    let said = say(&status, arguments);
    if !is_in_time {
        left_behind(&status, &ledger, arguments.stop_timeout);
        // Whoever does not come back from a call would not let exit handlers end, either.
        signal_hook::low_level::exit(1);
    }
    said?;
    Ok(match interrupt.signal() {
        _ if !status.healthy || (arguments.once && status.failed() > 0) => End::Failed,
        Some(signal) => End::Stopped(signal),
        None => End::Done,
    })
}

/// Lets the worker work to its end. False if that does not come in time after a signal.
fn work(worker: Worker, arguments: &Arguments, interrupt: &Interrupt) -> anyhow::Result<bool> {
    // Nothing is ever sent: it is closed when the thread ends, whichever way.
    let (open, end) = mpsc::channel::<()>();
    let (once, stop) = (arguments.once, interrupt.stop().clone());
    let body = move || {
        let _open = open;
        if once { worker.finish() } else { worker.run(&stop) }
    };
    let thread = thread::Builder::new().name("collect".to_owned()).spawn(body).context("cannot start a thread")?;
    let mut deadline = None;
    while end.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        if interrupt.signal().is_some()
            && *deadline.get_or_insert_with(|| Instant::now() + arguments.stop_timeout) <= Instant::now()
        {
            return Ok(false);
        }
    }
    if thread.join().is_err() {
        bail!("the thread that collects has panicked");
    }
    Ok(true)
}

/// Everything there is to say in the end.
fn say(status: &Status, arguments: &Arguments) -> Result<(), Unprintable> {
    if arguments.json {
        return print(&(status.json() + "\n"));
    }
    if !arguments.quiet {
        // There is nowhere to report a failure of this.
        let _ = io::stderr().write_all(status.text(Stream::Err).as_bytes());
    }
    Ok(())
}

fn left_behind(status: &Status, ledger: &Ledger, timeout: Duration) {
    let timeout = timeout.as_secs_f64();
    let who = ledger.called().unwrap_or_else(|| "nobody in particular".to_owned());
    complain(Style::Bad, "error", &human::line(&format!("the end took longer than {timeout} s because of {who}")));
    for agent in status.rows() {
        for exporter in agent.exporters.iter().filter(|exporter| exporter.pending > 0) {
            let pending = human::count(exporter.pending);
            let what = format!("agent {}: exporter {} did not get {pending} events", agent.agent, exporter.exporter);
            complain(Style::Bad, "error", &human::line(&what));
        }
    }
}

/// The exporters of these names, loaded.
fn kinds(names: &[String], plugin_dir: &[PathBuf]) -> anyhow::Result<Vec<Kind>> {
    let nixl = nixl::Choice::default().find().ok();
    let path = plugins::search_path(plugin_dir, Settings::process(), nixl.as_ref())?;
    let kind = |name: &String| {
        let plugin = if name == NOP { None } else { Some(Plugin::find(name, &path)?) };
        Ok(Kind { name: name.clone(), plugin })
    };
    names.iter().map(kind).collect()
}

/// Refuses what can never be a ring or a directory of them.
fn check_path(path: &Path, must_exist: bool) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    match Reader::open(path, Mode::Peek) {
        Err(error @ (ReadError::NoFile { .. } | ReadError::Malformed(Malformed::Version { .. }))) => {
            bail!("{} {error}, or a directory of them", path.display())
        }
        Err(error) if must_exist => bail!("{}: {error}", path.display()),
        // What is not there, or is being made, may come.
        _ => Ok(()),
    }
}
