// SPDX-License-Identifier: Apache-2.0

//! What `NIXL_TELEMETRY_TEE` says: which exporters, and what each is given.

use std::ffi::OsStr;
use std::num::NonZeroU32;

use nixl_telemetry_event::Allowlist;
use nixl_telemetry_sdk::{Dialect, Malformed, Value};

/// The exporters, at least one, each once.
#[derive(Debug, PartialEq)]
pub(crate) struct List(pub(crate) Vec<Item>);

/// One exporter: `NAME[:PATTERN[+PATTERN…]][@1/N]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Which events it is given.
    pub(crate) filter: Allowlist,
    /// Patterns that no event of an agent fits; a backend's may.
    pub(crate) idle: Vec<Box<str>>,
    /// One of how many transfers it is given.
    pub(crate) one_of: NonZeroU32,
}

/// Exporters that show sums: of a part of the events these would be wrong, and nothing would show that they are. Those of
/// this project are known by taking totals, too.
const METRICS: [&str; 4] = ["doca", "otlp", "prometheus", "prometheus_mp"];

impl Value for List {
    const TYPE: &'static str = "list";
    const EXPECTED: &'static str = "exporters as NAME[:PATTERN+PATTERN][@1/N], separated by commas";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        let mut items: Vec<Item> = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let item = item(word)?;
            if items.iter().any(|known| known.name == item.name) {
                return Err(Malformed::expected(format!("each exporter once, and not {} again", item.name)));
            }
            items.push(item);
        }
        if items.is_empty() { Err(Malformed::of::<Self>()) } else { Ok(Self(items)) }
    }
}

fn item(word: &str) -> Result<Item, Malformed> {
    let refuse = |expected: String| Err(Malformed::expected(expected));
    let (rest, rate) = word.rsplit_once('@').map_or((word, None), |(rest, rate)| (rest, Some(rate)));
    let (name, patterns) = rest.split_once(':').map_or((rest, None), |(name, patterns)| (name, Some(patterns)));
    let (name, rate) = (name.trim(), rate.map(str::trim));
    match name {
        "" => return refuse(format!("the name of an exporter at the beginning of {word:?}")),
        _ if name.contains(char::is_whitespace) => {
            return refuse(format!("the name of an exporter, which has no blanks, at the beginning of {word:?}"));
        }
        "tee" => return refuse("other exporters than tee itself".to_owned()),
        "BUFFER" => {
            let place = "BUFFER is part of the collector, where NIXL_TELEMETRY_EXPORTER can name it";
            return refuse(format!("exporters that are plugins, and {place}"));
        }
        "NOP" => return refuse("exporters that are plugins, and NOP, which discards, can be left out".to_owned()),
        _ => {}
    }
    let one_of = match rate.map(|rate| rate.strip_prefix("1/").and_then(|number| number.parse().ok())) {
        None => NonZeroU32::MIN,
        Some(Some(_)) if METRICS.contains(&name) => {
            return refuse(format!("{name} without a rate in {word:?}, since the sums of a part would be wrong"));
        }
        Some(Some(number)) => number,
        Some(None) => return refuse(format!("after the @ of {word:?} a rate 1/N, with N from 1 to {}", u32::MAX)),
    };
    if let Some(patterns) = patterns
        && (patterns.contains(':') || patterns.split('+').any(|pattern| pattern.trim().is_empty()))
    {
        return refuse(format!("after the : of {word:?} names or patterns of events, separated by +"));
    }
    let (filter, idle) = Allowlist::new(&patterns.unwrap_or_default().replace('+', ","));
    Ok(Item { name: name.to_owned(), filter, idle, one_of })
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::{Kind, Settings};

    use super::*;
    use crate::settings::TEE;

    fn read(text: &str) -> Result<Vec<Item>, String> {
        let settings = Settings::from_pairs([(TEE.name(), text)]);
        settings.get(&TEE).map(|found| found.value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_item_has_a_name_and_may_have_patterns_and_a_rate() {
        let items = read(" prometheus, csv:agent_err_*+ agent_tx_bytes ,jsonl@1/100,,x:ucx_*@1/4294967295").unwrap();
        let names: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.one_of.get())).collect();
        assert_eq!(names, [("prometheus", 1), ("csv", 1), ("jsonl", 100), ("x", u32::MAX)]);
        let chosen = |item: &Item| Kind::ALL.into_iter().filter(|kind| item.filter.allows(*kind)).count();
        assert_eq!(items.iter().map(chosen).collect::<Vec<_>>(), [21, 13, 21, 0]);
        assert!(items[1].filter.allows(Kind::TX_BYTES) && items[3].filter.allows_backend("ucx_rndv"));
        assert_eq!(items[3].idle, ["ucx_*".into()]);
    }

    #[test]
    fn blanks_between_the_parts_are_none_of_theirs() {
        let items = read("csv : agent_err_* + agent_tx_bytes @ 1/10, jsonl @1/7").unwrap();
        let parts: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.one_of.get())).collect();
        assert_eq!(parts, [("csv", 10), ("jsonl", 7)]);
        assert!(items[0].filter.allows(Kind::TX_BYTES) && !items[0].filter.allows(Kind::RX_BYTES));
    }

    #[test]
    fn what_does_not_fit_is_named_and_what_would() {
        let table = [
            (" ,", "exporters as NAME[:PATTERN+PATTERN][@1/N], separated by commas"),
            (":agent_*", "the name of an exporter at the beginning of \":agent_*\""),
            (" : agent_*", "the name of an exporter at the beginning of \": agent_*\""),
            ("csv jsonl", "the name of an exporter, which has no blanks, at the beginning of \"csv jsonl\""),
            ("csv, tee :a", "other exporters than tee itself"),
            (
                "prometheus @1/2",
                "prometheus without a rate in \"prometheus @1/2\", since the sums of a part would be wrong",
            ),
            ("csv@1/ 2", "after the @ of \"csv@1/ 2\" a rate 1/N, with N from 1 to 4294967295"),
            ("csv,tee", "other exporters than tee itself"),
            ("csv:a,jsonl,csv", "each exporter once, and not csv again"),
            ("csv:", "after the : of \"csv:\" names or patterns of events, separated by +"),
            ("csv:a+", "after the : of \"csv:a+\" names or patterns of events, separated by +"),
            ("csv:a:b", "after the : of \"csv:a:b\" names or patterns of events, separated by +"),
            ("csv@", "after the @ of \"csv@\" a rate 1/N, with N from 1 to 4294967295"),
            ("csv:a@1/0", "after the @ of \"csv:a@1/0\" a rate 1/N, with N from 1 to 4294967295"),
            ("csv@2/3", "after the @ of \"csv@2/3\" a rate 1/N, with N from 1 to 4294967295"),
            ("otlp@1/2", "otlp without a rate in \"otlp@1/2\", since the sums of a part would be wrong"),
            ("NOP", "exporters that are plugins, and NOP, which discards, can be left out"),
            (
                "BUFFER",
                "exporters that are plugins, and BUFFER is part of the collector, where NIXL_TELEMETRY_EXPORTER can name it",
            ),
        ];
        for (text, expected) in table {
            let message = format!("NIXL_TELEMETRY_TEE is {text:?} (environment): expected {expected}");
            assert_eq!(read(text), Err(message));
        }
    }
}
