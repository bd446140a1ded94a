//! The sources of a configuration: file, environment and flags.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, did_you_mean},
    keys::{self, KEYS},
    merging::Merging,
    origin::Origin,
    properties,
    read::Raw,
    sections::Config,
};

/// The prefix of all environment variables of the program.
pub const ENVIRONMENT_PREFIX: &str = "ACTIVITY_STREAM_";
const CONFIG_VARIABLE: &str = "ACTIVITY_STREAM_CONFIG";

/// What a configuration is made of; the later field wins.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file. Without one, `ACTIVITY_STREAM_CONFIG` may name it.
    pub file: Option<PathBuf>,
    /// All variables, including those of other programs.
    pub environment: Vec<(OsString, OsString)>,
    /// What flags set; a later one wins over an earlier one.
    pub overrides: Vec<Override>,
}

/// A value that a flag sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// `section.key`, or `kafka.properties.NAME`.
    pub key: String,
    pub value: String,
    /// The flag, as the user knows it: `--group`.
    pub flag: String,
}

impl Override {
    pub(crate) fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { flag: flag.into(), key: key.into(), value: value.into() }
    }
}

impl Sources {
    /// A file, the process's own environment, and what flags set.
    pub(crate) fn of_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), overrides }
    }
}

impl Config {
    /// Reads, merges and checks the sources.
    ///
    /// # Errors
    ///
    /// Every problem of every source at once: unknown keys, bad values, protected librdkafka properties, topics
    /// that are not distinct, a file that cannot be read.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let mut merging = Merging::default();
        let variables = own_variables(sources.environment, &mut merging);
        let by_variable = variables.get(CONFIG_VARIABLE);
        let file = match (sources.file, by_variable) {
            (Some(path), _) => Some((path, Origin::Flag("--config".to_owned()))),
            (None, Some(path)) => Some((path.into(), Origin::Variable(CONFIG_VARIABLE.to_owned()))),
            (None, None) => None,
        };
        // The weakest source first: each overwrites the values of those before it.
        if let Some((path, named_by)) = file {
            read_file(&path, named_by, &mut merging);
        }
        for (name, value) in variables.iter().filter(|(name, _)| *name != CONFIG_VARIABLE) {
            read_variable(name, value, &mut merging);
        }
        for Override { key, value, flag } in &sources.overrides {
            merging.set(key, &Raw::Text(value), Origin::Flag(flag.clone()));
        }
        merging.finish()
    }
}

/// The program's own variables by name.
fn own_variables(all: Vec<(OsString, OsString)>, merging: &mut Merging) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for (name, value) in all {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(ENVIRONMENT_PREFIX) || is_service_link(&name) {
            continue;
        }
        match value.into_string() {
            Ok(value) => drop(own.insert(name, value)),
            Err(_) => merging.problem(Origin::Variable(name), "the value is not UTF-8".to_owned()),
        }
    }
    own
}

/// Kubernetes adds these to every container beside a Service named `activity-stream`, so they are nobody's mistake.
fn is_service_link(name: &str) -> bool {
    let rest = &name[ENVIRONMENT_PREFIX.len()..];
    rest == "SERVICE_HOST" || rest == "PORT" || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT_")
}

fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

fn read_variable(variable: &str, value: &str, merging: &mut Merging) {
    let origin = Origin::Variable(variable.to_owned());
    let rest = &variable[ENVIRONMENT_PREFIX.len()..];
    if let Some(property) = rest.strip_prefix("KAFKA_PROPERTIES_") {
        let property = format!("{}{}", properties::PREFIX, properties::of_variable(property));
        return merging.set(&property, &Raw::Text(value), origin);
    }
    match KEYS.iter().find(|key| variable_of(key.name) == variable) {
        Some(key) => merging.set(key.name, &Raw::Text(value), origin),
        None => {
            let known: Vec<String> = KEYS.iter().map(|key| variable_of(key.name)).collect();
            let known = known.iter().map(String::as_str).chain([CONFIG_VARIABLE]);
            let hint = did_you_mean(variable, known);
            merging.problem(origin, format!("unknown environment variable{hint}"));
        }
    }
}

fn read_file(path: &Path, named_by: Origin, merging: &mut Merging) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read the configuration file {}: {error}", path.display());
            return merging.problem(named_by, message);
        }
    };
    let mut file = File { path, text: &text, merging };
    match DeTable::parse(&text) {
        Ok(table) => file.read_sections(table.get_ref()),
        Err(error) => {
            let origin = file.origin(error.span().map_or(0, |span| span.start));
            file.merging.problem(origin, format!("not TOML: {}", error.message()));
        }
    }
}

/// A file that is being read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    merging: &'a mut Merging,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text[..offset.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn origin_of<T>(&self, spanned: &Spanned<T>) -> Origin {
        self.origin(spanned.span().start)
    }

    fn read_sections(&mut self, table: &DeTable<'_>) {
        for (section, value) in table {
            let name = section.get_ref();
            let is_known = KEYS.iter().any(|key| key.section() == name.as_ref());
            match value.get_ref() {
                DeValue::Table(table) if is_known => self.read_section(name, table),
                DeValue::Table(_) => {
                    let hint = did_you_mean(name, KEYS.iter().map(keys::Key::section));
                    self.merging
                        .problem(self.origin_of(section), format!("unknown section `[{name}]`{hint}"));
                }
                other if is_known => {
                    let message = format!("`{name}`: {}", Raw::Toml(other).expected("a section"));
                    self.merging.problem(self.origin_of(value), message);
                }
                _ => self.merging.unknown_key(name, self.origin_of(section)),
            }
        }
    }

    fn read_section(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            if name == "kafka.properties" {
                self.read_properties(&name, value);
            } else if keys::find(&name).is_some() {
                self.merging.set(&name, &Raw::Toml(value.get_ref()), self.origin_of(value));
            } else {
                self.merging.unknown_key(&name, self.origin_of(key));
            }
        }
    }

    /// To TOML `sasl.password = …` is a table in a table and `"sasl.password" = …` is not; both name one property.
    fn read_properties(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.read_properties(&format!("{name}.{}", key.get_ref()), value);
                }
            }
            other if name.starts_with(properties::PREFIX) => {
                self.merging.set(name, &Raw::Toml(other), self.origin_of(value));
            }
            other => {
                let message = Raw::Toml(other).expected("a table of librdkafka properties");
                self.merging.problem(self.origin_of(value), format!("`{name}`: {message}"));
            }
        }
    }
}
