//! The brokers, and how to connect to them.

use std::collections::BTreeMap;

use contract::ReplyTopics;
use kafka::{
    Settings, Topics,
    properties::{canonical, protected},
};

use super::error::SetupError;

/// Brokers and librdkafka properties, as given.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    bootstrap_servers: String,
    properties: Vec<(String, String)>,
}

/// Properties that a client refuses for other reasons than the processor does (`protected`).
const REASONS: [(&str, &str); 8] = [
    ("bootstrap.servers", "it is an argument of the builder"),
    ("group.id", "it is an argument of the stream's builder"),
    ("group.protocol", "the stream is made for the classic protocol"),
    ("transactional.id", "the client posts outside of transactions"),
    ("auto.offset.reset", "a new group begins with the first notification that is retained"),
    ("enable.auto.commit", ACKNOWLEDGED),
    ("enable.auto.offset.store", ACKNOWLEDGED),
    ("offset.store.method", ACKNOWLEDGED),
];
const ACKNOWLEDGED: &str = "offsets are committed once their notifications are acknowledged";
/// Protected in the processor for its transactions, which a client does not have.
const FREE: [&str; 2] = ["delivery.timeout.ms", "queuing.strategy"];

impl Connection {
    pub fn new(bootstrap_servers: String) -> Self {
        Self { bootstrap_servers, properties: Vec::new() }
    }

    pub fn set(&mut self, name: String, value: String) {
        self.properties.push((name, value));
    }

    /// The settings for a client with these names; `group` is for a consumer.
    pub fn settings(&self, group: &str, commands: &str, notifications: &str) -> Result<Settings, SetupError> {
        let mut properties = BTreeMap::new();
        for (name, value) in &self.properties {
            let canonical = canonical(name);
            if let Some(reason) = reason(canonical) {
                return Err(SetupError::Property { name: name.clone(), reason });
            }
            properties.insert(canonical.to_owned(), value.clone());
        }
        Ok(Settings {
            bootstrap_servers: self.bootstrap_servers.clone(),
            group: group.to_owned(),
            properties,
            topics: Topics {
                commands: commands.to_owned(),
                notifications: notifications.to_owned(),
                // Unused: a client creates no topics and reads no rejections.
                rejections: String::new(),
                replies: ReplyTopics::default(),
                partitions: 1,
                replication_factor: -1,
                largest_command: 0,
            },
        })
    }
}

fn reason(canonical: &str) -> Option<&'static str> {
    let own = REASONS.iter().find(|(name, _)| *name == canonical).map(|(_, reason)| *reason);
    own.or_else(|| protected(canonical).filter(|_| !FREE.contains(&canonical)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> Result<Settings, SetupError> {
        let mut connection = Connection::new("localhost:9092".into());
        connection.set(name.into(), value.into());
        connection.settings("g", "c", "n")
    }

    #[test]
    fn properties_that_keep_the_promises_are_refused_by_any_of_their_names() {
        let names = REASONS.map(|(name, _)| name);
        let more = ["request.required.acks", "topic.acks", "isolation.level", "enable.idempotence"];
        for name in names.into_iter().chain(more) {
            let error = settings(name, "x").unwrap_err();
            assert!(matches!(&error, SetupError::Property { name: found, .. } if found == name), "{error}");
        }
    }

    #[test]
    fn others_are_passed_on_under_their_one_name() {
        let passed = |name| settings(name, "5").unwrap().properties.into_keys().next().unwrap();
        assert_eq!(passed("queue.buffering.max.ms"), "linger.ms");
        assert_eq!(passed("message.timeout.ms"), "delivery.timeout.ms");
        assert_eq!(passed("sasl.username"), "sasl.username");
    }
}
