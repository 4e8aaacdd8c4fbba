// SPDX-License-Identifier: Apache-2.0

//! Prometheus text 0.0.4, as NIXL's exporters serve it: a histogram's count and sum stand before its buckets.

use crate::{Histogram, escape::Special};

use super::line::{Line, comment};
use super::{Head, Member, Summary, Value, Writer, number};

pub(super) struct Text<'a> {
    out: &'a mut Vec<u8>,
    name: &'a str,
}

impl<'a> Text<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, head: &Head<'a>) -> Self {
        comment(out, "HELP", head.name, head.help, Special::Line);
        comment(out, "TYPE", head.name, head.shape.as_str(), Special::Line);
        Self { out, name: head.name }
    }

    fn line(&mut self, suffix: &str, member: &Member<'_>) -> Line<'_> {
        Line::new(self.out, self.name, suffix, member)
    }
}

impl Writer for Text<'_> {
    fn number(&mut self, member: &Member<'_>, value: Value) {
        self.line("", member).value(value);
    }

    fn histogram(&mut self, member: &Member<'_>, histogram: &Histogram) {
        self.line("_count", member).value(Value::Number(histogram.count()));
        self.line("_sum", member).value(Value::Number(histogram.sum));
        for (bound, count) in histogram.cumulative() {
            let mut line = self.line("_bucket", member);
            line.label("le", |out| number::plain(out, bound));
            line.value(Value::Number(count));
        }
    }

    fn summary(&mut self, member: &Member<'_>, summary: &Summary<'_>) {
        self.line("_count", member).value(Value::Number(summary.count));
        self.line("_sum", member).value(Value::Number(summary.sum));
        for (quantile, value) in summary.quantiles {
            let mut line = self.line("", member);
            line.label("quantile", |out| number::plain(out, *quantile));
            line.value(Value::Number(*value));
        }
    }
}
