// SPDX-License-Identifier: Apache-2.0

//! What tells one agent's series from another's: the labels its exporter gives it, and those of whoever runs it.

use std::ffi::OsStr;

use nixl_telemetry_log as log;
use nixl_telemetry_metrics::Labels;
use nixl_telemetry_settings::{Dialect, Malformed, Setting, Settings, Value, one_of};

use crate::{Agent, Error};

/// Labels that every series gets besides those of its exporter.
pub static LABELS: Setting<ExtraLabels> = Setting::new(
    "NIXL_TELEMETRY_LABELS",
    "",
    "Labels every series gets besides its own, such as rank=$LOCAL_RANK,pod=$POD_NAME: $NAME and ${NAME} are replaced by \
     variables, $$ stands for $; a label whose variables are not set, or whose value is empty, is left out. At most 16.",
);

/// How an agent's name is shown.
pub static AGENT_LABEL: Setting<AgentLabel> = Setting::new(
    "NIXL_TELEMETRY_AGENT_LABEL",
    "on",
    "How the label agent_name shows the agent's name: on, off, or hashed, 16 hexadecimal digits; for names that are made \
     anew for each run, of which each would be a series for ever.",
);

/// How an agent's name is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentLabel {
    /// As it is.
    #[default]
    On,
    /// Not at all.
    Off,
    /// As 16 hexadecimal digits that are the same wherever the name is.
    Hashed,
}

impl AgentLabel {
    /// The name as it is shown; `None` if it is not.
    pub fn show(self, agent: &Agent) -> Option<String> {
        match self {
            Self::On => Some(agent.name().to_owned()),
            Self::Off => None,
            Self::Hashed => Some(format!("{:016x}", fnv1a(agent.name().as_bytes()))),
        }
    }
}

/// FNV-1a: stable for ever, over machines and releases, which the hashes of the standard library are not. It hides
/// nothing from who tries names.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Labels with placeholders, as [`LABELS`] holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraLabels(Vec<(String, Vec<Part>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// Labels that exporters give themselves.
const OWN: [&str; 6] = ["agent_instance", "agent_name", "hostname", "local_rank", "pid", "exporter"];

impl ExtraLabels {
    /// The most labels there can be: with those of an exporter and of a family, 20 or fewer.
    pub const MOST: usize = 16;

    /// The labels, in their order, with variables replaced from the settings: the environment, or NIXL's file.
    ///
    /// # Errors
    /// If a variable cannot be read.
    pub fn resolve(&self, settings: &Settings) -> Result<Vec<(String, String)>, Error> {
        let mut labels = Vec::new();
        'labels: for (name, parts) in &self.0 {
            let mut value = String::new();
            for part in parts {
                match part {
                    Part::Text(text) => value.push_str(text),
                    Part::Variable(variable) => match settings.find_named::<String>(variable)? {
                        Some(found) => value.push_str(&found.value),
                        None => {
                            log::info!("{}: {variable} is not set, and label {name} is left out", LABELS.name());
                            continue 'labels;
                        }
                    },
                }
            }
            // To Prometheus an empty label is none.
            if !value.is_empty() {
                labels.push((name.clone(), value));
            }
        }
        Ok(labels)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut labels: Vec<(String, Vec<Part>)> = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no ="))?;
            let name = name.trim();
            Labels::check_name(name).map_err(|error| error.to_string())?;
            if OWN.contains(&name) {
                return Err(format!("label {name:?} is the exporter's own"));
            }
            if labels.iter().any(|(known, _)| known == name) {
                return Err(format!("label {name:?} is there twice"));
            }
            if labels.len() == Self::MOST {
                return Err(format!("label {name:?} is one too many"));
            }
            labels.push((name.to_owned(), parts(value.trim())?));
        }
        Ok(Self(labels))
    }
}

fn parts(value: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), value);
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(|| format!("{value:?} has {{ without }}"))?,
            None => {
                after.split_at(after.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            return Err(format!("{value:?} has $ without the name of a variable"));
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Variable(name.to_owned()));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

impl Value for ExtraLabels {
    const TYPE: &'static str = "labels";
    const EXPECTED: &'static str =
        "at most 16 labels as name=value, separated by commas, $NAME in a value for a variable";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        Self::parse(text).map_err(|what| Malformed::expected(format!("{} ({what})", Self::EXPECTED)))
    }
}

impl Value for AgentLabel {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "on, off or hashed";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        one_of(text, &[("on", Self::On), ("off", Self::Off), ("hashed", Self::Hashed)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(labels: &str, variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let settings = Settings::from_pairs([("NIXL_TELEMETRY_LABELS", labels)].iter().chain(variables).copied());
        settings.get(&LABELS).unwrap().value.resolve(&settings).unwrap()
    }

    #[test]
    fn variables_are_replaced() {
        let variables = [("LOCAL_RANK", "3"), ("POD", "prefill-0"), ("EMPTY", "")];
        let table: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("rank=$LOCAL_RANK,pod=$POD", &[("rank", "3"), ("pod", "prefill-0")]),
            (" zone = eu-1 , , cost=5$$ ", &[("zone", "eu-1"), ("cost", "5$")]),
            ("who=${POD}/$LOCAL_RANK.x", &[("who", "prefill-0/3.x")]),
            ("gone=$NOWHERE,none=,empty=$EMPTY,kept=1", &[("kept", "1")]),
            ("a==b", &[("a", "=b")]),
        ];
        for (labels, expected) in table {
            let found = resolve(labels, &variables);
            let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(found, expected, "{labels}");
        }
    }

    #[test]
    fn what_is_no_label_is_named() {
        let many: String = (0..17).map(|i| format!("l{i}=x,")).collect();
        for (labels, what) in [
            ("rank", "(\"rank\" has no =)"),
            ("0=x", "(label \"0\" is no name: expected letters, digits and _, no digit first)"),
            ("le=x", "(label \"le\" is taken: "),
            ("hostname=x", "(label \"hostname\" is the exporter's own)"),
            ("a=1,a=2", "(label \"a\" is there twice)"),
            ("a=$", "(\"$\" has $ without the name of a variable)"),
            ("a=${X", "(\"${X\" has { without })"),
            (&many, "(label \"l16\" is one too many)"),
        ] {
            let settings = Settings::from_pairs([("NIXL_TELEMETRY_LABELS", labels)]);
            let error = settings.get(&LABELS).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn names_are_shown_hashed_or_not() {
        let agent = Agent::new("foobar");
        assert_eq!(AgentLabel::On.show(&agent).as_deref(), Some("foobar"));
        assert_eq!(AgentLabel::Off.show(&agent), None);
        // The published test vector of FNV-1a.
        assert_eq!(AgentLabel::Hashed.show(&agent).as_deref(), Some("85944171f73967e8"));
    }
}
