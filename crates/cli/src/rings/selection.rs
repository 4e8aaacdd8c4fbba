// SPDX-License-Identifier: Apache-2.0

//! Which events of which agents.

use nixl_telemetry_event::{Event, fnmatch};

/// Options that choose agents by their names.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Agents {
    /// Only agents whose name fits a pattern: *, ? and [a-c] as in a shell; may be repeated
    #[arg(long, value_name = "GLOB[,GLOB]", value_delimiter = ',')]
    agent: Vec<String>,
}

/// Options that choose agents and events by their names.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    agents: Agents,
    /// Only events whose name fits a pattern, such as agent_err_*; may be repeated
    #[arg(long, value_name = "GLOB[,GLOB]", value_delimiter = ',')]
    event: Vec<String>,
}

impl Agents {
    #[cfg(test)]
    pub(crate) fn of(patterns: &[&str]) -> Self {
        Self { agent: patterns.iter().map(|&pattern| pattern.to_owned()).collect() }
    }

    /// Whether this agent is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        fits(&self.agent, name)
    }

    /// Whether all agents are wanted.
    pub(crate) fn wants_all(&self) -> bool {
        self.agent.is_empty()
    }
}

impl Selection {
    /// Whether anything of this agent is wanted.
    pub(crate) fn wants_agent(&self, name: &str) -> bool {
        self.agents.wants(name)
    }

    /// Whether all agents are wanted.
    pub(crate) fn wants_every_agent(&self) -> bool {
        self.agents.wants_all()
    }

    /// Whether all events are wanted, so that none has to be asked about.
    pub(crate) fn wants_every_event(&self) -> bool {
        self.event.is_empty()
    }

    /// Whether this event is wanted.
    pub(crate) fn wants(&self, event: &Event<'_>) -> bool {
        self.event.is_empty()
            || match event.name().as_str() {
                Some(name) => fits(&self.event, name),
                None => fits(&self.event, &event.name().to_string()),
            }
    }
}

/// Without a pattern, everything.
fn fits(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| fnmatch(pattern, name))
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_event::Kind;

    use super::*;

    #[test]
    fn names_are_chosen_by_patterns() {
        let selection = |agent: &[&str], event: &[&str]| Selection {
            agents: Agents::of(agent),
            event: event.iter().map(|&text| text.to_owned()).collect(),
        };
        let some = selection(&["prefill-*", "x"], &["agent_[tr]x_bytes", "unknown_event_7?"]);
        for (name, wanted) in [("prefill-0", true), ("x", true), ("xy", false), ("decode", false)] {
            assert_eq!(some.wants_agent(name), wanted, "{name}");
        }
        for (kind, wanted) in [
            (Kind::TX_BYTES, true),
            (Kind::RX_BYTES, true),
            (Kind::XFER_TIME, false),
            (Kind::from_code(77), true),
            (Kind::from_code(8_888), false),
        ] {
            assert_eq!(some.wants(&Event::new(kind, 1)), wanted, "{kind}");
        }
        let all = selection(&[], &[]);
        assert!(all.wants_every_agent() && !some.wants_every_agent());
        assert!(all.wants_agent("") && all.wants_every_event() && all.wants(&Event::backend("x", 1)));
    }
}
