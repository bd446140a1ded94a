//! Whether the topics' settings allow the guarantees; the same for `run` and for `check`.

use std::{collections::BTreeMap, fmt};

use rdkafka::error::RDKafkaErrorCode;

use super::{Report, Topics, TopicsError};
use crate::{
    access::{Access, Operation, Resource},
    client::BATCH_BYTES,
};

/// A rejection is its command with up to 64 KiB of problems and the headers that say where it came from.
const REJECTION_OVERHEAD: i64 = 128 * 1024;
/// What a notification adds to its command: defaults and names of the normal form, the audience, key and headers.
const NOTIFICATION_OVERHEAD: i64 = 128 * 1024;
/// The shortest time, in milliseconds, for which a processor may be down without losing commands.
const SHORTEST_RETENTION_MS: i64 = 3_600_000;
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// The use of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Commands,
    Notifications,
    Rejections,
    Replies,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commands => "commands",
            Self::Notifications => "notifications",
            Self::Rejections => "rejections",
            Self::Replies => "reply",
        })
    }
}

impl Role {
    /// What compaction does to such a topic.
    pub(super) fn when_compacted(self) -> &'static str {
        match self {
            Self::Commands => "Kafka would delete commands that nobody has decided",
            Self::Notifications => "Kafka would delete notifications that nobody has read",
            Self::Rejections => {
                "Kafka would delete rejections, and refuse that of a command without a key for ever"
            }
            Self::Replies => "Kafka deletes replies, and refuses those without a key",
        }
    }
}

/// The settings of one topic as the brokers describe them.
#[derive(Debug, Clone, Default)]
pub(super) struct TopicSettings {
    pub values: BTreeMap<String, String>,
    /// The lowest number of replicas of a partition; `None` if unknown.
    pub replicas: Option<usize>,
}

impl TopicSettings {
    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// Bytes of the largest record that it accepts.
    pub(crate) fn largest_record(&self) -> Option<usize> {
        usize::try_from(self.number(MAX_MESSAGE_BYTES)?).ok()
    }
}

/// One topic and its settings, or why the broker does not return them.
pub(super) type Described = (Role, String, Result<TopicSettings, RDKafkaErrorCode>);

/// The record size that the rejections topic must accept, given the commands topic's limit.
pub(super) fn rejection_limit(commands: Option<&TopicSettings>) -> i64 {
    let limit = commands.and_then(|settings| settings.number(MAX_MESSAGE_BYTES));
    limit.unwrap_or(super::DEFAULT_MAX_MESSAGE_BYTES) + REJECTION_OVERHEAD
}

/// The record size that the producer must accept, whatever the topics accept.
pub(crate) fn producer_limit(topics: &Topics) -> i64 {
    notification_limit(topics).max(rejection_limit(None))
}

/// The record size that the notifications topic must accept.
pub(super) fn notification_limit(topics: &Topics) -> i64 {
    i64::try_from(topics.largest_command).unwrap_or(i64::MAX).saturating_add(NOTIFICATION_OVERHEAD)
}

/// Every setting that prevents the guarantees. Adds to the report what the rest of the program needs to know of the topics.
pub(super) fn judge(
    topics: &Topics,
    access: &Access,
    described: &[Described],
    report: &mut Report,
) -> Vec<TopicsError> {
    let mut problems = Vec::new();
    for (role, topic, settings) in described {
        match settings {
            Ok(settings) => problems.extend(judge_one(*role, topic, settings, report)),
            // Whether it exists is checked elsewhere.
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
            Err(code) => report.warnings.push(unknown(access, *role, topic, *code)),
        }
    }
    let of = |wanted: Role| {
        described.iter().find(|(role, ..)| *role == wanted).and_then(|(.., settings)| settings.as_ref().ok())
    };
    let largest = |role: Role| of(role).and_then(TopicSettings::largest_record);
    report.rejection_bytes = largest(Role::Rejections);
    let taken = largest(Role::Notifications).into_iter().chain(report.rejection_bytes).min();
    report.batch_bytes = taken.map(|bytes| bytes.min(BATCH_BYTES));
    let limit = |role: Role| of(role).and_then(|settings| settings.number(MAX_MESSAGE_BYTES));
    let wanted = notification_limit(topics);
    if let Some(found) = limit(Role::Notifications).filter(|found| *found < wanted) {
        problems.push(TopicsError::NotificationsTooSmall {
            topic: topics.notifications.clone(),
            largest_command: topics.largest_command,
            found,
            wanted,
        });
    }
    let wanted = rejection_limit(of(Role::Commands));
    if let (Some(commands_limit), Some(found)) = (limit(Role::Commands), limit(Role::Rejections))
        && found < wanted
    {
        problems.push(TopicsError::RejectionsTooSmall {
            commands: topics.commands.clone(),
            rejections: topics.rejections.clone(),
            commands_limit,
            found,
            wanted,
        });
    }
    problems
}

fn judge_one(role: Role, topic: &str, settings: &TopicSettings, report: &mut Report) -> Option<TopicsError> {
    let mut problem = None;
    let mut warn = |text: String| report.warnings.push(format!("the {role} topic '{topic}' {text}"));
    let policy = settings.text("cleanup.policy").unwrap_or_default();
    let has = |wanted: &str| policy.split(',').any(|policy| policy.trim() == wanted);
    if has("compact") {
        if role == Role::Replies {
            warn(format!("is compacted (cleanup.policy={policy}): {}", role.when_compacted()));
        } else {
            let (topic, policy) = (topic.to_owned(), policy.to_owned());
            problem = Some(TopicsError::Compacted { role, topic, policy });
        }
    }
    if let (Some(replicas), Some(wanted)) = (settings.replicas, settings.number("min.insync.replicas"))
        && usize::try_from(wanted).is_ok_and(|wanted| replicas < wanted)
    {
        // Newer brokers require no more in-sync replicas than there are replicas.
        warn(format!(
            "has {replicas} of min.insync.replicas={wanted} replicas: older brokers take no records for it. Lower \
             that setting, or add replicas (kafka-reassign-partitions.sh)"
        ));
    }
    if role != Role::Replies && settings.text("unclean.leader.election.enable") == Some("true") {
        warn("can lose acknowledged records (unclean.leader.election.enable=true). Better: false".to_owned());
    }
    if role == Role::Commands {
        if settings.text("message.timestamp.type").is_some_and(|kind| kind != "LogAppendTime") {
            warn(
                "keeps the producers' timestamps (message.timestamp.type=CreateTime): ids, the idempotency window \
                 and retention follow their clocks. Better: LogAppendTime"
                    .to_owned(),
            );
        }
        if let Some(retention) = settings.number("retention.ms")
            && has("delete")
            && (0..SHORTEST_RETENTION_MS).contains(&retention)
        {
            warn(format!(
                "deletes commands after {} s, decided or not (retention.ms={retention}): a longer outage of the \
                 processor loses them. Better: days",
                retention / 1000
            ));
        }
    }
    problem
}

/// The topic's settings are unknown, and the processor works all the same.
fn unknown(access: &Access, role: Role, topic: &str, code: RDKafkaErrorCode) -> String {
    let unchecked =
        "cleanup.policy, min.insync.replicas, message.timestamp.type and max.message.bytes are not checked";
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => format!(
            "the settings of the {role} topic '{topic}' cannot be read, so its {unchecked}: {}",
            access.lacks(Operation::DescribeConfigs, Resource::Topic(topic))
        ),
        code => {
            format!("the settings of the {role} topic '{topic}' cannot be read, so its {unchecked}: {code}")
        }
    }
}

#[cfg(test)]
mod tests;
