//! Everything that can be wrong with a configuration, and where it stands.
//!
//! A load collects all problems before it fails, so that an operator corrects a file once. Secrets never appear.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{Advice, Rule};
use super::codec::Mismatch;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: it is the built-in default.
    Default,
    /// In the TOML file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// By the environment variable of this name.
    Env(String),
    /// By this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// `; did you mean <nearest>?`, or nothing.
struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// `<origin>: ` unless the value is the default, which stands nowhere.
struct At<'a>(&'a Origin);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Default => Ok(()),
            origin => write!(f, "{origin}: "),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the path given by --config or SHARDCAST_CONFIG", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {}", source.message())]
    Syntax {
        /// Where the parser gave up.
        origin: Origin,
        /// What it says.
        source: Box<toml::de::Error>,
    },
    /// No key, table or variable has this name.
    #[error("{origin}: unknown key {name}{}", Hint(nearest))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The name as written, dotted.
        name: String,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// No key has this environment variable.
    #[error("unknown environment variable {name}{}", Hint(nearest))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// The variable's value is not UTF-8.
    #[error("environment variable {name} does not hold valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// `--set` without a key or without a value.
    #[error("--set takes section.key=value, such as --set server.shards=4; found {found:?}")]
    NotAnAssignment {
        /// The argument.
        found: String,
    },
    /// A table's name holds something else.
    #[error("{origin}: {name} takes a table, written {header}; found {found}")]
    NotATable {
        /// Where it stands.
        origin: Origin,
        /// The section.
        name: &'static str,
        /// How its tables are written.
        header: String,
        /// What stands there.
        found: &'static str,
    },
    /// A table of a repeated section that would leave a gap.
    #[error("{origin}: {path} would leave a gap; the next table of {section} is {section}.{count}")]
    Gap {
        /// Where it stands.
        origin: Origin,
        /// The key.
        path: String,
        /// The section.
        section: &'static str,
        /// How many tables it has.
        count: usize,
    },
    /// The value is not what the key takes.
    #[error("{origin}: {path} takes {expected}; found {}{}", mismatch.found, Hint(&mismatch.nearest))]
    Mismatch {
        /// Where it stands.
        origin: Origin,
        /// The key.
        path: String,
        /// What it takes.
        expected: String,
        /// What was found.
        mismatch: Mismatch,
    },
    /// The value breaks a rule that involves other values or the machine.
    #[error("{}{path}: {rule}", At(origin))]
    Rule {
        /// Where it stands.
        origin: Origin,
        /// The key.
        path: String,
        /// The rule.
        rule: Rule,
    },
}

impl Problem {
    /// Where to list it: by layer, and by line within the file.
    pub(super) fn rank(&self) -> (u8, usize) {
        let origin = match self {
            Self::Unreadable { .. } => return (0, 0),
            Self::UnknownVariable { .. } | Self::NotUnicode { .. } => return (2, 0),
            Self::NotAnAssignment { .. } => return (3, 0),
            Self::Syntax { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::NotATable { origin, .. }
            | Self::Gap { origin, .. }
            | Self::Mismatch { origin, .. }
            | Self::Rule { origin, .. } => origin,
        };
        match origin {
            Origin::File { line, .. } => (1, *line),
            Origin::Env(_) => (2, 0),
            Origin::Flag(_) => (3, 0),
            Origin::Default => (4, 0),
        }
    }
}

/// A configuration that cannot be used, with everything that is wrong with it; never empty.
#[derive(Debug)]
pub struct ConfigError {
    /// What is wrong, in the order of files, environment, flags.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let problems = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {problems}")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// Something that works, and that an operator probably does not want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub origin: Origin,
    /// The key.
    pub path: String,
    /// What is doubtful, and what to do.
    pub advice: Advice,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", At(&self.origin), self.path, self.advice)
    }
}
