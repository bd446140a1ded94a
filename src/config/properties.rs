//! librdkafka's properties: which are refused, which have two names, and which hold secrets.
//!
//! Names and aliases are those of librdkafka's `CONFIGURATION.md`.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use toml::de::DeValue;

use super::error::did_you_mean;
use super::read::Raw;
use super::sources::Merging;

/// Where properties stand among the keys.
pub(super) const PREFIX: &str = "kafka.properties.";

const CURSORS: &str =
    "the processor moves the offsets itself, with the output, or commands would be lost or doubled";
const SUBSCRIPTION: &str =
    "the cursors are kept for the classic rebalance protocol as the program sets it up";

const PUBLISHER: &str =
    "the publisher sets it: for as long as it is, a frozen instance holds back every reader";

/// Properties that keep what the program promises, and why they cannot be set.
const PROTECTED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.bootstrap_servers`, or --bootstrap-servers, instead"),
    ("group.id", "set `kafka.group`, or --group, instead"),
    (
        "isolation.level",
        "with anything but read_committed, commands of an aborted transaction would be decided",
    ),
    ("enable.auto.commit", CURSORS),
    ("enable.auto.offset.store", CURSORS),
    ("offset.store.method", CURSORS),
    (
        "auto.offset.reset",
        "a lost place is an error to be looked at; any other choice skips or repeats commands",
    ),
    ("partition.assignment.strategy", SUBSCRIPTION),
    ("group.protocol", SUBSCRIPTION),
    ("group.protocol.type", SUBSCRIPTION),
    ("group.remote.assignor", SUBSCRIPTION),
    ("enable.partition.eof", "the intake sets it, to see where a partition ends"),
    ("transactional.id", "it fences a replaced instance; set `processor.transactional_id_prefix` instead"),
    ("enable.idempotence", "without it a retry could double or reorder output"),
    ("acks", "with anything but all, a broker's crash could lose output that counts as published"),
    (
        "delivery.report.only.error",
        "every record's delivery report is awaited before its offset counts as done",
    ),
    ("queuing.strategy", "notifications of one audience stay in order"),
    (
        "allow.auto.create.topics",
        "a topic that the brokers make by themselves may not be fit; set `topics.create` for the three that may be made",
    ),
    ("transaction.timeout.ms", PUBLISHER),
    ("delivery.timeout.ms", PUBLISHER),
];

/// Second names, and the one that is used for both. Left to librdkafka, which of two names wins would be chance.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

/// The properties that people set, for "did you mean".
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

/// Names in which an underscore is not a dot.
const UNDERSCORED: &[&str] = &["enabled_events", "log_level"];

/// The property that the rest of a variable's name stands for: `SASL_PASSWORD` is `sasl.password`.
pub(super) fn of_variable(rest: &str) -> String {
    let name = rest.to_lowercase();
    if UNDERSCORED.contains(&name.as_str()) { name } else { name.replace('_', ".") }
}

/// The one name of a property.
///
/// librdkafka takes a topic's property with `topic.` in front as well (`topic.acks`), so the prefix goes too,
/// or it would be a way around what is protected.
#[must_use]
pub fn canonical(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("topic.").filter(|_| !is_really_topic(name)) {
        name = rest;
    }
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical)
}

/// Properties of the client whose own name begins with `topic.`.
fn is_really_topic(name: &str) -> bool {
    name.starts_with("topic.metadata.") || name == "topic.blacklist"
}

/// Why this property, given by its one name, cannot be set; `None` where it can.
#[must_use]
pub fn protected(canonical: &str) -> Option<&'static str> {
    PROTECTED.iter().find(|(protected, _)| *protected == canonical).map(|(_, reason)| *reason)
}

/// The property's one name and its value, or what is wrong with it.
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

/// Asks librdkafka itself about every property; it knows what its build can do.
pub(super) fn check_values(merging: &mut Merging) {
    for (name, value) in merging.config.kafka.properties.clone() {
        let Err(error) = ClientConfig::new().set(&name, &value).create_native_config() else { continue };
        let reason = match error {
            KafkaError::ClientConfig(_, reason, _, _) => reason,
            other => other.to_string(),
        };
        let message = if reason.starts_with("No such configuration property") {
            let hint = did_you_mean(&name, COMMON.iter().copied());
            format!("unknown librdkafka property `{name}`{hint}")
        } else if reason.contains("OpenSSL not available") {
            format!(
                "librdkafka property `{name}`: this program was built without TLS; build it with `--features ssl`"
            )
        } else if holds_secret(&name) && reason.contains(&value) {
            format!("librdkafka refuses the value of the property `{name}`")
        } else {
            format!("librdkafka property `{name}`: {reason}")
        };
        merging.blame(&format!("{PREFIX}{name}"), message);
    }
}

fn holds_secret(name: &str) -> bool {
    let parts = ["password", "passphrase", "secret", "token", "key.pem", "private.key", "oauthbearer.config"];
    parts.iter().any(|part| name.to_lowercase().contains(part))
}

/// The value as it may be shown.
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
