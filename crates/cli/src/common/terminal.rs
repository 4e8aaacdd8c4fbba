// SPDX-License-Identifier: Apache-2.0

//! Standard output and standard error, with colour where somebody sees it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Not as it should be.
    Bad,
}

/// Which of the two streams a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// What the command is asked for.
    Out,
    /// Everything about it.
    Err,
}

/// Standard output took less than it was given.
#[derive(Debug)]
pub(crate) struct Unprintable(pub(crate) io::Error);

impl std::error::Error for Unprintable {}

impl std::fmt::Display for Unprintable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

/// Writes a text to standard output.
pub(crate) fn print(text: &str) -> Result<(), Unprintable> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unprintable)
}

/// Writes one remark to standard error: `word: message`.
pub(crate) fn complain(style: Style, word: &str, message: &str) {
    // There is nowhere to report a failure of this.
    let _ = writeln!(io::stderr(), "{} {message}", paint(Stream::Err, style, &format!("{word}:")));
}

/// The text with its colour, if the stream shows colours: a terminal, and `NO_COLOR` is not set.
pub(crate) fn paint(stream: Stream, style: Style, text: &str) -> String {
    if !shows_colour(stream) {
        return text.to_owned();
    }
    let code = match style {
        Style::Strong => "1",
        Style::Good => "32",
        Style::Odd => "33",
        Style::Bad => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Whether somebody watches the stream.
pub(crate) fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Out => io::stdout().is_terminal(),
        Stream::Err => io::stderr().is_terminal(),
    }
}

/// A text of `label  value` lines below a heading, as most commands print.
#[derive(Debug, Default)]
pub(crate) struct Sheet(String);

impl Sheet {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A line of its own, in bold.
    pub(crate) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "{}", paint(Stream::Out, Style::Strong, text));
    }

    /// `label` in its column, and a value after it.
    pub(crate) fn line(&mut self, label: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "  {label:<14} {value}");
    }

    /// Anything, with a line feed after it.
    pub(crate) fn text(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{text}");
    }

    /// Prints all of it.
    pub(crate) fn print(self) -> Result<(), Unprintable> {
        print(&self.0)
    }
}

fn shows_colour(stream: Stream) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb && is_terminal(stream)
}
