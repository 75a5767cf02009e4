//! An event as a line: one JSON object, in ASCII alone.
//!
//! Whatever a stranger put into a name, the line has no byte outside `0x20..=0x7e` but the newline at its end: no
//! line can be broken or forged, no terminal is told anything, and no text changes its direction. Readers of JSON
//! get the characters back.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};
use shardcast_wire::date;

use super::event::Event;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    instance: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Appends the line of `event` to `out`.
pub(super) fn append(out: &mut Vec<u8>, unix_ms: u64, instance: &str, event: &Event) {
    let line = Line { time: date::iso_ms(unix_ms), instance, event };
    let begin = out.len();
    let written = line.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Ascii));
    written.expect("an event has no maps with other keys than text, and memory takes every byte");
    debug_assert!(out[begin..].iter().all(|byte| matches!(byte, 0x20..=0x7e)));
    out.push(b'\n');
}

/// Writes compact JSON in ASCII.
struct Ascii;

impl Formatter for Ascii {
    /// `fragment` holds what JSON lets stand unescaped: all but quotes, backslashes and the first 32 characters.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            if matches!(c, ' '..='~') {
                writer.write_all(&[c as u8])?;
            } else {
                c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        let text: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"\\/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn line(event: &Event) -> String {
        let mut out = Vec::new();
        append(&mut out, 1_795_312_104_999, "i-1", event);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_line_has_its_time_its_instance_and_the_fields_of_its_event() {
        assert_eq!(
            line(&Event::Stop { forced: false }),
            "{\"time\":\"2026-11-22T01:48:24.999Z\",\"instance\":\"i-1\",\"event\":\"stop\",\"forced\":false}\n"
        );
    }

    #[test]
    fn attack_81_no_text_breaks_a_line_or_speaks_to_a_terminal() {
        let nasty = [
            "\r\n{\"event\":\"auth_accepted\"}",
            "\x1b[2J\x1b]0;title\x07",
            "\u{9b}31m\u{85}\u{2028}\u{2029}",
            "\u{202e}txt.exe\u{2066}\u{200f}",
            "\0\u{7f}\"\\\u{feff}",
            "😀é",
        ];
        for text in nasty {
            let line = line(&Event::api_refused(Ipv4Addr::LOCALHOST.into(), "GET", text, "key_missing"));
            let (body, end) = line.split_at(line.len() - 1);
            assert_eq!(end, "\n");
            assert!(body.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{body:?}");
            let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!((value["path"].as_str(), value["event"].as_str()), (Some(text), Some("api_refused")));
        }
    }
}
