//! The effective configuration as text, with the origin of each value.

use std::fmt::Write as _;

use serde::{Serialize, Serializer, ser::Error as _};

use super::{keys, origin::Origin, properties, read, sections::Config};

/// One value in force; `********` for a secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// `section.key`, or `kafka.properties.NAME`.
    pub key: String,
    /// As TOML; serialized as the same value in JSON.
    #[serde(serialize_with = "as_json")]
    pub value: String,
    /// Where it came from, in words.
    pub origin: String,
}

fn as_json<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
    value.parse::<toml::Value>().map_err(S::Error::custom)?.serialize(serializer)
}

impl Config {
    /// Every value in force, in the order of `config/default.toml`; secrets hidden.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for key in keys::KEYS {
            settings.push(self.setting(key.name.to_owned(), (key.show)(self)));
            if key.name == "kafka.group" {
                settings.extend(self.kafka.properties.iter().map(|(name, value)| {
                    let value = read::quoted(properties::shown(name, value));
                    self.setting(format!("{}{name}", properties::PREFIX), value)
                }));
            }
        }
        settings
    }

    fn setting(&self, key: String, value: String) -> Setting {
        let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default).to_string();
        Setting { key, value, origin }
    }

    /// The effective configuration as a TOML file, with the origin of each value in a comment; secrets hidden.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let mut open = String::new();
        for Setting { key, value, origin } in self.settings() {
            let (section, name) = match key.strip_prefix(properties::PREFIX) {
                Some(name) => ("kafka", format!("properties.{}", read::quoted(name))),
                None => key
                    .split_once('.')
                    .map_or(("", key.clone()), |(section, name)| (section, name.to_owned())),
            };
            if open != section {
                let gap = if open.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
                open = section.to_owned();
            }
            let assignment = format!("{name} = {value}");
            let _ = writeln!(text, "{assignment:<46}  # {origin}");
        }
        text
    }
}
