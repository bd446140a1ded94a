//! librdkafka's properties that are refused, and those with two names.
//!
//! Names and aliases are those of librdkafka's `CONFIGURATION.md`.

const CURSORS: &str =
    "the processor moves the offsets itself, with the output, or commands would be lost or doubled";
const ASSIGNMENT: &str =
    "each `group.protocol` has one with which a partition stays where it is while that is possible";

const PUBLISHER: &str =
    "the publisher sets it: for as long as it is, a frozen instance holds back every reader";

/// Properties that the guarantees depend on, and why they cannot be set.
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
    ("partition.assignment.strategy", ASSIGNMENT),
    ("group.protocol.type", ASSIGNMENT),
    ("group.remote.assignor", ASSIGNMENT),
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

/// Aliases, and the name to use. If both were set, chance would decide which one librdkafka uses.
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

/// The canonical name of a property.
///
/// librdkafka also accepts a topic's property with the prefix `topic.` (`topic.acks`). It is removed, since it would bypass
/// the protection.
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

/// Why this property, given by its canonical name, cannot be set; `None` if it can.
#[must_use]
pub fn protected(canonical: &str) -> Option<&'static str> {
    PROTECTED.iter().find(|(protected, _)| *protected == canonical).map(|(_, reason)| *reason)
}
