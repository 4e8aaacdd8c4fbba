// SPDX-License-Identifier: Apache-2.0

/// A field of a CSV row as RFC 4180 wants it: in quotes if it holds a comma, a quote or a line break, quotes inside doubled.
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("a b;c", "a b;c"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\r", "\"a\r\""),
            ("a\nb", "\"a\nb\""),
        ];
        for (field, expected) in table {
            assert_eq!(csv_field(field), expected);
        }
    }
}
