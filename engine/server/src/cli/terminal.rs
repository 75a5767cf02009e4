//! Printing for people and pipes: colour only on a terminal, and no complaint when a pipe is closed early.

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use super::chain;

/// A colour, as the parameter of its escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Done, fine.
    Green,
    /// Doubtful.
    Yellow,
    /// Wrong.
    Red,
}

/// Whether a stream takes colour.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    colour: bool,
}

impl Terminal {
    /// For standard error.
    pub fn of_stderr() -> Self {
        Self::new(io::stderr().is_terminal())
    }

    /// For standard output.
    pub fn of_stdout() -> Self {
        Self::new(io::stdout().is_terminal())
    }

    /// Source: <https://no-color.org>; a terminal of type `dumb` takes no colour either.
    fn new(is_terminal: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: is_terminal && !refused && !dumb }
    }

    /// Whether it takes colour.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Prints an error with its causes to standard error.
    pub fn error(&self, error: &(dyn Error + 'static)) {
        let text = chain(error).collect::<Vec<_>>().join("\n  because: ");
        self.line(&paint("error:", Colour::Red, self.colour), &text);
    }

    /// Prints a warning to standard error.
    pub fn warning(&self, warning: &dyn fmt::Display) {
        self.line(&paint("warning:", Colour::Yellow, self.colour), warning);
    }

    /// Prints a text as it is to standard error.
    pub fn note(&self, text: &str) {
        // With standard error closed there is nobody left to tell.
        writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
    }

    fn line(&self, label: &str, text: &dyn fmt::Display) {
        // With standard error closed there is nobody left to tell.
        writeln!(io::stderr().lock(), "{label} {text}").unwrap_or_default();
    }
}

/// `text` in bold `colour`, or as it is.
pub fn paint(text: &str, colour: Colour, enabled: bool) -> String {
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
    };
    if enabled { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Writes a result to standard output. A reader that has closed the pipe (`| head`) has what it wanted.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
