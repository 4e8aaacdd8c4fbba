// SPDX-License-Identifier: Apache-2.0

use std::fmt::{Arguments, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::retry_on_intr;
use rustix::time::{ClockId, clock_gettime};

use crate::Level;

/// One line in abseil's format, newline included. Control characters in the message become blanks: a line is a line,
/// and an agent's name cannot command a terminal.
pub(crate) fn format(
    level: Level,
    time: SystemTime,
    thread_id: i32,
    file: &str,
    line: u32,
    message: Arguments<'_>,
    left_out: u64,
) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let local = local_time(since_epoch.as_secs());
    let file = file.rsplit('/').next().unwrap_or(file);
    let mut text = String::with_capacity(160);
    let _ = write!(
        text,
        "{}{:02}{:02} {:02}:{:02}:{:02}.{:06} {thread_id:>7} {file}:{line}] ",
        level.letter(),
        local.month,
        local.day,
        local.hour,
        local.minute,
        local.second,
        since_epoch.subsec_micros(),
    );
    let prefix = text.len();
    let _ = write!(text, "{message}");
    if text[prefix..].contains(char::is_control) {
        let one_line = text[prefix..].replace(char::is_control, " ");
        text.replace_range(prefix.., &one_line);
    }
    if left_out > 0 {
        let _ = write!(text, " ({left_out} lines like this were left out)");
    }
    text.push('\n');
    text
}

/// Writes a line to standard error, by one call unless that takes only a part.
pub(crate) fn write(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match retry_on_intr(|| rustix::io::write(rustix::stdio::stderr(), rest)) {
            Ok(written @ 1..) => rest = &rest[written..],
            // There is nowhere to report a failure of the log itself.
            _ => return,
        }
    }
}

/// The time on a clock that never goes back.
pub(crate) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

struct LocalTime {
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
}

#[allow(unsafe_code)]
fn local_time(seconds: u64) -> LocalTime {
    let seconds = libc::time_t::try_from(seconds).unwrap_or_default();
    // SAFETY: `tm` is plain numbers and a pointer that may be null, so zeros are a value of it. Both pointers are to
    // live locals. `localtime_r` reads TZ from the environment, which a host that calls `setenv` meanwhile has no
    // right to do; NIXL's own log lines rely on the same.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut tm);
        tm
    };
    LocalTime { month: tm.tm_mon + 1, day: tm.tm_mday, hour: tm.tm_hour, minute: tm.tm_min, second: tm.tm_sec }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_looks_like_nixls() {
        let time = UNIX_EPOCH + Duration::from_micros(1_764_000_000_000_042);
        let text =
            format(Level::Warn, time, 7911, "exporters/csv/src/file.rs", 42, format_args!("disk\n\x1b[1mfull"), 3);
        // The date depends on the time zone of the machine; everything else is fixed.
        let (date, rest) = text.split_at(14);
        assert!(date.starts_with("W112") && date.ends_with(":00"), "{date}");
        assert_eq!(rest, ".000042    7911 file.rs:42] disk  [1mfull (3 lines like this were left out)\n");
    }

    #[test]
    fn the_thread_id_is_the_kernels() {
        let main = thread_id();
        let other = std::thread::spawn(thread_id).join().unwrap();
        assert!(main > 0 && other > 0 && main != other);
    }
}
