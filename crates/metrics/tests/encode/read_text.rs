// SPDX-License-Identifier: Apache-2.0

//! A reader of both text formats, which knows nothing of how they are written.

use std::collections::{BTreeMap, BTreeSet};

/// A line with a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All samples of a document.
///
/// # Panics
/// If a line is none of the format.
pub(crate) fn samples(document: &[u8]) -> Vec<Sample> {
    let text = std::str::from_utf8(document).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines_of_document().filter(|line| !line.starts_with("# ")).map(sample).collect()
}

/// HELP, TYPE and lines of each family, by its name.
pub(crate) fn families(document: &[u8]) -> BTreeMap<String, BTreeSet<String>> {
    let text = std::str::from_utf8(document).expect("UTF-8");
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines_of_document() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').expect("a name and a text").0.to_owned();
        }
        assert!(families.entry(family.clone()).or_default().insert(line.to_owned()), "{line} is there once");
    }
    families
}

trait Lines {
    /// Not `str::lines`, which takes a carriage return away.
    fn lines_of_document(&self) -> impl Iterator<Item = &str>;
}

impl Lines for str {
    fn lines_of_document(&self) -> impl Iterator<Item = &str> {
        self.split_terminator('\n')
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name and what follows");
    let (name, mut rest) = line.split_at(end);
    assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            let (value, after) = unescape(after);
            labels.push((label.to_owned(), value));
            match after.split_at(1) {
                (",", after) => rest = after,
                ("}", after) => break rest = after,
                _ => panic!("{after:?} after a label of {line:?}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a blank before the value");
    assert!(value.parse::<f64>().is_ok(), "{line}");
    Sample { name: name.to_owned(), labels, value: value.to_owned() }
}

/// What stands before the closing quotation mark, and what after it.
fn unescape(text: &str) -> (String, &str) {
    let (mut value, mut characters) = (String::new(), text.chars());
    loop {
        match characters.next().expect("a quotation mark at the end") {
            '"' => return (value, characters.as_str()),
            '\\' => value.push(match characters.next() {
                Some('n') => '\n',
                Some(special @ ('"' | '\\')) => special,
                other => panic!("{other:?} after a backslash"),
            }),
            character => value.push(character),
        }
    }
}
