// SPDX-License-Identifier: Apache-2.0

/// What the lines of a file look like.
#[derive(Clone, Debug)]
pub struct Form {
    pub(super) header: String,
    pub(super) chosen_by: &'static str,
    quotes: bool,
}

impl Form {
    /// Lines that end with their line feed, whatever is in them, and no header.
    pub const fn lines() -> Self {
        Self { header: String::new(), chosen_by: "", quotes: false }
    }

    /// Rows below a header, its line feed included, that go on where they break within double quotes. Who finds another
    /// header is told what chooses it.
    pub const fn rows(header: String, chosen_by: &'static str) -> Self {
        Self { header, chosen_by, quotes: true }
    }

    /// Bytes of the whole lines these begin with.
    pub(super) fn whole_lines(&self, bytes: &[u8]) -> usize {
        let mut quoted = false;
        let mut end = 0;
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted && self.quotes,
                b'\n' if !quoted => end = index + 1,
                _ => {}
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_at_their_last_byte() {
        let table = [
            ("", 0, 0),
            ("1,2", 0, 0),
            ("1,2\n", 4, 4),
            ("1,2\n3", 4, 4),
            ("1,2\n3,4\n", 8, 8),
            // A name in quotes may have line breaks in it, and quotes.
            ("1,\"a\n", 0, 5),
            ("1,\"a\nb\"\n2", 8, 8),
            ("1,\"a\"\"\n", 0, 7),
            ("1,\"a\"\"\n\"\n", 9, 9),
        ];
        for (text, rows, lines) in table {
            assert_eq!(Form::rows(String::new(), "").whole_lines(text.as_bytes()), rows, "{text:?}");
            assert_eq!(Form::lines().whole_lines(text.as_bytes()), lines, "{text:?}");
        }
    }
}
