// SPDX-License-Identifier: Apache-2.0

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

use nixl_telemetry_event::escape_file_name;
use nixl_telemetry_settings::{Dialect, Malformed, Value};

use crate::Agent;

/// A path with placeholders: `{agent}`, `{hostname}` and `{pid}`; `{{` and `}}` stand for braces.
///
/// What a placeholder brings is [escaped](escape_file_name), so that an agent's name cannot leave the folder, and
/// different names make different files (names that are not UTF-8 excepted, see [`Agent::name`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Agent,
    Hostname,
    Pid,
}

impl PathTemplate {
    /// The path for this agent.
    pub fn resolve(&self, agent: &Agent) -> PathBuf {
        let mut path = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.extend_from_slice(text),
                Part::Agent => path.extend_from_slice(escape_file_name(agent.name()).as_bytes()),
                Part::Hostname => path.extend_from_slice(escape_file_name(agent.hostname()).as_bytes()),
                Part::Pid => path.extend_from_slice(agent.pid().to_string().as_bytes()),
            }
        }
        OsString::from_vec(path).into()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match (byte, after) {
                (b'{', [b'{', after @ ..]) | (b'}', [b'}', after @ ..]) => {
                    plain.push(byte);
                    after
                }
                (b'{', after) => {
                    let end = after.iter().position(|&byte| byte == b'}')?;
                    let part = match &after[..end] {
                        b"agent" => Part::Agent,
                        b"hostname" => Part::Hostname,
                        b"pid" => Part::Pid,
                        _ => return None,
                    };
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                    &after[end + 1..]
                }
                (b'}', _) => return None,
                (byte, after) => {
                    plain.push(byte);
                    after
                }
            };
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        (!parts.is_empty()).then_some(Self(parts))
    }
}

impl Value for PathTemplate {
    const TYPE: &'static str = "path";
    const EXPECTED: &'static str =
        "a path, in which {agent}, {hostname} and {pid} are replaced, and {{ and }} stand for braces";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        Self::parse(text.as_bytes()).ok_or_else(Malformed::of::<Self>)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nixl_telemetry_settings::{Setting, Settings};

    use super::*;

    static FILE: Setting<PathTemplate> = Setting::required("FILE", "A file.");

    #[test]
    fn placeholders_are_replaced() {
        let agent = Agent::new("rank/3 é");
        let pid = agent.pid();
        let host = escape_file_name(agent.hostname());
        let table = [
            ("/tmp/a.csv", "/tmp/a.csv".to_owned()),
            ("/tmp/{agent}.csv", "/tmp/rank%2F3%20%C3%A9.csv".to_owned()),
            ("{pid}-{hostname}", format!("{pid}-{host}")),
            ("a{{b}}c{pid}", format!("a{{b}}c{pid}")),
        ];
        for (text, path) in table {
            let template = Settings::from_pairs([("FILE", text)]).get(&FILE).unwrap().value;
            assert_eq!(template.resolve(&agent), Path::new(&path), "{text}");
        }
    }

    #[test]
    fn what_is_no_template() {
        for text in ["", "{agnet}.csv", "{agent", "agent}", "{}"] {
            let error = Settings::from_pairs([("FILE", text)]).get(&FILE).unwrap_err().to_string();
            assert_eq!(error, format!("FILE is {text:?} (environment): expected {}", PathTemplate::EXPECTED));
        }
    }
}
