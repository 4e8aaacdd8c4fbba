// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry spool rm`: spools that nobody wants delivered.

use crate::common::end::{End, Outcome};
use crate::common::human;
use crate::common::terminal::{Style, complain, print};
use crate::rings::remark;
use crate::rings::selection::Agents;
use crate::rings::since::{self, Since};
use crate::spool::found::{self, Found};
use crate::spool::which::Which;

/// Remove spools that dead processes left, with the events that wait in them
///
/// Without --yes it only shows what would be removed. A spool that a living process has, its own or one that delivers it, is
/// never removed; files that cannot be read, are of another version, or were set aside, are.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    agents: Agents,
    /// Only spools whose origin begins with these digits, as ls shows them; may be repeated
    #[arg(long, value_name = "DIGITS[,DIGITS]", value_delimiter = ',', value_parser = parse_digits)]
    origin: Vec<String>,
    /// Only spools to which nothing came for a time: 90s, 10m, 2h or 1d, or since a moment such as "2026-11-26 05:34"
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    older_than: Option<Since>,
    /// Remove them
    #[arg(long)]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry spool rm --older-than 30d /var/lib/telemetry        what that would be
  nixl-telemetry spool rm --older-than 30d --yes /var/lib/telemetry
  nixl-telemetry spool rm --sink postgres --origin 3f2a91c0 --yes /var/lib/telemetry

Exit codes: 0 done, or there was nothing to do; 1 something could not be looked at or removed.";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let (mut chosen, errors) = found::look(arguments.which.find()?);
    errors.iter().for_each(|error| complain(Style::Bad, "error", &human::line(error)));
    chosen.retain(|found| arguments.wants(found));
    let (in_use, mut chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|found| found.writer.is_some());
    let (mut is_sound, mut in_use) = (errors.is_empty(), in_use.len());
    if arguments.yes {
        chosen.retain(|found| match found.spool.remove() {
            Ok(true) => true,
            // Somebody has begun to deliver it.
            Ok(false) => {
                in_use += 1;
                false
            }
            Err(error) => {
                is_sound = false;
                let what = format!("cannot remove {}: {error}", found::name(&found.directory, &found.spool));
                complain(Style::Bad, "error", &human::line(&what));
                false
            }
        });
    }
    let rows: Vec<_> = chosen.iter().collect();
    let table = if rows.is_empty() { String::new() } else { found::table(&rows) + "\n" };
    let (spools, events) = (found::spools(rows.len()), remark::events(chosen.iter().map(Found::waiting).sum()));
    let done = match (arguments.yes, rows.len()) {
        (true, _) => "removed",
        (false, 0) => "to remove",
        (false, _) => "to remove: --yes does it",
    };
    print(&format!("{table}{spools} with {events} {done}\n"))?;
    if in_use > 0 {
        remark::note(&format!("{} in use by a living process", found::spools(in_use)));
    }
    Ok(if is_sound { End::Done } else { End::Failed })
}

impl Arguments {
    fn wants(&self, found: &Found) -> bool {
        let origin = found.spool.origin().to_string();
        let is_of_agent = match found.agent() {
            Some(agent) => self.agents.wants(agent),
            // One that does not say whose it is, is nobody's that was named.
            None => self.agents.wants_all(),
        };
        is_of_agent
            && (self.origin.is_empty() || self.origin.iter().any(|digits| origin.starts_with(digits)))
            && self.older_than.is_none_or(|since| !since.includes(found.newest_us()))
    }
}

fn parse_digits(text: &str) -> Result<String, String> {
    let is_origin = (1..=32).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_origin { Ok(text.to_ascii_lowercase()) } else { Err("expected up to 32 hexadecimal digits".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_digits() {
        assert_eq!(parse_digits("3F2a"), Ok("3f2a".to_owned()));
        for text in ["", "x", "3f 2a", &"0".repeat(33)] {
            assert_eq!(parse_digits(text), Err("expected up to 32 hexadecimal digits".to_owned()), "{text}");
        }
    }
}
