// SPDX-License-Identifier: Apache-2.0

//! OpenMetrics 1.0.
//!
//! A counter's family is named without the `_total` of its samples there, and no two families may have one name. That
//! leaves no name for NIXL's counters of time: `agent_xfer_time_total` would be of the family `agent_xfer_time`, which is
//! the gauge of the last one. So that both keep the names under which everybody knows them, such a counter is shown as of
//! an unknown type, in a family named as its sample.

use crate::{FAMILIES, Histogram, escape::Special};

use super::line::{Line, comment};
use super::{Head, Member, Shape, Summary, Value, Writer, number};

pub(super) struct OpenMetrics<'a> {
    out: &'a mut Vec<u8>,
    name: &'a str,
    /// Whether it is shown as a counter.
    counts: bool,
}

impl<'a> OpenMetrics<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, head: &Head<'a>) -> Self {
        let base = if head.shape == Shape::Counter { counter_name(head.name) } else { None };
        let name = base.unwrap_or(head.name);
        let unknown = head.shape == Shape::Counter && base.is_none();
        comment(out, "TYPE", name, if unknown { "unknown" } else { head.shape.as_str() }, Special::Quoted);
        if let Some(unit) = head.unit {
            comment(out, "UNIT", name, unit, Special::Quoted);
        }
        comment(out, "HELP", name, head.help, Special::Quoted);
        Self { out, name, counts: base.is_some() }
    }

    fn line(&mut self, suffix: &str, member: &Member<'_>) -> Line<'_> {
        Line::new(self.out, self.name, suffix, member)
    }

    /// When counting began, if that is known.
    fn created(&mut self, member: &Member<'_>) {
        if member.created_us > 0 {
            self.line("_created", member).value(Value::Moment(member.created_us));
        }
    }
}

impl Writer for OpenMetrics<'_> {
    fn number(&mut self, member: &Member<'_>, value: Value) {
        if self.counts {
            self.line("_total", member).value(value);
            self.created(member);
        } else {
            self.line("", member).value(value);
        }
    }

    fn histogram(&mut self, member: &Member<'_>, histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            let mut line = self.line("_bucket", member);
            line.label("le", |out| number::canonical(out, bound));
            line.value(Value::Number(count));
        }
        self.line("_count", member).value(Value::Number(histogram.count()));
        self.line("_sum", member).value(Value::Number(histogram.sum));
        self.created(member);
    }

    fn summary(&mut self, member: &Member<'_>, summary: &Summary<'_>) {
        for (quantile, value) in summary.quantiles {
            let mut line = self.line("", member);
            line.label("quantile", |out| number::canonical(out, *quantile));
            line.value(Value::Number(*value));
        }
        self.line("_count", member).value(Value::Number(summary.count));
        self.line("_sum", member).value(Value::Number(summary.sum));
    }
}

/// The name of a counter's family, or `None` if another family has it.
fn counter_name(name: &str) -> Option<&str> {
    name.strip_suffix("_total").filter(|base| FAMILIES.iter().all(|family| family.name != *base))
}

#[cfg(test)]
mod tests {
    use crate::Type;

    use super::*;

    #[test]
    fn counters_whose_name_is_taken_are_those_of_time() {
        let counters = FAMILIES.iter().filter(|family| family.kind() == Type::Counter);
        let unnamed: Vec<_> = counters.filter(|family| counter_name(family.name).is_none()).collect();
        let names: Vec<_> = unnamed.iter().map(|family| family.name).collect();
        assert_eq!(names, ["agent_xfer_time_total", "agent_xfer_post_time_total"]);
        // A unit would have to stand at the end of the name.
        assert!(unnamed.iter().all(|family| family.unit.is_none()));
    }
}
