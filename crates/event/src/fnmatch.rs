// SPDX-License-Identifier: Apache-2.0

//! `fnmatch(3)` with flags 0 in the C locale, as glibc does it.
//!
//! NIXL hands the tokens of its allowlist to that function. One difference: glibc tries every split at every `*` and
//! takes exponential time on patterns made for it; going back to the last `*` alone gives the same answer, in time
//! proportional to the product of both lengths at worst.

/// Whether the whole of `text` fits `pattern`.
///
/// `*` stands for any characters, `?` for one, `[…]` for one of a set, `[!…]` and `[^…]` for one outside it; a
/// backslash takes the next character literally. A `[` without its `]` is an ordinary character, a backslash at the end
/// of the pattern fits nothing.
pub fn fnmatch(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Where to go on after the last star: the pattern behind it, and the text it has not swallowed yet.
    let mut retry = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        let next = match text.get(read) {
            None if at == pattern.len() => return true,
            None => None,
            Some(byte) => step(pattern, at, *byte),
        };
        match (next, retry) {
            (Some(next), _) => (at, read) = (next, read + 1),
            (None, Some((behind, from))) if from < text.len() => {
                retry = Some((behind, from + 1));
                (at, read) = (behind, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Where the pattern goes on if its element at `at`, no star, fits `byte`.
fn step(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'\\' => (*pattern.get(at + 1)? == byte).then_some(at + 2),
        b'[' => match Set::new(pattern, at + 1).fits(byte) {
            Ok((fits, end)) => fits.then_some(end),
            Err(NoSet::Open) => (byte == b'[').then_some(at + 1),
            Err(NoSet::Invalid) => None,
        },
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Why what follows a `[` is no set.
enum NoSet {
    /// Nothing closes it: the `[` is an ordinary character.
    Open,
    /// It fits no character.
    Invalid,
}

/// A reader of what follows a `[`. What lies behind the end of the pattern reads as 0, as in C.
struct Set<'a> {
    pattern: &'a [u8],
    at: usize,
}

/// One member of a set.
enum Member {
    Class(fn(&u8) -> bool),
    /// `[=x=]`, which starts no range.
    Equivalent(u8),
    /// `[.x.]`.
    Symbol(u8),
    Plain(u8),
}

impl<'a> Set<'a> {
    fn new(pattern: &'a [u8], at: usize) -> Self {
        Self { pattern, at }
    }

    /// Whether `byte` fits the set, and where the pattern goes on behind it.
    fn fits(mut self, byte: u8) -> Result<(bool, usize), NoSet> {
        let negated = matches!(self.peek(0), b'!' | b'^');
        self.at += usize::from(negated);
        let mut found = self.member_fits(byte)?;
        // A `]` in the first place is a member.
        while !found && self.peek(0) != b']' {
            found = self.member_fits(byte)?;
        }
        // Members behind the one that fits are read by laxer rules: an unknown class is no error there.
        while self.peek(0) != b']' {
            self.skip_member()?;
        }
        Ok((found != negated, self.at + 1))
    }

    /// Reads a member or a range.
    fn member_fits(&mut self, byte: u8) -> Result<bool, NoSet> {
        let (low, ranged) = match self.member()? {
            Member::Class(contains) => return Ok(contains(&byte)),
            Member::Equivalent(same) => return Ok(same == byte),
            // Before `-]` a symbol fits nothing, a quirk of glibc.
            Member::Symbol(low) => (low, self.peek(0) == b'-' && self.peek(1) != 0),
            Member::Plain(low) => (low, self.peek(0) == b'-' && !matches!(self.peek(1), 0 | b']')),
        };
        if !ranged && low == byte {
            return Ok(true);
        }
        if self.peek(0) != b'-' || self.peek(1) == b']' {
            return Ok(false);
        }
        self.at += 1;
        let high = match (self.peek(0), self.peek(1)) {
            (b'[', b'.') => self.symbol()?,
            (b'\\', high) => self.advance(2, high),
            (high, _) => self.advance(1, high),
        };
        if high == 0 { Err(NoSet::Invalid) } else { Ok((low..=high).contains(&byte)) }
    }

    fn member(&mut self) -> Result<Member, NoSet> {
        Ok(match (self.peek(0), self.peek(1)) {
            (0, _) => return Err(NoSet::Open),
            (b'\\', 0) => return Err(NoSet::Invalid),
            (b'\\', byte) => Member::Plain(self.advance(2, byte)),
            (b'[', b':') => match self.class_name() {
                Some(name) => {
                    self.at += name.len() + 4;
                    Member::Class(class(name).ok_or(NoSet::Invalid)?)
                }
                None => Member::Plain(self.advance(1, b'[')),
            },
            (b'[', b'=') if self.is_equivalence() => Member::Equivalent(self.advance(5, self.peek(2))),
            (b'[', b'.') => Member::Symbol(self.symbol()?),
            (byte, _) => Member::Plain(self.advance(1, byte)),
        })
    }

    fn skip_member(&mut self) -> Result<(), NoSet> {
        match (self.peek(0), self.peek(1)) {
            (0, _) => return Err(NoSet::Open),
            (b'\\', 0) => return Err(NoSet::Invalid),
            (b'\\', _) => self.at += 2,
            (b'[', b':') => self.at += self.class_name().map_or(1, |name| name.len() + 4),
            (b'[', b'=') if self.is_equivalence() => self.at += 5,
            (b'[', b'=') => return Err(NoSet::Invalid),
            (b'[', b'.') => self.at += self.symbol_length().ok_or(NoSet::Invalid)? + 4,
            _ => self.at += 1,
        }
        Ok(())
    }

    /// The name of the class `[:name:]` that lies here, if its syntax is that of one.
    fn class_name(&self) -> Option<&'a [u8]> {
        let rest = self.pattern.get(self.at + 2..)?;
        // No class has a z in its name, and glibc takes a name with one for plain characters.
        let name = &rest[..rest.iter().position(|byte| !matches!(byte, b'a'..=b'y'))?];
        rest[name.len()..].starts_with(b":]").then_some(name)
    }

    fn is_equivalence(&self) -> bool {
        self.peek(2) != 0 && self.peek(3) == b'=' && self.peek(4) == b']'
    }

    /// The one character of the symbol `[.x.]`; the C locale has no longer ones.
    fn symbol(&mut self) -> Result<u8, NoSet> {
        match self.symbol_length() {
            Some(1) => Ok(self.advance(5, self.peek(2))),
            _ => Err(NoSet::Invalid),
        }
    }

    fn symbol_length(&self) -> Option<usize> {
        let rest = self.pattern.get(self.at + 2..)?;
        rest.windows(2).position(|end| end == b".]")
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.pattern.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn advance(&mut self, by: usize, read: u8) -> u8 {
        self.at += by;
        read
    }
}

fn class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What glibc 2.36 says in the C locale: the pattern, what fits it, what does not.
    #[test]
    fn agrees_with_glibc() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("agent_tx_bytes", &["agent_tx_bytes"], &["agent_tx_byte", "agent_tx_bytes_total", "Agent_tx_bytes", ""]),
            ("", &[""], &["a"]),
            ("*", &["", "agent_tx_bytes", "a/b", ".hidden"], &[]),
            ("**", &["", "a"], &[]),
            ("agent_err_*", &["agent_err_backend", "agent_err_"], &["agent_tx_bytes"]),
            ("*_bytes", &["agent_tx_bytes", "_bytes"], &["agent_tx_bytes_num"]),
            ("agent_*x_*", &["agent_tx_bytes", "agent_rx_requests_num"], &["agent_xfer_time"]),
            ("agent_?x_bytes", &["agent_tx_bytes", "agent_rx_bytes"], &["agent_x_bytes"]),
            ("?", &["a"], &["", "ab"]),
            ("a*b*c", &["abc", "aXbYc", "abcbc"], &["aXbYcZ", "ac"]),
            ("*a*a*b", &["aab", "aaaaaaab"], &["aaaaaaac"]),
            ("agent_[rt]x_*", &["agent_tx_bytes", "agent_rx_bytes"], &["agent_xx_bytes"]),
            ("[!a]", &["b"], &["a", ""]),
            ("[^a]", &["b", "^"], &["a"]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[a!]", &["!"], &[]),
            ("[a-c]x", &["ax", "bx", "cx"], &["dx", "-x"]),
            ("[c-a]", &[], &["a", "b", "c", "-"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[-a]", &["a", "-"], &["b"]),
            ("[a-c-e]", &["b", "-", "e"], &["d"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[!]a]", &["b"], &["]", "a"]),
            ("[]-a]", &["]", "_", "a"], &["b"]),
            ("[]", &["[]"], &["]", ""]),
            ("[", &["["], &["a"]),
            ("[a", &["[a"], &["a"]),
            ("a[", &["a["], &[]),
            ("[!a", &["[!a"], &[]),
            ("x[a*", &["x[ab"], &["xab"]),
            ("[a-", &[], &["[a-", "a", "-"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("\\a", &["a"], &["\\a"]),
            ("a\\", &[], &["a", "a\\"]),
            ("\\", &[], &["", "\\"]),
            ("\\\\", &["\\"], &[]),
            ("[\\]]", &["]"], &["\\"]),
            ("[\\a-c]", &["b"], &["\\"]),
            ("[a-\\c]", &["b", "c"], &["\\"]),
            ("[a\\]b", &["[a]b"], &["ab"]),
            ("[[:digit:]]", &["7"], &["a"]),
            ("[[:alpha:]_]x", &["ax", "_x"], &["1x"]),
            ("[![:upper:]]", &["a"], &["A"]),
            ("[[:blank:]]", &[" ", "\t"], &["\n"]),
            ("[[:space:]]", &["\x0b", "\x0c"], &["a"]),
            ("[[:punct:]]", &["_"], &["a"]),
            ("[[:cntrl:]]", &["\x7f"], &[" "]),
            ("[[:graph:]]", &["~"], &[" "]),
            ("[[:print:]]", &[" "], &["\x7f"]),
            ("[[:xdigit:]]", &["F"], &["g"]),
            ("[[:alnum:]]", &["0", "Z"], &["-"]),
            ("[[:lower:]]", &["z"], &["Z"]),
            ("[[:no:]]", &[], &["n", ":", "[[:no:]]"]),
            ("[n[:no:]]", &["n"], &["o", "x"]),
            ("[[:zz:]]", &["z]", ":]", "[]"], &[]),
            ("[[:digit:]", &["[:"], &["d", ":"]),
            ("[[=a=]]", &["a"], &["="]),
            ("[[=a=]-c]", &["a", "-"], &["b"]),
            ("[[.a.]-c]", &["b"], &["d"]),
            ("[[.-.]]", &["-"], &["."]),
            ("[[.-.]-]", &["-"], &["."]),
            ("[a-[.c.]]", &["b", "c"], &[]),
            ("[[.space.]]", &[], &[" ", "s"]),
            ("[/]", &["/"], &[]),
            ("é", &["é"], &["e"]),
            ("?", &[], &["é"]),
            ("??", &["é"], &[]),
        ];
        for (pattern, fitting, others) in table {
            for (texts, expected) in [(fitting, true), (others, false)] {
                for text in *texts {
                    assert_eq!(fnmatch(pattern, text), expected, "{pattern:?} and {text:?}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_made_to_explode_does_not() {
        let pattern = format!("{}b", "a*".repeat(1000));
        assert!(!fnmatch(&pattern, &"a".repeat(5000)));
        assert!(fnmatch(&pattern, &format!("{}b", "a".repeat(5000))));
    }
}
