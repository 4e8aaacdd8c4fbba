// SPDX-License-Identifier: Apache-2.0

//! `top`: on a real terminal, which tmux is, beside agents that write; and as text.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_ring::{Options, Writer};
use nixl_telemetry_testkit::{Missing, require};
use rustix::process::{Pid, Signal, kill_process};
use support::{command, finish, text};

/// What NIXL emits for a transfer.
fn transfer(bytes: Kind, requests: Kind, us: u64) -> [Event<'static>; 4] {
    [
        Event::new(Kind::XFER_POST_TIME, 10),
        Event::new(Kind::XFER_TIME, us),
        Event::new(bytes, 1 << 20),
        Event::new(requests, 1),
    ]
}

fn read(us: u64) -> [Event<'static>; 4] {
    transfer(Kind::RX_BYTES, Kind::RX_REQUESTS_NUM, us)
}

fn write(us: u64) -> [Event<'static>; 4] {
    transfer(Kind::TX_BYTES, Kind::TX_REQUESTS_NUM, us)
}

fn writer(directory: &Path, agent: &str, capacity: u64) -> Writer {
    Writer::create(directory, agent, Options { capacity, ..Options::default() }).unwrap()
}

/// While `work` goes on, two agents transfer: one writes a hundred times a second, the other reads fifty times.
fn beside_traffic(directory: &Path, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut prefill, mut decode) =
                (writer(directory, "prefill-0", 65_536), writer(directory, "decode-0", 65_536));
            let begun = Instant::now();
            for step in 1_u32.. {
                let events = [write(300), write(300)].concat();
                assert_eq!(prefill.push(&events).written, 8);
                assert_eq!(decode.push(&read(700)).written, 4);
                thread::sleep((Duration::from_millis(20) * step).saturating_sub(begun.elapsed()));
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        /// Also if the work fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&is_over);
        work();
    });
}

/// A terminal of its own, with a shell in it.
struct Terminal {
    root: tempfile::TempDir,
}

impl Terminal {
    /// A terminal of 120 by 36, or `None` if there is none to be had.
    fn open(test: &str) -> Option<Self> {
        let found = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
        let tmux = if found { Ok(()) } else { Err(Missing::new("the program tmux", "Debian package tmux")) };
        require(test, tmux)?;
        let terminal = Self { root: tempfile::tempdir().unwrap() };
        let shell = "PS1='$ ' exec sh -i";
        terminal.tmux(&["-u", "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "36", shell]);
        // Nothing but what the programs in it write.
        terminal.tmux(&["set-option", "-g", "status", "off"]);
        terminal.tmux(&["resize-window", "-x", "120", "-y", "36"]);
        terminal.until(|screen| screen.trim_end() == "$");
        Some(terminal)
    }

    fn tmux_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.root.path().join("socket")).args(arguments);
        command.env_remove("TMUX").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.tmux_command(arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Presses keys, which have tmux's names.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line into the shell.
    fn run(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so, and returns it.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the screen is the program's own, without a cursor.
    fn is_taken(&self) -> bool {
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        match state.trim() {
            "1 0" => true,
            "0 1" => false,
            other => panic!("{other}"),
        }
    }

    /// The process of the program, which the shell has begun last.
    fn program(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        Pid::from_raw(children.split_whitespace().last().unwrap().parse().unwrap()).unwrap()
    }

    /// Starts `top`, the terminal's settings before it in a file.
    fn top(&self, arguments: &str) {
        let settings = self.settings("before");
        let program = env!("CARGO_BIN_EXE_nixl-telemetry");
        self.run(&format!("stty -a >{}; {program} top {arguments}; echo \"ended with $?\"", settings.display()));
        self.until(|screen| screen.contains("transfers/s"));
        assert!(self.is_taken());
    }

    /// Asserts that the program has ended so, and has left the terminal as it was.
    #[track_caller]
    fn ended(&self, code: i32) {
        let screen = self.until(|screen| screen.contains(&format!("ended with {code}\n$")));
        assert!(!screen.contains("transfers/s"), "{screen}");
        assert!(!self.is_taken());
        let (before, after) = (self.settings("before"), self.settings("after"));
        self.run(&format!("clear; stty -a >{}; echo do''ne", after.display()));
        self.until(|screen| screen.contains("done"));
        assert_eq!(fs::read_to_string(after).unwrap(), fs::read_to_string(before).unwrap());
    }

    fn settings(&self, when: &str) -> PathBuf {
        self.root.path().join(when)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux_command(&["kill-server"]).output();
    }
}

/// The line of an agent, in its words.
fn line<'a>(screen: &'a str, agent: &str) -> Vec<&'a str> {
    let line = screen.lines().find(|line| line.starts_with(agent)).unwrap_or_else(|| panic!("no {agent} in\n{screen}"));
    line.split_whitespace().collect()
}

/// The agents in the order of their lines.
fn order(screen: &str) -> Vec<&str> {
    screen.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| word.ends_with("-0")).collect()
}

