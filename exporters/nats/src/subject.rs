// SPDX-License-Identifier: Apache-2.0

//! What subjects events are published on: a template, and names of agents and hosts as tokens of it.

use std::ffi::OsStr;
use std::fmt::Write as _;

use nixl_telemetry_sdk::queue::OriginId;
use nixl_telemetry_sdk::{Agent, Dialect, Malformed, Value};

/// A subject in which fields are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Agent,
    Hostname,
    Pid,
    Origin,
}

impl Template {
    /// The subject of what an agent did.
    pub(crate) fn resolve(&self, agent: &Agent, origin: OriginId) -> String {
        self.with(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Agent => token(agent.name()),
            Part::Hostname => token(agent.hostname()),
            Part::Pid => agent.pid().to_string(),
            Part::Origin => origin.to_string(),
        })
    }

    /// The pattern of all its subjects: `*` for each token with a field.
    pub(crate) fn pattern(&self) -> String {
        let marked = self.with(|part| if let Part::Text(text) = part { text.clone() } else { "*".into() });
        let tokens: Vec<&str> = marked.split('.').map(|token| if token.contains('*') { "*" } else { token }).collect();
        tokens.join(".")
    }

    fn with(&self, text: impl Fn(&Part) -> String) -> String {
        self.0.iter().map(text).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, field) = rest.split_at(open);
            let (field, after) = field[1..].split_once('}')?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match field {
                "agent" => Part::Agent,
                "hostname" => Part::Hostname,
                "pid" => Part::Pid,
                "origin" => Part::Origin,
                _ => return None,
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self(parts);
        let is_token = |token: &str| {
            !token.is_empty() && token.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"*>{}".contains(c))
        };
        // As it is with a name in each field.
        let sample = template.with(|part| if let Part::Text(text) = part { text.clone() } else { "x".into() });
        (sample.split('.').all(is_token) && !sample.starts_with('$')).then_some(template)
    }
}

impl Value for Template {
    const TYPE: &'static str = "subject";
    const EXPECTED: &'static str = "tokens separated by dots, without blanks and wildcards, the first without $, in which \
                                    {agent}, {hostname}, {pid} and {origin} are replaced";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        text.to_str().and_then(Self::parse).ok_or_else(Malformed::of::<Self>)
    }
}

/// A name as one token: letters, digits, `-` and `_` stay, every other byte becomes `%` and two hexadecimal digits, and no name
/// at all `%`. Different names are different tokens.
pub(crate) fn token(name: &str) -> String {
    if name.is_empty() {
        return "%".into();
    }
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => token.push(char::from(byte)),
            byte => {
                let _ = write!(token, "%{byte:02X}");
            }
        }
    }
    token
}

/// Whether a subject is among those of a pattern.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Option<Template> {
        Template::from_env(OsStr::new(text), Dialect::Current).ok()
    }

    #[test]
    fn fields_are_replaced() {
        let agent = Agent::new("a.b c*");
        for (text, pattern) in [
            ("nixl.telemetry.{agent}", "nixl.telemetry.*"),
            ("{pid}.x-{agent}-y.z", "*.*.z"),
            ("plain", "plain"),
            ("{agent}{pid}", "*"),
        ] {
            let template = template(text).unwrap();
            assert_eq!(template.pattern(), pattern);
            let subject = text.replace("{agent}", "a%2Eb%20c%2A").replace("{pid}", &agent.pid().to_string());
            // No origin is in these.
            let resolved = template.with(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Agent => token(agent.name()),
                _ => agent.pid().to_string(),
            });
            assert_eq!(resolved, subject);
            assert!(matches(pattern, &subject), "{pattern} {subject}");
        }
    }

    #[test]
    fn what_is_no_template() {
        for text in ["", ".", "a..b", "a.", "a b", "a.*", "a.>", "{agnet}", "{agent", "agent}", "a.{}", "$JS.x", "a\n"]
        {
            assert_eq!(template(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_are_one_token_each() {
        let names = ["", "%", "a", "A", "a.b", "a b", "a%2Eb", "*", ">", "é", "\0", "a\r\nPUB x 0", "prefill-0", "x_y"];
        let tokens: HashSet<String> = names.iter().map(|name| token(name)).collect();
        assert_eq!(tokens.len(), names.len());
        assert_eq!(
            (token("a.b é"), token("prefill-0_"), token("")),
            ("a%2Eb%20%C3%A9".into(), "prefill-0_".into(), "%".into())
        );
    }

    #[test]
    fn patterns() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.c", false),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    proptest! {
        #[test]
        fn different_names_are_different_tokens(a in "\\PC{0,6}", b in "\\PC{0,6}") {
            let legal = |token: &str| {
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b".*>".contains(&byte))
            };
            prop_assert!(legal(&token(&a)) && legal(&token(&b)));
            prop_assert_eq!(token(&a) == token(&b), a == b);
        }
    }
}
