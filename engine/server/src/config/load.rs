//! Gathers the layers and makes one configuration of them: defaults < file < environment < flags.
//!
//! Invariants: every problem of every layer is reported, not only the first; a configuration leaves here only
//! when there is none; each value remembers which layer set it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::check;
use super::env::foreign;
use super::key::{ENV_PREFIX, KeyPath, Section, Unknown, elsewhere};
use super::keys::SECTIONS;
use super::machine::Machine;
use super::problem::{ConfigError, Origin, Problem, Warning};
use super::raw::Raw;
use super::suggest::nearest;
use super::{Config, Dialect, Mount};

/// The file that is read from the working directory when none is named.
pub const FILE_DEFAULT: &str = "shardcast.toml";

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "SHARDCAST_CONFIG";

/// Which file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChoice {
    /// This one; it must be there.
    Named(PathBuf),
    /// This one if it is there.
    IfPresent(PathBuf),
}

/// A value given on the command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Flag {
    /// A flag of its own.
    Named {
        /// The flag, `--listen`.
        flag: &'static str,
        /// The key it sets, dotted.
        path: &'static str,
        /// The value.
        value: String,
    },
    /// `--set`, with its argument.
    Set(String),
}

/// Where a configuration comes from; loading it again gives what the layers hold then.
#[derive(Clone)]
pub struct Sources {
    /// The file.
    pub file: FileChoice,
    /// The environment; variables of other programs are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// The command line; later flags win.
    pub flags: Vec<Flag>,
    /// The machine that "auto" is worked out from.
    pub machine: Machine,
}

/// A configuration with what is known about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where its values come from.
    pub origins: Origins,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What it was loaded from, for a reload.
    pub sources: Sources,
}

/// Which layer set each value.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    values: BTreeMap<(&'static str, usize, &'static str), Origin>,
    tables: BTreeMap<(&'static str, usize), Origin>,
}

impl Origins {
    /// Where the value of a key was set.
    pub fn of(&self, path: &KeyPath) -> Origin {
        self.values.get(&path.id()).cloned().unwrap_or(Origin::Default)
    }

    /// Where an operator looks for a key: where it was set, else where its table begins.
    pub fn near(&self, path: &KeyPath) -> Origin {
        let (section, index, _) = path.id();
        let origin = self.values.get(&path.id()).or_else(|| self.tables.get(&(section, index)));
        origin.cloned().unwrap_or(Origin::Default)
    }

    /// How many values were set by environment variables, and how many by flags.
    pub fn overrides(&self) -> (usize, usize) {
        let count = |is: fn(&Origin) -> bool| self.values.values().filter(|origin| is(origin)).count();
        (count(|origin| matches!(origin, Origin::Env(_))), count(|origin| matches!(origin, Origin::Flag(_))))
    }
}

/// Shows no values: any of them may be a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        let flags: Vec<_> = self.flags.iter().map(Flag::name).collect();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &env)
            .field("flags", &flags)
            .field("machine", &self.machine)
            .finish()
    }
}

impl Flag {
    /// The flag without its value.
    fn name(&self) -> String {
        match self {
            Self::Named { flag, .. } => (*flag).to_owned(),
            Self::Set(argument) => {
                format!(
                    "--set {}",
                    argument.split_once('=').map_or(argument.as_str(), |(path, _)| path.trim())
                )
            }
        }
    }
}

impl Sources {
    /// The sources of this process: the file is `file`, else what [`FILE_VARIABLE`] names, else [`FILE_DEFAULT`]
    /// if it is there.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let named =
            file.or_else(|| env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
        Self {
            file: named.map_or_else(|| FileChoice::IfPresent(FILE_DEFAULT.into()), FileChoice::Named),
            env: env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(ENV_PREFIX)).collect(),
            flags,
            machine: Machine::detect(),
        }
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// Everything that is wrong, in one error; the caller prints it and does not start, or keeps what it has.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::new();
        let file = layers.file(&self.file);
        layers.env(&self.env);
        self.flags.iter().for_each(|flag| layers.flag(flag));

        let config = layers.config();
        let Layers { origins, mut problems, refused, .. } = layers;
        let findings = check::check(&config, &self.machine);
        // A key whose value was refused holds its default; what follows from that is not the operator's doing.
        problems
            .extend(findings.problems(&origins).filter(|(path, _)| !refused.contains(path)).map(|(_, p)| p));
        if !problems.is_empty() {
            problems.sort_by_key(Problem::rank);
            return Err(ConfigError { problems });
        }
        let warnings = findings.warnings(&origins);
        let mut sources = self.clone();
        if let Some(file) = &file {
            // A reload must not take the loss of the file for an empty one.
            sources.file = FileChoice::Named(file.clone());
        }
        Ok(Loaded { config, origins, warnings, file, sources })
    }
}

