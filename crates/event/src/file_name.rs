// SPDX-License-Identifier: Apache-2.0

use std::fmt::Write as _;

/// A text as one file name: letters, digits, `-`, `_` and `.` stay, every other byte becomes `%` and two hexadecimal
/// digits, and so does a leading dot. Different texts have different names.
pub fn escape_file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'.' if at > 0 => name.push('.'),
            b'-' | b'_' => name.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            byte => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    name
}

/// The text that [`escape_file_name`] made this name of; a name it never makes, such as one NIXL chose, is its own text.
pub fn unescape_file_name(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| byte == b'%').and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|text| escape_file_name(text) == name).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_names_and_come_back() {
        let table = [
            ("prefill-0", "prefill-0"),
            ("a.b-c_d", "a.b-c_d"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("a\0b", "a%00b"),
            (".hidden", "%2Ehidden"),
            ("..", "%2E."),
            ("100%", "100%25"),
            ("é\n", "%C3%A9%0A"),
            ("", ""),
        ];
        for (text, name) in table {
            assert_eq!(escape_file_name(text), name);
            assert_eq!(unescape_file_name(name), text);
        }
    }

    #[test]
    fn a_name_of_other_making_is_its_own_text() {
        for name in ["rank 0", "a%2fb", "a%", "a%+1", "%FF", ".x", "%41"] {
            assert_eq!(unescape_file_name(name), name);
        }
    }
}
