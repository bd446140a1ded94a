//! Where values come from, and the merging of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::did_you_mean;
use super::read::Raw;
use super::{Config, ConfigError, Problem, keys, properties};

/// Every environment variable of the program begins with it.
pub const ENVIRONMENT_PREFIX: &str = "ACTIVITY_STREAM_";
const CONFIG_VARIABLE: &str = "ACTIVITY_STREAM_CONFIG";

/// What a configuration is made of; the later field wins.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file. Without one, `ACTIVITY_STREAM_CONFIG` may name it.
    pub file: Option<PathBuf>,
    /// All variables, those of other programs too.
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

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize, column: usize },
    Variable(String),
    Flag(String),
}

impl Override {
    pub(crate) fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { flag: flag.into(), key: key.into(), value: value.into() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Where each value that is not a default came from, by `section.key`.
pub type Origins = BTreeMap<String, Origin>;

impl Sources {
    /// The process's own environment, with a file and what flags set.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), overrides }
    }

    /// Weakest first, so that each source overwrites what it wins over.
    pub(super) fn read_into(self, merging: &mut Merging) {
        let variables = own_variables(self.environment, merging);
        let by_variable = variables.iter().find(|(name, _)| *name == CONFIG_VARIABLE);
        let file = match (self.file, by_variable) {
            (Some(path), _) => Some((path, Origin::Flag("--config".to_owned()))),
            (None, Some((name, path))) => Some((path.into(), Origin::Variable(name.clone()))),
            (None, None) => None,
        };
        if let Some((path, named_by)) = file {
            merging.read_file(&path, named_by);
        }
        for (name, value) in &variables {
            if name != CONFIG_VARIABLE {
                merging.read_variable(name, value);
            }
        }
        for Override { key, value, flag } in &self.overrides {
            merging.set(key, &Raw::Text(value), Origin::Flag(flag.clone()));
        }
    }
}

/// The program's own variables as text, in the order of their names.
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

/// Kubernetes puts these into every container beside a Service that is named `activity-stream`; nobody wrote
/// them, so they are not mistakes.
fn is_service_link(name: &str) -> bool {
    let rest = &name[ENVIRONMENT_PREFIX.len()..];
    rest == "SERVICE_HOST" || rest == "PORT" || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT_")
}

fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

/// A configuration that is being put together, and what was wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Merging {
    pub(super) config: Config,
    problems: Vec<Problem>,
}