/// A value on its way into the configuration.
struct Assignment {
    path: KeyPath,
    raw: Raw,
    origin: Origin,
}

/// What the layers hold, gathered so far.
struct Layers {
    assignments: Vec<Assignment>,
    /// Tables of each repeated section.
    counts: BTreeMap<&'static str, usize>,
    /// The repeated sections that the file speaks of, without tables, too.
    tables_in_file: Vec<&'static str>,
    origins: Origins,
    problems: Vec<Problem>,
    /// Keys whose value was refused.
    refused: Vec<String>,
}

impl Layers {
    fn new() -> Self {
        let config = Config::default();
        let repeated = SECTIONS.iter().filter(|section| section.rows.is_some());
        Self {
            assignments: Vec::new(),
            counts: repeated.map(|section| (section.name, section.count(&config))).collect(),
            tables_in_file: Vec::new(),
            origins: Origins::default(),
            problems: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Reads the file; `None` when there is none.
    fn file(&mut self, choice: &FileChoice) -> Option<PathBuf> {
        let (FileChoice::Named(path) | FileChoice::IfPresent(path)) = choice;
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && matches!(choice, FileChoice::IfPresent(_)) =>
            {
                return None;
            }
            Err(source) => {
                self.problems.push(Problem::Unreadable { path: path.clone(), source });
                return None;
            }
        };
        self.text(path, &text);
        Some(path.clone())
    }

    /// Takes over the text of a TOML file. Of a file that is not valid TOML only the faults count.
    fn text(&mut self, path: &Path, text: &str) {
        let place = Place { path: path.into(), text };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return self.table(&place, None, table.get_ref());
        }
        self.problems.extend(errors.into_iter().map(|source| {
            let at = source.span().map_or(0, |span| span.start);
            Problem::Syntax { origin: place.origin(at), source: Box::new(source) }
        }));
    }

