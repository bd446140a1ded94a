//! Adds one value after another to a configuration, and collects the problems.

use super::{
    error::{ConfigError, Problem, did_you_mean},
    keys,
    origin::Origin,
    properties,
    read::{self, Raw},
    sections::Config,
};

/// A configuration in the making, and the problems so far.
#[derive(Debug, Default)]
pub(super) struct Merging {
    config: Config,
    problems: Vec<Problem>,
}

impl Merging {
    pub(super) fn problem(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin, message });
    }

    /// Reads the value of a key.
    pub(super) fn set(&mut self, name: &str, raw: &Raw<'_>, origin: Origin) {
        if let Some(property) = name.strip_prefix(properties::PREFIX) {
            return self.set_property(property, raw, origin);
        }
        let Some(key) = keys::find(name) else {
            return self.unknown_key(name, origin);
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

    pub(super) fn unknown_key(&mut self, name: &str, origin: Origin) {
        // The right key in the wrong section is as likely as a misspelt one.
        let last = name.rsplit('.').next().unwrap_or(name);
        let hint = match keys::KEYS.iter().find(|key| key.field() == last) {
            Some(key) => format!("; did you mean `{}`?", key.name),
            None => did_you_mean(name, keys::KEYS.iter().map(|key| key.name)),
        };
        self.problem(origin, format!("unknown key `{name}`{hint}"));
    }

    /// The configuration, or every problem: those of the file from top to bottom, then of variables, then of flags.
    pub(super) fn finish(mut self) -> Result<Config, ConfigError> {
        self.check_topics();
        for (name, value) in self.config.kafka.properties.clone() {
            if let Some(message) = properties::problem(&name, &value) {
                self.blame(&format!("{}{name}", properties::PREFIX), message);
            }
        }
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        self.problems.sort_by_key(|problem| match &problem.origin {
            Origin::Default => (0, 0, 0),
            Origin::File { line, column, .. } => (1, *line, *column),
            Origin::Variable(_) => (2, 0, 0),
            Origin::Flag(_) => (3, 0, 0),
        });
        Err(ConfigError { problems: self.problems, log_format: self.config.telemetry.format })
    }

    /// No topic may have two roles.
    fn check_topics(&mut self) {
        let topics = &self.config.topics;
        let topics = [
            ("topics.commands", topics.commands.clone()),
            ("topics.notifications", topics.notifications.clone()),
            ("topics.rejections", topics.rejections.clone()),
        ];
        for (index, (name, topic)) in topics.iter().enumerate() {
            if let Some((other, _)) = topics[..index].iter().find(|(_, earlier)| earlier == topic) {
                // The one that was set is to blame, not the default.
                let blamed = if self.config.origins.contains_key(*name) { name } else { other };
                let topic = read::quoted(topic);
                self.blame(blamed, format!("`{name}` and `{other}` are both {topic}: they must differ"));
            }
        }
        for (name, topic) in topics {
            // A reply there would be mistaken for other output, or for a command.
            if self.config.topics.replies.allows(&topic) {
                let topic = read::quoted(topic);
                let message = format!("`topics.replies` has {topic}, which is `{name}`: it must be another");
                self.blame("topics.replies", message);
            }
        }
    }

    /// Adds a problem of the value that `key` has now.
    fn blame(&mut self, key: &str, message: String) {
        let origin = self.config.origins.get(key).cloned().unwrap_or(Origin::Default);
        self.problem(origin, message);
    }
}
