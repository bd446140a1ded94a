//! The librdkafka properties that an operator sets: which are refused, and which are secrets.

use kafka::properties::{canonical, protected};
use rdkafka::{ClientConfig, error::KafkaError};
use toml::de::DeValue;

use super::{error::did_you_mean, read::Raw};

/// The prefix of their keys.
pub(super) const PREFIX: &str = "kafka.properties.";

/// The properties that people usually set, for "did you mean".
const COMMON: &[&str] = &[
    "client.id",
    "client.rack",
    "broker.address.family",
    "compression.type",
    "debug",
    "fetch.max.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "linger.ms",
    "log_level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "queued.max.messages.kbytes",
    "queue.buffering.max.kbytes",
    "sasl.kerberos.keytab",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
];

/// Names with an underscore, which in a variable stands for a dot elsewhere.
const UNDERSCORED: &[&str] = &["enabled_events", "log_level"];

/// The property that a variable sets, from the rest of its name: `sasl.password` from `SASL_PASSWORD`.
pub(super) fn of_variable(rest: &str) -> String {
    let name = rest.to_lowercase();
    if UNDERSCORED.contains(&name.as_str()) { name } else { name.replace('_', ".") }
}

/// The property's canonical name and its value, or what is wrong.
pub(super) fn read(name: &str, raw: &Raw<'_>) -> Result<(String, String), String> {
    let canonical = canonical(name);
    if let Some(reason) = protected(canonical) {
        return Err(format!("librdkafka property `{name}` cannot be set: {reason}"));
    }
    let value = match raw {
        Raw::Text(text) => (*text).to_owned(),
        Raw::Toml(DeValue::String(text)) => text.to_string(),
        Raw::Toml(DeValue::Integer(number)) => number.to_string(),
        Raw::Toml(DeValue::Float(number)) => number.to_string(),
        Raw::Toml(DeValue::Boolean(value)) => value.to_string(),
        Raw::Toml(_) => {
            let expected = raw.expected("a string, a number, true or false");
            return Err(format!("librdkafka property `{name}`: {expected}"));
        }
    };
    Ok((canonical.to_owned(), value))
}

/// What is wrong with a property according to librdkafka, which knows what its build can do.
pub(super) fn problem(name: &str, value: &str) -> Option<String> {
    let reason = match ClientConfig::new().set(name, value).create_native_config().err()? {
        KafkaError::ClientConfig(_, reason, _, _) => reason,
        other => other.to_string(),
    };
    Some(if reason.starts_with("No such configuration property") {
        let hint = did_you_mean(name, COMMON.iter().copied());
        format!("unknown librdkafka property `{name}`{hint}")
    } else if reason.contains("OpenSSL not available") {
        format!(
            "librdkafka property `{name}`: this program was built without TLS; build it with `--features ssl`"
        )
    } else if holds_secret(name) && reason.contains(value) {
        format!("librdkafka refuses the value of the property `{name}`")
    } else {
        format!("librdkafka property `{name}`: {reason}")
    })
}

fn holds_secret(name: &str) -> bool {
    let parts = ["password", "passphrase", "secret", "token", "key.pem", "private.key", "oauthbearer.config"];
    parts.iter().any(|part| name.to_lowercase().contains(part))
}

/// The value without secrets.
pub(super) fn shown(name: &str, value: &str) -> String {
    if holds_secret(name) { "********".to_owned() } else { without_credentials(value) }
}

/// The text with `user:password@` hidden in every URL.
pub(super) fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|scheme| scheme + 3) {
        let (scheme, after) = rest.split_at(start);
        let end = after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len());
        shown.push_str(scheme);
        let host = match after[..end].rfind('@') {
            Some(at) => {
                shown.push_str("********");
                at
            }
            None => 0,
        };
        rest = &after[host..];
    }
    shown.push_str(rest);
    shown
}
