// SPDX-License-Identifier: Apache-2.0

//! A reader of `io.prometheus.client` messages, from the fields as `metrics.proto` declares them.

/// The type of a field.
#[derive(Clone, Copy)]
enum Type {
    Uint,
    Sint,
    Double,
    Text,
    Message(&'static [Field]),
}

type Field = (u64, &'static str, Type);

use Type::{Double, Message, Sint, Text, Uint};

const FAMILY: &[Field] =
    &[(1, "name", Text), (2, "help", Text), (3, "type", Uint), (4, "metric", Message(METRIC)), (5, "unit", Text)];
const METRIC: &[Field] = &[
    (1, "label", Message(&[(1, "name", Text), (2, "value", Text)])),
    (2, "gauge", Message(&[(1, "value", Double)])),
    (3, "counter", Message(&[(1, "value", Double), (3, "created_timestamp", Message(TIMESTAMP))])),
    (4, "summary", Message(SUMMARY)),
    (7, "histogram", Message(HISTOGRAM)),
];
const SUMMARY: &[Field] = &[
    (1, "sample_count", Uint),
    (2, "sample_sum", Double),
    (3, "quantile", Message(&[(1, "quantile", Double), (2, "value", Double)])),
    (4, "created_timestamp", Message(TIMESTAMP)),
];
const HISTOGRAM: &[Field] = &[
    (1, "sample_count", Uint),
    (2, "sample_sum", Double),
    (3, "bucket", Message(&[(1, "cumulative_count", Uint), (2, "upper_bound", Double)])),
    (5, "schema", Sint),
    (6, "zero_threshold", Double),
    (7, "zero_count", Uint),
    (12, "positive_span", Message(&[(1, "offset", Sint), (2, "length", Uint)])),
    (13, "positive_delta", Sint),
    (15, "created_timestamp", Message(TIMESTAMP)),
];
const TIMESTAMP: &[Field] = &[(1, "seconds", Uint), (2, "nanos", Uint)];

/// A field and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) value: Content,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Uint(u64),
    Sint(i64),
    Double(f64),
    Text(String),
    Message(Vec<Node>),
}

impl Node {
    /// The fields of this name in a message.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &Self> {
        let Content::Message(fields) = &self.value else { panic!("{} is no message", self.name) };
        fields.iter().filter(move |field| field.name == name)
    }

    /// The only field of this name.
    pub(crate) fn one(&self, name: &'static str) -> &Self {
        let mut all = self.all(name);
        let first = all.next().unwrap_or_else(|| panic!("{} has {name}", self.name));
        assert!(all.next().is_none(), "{} has one {name}", self.name);
        first
    }

    pub(crate) fn text(&self) -> &str {
        let Content::Text(text) = &self.value else { panic!("{self:?} is no text") };
        text
    }

    pub(crate) fn uint(&self) -> u64 {
        let Content::Uint(value) = self.value else { panic!("{self:?} is no uint") };
        value
    }

    pub(crate) fn sint(&self) -> i64 {
        let Content::Sint(value) = self.value else { panic!("{self:?} is no sint") };
        value
    }

    pub(crate) fn double(&self) -> f64 {
        let Content::Double(value) = self.value else { panic!("{self:?} is no double") };
        value
    }
}

/// The families of a document.
///
/// # Panics
/// If it is none, or has a field that is not declared.
pub(crate) fn families(mut document: &[u8]) -> Vec<Node> {
    let mut families = Vec::new();
    while !document.is_empty() {
        families.push(Node { name: "family", value: Content::Message(message(delimited(&mut document), FAMILY)) });
    }
    families
}

/// Families in protobuf's text form, the innermost messages on one line.
pub(crate) fn print(families: &[Node]) -> String {
    families.iter().map(|family| printed(family, 0) + "\n").collect()
}

fn printed(Node { name, value }: &Node, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Content::Uint(value) => format!("{indent}{name}: {value}"),
        Content::Sint(value) => format!("{indent}{name}: {value}"),
        Content::Double(value) => format!("{indent}{name}: {value:e}"),
        Content::Text(value) => format!("{indent}{name}: {value:?}"),
        Content::Message(fields) if fields.iter().any(|field| matches!(field.value, Content::Message(_))) => {
            let fields: Vec<String> = fields.iter().map(|field| printed(field, depth + 1)).collect();
            format!("{indent}{name} {{\n{}\n{indent}}}", fields.join("\n"))
        }
        Content::Message(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| printed(field, 0)).collect();
            format!("{indent}{name} {{ {} }}", fields.join(" "))
        }
    }
}

fn message(mut bytes: &[u8], fields: &[Field]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = fields.iter().find(|(number, ..)| *number == tag >> 3);
        let &(_, name, declared) = field.unwrap_or_else(|| panic!("field {} is declared", tag >> 3));
        let value = match (declared, tag & 7) {
            (Uint, 0) => Content::Uint(varint(&mut bytes)),
            (Sint, 0) => {
                let value = varint(&mut bytes);
                Content::Sint((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
            }
            (Double, 1) => {
                let (value, rest) = bytes.split_first_chunk().expect("eight bytes");
                bytes = rest;
                Content::Double(f64::from_le_bytes(*value))
            }
            (Text, 2) => Content::Text(std::str::from_utf8(delimited(&mut bytes)).expect("UTF-8").to_owned()),
            (Message(fields), 2) => Content::Message(message(delimited(&mut bytes), fields)),
            (_, wire) => panic!("{name} has wire type {wire}"),
        };
        nodes.push(Node { name, value });
    }
    nodes
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(varint(bytes)).expect("a length");
    bytes.split_off(..length).expect("as many bytes as the length says")
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first().expect("a varint ends");
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint has ten bytes at most");
}