fn number(word: &str) -> f64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is a number"))
}

#[test]
fn a_live_screen_on_a_real_terminal() {
    let Some(terminal) = Terminal::open("a_live_screen_on_a_real_terminal") else { return };
    let rings = tempfile::tempdir().unwrap();
    beside_traffic(rings.path(), || {
        terminal.top(&format!("--interval 300 {}", text(rings.path())));
        let is_at_speed = |screen: &str| {
            let rate = |agent| order(screen).contains(&agent).then(|| number(line(screen, agent)[1]));
            rate("prefill-0").is_some_and(|rate| rate > 60.0) && rate("decode-0").is_some_and(|rate| rate > 30.0)
        };
        let screen = terminal.until(is_at_speed);
        let (prefill, decode) = (line(&screen, "prefill-0"), line(&screen, "decode-0"));
        // A megabyte each.
        assert_eq!((prefill[2..4].concat(), prefill[5]), ("0B".to_owned(), "MiB"), "{screen}");
        assert_eq!((decode[3], decode[4..6].concat()), ("MiB", "0B".to_owned()), "{screen}");
        // Times, which are kept to a hundredth.
        assert_eq!(prefill[6..12], ["301µs", "301µs", "301µs", "10µs", "10µs", "10µs"], "{screen}");
        assert_eq!(decode[6..9], ["703µs"; 3], "{screen}");
        // The totals are sums.
        let first: Vec<&str> = screen.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(first[..2], ["2", "agents"]);
        assert!((number(first[2]) - number(prefill[1]) - number(decode[1])).abs() <= 2.0, "{screen}");
        assert_eq!(order(&screen), ["prefill-0", "decode-0"], "{screen}");
        assert!(screen.contains("── prefill-0 ── live ──"), "{screen}");

        // The other one is selected, and stays so where it is.
        terminal.press(&["Down"]);
        terminal.until(|screen| screen.contains("── decode-0 ── live ──"));
        terminal.press(&["r"]);
        let screen = terminal.until(|screen| screen.contains("by XFER/s, rising"));
        assert_eq!(order(&screen), ["decode-0", "prefill-0"], "{screen}");
        assert!(screen.contains("── decode-0 ── live ──"), "{screen}");
        terminal.press(&["r", "s"]);
        terminal.until(|screen| screen.contains("by RX/s, falling") && order(screen) == ["decode-0", "prefill-0"]);

        terminal.press(&["/", "p", "r", "e"]);
        terminal.until(|screen| screen.contains("filter: pre▏"));
        terminal.press(&["Enter"]);
        terminal.until(|screen| screen.contains("1 of 2 fit pre") && order(screen) == ["prefill-0"]);
        terminal.press(&["Escape"]);
        terminal.until(|screen| order(screen).len() == 2 && !screen.contains("fit pre"));

        terminal.press(&["?"]);
        terminal.until(|screen| screen.contains("unconsumed events"));
        terminal.press(&["?"]);
        terminal.until(|screen| !screen.contains("unconsumed events"));

        terminal.press(&["p"]);
        let paused = terminal.until(|screen| screen.starts_with("PAUSED"));
        thread::sleep(Duration::from_millis(700));
        assert_eq!(terminal.screen(), paused);
        terminal.press(&["Space", "-"]);
        terminal.until(|screen| !screen.starts_with("PAUSED") && screen.contains("every 200 ms"));

        // Another agent comes, whose ring nobody consumes.
        let mut stuck = writer(rings.path(), "kv-0", 16);
        assert_eq!(stuck.push(&[Event::new(Kind::ERR_BACKEND, 1); 20]).written, 15);
        let screen = terminal.until(|screen| order(screen).len() == 3 && line(screen, "kv-0").contains(&"FULL"));
        assert!(line(&screen, "kv-0").contains(&"15"), "{screen}");
        fs::write(rings.path().join("broken"), [0; 40]).unwrap();
        terminal.until(|screen| screen.contains("cannot read ") && screen.contains("/broken: has version 0"));
        fs::remove_file(stuck.path()).unwrap();
        terminal.until(|screen| line(screen, "kv-0").contains(&"gone"));

        // The one that has gone is shown, and not counted.
        for (width, height, expected) in [
            ("80", "24", "2 agents   "),
            ("40", "8", "2 agents   "),
            ("39", "9", "needs 40 x 8, has 39 x 9"),
            ("10", "2", "needs 40 x"),
            ("1", "1", "n"),
            ("200", "50", "2 agents   "),
            ("120", "36", "2 agents   "),
        ] {
            terminal.tmux(&["resize-window", "-x", width, "-y", height]);
            terminal.until(|screen| screen.starts_with(expected) && screen.lines().count() <= height.parse().unwrap());
        }
        terminal.until(|screen| order(screen).len() == 3);
        terminal.press(&["q"]);
        terminal.ended(0);
    });
}

