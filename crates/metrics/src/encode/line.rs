// SPDX-License-Identifier: Apache-2.0

//! The lines that both text formats are made of.

use crate::escape::{Special, escape};

use super::{Member, Value, number};

/// A line in the making: a name, labels, and at last a value.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    /// What stands before the next label.
    glue: u8,
}

impl<'a> Line<'a> {
    /// Writes name and labels; the one that the family adds stands where the others leave room for it.
    pub(super) fn new(out: &'a mut Vec<u8>, name: &str, suffix: &str, member: &Member<'_>) -> Self {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        let mut line = Self { out, glue: b'{' };
        line.labels(member.labels.before());
        if let Some((name, value)) = member.added {
            line.label(name, |out| escape(value, Special::Quoted, out));
        }
        line.labels(member.labels.after());
        line
    }

    /// Writes one more label, whose value contains nothing to be escaped any more.
    pub(super) fn label(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.labels(name);
        self.out.extend_from_slice(b"=\"");
        value(self.out);
        self.out.push(b'"');
    }

    /// Ends it.
    pub(super) fn value(self, value: Value) {
        let out = self.out;
        out.extend_from_slice(if self.glue == b',' { b"} " } else { b" " });
        match value {
            Value::Number(value) => number::integer(out, value),
            Value::Moment(us) => number::seconds(out, us),
        }
        out.push(b'\n');
    }

    fn labels(&mut self, text: &str) {
        if !text.is_empty() {
            self.out.push(self.glue);
            self.glue = b',';
            self.out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Writes a line about a family: `# TYPE name text`, escaped.
pub(super) fn comment(out: &mut Vec<u8>, word: &str, name: &str, text: &str, special: Special) {
    for part in ["# ", word, " ", name, " "] {
        out.extend_from_slice(part.as_bytes());
    }
    escape(text, special, out);
    out.push(b'\n');
}
