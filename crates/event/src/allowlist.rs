// SPDX-License-Identifier: Apache-2.0

use crate::{Event, Kind, Name, fnmatch};

/// Which events are wanted, by their names: what `NIXL_TELEMETRY_ENABLED_METRICS` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowlist {
    /// Everything.
    All,
    /// Those whose name fits a pattern.
    Some {
        /// A bit for each kind that fits.
        kinds: u32,
        /// The patterns, for names that are no kind's.
        patterns: Vec<Box<str>>,
    },
}

impl Allowlist {
    /// The list of these [patterns](fnmatch), separated by commas, and those of them that fit no kind, each once. Without any
    /// pattern everything is wanted.
    pub fn new(setting: &str) -> (Self, Vec<Box<str>>) {
        let mut patterns: Vec<Box<str>> = Vec::new();
        for token in setting.split(',').map(|token| token.trim_matches(is_space)).filter(|token| !token.is_empty()) {
            if !patterns.iter().any(|known| **known == *token) {
                patterns.push(token.into());
            }
        }
        if patterns.is_empty() {
            return (Self::All, Vec::new());
        }
        let kinds = patterns.iter().flat_map(|pattern| fitting(pattern)).fold(0, |kinds, kind| kinds | bit(kind));
        let idle = patterns.iter().filter(|pattern| fitting(pattern).next().is_none()).cloned().collect();
        (Self::Some { kinds, patterns }, idle)
    }

    /// Whether events of this kind are wanted. A kind without a name is, only where everything is.
    pub fn allows(&self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Some { kinds, .. } => kinds & bit(kind) != 0,
        }
    }

    /// Whether backend events of this name are wanted.
    pub fn allows_backend(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some { patterns, .. } => patterns.iter().any(|pattern| fnmatch(pattern, name)),
        }
    }

    /// Whether this event is wanted.
    pub fn allows_event(&self, event: &Event<'_>) -> bool {
        match (event.kind(), event.name()) {
            (Some(kind), _) => self.allows(kind),
            (None, Name::Text(name)) => self.allows_backend(name),
            (None, Name::Unknown(_)) => matches!(self, Self::All),
        }
    }
}

/// The kinds whose name fits.
fn fitting(pattern: &str) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| fnmatch(pattern, kind.name().unwrap_or_default()))
}

/// No bit for a kind beyond the mask.
fn bit(kind: Kind) -> u32 {
    1u32.checked_shl(kind.code()).unwrap_or(0)
}

/// What C's `isspace` says in the C locale.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: u32 = (1 << Kind::ALL.len()) - 1;

    /// Asserts the numbers of the allowed kinds and the patterns without one.
    fn check(setting: &str, allowed: &[u32], idle: &[&str]) {
        let (list, without) = Allowlist::new(setting);
        let codes: Vec<u32> = Kind::ALL.into_iter().filter(|kind| list.allows(*kind)).map(Kind::code).collect();
        assert_eq!(codes, allowed, "{setting:?}");
        assert_eq!(without.iter().map(|pattern| &**pattern).collect::<Vec<_>>(), idle, "{setting:?}");
    }

    #[test]
    fn tokens_choose_kinds() {
        let all: Vec<u32> = (0..21).collect();
        let errors: Vec<u32> = (8..20).collect();
        for setting in ["", " ", ",", " ,\t,\n", "*", "agent_*"] {
            check(setting, &all, &[]);
        }
        check("agent_tx_bytes", &[0], &[]);
        check(" agent_rx_bytes ,\tagent_xfer_time\r\n", &[1, 6], &[]);
        check("agent_err_*", &errors, &[]);
        check("agent_[rt]x_bytes,agent_tx_bytes", &[0, 1], &[]);
        check("agent_telemetry_events_dropped", &[20], &[]);
        check("*,nothing", &all, &["nothing"]);
        // Metric names are no event names.
        check("agent_tx_bytes_total", &[], &["agent_tx_bytes_total"]);
        check("nothing,Agent_tx_bytes,nothing", &[], &["nothing", "Agent_tx_bytes"]);
    }

    #[test]
    fn kinds_without_a_name_come_with_everything_only() {
        for (code, all, star) in [(20, true, true), (21, true, false), (31, true, false), (32, true, false)] {
            let kind = Kind::from_code(code);
            assert_eq!((Allowlist::All.allows(kind), Allowlist::new("*").0.allows(kind)), (all, star), "{code}");
        }
        assert!(matches!(Allowlist::new("*").0, Allowlist::Some { kinds: KINDS, .. }));
    }

    #[test]
    fn backend_events_are_chosen_by_name() {
        let table = [("", "ucx_retries", true), ("ucx_*", "ucx_retries", true), ("agent_*", "ucx_retries", false)];
        for (setting, name, allowed) in table {
            let list = Allowlist::new(setting).0;
            assert_eq!(list.allows_backend(name), allowed, "{setting:?} and {name:?}");
            assert_eq!(list.allows_event(&Event::backend(name, 1)), allowed, "{setting:?} and {name:?}");
        }
    }

    #[test]
    fn events_are_chosen_by_what_they_are() {
        let list = Allowlist::new("agent_err_*,ucx_*").0;
        for (event, allowed) in [
            (Event::new(Kind::ERR_NOT_FOUND, 1), true),
            (Event::new(Kind::TX_BYTES, 1), false),
            (Event::new(Kind::from_code(77), 1), false),
            (Event::backend("agent_err_not_found", 1), true),
            (Event::backend("ucx_rndv", 1), true),
            (Event::backend("posix", 1), false),
        ] {
            assert_eq!(list.allows_event(&event), allowed, "{event:?}");
            assert!(Allowlist::All.allows_event(&event));
        }
    }
}