    /// Takes over one table: that of `section`, or the whole file.
    fn table(&mut self, place: &Place<'_>, section: Option<(&'static Section, usize)>, table: &DeTable<'_>) {
        for (key, value) in table {
            let origin = place.origin(key.span().start);
            let key = key.get_ref();
            let name =
                section.map_or_else(|| key.to_string(), |(section, _)| format!("{}.{key}", section.name));
            if let Some(inner) = Section::named(&name) {
                self.section(place, inner, value.get_ref(), origin);
                continue;
            }
            let tables =
                Raw::from_toml(value.get_ref()).holds_tables().then(|| nearest_table(&name)).flatten();
            let found = match (section, tables) {
                (_, Some(header)) => Err(Unknown { nearest: Some(header) }),
                (Some((section, index)), None) => section.key(index, key),
                (None, None) => Err(Unknown { nearest: nearest_at_top(key) }),
            };
            match found {
                Ok(path) => {
                    self.assignments.push(Assignment { path, raw: Raw::from_toml(value.get_ref()), origin });
                }
                Err(Unknown { nearest }) => self.problems.push(Problem::UnknownKey { origin, name, nearest }),
            }
        }
    }

    /// Takes over what stands under the name of `section`.
    fn section(&mut self, place: &Place<'_>, section: &'static Section, value: &DeValue<'_>, origin: Origin) {
        let not_a_table = |origin, found: &DeValue<'_>| Problem::NotATable {
            origin,
            name: section.name,
            header: section.header(),
            found: match found {
                DeValue::Table(_) => "one table",
                other => Raw::from_toml(other).kind(),
            },
        };
        match (value, &section.rows) {
            (DeValue::Table(table), None) => self.table(place, Some((section, 0)), table),
            (DeValue::Array(tables), Some(_)) => {
                self.tables_in_file.push(section.name);
                self.counts.insert(section.name, tables.len());
                for (index, table) in tables.iter().enumerate() {
                    let origin = place.origin(table.span().start);
                    match table.get_ref() {
                        DeValue::Table(table) => {
                            self.origins.tables.insert((section.name, index), origin);
                            self.table(place, Some((section, index)), table);
                        }
                        other => self.problems.push(not_a_table(origin, other)),
                    }
                }
            }
            (other, _) => self.problems.push(not_a_table(origin, other)),
        }
    }

    /// Takes over the environment, in the order of names, so that tables are added in the order of their numbers.
    fn env(&mut self, variables: &[(OsString, OsString)]) {
        let mut ours: Vec<_> = Vec::new();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if !name.starts_with(ENV_PREFIX) || name == FILE_VARIABLE {
                continue;
            }
            let Some(value) = value.to_str() else {
                self.problems.push(Problem::NotUnicode { name: name.into_owned() });
                continue;
            };
            if foreign(&name, value) {
                continue;
            }
            match KeyPath::parse_env(&name) {
                Ok(path) => ours.push((path, name.into_owned(), value)),
                Err(Unknown { nearest }) => {
                    self.problems.push(Problem::UnknownVariable { name: name.into_owned(), nearest });
                }
            }
        }
        ours.sort_by_key(|(path, _, _)| path.id());
        for (path, name, value) in ours {
            self.assign(path, value, Origin::Env(name));
        }
    }

    /// Takes over one flag.
    fn flag(&mut self, flag: &Flag) {
        let (path, value, origin) = match flag {
            Flag::Named { path, value, .. } => (*path, value.as_str(), Origin::Flag(flag.name())),
            Flag::Set(argument) => match argument.split_once('=') {
                Some((path, value)) if !path.trim().is_empty() => {
                    (path.trim(), value.trim(), Origin::Flag(flag.name()))
                }
                _ => return self.problems.push(Problem::NotAnAssignment { found: argument.clone() }),
            },
        };
        match KeyPath::parse(path) {
            Ok(path) => self.assign(path, value, origin),
            Err(Unknown { nearest }) => {
                self.problems.push(Problem::UnknownKey { origin, name: path.to_owned(), nearest });
            }
        }
    }

    /// Notes plain text for a key; a table of a repeated section may be one of those there are, or the next.
    fn assign(&mut self, path: KeyPath, value: &str, origin: Origin) {
        if let Some(count) = self.counts.get_mut(path.section.name) {
            if path.index > *count {
                let (section, count) = (path.section.name, *count);
                return self.problems.push(Problem::Gap { origin, path: path.to_string(), section, count });
            }
            if path.index == *count {
                *count += 1;
                self.origins.tables.insert((path.section.name, path.index), origin.clone());
            }
        }
        self.assignments.push(Assignment { path, raw: Raw::Bare(value.to_owned()), origin });
    }

    /// Makes the configuration of what was gathered; values that are refused become problems.
    fn config(&mut self) -> Config {
        let mut config = Config::default();
        for section in SECTIONS {
            if let (Some(rows), Some(count)) = (&section.rows, self.counts.get(section.name)) {
                (rows.resize)(&mut config, *count);
            }
        }
        self.mounts(&mut config);
        let is_left_out = self.leaves_mounts_out();
        for Assignment { path, raw, origin } in self.assignments.drain(..) {
            match (path.key.set)(&mut config, path.index, &raw) {
                Ok(()) => {
                    self.origins.values.insert(path.id(), origin);
                }
                Err(mismatch) => {
                    let (path, expected) = (path.to_string(), (path.key.expected)());
                    self.refused.push(path.clone());
                    self.problems.push(Problem::Mismatch { origin, path, expected, mismatch });
                }
            }
        }
        if config.auth.dev && is_left_out {
            config.mounts.push(Mount::for_dialect(Dialect::Topic));
        }
        config
    }

    /// Whether no layer says anything about mounts.
    fn leaves_mounts_out(&self) -> bool {
        !self.tables_in_file.contains(&Mount::NAME)
            && !self.assignments.iter().any(|assignment| assignment.path.section.name == Mount::NAME)
    }

    /// Gives each mount the defaults of its dialect, which must be known before its other keys are set.
    fn mounts(&self, config: &mut Config) {
        let dialects = self
            .assignments
            .iter()
            .filter(|a| a.path.section.name == "mounts" && a.path.key.name == "dialect");
        for Assignment { path, raw, .. } in dialects {
            // A name that is refused here is reported when it is set for good.
            if (path.key.set)(config, path.index, raw).is_ok()
                && let Some(mount) = config.mounts.get_mut(path.index)
            {
                *mount = Mount::for_dialect(mount.dialect);
            }
        }
    }
}

/// A file's text, to find lines in.
struct Place<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl Place<'_> {
    /// The line that holds the byte at `at`.
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File { path: Arc::clone(&self.path), line }
    }
}

/// The table that an unknown one was probably meant to be, as its header.
fn nearest_table(name: &str) -> Option<String> {
    let name = nearest(name, SECTIONS.iter().map(|section| section.name))?;
    Section::named(name).map(Section::header)
}

/// The key that a name outside every table was probably meant to be.
fn nearest_at_top(name: &str) -> Option<String> {
    let keys = SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| key.name));
    elsewhere(name).or_else(|| nearest(name, keys).and_then(elsewhere))
}
