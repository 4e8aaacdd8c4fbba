// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// What a dump's file is called: `<recorder>.<time>.<reason>.ring`, such as `prefill-0.20261126T081500.123Z.errors.ring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpName {
    /// The name of the file it is a copy of: that of an agent, escaped, and `.2` and so on where several had that name.
    pub recorder: String,
    /// When it was made, in UTC, as `20261126T081500.123Z`: in order as text.
    pub time: String,
    /// Why it was made.
    pub reason: Reason,
}

/// Why a dump was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Errors came at a rate at which somebody wants one.
    Errors,
    /// A process that has ended left its events, and the next of that name was about to begin.
    Previous,
    /// Somebody asked for it.
    Request,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Errors, Self::Previous, Self::Request];

    /// The word in the name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Previous => "previous",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl DumpName {
    /// The name of a dump that is made at a time.
    pub fn new(recorder: &str, time: SystemTime, reason: Reason) -> Self {
        Self { recorder: recorder.to_owned(), time: utc(time), reason }
    }

    /// The parts of a file name, if it is one of a dump.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, reason) = name.strip_suffix(".ring")?.rsplit_once('.')?;
        let reason = Reason::ALL.into_iter().find(|known| known.as_str() == reason)?;
        let (recorder, time) = rest.split_at_checked(rest.len().checked_sub(TIME.len())?)?;
        let recorder = recorder.strip_suffix('.').filter(|recorder| !recorder.is_empty())?;
        let is_time = time.bytes().zip(TIME.bytes()).all(|(byte, model)| match model {
            b'0' => byte.is_ascii_digit(),
            model => byte == model,
        });
        is_time.then(|| Self { recorder: recorder.to_owned(), time: time.to_owned(), reason })
    }

    /// The names of all dumps in a directory, oldest first; none if there is no directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn all(directory: &Path) -> io::Result<Vec<Self>> {
        let entries = match directory.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            all.extend(entry?.file_name().to_str().and_then(Self::parse));
        }
        all.sort_by(|a, b| (&a.time, &a.recorder).cmp(&(&b.time, &b.recorder)));
        Ok(all)
    }
}

impl fmt::Display for DumpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.ring", self.recorder, self.time, self.reason)
    }
}

/// A time, with digits in place of the zeros.
const TIME: &str = "00000000T000000.000Z";

fn utc(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years of 400 with 146,097 days, which begin in March, so that the odd day is the last.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month, late) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1, month >= 10);
    let year = year + 400 * era + u64::from(late);
    let (hour, minute, second, milli) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_dates() {
        let table = [
            (0, "19700101T000000.000Z"),
            (951_782_399_999, "20000228T235959.999Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (1_798_761_599_007, "20261231T235959.007Z"),
            (4_107_542_400_000, "21000301T000000.000Z"),
        ];
        for (millis, expected) in table {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_680_900_123);
        for recorder in ["prefill-0", "a.b.2", "a%2Fb", "x.20261126T081500.123Z.errors.ring"] {
            for reason in Reason::ALL {
                let name = DumpName::new(recorder, time, reason);
                assert_eq!(DumpName::parse(&name.to_string()), Some(name));
            }
        }
        let name = DumpName::new("a", time, Reason::Errors);
        assert_eq!(name.to_string(), "a.20261126T081500.123Z.errors.ring");
        for name in [
            "",
            ".ring",
            "prefill-0",
            "a.errors.ring",
            "20261126T081500.123Z.errors.ring",
            ".20261126T081500.123Z.errors.ring",
            "a.20261126T081500.123Z.other.ring",
            "a.20261126T081500.123Z.errors",
            "a.20261126T08150x.123Z.errors.ring",
            "a.2026112 T081500.123Z.errors.ring",
            "aé0261126T081500.123Z.errors.ring",
        ] {
            assert_eq!(DumpName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_directory_has_them_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["b.20261126T081500.123Z.errors.ring", "a.20261126T081500.124Z.previous.ring"];
        for name in [names[1], "a", names[0], "a.ring"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = DumpName::all(folder.path()).unwrap();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
        assert_eq!(DumpName::all(&folder.path().join("none")).unwrap(), []);
        assert!(DumpName::all(&folder.path().join("a")).is_err());
    }
}
