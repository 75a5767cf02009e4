//! Makes a log event one harmless line, whatever is in it.
//!
//! Values are escaped nowhere else: a call that logs something of a peer need not think of it.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Longest line; what is beyond it is left out.
pub(super) const LINE_BYTES_MAX: usize = 8 << 10;

/// How lines are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people; `ansi`: with colours, which are the formatter's own (it escapes those of values itself).
    Human { ansi: bool },
    /// JSON objects.
    Json,
}

/// A writer that takes one event a call, as `tracing_subscriber` writes them.
pub(super) struct Clean<W> {
    inner: W,
    form: Form,
}

impl<W: Write> Clean<W> {
    pub(super) fn new(inner: W, form: Form) -> Self {
        Self { inner, form }
    }
}

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if !event.is_empty() {
            self.inner.write_all(line(&String::from_utf8_lossy(event), self.form).as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn line(event: &str, form: Form) -> String {
    let event = event.strip_suffix('\n').unwrap_or(event);
    let mut out = String::with_capacity(event.len() + 1);
    for c in event.chars() {
        if out.len() >= LINE_BYTES_MAX {
            shorten(&mut out, event.len(), form);
            break;
        }
        match form {
            _ if !is_harmful(c) => out.push(c),
            Form::Human { ansi: true } if c == '\x1b' => out.push(c),
            Form::Human { .. } => out.extend(c.escape_default()),
            Form::Json => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("writing to a String does not fail");
                }
            }
        }
    }
    out.push('\n');
    out
}

/// Says that something is missing. Half an object would be none, so of JSON nothing is left.
fn shorten(out: &mut String, bytes: usize, form: Form) {
    match form {
        Form::Human { ansi } => {
            let reset = if ansi { "\x1b[0m" } else { "" };
            write!(out, "{reset}… (of {bytes} bytes)")
        }
        Form::Json => {
            out.clear();
            write!(out, "{{\"level\":\"WARN\",\"fields\":{{\"message\":\"a log line was too long\",\"bytes\":{bytes}}}}}")
        }
    }
    .expect("writing to a String does not fail");
}

/// Whether a character ends a line, speaks to a terminal, or changes the direction of what follows.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\r\nINFO b\x1b[2J\u{9b}1m\u{7f}\0\u{85}\u{2028}\u{202e}é\tc";

    #[test]
    fn attack_81_an_event_is_one_line_that_tells_a_terminal_nothing() {
        let plain = line(&format!("{NASTY}\n"), Form::Human { ansi: false });
        assert_eq!(plain, "a\\r\\nINFO b\\u{1b}[2J\\u{9b}1m\\u{7f}\\u{0}\\u{85}\\u{2028}\\u{202e}é\tc\n");
        let coloured = line("\x1b[31mred\nnext\x1b[0m\n", Form::Human { ansi: true });
        assert_eq!(coloured, "\x1b[31mred\\nnext\x1b[0m\n");
        let json = line("{\"a\":\"\u{9b}\u{202e}é\"}\n", Form::Json);
        assert_eq!(json, "{\"a\":\"\\u009b\\u202eé\"}\n");
    }

    #[test]
    fn attack_81_a_long_event_is_cut_and_says_so() {
        let long = "\n".repeat(1 << 20);
        let cut = line(&long, Form::Human { ansi: false });
        assert!(cut.len() < LINE_BYTES_MAX + 64, "{}", cut.len());
        assert!(cut.ends_with("… (of 1048575 bytes)\n"), "{}", &cut[cut.len() - 64..]);
        let json = line(&format!("{{\"a\":\"{}\"}}\n", "x".repeat(1 << 20)), Form::Json);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["fields"]["bytes"], 1_048_584);
    }

    #[test]
    fn an_event_of_nothing_writes_nothing() {
        let mut out = Vec::new();
        let written = Clean::new(&mut out, Form::Json).write(b"");
        assert_eq!((written.ok(), out.len()), (Some(0), 0));
    }
}
