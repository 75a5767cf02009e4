//! A value as an operator wrote it, before any key has said what it should be.

use std::fmt;

use toml::de::DeValue;

use super::codec::quoted;

/// The kind of a TOML table.
const TABLE: &str = "a table";

/// A value from a TOML file, or the plain text of an environment variable or flag.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// Plain text without a type of its own: the key decides.
    Bare(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer; wide enough for any that is written by accident.
    Integer(i128),
    /// A TOML boolean.
    Switch(bool),
    /// A TOML array.
    List(Vec<Raw>),
    /// What no key takes: floats, dates, tables; with the name of the kind.
    Other(&'static str),
}

impl Raw {
    /// Takes over a parsed TOML value.
    pub fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or(Self::Other("a number beyond all bounds"), Self::Integer),
            DeValue::Boolean(value) => Self::Switch(*value),
            DeValue::Array(parts) => {
                Self::List(parts.iter().map(|part| Self::from_toml(part.get_ref())).collect())
            }
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date or time"),
            DeValue::Table(_) => Self::Other(TABLE),
        }
    }

    /// Whether it is a table, or a list that begins with one.
    pub fn holds_tables(&self) -> bool {
        match self {
            Self::Other(kind) => *kind == TABLE,
            Self::List(parts) => parts.first().is_some_and(Self::holds_tables),
            _ => false,
        }
    }

    /// The text of a string or of plain text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bare(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The parts of plain `text` that stands for a list: a TOML array when it stands in brackets, else separated
    /// by commas, spaces around them aside. `None` when a TOML array is malformed.
    pub fn split(text: &str) -> Option<Vec<Self>> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Vec::new());
        }
        // `[::1]:8080` begins with a bracket too, and ends with its port.
        if !(text.starts_with('[') && text.ends_with(']')) {
            return Some(text.split(',').map(|part| Self::Bare(part.trim().to_owned())).collect());
        }
        match DeValue::parse(text).map(|value| Self::from_toml(value.get_ref())) {
            Ok(Self::List(parts)) => Some(parts),
            _ => None,
        }
    }

    /// The kind of value, for errors that must not show it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bare(text) | Self::Text(text) if text.is_empty() => "an empty string",
            Self::Bare(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(text) | Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::Switch(value) => value.fmt(f),
            Self::List(_) | Self::Other(_) => f.write_str(self.kind()),
        }
    }
}