impl Merging {
    pub(super) fn problem(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin, message });
    }

    pub(super) fn is_default(&self, key: &str) -> bool {
        !self.config.origins.contains_key(key)
    }

    /// A problem of the value that `key` has now.
    pub(super) fn blame(&mut self, key: &str, message: String) {
        let origin = self.config.origins.get(key).cloned().unwrap_or(Origin::Default);
        self.problem(origin, message);
    }

    /// The configuration, or all that is wrong: the file from top to bottom, then variables, then flags.
    pub(super) fn finish(mut self) -> Result<Config, ConfigError> {
        self.problems.sort_by_key(|problem| match &problem.origin {
            Origin::Default => (0, 0, 0),
            Origin::File { line, column, .. } => (1, *line, *column),
            Origin::Variable(_) => (2, 0, 0),
            Origin::Flag(_) => (3, 0, 0),
        });
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        Err(ConfigError { problems: self.problems, log_format: self.config.telemetry.format })
    }

    /// Reads one value into the configuration.
    pub(super) fn set(&mut self, name: &str, raw: &Raw<'_>, origin: Origin) {
        if let Some(property) = name.strip_prefix(properties::PREFIX) {
            return self.set_property(property, raw, origin);
        }
        let Some(key) = keys::find(name) else {
            return self.unknown(name, origin);
        };
        match (key.read)(&mut self.config, raw) {
            Ok(()) => drop(self.config.origins.insert(name.to_owned(), origin)),
            Err(message) => self.problem(origin, format!("`{name}`: {message}")),
        }
    }

    fn set_property(&mut self, property: &str, raw: &Raw<'_>, origin: Origin) {
        match properties::read(property, raw) {
            Ok((canonical, value)) => {
                self.config.origins.insert(format!("{}{canonical}", properties::PREFIX), origin);
                self.config.kafka.properties.insert(canonical, value);
            }
            Err(message) => self.problem(origin, message),
        }
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        // The right key in the wrong section is as likely as a misspelt one.
        let last = name.rsplit('.').next().unwrap_or(name);
        let hint =
            match keys::KEYS.iter().find(|key| key.name.split_once('.').is_some_and(|(_, k)| k == last)) {
                Some(key) => format!("; did you mean `{}`?", key.name),
                None => did_you_mean(name, keys::KEYS.iter().map(|key| key.name)),
            };
        self.problem(origin, format!("unknown key `{name}`{hint}"));
    }

    fn read_variable(&mut self, variable: &str, value: &str) {
        let origin = Origin::Variable(variable.to_owned());
        let rest = &variable[ENVIRONMENT_PREFIX.len()..];
        if let Some(property) = rest.strip_prefix("KAFKA_PROPERTIES_") {
            return self.set_property(&properties::of_variable(property), &Raw::Text(value), origin);
        }
        match keys::KEYS.iter().find(|key| variable_of(key.name) == variable) {
            Some(key) => self.set(key.name, &Raw::Text(value), origin),
            None => {
                let known: Vec<String> = keys::KEYS.iter().map(|key| variable_of(key.name)).collect();
                let known = known.iter().map(String::as_str).chain([CONFIG_VARIABLE]);
                let hint = did_you_mean(variable, known);
                self.problem(origin, format!("unknown environment variable{hint}"));
            }
        }
    }

    fn read_file(&mut self, path: &Path, named_by: Origin) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("cannot read the configuration file {}: {error}", path.display());
                return self.problem(named_by, message);
            }
        };
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Origin::File {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => self.read_sections(table.get_ref(), &place),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                self.problem(place(offset), format!("not TOML: {}", error.message()));
            }
        }
    }

    fn read_sections(&mut self, file: &DeTable<'_>, place: &impl Fn(usize) -> Origin) {
        for (section, value) in file {
            let name = section.get_ref();
            let is_known = keys::KEYS.iter().any(|key| section_of(key.name) == name.as_ref());
            match value.get_ref() {
                DeValue::Table(table) if is_known => self.read_section(name, table, place),
                DeValue::Table(_) => {
                    let hint = did_you_mean(name, keys::KEYS.iter().map(|key| section_of(key.name)));
                    self.problem(place(section.span().start), format!("unknown section `[{name}]`{hint}"));
                }
                _ if is_known => {
                    let message = format!("`{name}`: {}", Raw::Toml(value.get_ref()).expected("a section"));
                    self.problem(place(value.span().start), message);
                }
                _ => self.unknown(name, place(section.span().start)),
            }
        }
    }

    fn read_section(&mut self, section: &str, table: &DeTable<'_>, place: &impl Fn(usize) -> Origin) {
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            if name == "kafka.properties" {
                self.read_properties("", value, place);
            } else if keys::find(&name).is_some() {
                self.set(&name, &Raw::Toml(value.get_ref()), place(value.span().start));
            } else {
                self.unknown(&name, place(key.span().start));
            }
        }
    }

    /// `sasl.password = …` is a table in a table to TOML, `"sasl.password" = …` is not; both name one property.
    fn read_properties(
        &mut self,
        prefix: &str,
        value: &Spanned<DeValue<'_>>,
        place: &impl Fn(usize) -> Origin,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    self.read_properties(&format!("{prefix}{dot}{}", key.get_ref()), value, place);
                }
            }
            other if prefix.is_empty() => {
                let message = Raw::Toml(other).expected("a table of librdkafka properties");
                self.problem(place(value.span().start), format!("`kafka.properties`: {message}"));
            }
            other => self.set_property(prefix, &Raw::Toml(other), place(value.span().start)),
        }
    }
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}
