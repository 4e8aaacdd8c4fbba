// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use crate::escape::{Special, escape};

/// What tells the series of one agent from those of others: pairs of a name and a value, in the order in which they are
/// shown.
///
/// They are escaped once, when they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pairs: Vec<(String, String)>,
    /// `name="value",…` of the labels before and after the one that a family adds, without commas at the ends.
    before: String,
    after: String,
}

/// Why a label cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// It is no name.
    #[error("label {0:?} is no name: expected letters, digits and _, no digit first")]
    Name(String),
    /// It means something else.
    #[error("label {0:?} is taken: expected another name than le, quantile, status, event, or one that begins with __")]
    Reserved(String),
    /// It is there already.
    #[error("label {0:?} is there twice: expected each once")]
    Twice(String),
}

impl Labels {
    /// Labels in rising order of their names, as NIXL's prometheus exporter has them; a label that a family adds takes its
    /// place among them.
    ///
    /// # Errors
    /// If a name is none, means something else, or is there twice.
    pub fn sorted(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, LabelsError> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort();
        // The labels that families add are `event`, `status` and, always last, `le`. Of these only `status` is NIXL's.
        let split = pairs.partition_point(|(name, _)| name.as_str() < "status");
        Self::split(pairs, split)
    }

    /// Labels in the order they are given, as NIXL's prometheus_mp has them; a label that a family adds comes last.
    ///
    /// # Errors
    /// As [`sorted`](Self::sorted).
    pub fn in_order(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, LabelsError> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let split = pairs.len();
        Self::split(pairs, split)
    }

    /// The labels.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `name="value",…` of those before a label that a family adds; empty if there are none.
    pub fn before(&self) -> &str {
        &self.before
    }

    /// `name="value",…` of those after a label that a family adds; empty if there are none.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// Whether a label may have this name: whether it is one, and means nothing else.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_name(name: &str) -> Result<(), LabelsError> {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let is_name = name.bytes().next().is_some_and(is_letter)
            && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit());
        if !is_name {
            Err(LabelsError::Name(name.to_owned()))
        } else if matches!(name, "le" | "quantile" | "status" | "event") || name.starts_with("__") {
            Err(LabelsError::Reserved(name.to_owned()))
        } else {
            Ok(())
        }
    }

    fn split(pairs: Vec<(String, String)>, at: usize) -> Result<Self, LabelsError> {
        let mut names = BTreeSet::new();
        for (name, _) in &pairs {
            Self::check_name(name)?;
            if !names.insert(name) {
                return Err(LabelsError::Twice(name.clone()));
            }
        }
        let (before, after) = (escaped(&pairs[..at]), escaped(&pairs[at..]));
        Ok(Self { pairs, before, after })
    }
}

fn escaped(pairs: &[(String, String)]) -> String {
    let mut text = Vec::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"=\"");
        escape(value, Special::Quoted, &mut text);
        text.push(b'"');
    }
    String::from_utf8(text).expect("escaping only adds ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_are_escaped_and_leave_room_for_one_more() {
        let given = pairs(&[("hostname", "vm"), ("zone", "a\\b\"c\nd"), ("agent_name", "é")]);
        let sorted = Labels::sorted(given.clone()).unwrap();
        assert_eq!(sorted.before(), r#"agent_name="é",hostname="vm""#);
        assert_eq!(sorted.after(), r#"zone="a\\b\"c\nd""#);
        let in_order = Labels::in_order(given).unwrap();
        assert_eq!(in_order.before(), r#"hostname="vm",zone="a\\b\"c\nd",agent_name="é""#);
        assert_eq!(in_order.after(), "");
        assert_eq!((in_order.get("hostname"), in_order.get("pod")), (Some("vm"), None));
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "0a", "a-b", "é", "a b"] {
            assert_eq!(Labels::check_name(name), Err(LabelsError::Name(name.into())));
        }
        for name in ["le", "status", "event", "quantile", "__name__"] {
            assert_eq!(Labels::check_name(name), Err(LabelsError::Reserved(name.into())));
        }
        assert_eq!(Labels::check_name("_a0"), Ok(()));
        assert_eq!(Labels::sorted(pairs(&[("a", "1"), ("a", "2")])), Err(LabelsError::Twice("a".into())));
    }
}
