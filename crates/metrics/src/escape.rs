// SPDX-License-Identifier: Apache-2.0

/// What is escaped with a backslash before it, and the end of a line as `\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Backslashes, ends of lines and quotation marks: in the value of a label, and in the HELP of OpenMetrics.
    Quoted,
    /// Backslashes and ends of lines: in the HELP of Prometheus' text.
    Line,
}

impl Special {
    fn contains(self, byte: u8) -> bool {
        // Without a branch, so that many bytes are looked at at once.
        (byte == b'\\') | (byte == b'\n') | ((byte == b'"') & (self == Self::Quoted))
    }
}

/// Writes a text, with what is special in it escaped.
pub(crate) fn escape(text: &str, special: Special, out: &mut Vec<u8>) {
    // Most texts have nothing to escape.
    if !text.bytes().fold(false, |any, byte| any | special.contains(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        if special.contains(byte) {
            out.push(b'\\');
        }
        out.push(if byte == b'\n' { b'n' } else { byte });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        for (text, quoted, line) in [
            ("", "", ""),
            ("é", "é", "é"),
            ("a\\b\"c\nd", "a\\\\b\\\"c\\nd", "a\\\\b\"c\\nd"),
            ("\n\n\"", "\\n\\n\\\"", "\\n\\n\""),
            ("\\n", "\\\\n", "\\\\n"),
        ] {
            for (special, expected) in [(Special::Quoted, quoted), (Special::Line, line)] {
                let mut out = Vec::new();
                escape(text, special, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
