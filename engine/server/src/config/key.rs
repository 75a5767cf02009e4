//! The description of a key, and finding one by its name.
//!
//! A key has one name in three spellings: `mounts.0.path` (errors, `--set`), `SHARDCAST_MOUNTS_0_PATH`
//! (environment), and `path` under `[[mounts]]` (TOML). All are derived from the section and the key.

use std::fmt;

use super::Config;
use super::codec::Mismatch;
use super::keys::SECTIONS;
use super::raw::Raw;
use super::suggest::nearest;

/// What every environment variable of the configuration begins with.
pub const ENV_PREFIX: &str = "SHARDCAST_";

/// A table of the TOML file, or each of several (`[[mounts]]`).
#[derive(Debug)]
pub struct Section {
    /// Its dotted name, `auth.tokens`.
    pub name: &'static str,
    /// What it is for, as lines of text.
    pub doc: &'static [&'static str],
    /// Where its tables are, when there can be several.
    pub rows: Option<Rows>,
    /// Its keys, in the order of the reference page.
    pub keys: &'static [Key],
}

/// Access to the list in which the tables of a repeated section are.
#[derive(Debug)]
pub struct Rows {
    /// How many there are.
    pub count: fn(&Config) -> usize,
    /// Makes it so many, new ones with their defaults.
    pub resize: fn(&mut Config, usize),
}

/// One setting. The functions take the index of the table, which must exist (0 where there is only one).
#[derive(Debug)]
pub struct Key {
    /// Its name within the section.
    pub name: &'static str,
    /// What it does, as lines of text.
    pub doc: &'static [&'static str],
    /// Whether a reload applies it.
    pub live: bool,
    /// Whether its value is masked wherever it is shown.
    pub secret: bool,
    /// What it takes, as a noun phrase.
    pub expected: fn() -> String,
    /// Every accepted name and its meaning, when the value is a name.
    pub choices: fn() -> Vec<(&'static str, &'static str)>,
    /// Reads a value into the configuration.
    pub set: fn(&mut Config, usize, &Raw) -> Result<(), Mismatch>,
    /// Takes the value over from another configuration.
    pub copy: fn(&mut Config, &Config, usize),
    /// The value as TOML, secrets included.
    pub write: fn(&Config, usize) -> String,
    /// The value as TOML, secrets masked.
    pub show: fn(&Config, usize) -> String,
}

/// One setting of one table.
#[derive(Clone, Copy, Debug)]
pub struct KeyPath {
    /// The section.
    pub section: &'static Section,
    /// The table within a repeated section, else 0.
    pub index: usize,
    /// The key.
    pub key: &'static Key,
}

/// A name that no key has, with the one that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The known name, in the same spelling.
    pub nearest: Option<String>,
}

impl Section {
    /// The static description of the section named `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.name == name)
    }

    /// How many tables of this section `config` has; 1 for a section that is not repeated.
    pub fn count(&self, config: &Config) -> usize {
        self.rows.as_ref().map_or(1, |rows| (rows.count)(config))
    }

    /// Whether a reload applies all of its keys.
    pub fn live(&self) -> bool {
        self.keys.iter().all(|key| key.live)
    }

    /// `[server]` or `[[mounts]]`.
    pub fn header(&self) -> String {
        if self.rows.is_some() { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }

    /// The path of the key `name` in table `index`, or the key that was probably meant.
    pub fn key(&'static self, index: usize, name: &str) -> Result<KeyPath, Unknown> {
        if let Some(key) = self.keys.iter().find(|key| key.name == name) {
            return Ok(KeyPath { section: self, index, key });
        }
        let sibling = nearest(name, self.keys.iter().map(|key| key.name));
        let nearest = match sibling {
            Some(sibling) => Some(dotted(self, index, sibling)),
            None => elsewhere(name),
        };
        Err(Unknown { nearest })
    }
}

impl KeyPath {
    /// A key that the code names.
    ///
    /// # Panics
    /// When there is no such key: the code and the table of keys disagree.
    pub fn known(section: &str, index: usize, key: &str) -> Self {
        let path = Section::named(section).and_then(|section| section.key(index, key).ok());
        path.unwrap_or_else(|| panic!("the table of keys has no {section}.{key}"))
    }

    /// Finds a key by its dotted name.
    pub fn parse(dotted: &str) -> Result<Self, Unknown> {
        for section in SECTIONS {
            let Some(rest) = dotted.strip_prefix(section.name).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            match (&section.rows, rest.split_once('.')) {
                (None, None) => return section.key(0, rest),
                (Some(_), Some((index, name))) => {
                    if let Ok(index) = index.parse() {
                        return section.key(index, name);
                    }
                }
                _ => {}
            }
        }
        Err(Unknown { nearest: anywhere(dotted, |section, key| self::dotted(section, 0, key)) })
    }

    /// Finds a key by the name of an environment variable.
    pub fn parse_env(variable: &str) -> Result<Self, Unknown> {
        let name = variable.strip_prefix(ENV_PREFIX).unwrap_or(variable);
        for section in SECTIONS {
            let prefix = format!("{}_", section.name.replace('.', "_").to_ascii_uppercase());
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            let (index, rest) = match (&section.rows, rest.split_once('_')) {
                (None, _) => (0, rest),
                (Some(_), Some((index, rest))) => match index.parse() {
                    Ok(index) => (index, rest),
                    Err(_) => continue,
                },
                (Some(_), None) => continue,
            };
            if let Some(key) = section.keys.iter().find(|key| key.name.to_ascii_uppercase() == rest) {
                return Ok(Self { section, index, key });
            }
        }
        Err(Unknown { nearest: anywhere(variable, |section, key| env_name(section, 0, key)) })
    }

    /// The name of the environment variable that sets this key.
    pub fn env(&self) -> String {
        env_name(self.section, self.index, self.key.name)
    }

    /// What tells this path from every other.
    pub fn id(&self) -> (&'static str, usize, &'static str) {
        (self.section.name, self.index, self.key.name)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(self.section, self.index, self.key.name))
    }
}

fn dotted(section: &Section, index: usize, key: &str) -> String {
    match section.rows {
        Some(_) => format!("{}.{index}.{key}", section.name),
        None => format!("{}.{key}", section.name),
    }
}

fn env_name(section: &Section, index: usize, key: &str) -> String {
    format!("{ENV_PREFIX}{}", dotted(section, index, key).replace('.', "_").to_ascii_uppercase())
}

/// The key of exactly this name in some section.
pub(super) fn elsewhere(name: &str) -> Option<String> {
    let section = SECTIONS.iter().find(|section| section.keys.iter().any(|key| key.name == name))?;
    Some(dotted(section, 0, name))
}

/// The key whose spelling is most like `name`, over all sections.
fn anywhere(name: &str, spell: fn(&Section, &str) -> String) -> Option<String> {
    let all: Vec<_> = SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(move |key| spell(section, key.name)))
        .collect();
    nearest(name, all.iter().map(String::as_str)).map(str::to_owned)
}
