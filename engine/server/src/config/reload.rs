//! What a running server takes over from a configuration that was loaded again.
//!
//! Invariant: a reload that fails, or whose outcome breaks a rule, changes nothing.

use super::Config;
use super::check::check;
use super::key::{Key, KeyPath, Section};
use super::keys::SECTIONS;
use super::load::Loaded;
use super::problem::{ConfigError, Problem};

/// The outcome of a reload.
#[derive(Clone, Debug)]
pub struct Reload<T> {
    /// What the server runs with from here on.
    pub merged: T,
    /// Keys, or whole lists of tables, that changed and are applied: `server.log_level`, `auth.tokens`.
    pub applied: Vec<String>,
    /// Those that changed and wait for a restart.
    pub ignored: Vec<String>,
}

impl Config {
    /// Takes over from `new` what can change while the server runs; the rest stays.
    pub fn reload(&self, new: &Self) -> Reload<Self> {
        let mut reload = Reload { merged: self.clone(), applied: Vec::new(), ignored: Vec::new() };
        for section in SECTIONS {
            if section.rows.is_some() {
                reload.tables(section, self, new);
            } else {
                section.keys.iter().for_each(|key| reload.key(section, key, self, new));
            }
        }
        reload
    }
}

impl Reload<Config> {
    fn key(&mut self, section: &'static Section, key: &'static Key, old: &Config, new: &Config) {
        if (key.write)(old, 0) == (key.write)(new, 0) {
            return;
        }
        if key.live {
            (key.copy)(&mut self.merged, new, 0);
        }
        self.note(key.live, KeyPath { section, index: 0, key }.to_string());
    }

    /// Compares the tables of a repeated section as a whole: they have no identity but their place.
    fn tables(&mut self, section: &'static Section, old: &Config, new: &Config) {
        let Some(rows) = &section.rows else { return };
        let values = |config: &Config| -> Vec<String> {
            let write = |index| section.keys.iter().map(move |key| (key.write)(config, index));
            (0..section.count(config)).flat_map(write).collect()
        };
        if values(old) == values(new) {
            return;
        }
        if section.live() {
            (rows.resize)(&mut self.merged, section.count(new));
            for index in 0..section.count(new) {
                section.keys.iter().for_each(|key| (key.copy)(&mut self.merged, new, index));
            }
        }
        self.note(section.live(), section.name.to_owned());
    }

    fn note(&mut self, live: bool, name: String) {
        if live { self.applied.push(name) } else { self.ignored.push(name) }
    }
}

impl Loaded {
    /// Loads the same sources again and takes over what can change.
    ///
    /// # Errors
    /// Everything that is wrong with what the sources hold now, or with what would come of it; the caller logs it
    /// and runs on with what it has.
    pub fn reload(&self) -> Result<Reload<Self>, ConfigError> {
        let fresh = self.sources.load()?;
        let Reload { merged, applied, ignored } = self.config.reload(&fresh.config);
        let findings = check(&merged, &fresh.sources.machine);
        let problems: Vec<Problem> = findings.problems(&fresh.origins).map(|(_, problem)| problem).collect();
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let warnings = findings.warnings(&fresh.origins);
        Ok(Reload { merged: Self { config: merged, warnings, ..fresh }, applied, ignored })
    }
}
