// SPDX-License-Identifier: Apache-2.0

//! Which generation a NIXL is of, and which of its symbols say so.

use std::collections::HashSet;

use nixl_telemetry_abi::host::{Host, Verdict, judge, symbols};
use nixl_telemetry_event::Generation;

/// Every symbol that is asked for, with a name for people.
const QUESTIONS: [(&str, &str); 8] = [
    ("nixlPluginManager::loadTelemetryPlugin(name)", symbols::HOST),
    ("nixlTelemetry::updateData(name, category, value)", symbols::UPDATE_NAME),
    ("nixlTelemetry::updateData(type, category, value)", symbols::UPDATE_TYPE_CATEGORY),
    ("nixlTelemetry::updateData(type, value)", symbols::UPDATE_TYPE),
    ("nixlPluginManager::discoverPluginsFromList", symbols::DISCOVER),
    ("nixlXferReqH::updateRequestStats", symbols::REQUEST_STATS),
    ("nixlTelemetry::exportDroppedEvents", symbols::DROPPED),
    ("nixlTelemetryExporter::onBatchBegin", symbols::BATCH),
];

/// What the symbols of a `libnixl.so` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    verdict: Verdict,
    defined: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl Judgement {
    /// Judges by the symbols a library defines.
    pub(crate) fn of(defined: &HashSet<String>) -> Self {
        let names = |wanted: bool| {
            let all = QUESTIONS.iter().filter(move |(_, symbol)| defined.contains(*symbol) == wanted);
            all.map(|(name, _)| *name).collect()
        };
        Self { verdict: judge(|symbol| defined.contains(symbol)), defined: names(true), missing: names(false) }
    }

    /// The generation, if it is one that is known.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self.verdict {
            Verdict::Host(Host::Nixl(generation)) => Some(generation),
            _ => None,
        }
    }

    /// Whether plugins of this project work with it.
    pub(crate) fn is_host(&self) -> bool {
        matches!(self.verdict, Verdict::Host(_))
    }

    /// The verdict in words.
    pub(crate) fn words(&self) -> String {
        match self.verdict {
            Verdict::Host(Host::Nixl(generation)) => format!("{generation} (releases {})", generation.releases()),
            Verdict::Host(host) => format!("unknown: {host}"),
            Verdict::NoHost => "none: it loads no telemetry plugins; expected NIXL 0.9.0 or newer".to_owned(),
            Verdict::Ambiguous => "ambiguous: a snapshot of NIXL's main branch between two generations; set \
                 NIXL_TELEMETRY_HOST_GENERATION to 0.9 or 1.1 where it runs"
                .to_owned(),
        }
    }

    /// The functions it has that were asked for.
    pub(crate) fn defined(&self) -> &[&'static str] {
        &self.defined
    }

    /// The functions it lacks that were asked for.
    pub(crate) fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(defined: &[&str]) -> Judgement {
        Judgement::of(&defined.iter().map(|&symbol| symbol.to_owned()).collect())
    }

    #[test]
    fn the_evidence_is_all_that_was_asked_for() {
        let newest = of(&QUESTIONS.map(|(_, symbol)| symbol));
        assert_eq!(newest.generation(), Some(Generation::V1_5));
        assert_eq!((newest.defined().len(), newest.missing().len()), (8, 0));
        let old = of(&[symbols::HOST, symbols::UPDATE_NAME, "main"]);
        assert_eq!(old.words(), "0.9 (releases 0.9.0 - 1.0.1)");
        assert_eq!(old.defined().len(), 2);
        assert!(old.missing().contains(&"nixlTelemetry::updateData(type, value)"));
    }

    #[test]
    fn what_is_no_release_is_said() {
        let check = |defined: &[&str], host: bool, words: &str| {
            let judgement = of(defined);
            assert!(judgement.words().starts_with(words), "{}", judgement.words());
            assert_eq!((judgement.is_host(), judgement.generation()), (host, None), "{words}");
        };
        check(&[], false, "none");
        check(&[symbols::HOST], true, "unknown: a NIXL newer than 1.5");
        check(&[symbols::HOST, symbols::UPDATE_NAME, symbols::REQUEST_STATS], false, "ambiguous");
    }
}