#[test]
fn whatever_ends_it_the_terminal_is_restored() {
    let Some(terminal) = Terminal::open("whatever_ends_it_the_terminal_is_restored") else { return };
    let rings = tempfile::tempdir().unwrap();
    let _writer = writer(rings.path(), "a", 16);
    for (code, signal) in [(143, Signal::TERM), (130, Signal::INT)] {
        terminal.top(text(rings.path()));
        kill_process(terminal.program(), signal).unwrap();
        terminal.ended(code);
    }
    for (code, key) in [(130, "C-c"), (0, "Escape"), (0, "q")] {
        terminal.top(text(rings.path()));
        terminal.press(&[key]);
        terminal.ended(code);
    }
}

#[test]
fn once_is_text() {
    let rings = tempfile::tempdir().unwrap();
    beside_traffic(rings.path(), || {
        let begun = Instant::now();
        let ran = finish(command(&["top", "--once", "--interval", "1000", text(rings.path())])).ends(0);
        assert!(begun.elapsed() >= Duration::from_secs(1));
        assert_eq!(ran.err, "");
        assert!(!ran.out.contains('\x1b') && ran.out.ends_with('\n'), "{}", ran.out);
        assert!(ran.out.starts_with("2 agents   "), "{}", ran.out);
        // How many there are in a second is not the machine's to say.
        for agent in ["prefill-0", "decode-0"] {
            assert!(number(line(&ran.out, agent)[1]) > 0.0, "{}", ran.out);
        }
        let chosen = ["top", "--once", "--interval=100", "--agent=pre*", "--event=agent_tx_bytes", text(rings.path())];
        let ran = finish(command(&chosen)).ends(0);
        assert_eq!(order(&ran.out), ["prefill-0"]);
        assert_eq!(line(&ran.out, "prefill-0")[1], "0", "{}", ran.out);
    });
}

#[test]
fn what_waits_is_counted_and_no_traffic() {
    let rings = tempfile::tempdir().unwrap();
    let mut ring = writer(rings.path(), "a-0", 64);
    let waiting = [read(500).as_slice(), &[Event::new(Kind::ERR_NOT_FOUND, 1); 3]].concat();
    assert_eq!(ring.push(&waiting).written, 7);
    let ran = finish(command(&["top", "--once", "--interval=100", text(ring.path())])).ends(0).says(&[
        "1 agent   0 transfers/s   RX 0 B/s   TX 0 B/s   3 errors   0 dropped   0 lost",
        "transfer  none in the last minute\n",
        "in all    1 transfers, 1.00 MiB received, 0 B sent\n",
        "not_found             3      0\n",
        "ring      version 4, events of 16 bytes, 7 of 63 unread\n",
    ]);
    assert_eq!(line(&ran.out, "a-0")[1], "0");
    assert_eq!(ring.unread(), 7, "nothing was taken out");
    // Full, and nobody consumes.
    let mut full = writer(rings.path(), "b-0", 4);
    assert_eq!(full.push(&waiting).refused, 4);
    let ran = finish(command(&["top", "--once", "--interval=100", text(rings.path())])).ends(0);
    assert_eq!(line(&ran.out, "b-0").last(), Some(&"FULL"), "{}", ran.out);
    assert_eq!(line(&ran.out, "a-0").last(), Some(&"11%"), "{}", ran.out);
}

#[test]
fn what_cannot_be_shown_is_an_error() {
    let rings = tempfile::tempdir().unwrap();
    finish(command(&["top", text(rings.path())])).ends(1).complains(&[
        "error: standard output is no terminal: expected one, or --once, which prints one screen as text\n",
    ]);
    finish(command(&["top", "--once", "--interval", "99", "x"])).ends(2).complains(&["99 is not in 100.."]);
    finish(command(&["top", "--once"])).ends(2).complains(&["<DIR|FILE>..."]);
    let ran = finish(command(&["top", "--once", "--interval=100", text(rings.path())])).ends(0);
    assert!(ran.out.contains(&format!("no agent yet in {}\n", text(rings.path()))), "{}", ran.out);
    let husk = rings.path().join("husk");
    fs::write(&husk, [0; 40]).unwrap();
    // Whoever makes one has a moment to finish it.
    let expected = format!("cannot read {}: has version 0: its writer did not finish making it\n", husk.display());
    finish(command(&["top", "--once", "--interval=300", text(rings.path())]))
        .ends(1)
        .says(&[&expected])
        .complains(&[&format!("error: {expected}")]);
}

#[test]
fn a_signal_ends_the_text_too() {
    let rings = tempfile::tempdir().unwrap();
    let child =
        command(&["top", "--once", "--interval", "60000", text(rings.path())]).stdout(Stdio::piped()).spawn().unwrap();
    // Until it catches SIGINT, the second of them, that would end it the other way.
    let begun = Instant::now();
    let catches_it = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & 0b10 != 0
    };
    while !catches_it() {
        assert!(begun.elapsed() < Duration::from_secs(120));
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
}
