//! Problems of the topics.

use thiserror::Error;

use super::{MAX_PARTITIONS, Role};
use crate::connection::ConnectionError;

/// Why the topics can't be used.
#[derive(Debug, Error)]
pub enum TopicsError {
    #[error("{0}")]
    Connection(ConnectionError),
    #[error("the topic '{topic}' does not exist. Create it, or let 'run' do so: '--set topics.create=true'")]
    Missing { topic: String },
    #[error("the topic '{topic}' could not be created: {reason}")]
    NotCreated { topic: String, reason: String },
    /// A missing right.
    #[error("{0}")]
    Forbidden(String),
    #[error("the broker does not describe the topic '{topic}': {reason}")]
    Undescribed { topic: String, reason: String },
    #[error(
        "the {role} topic '{topic}' is compacted (cleanup.policy={policy}): {}. Set it to delete: kafka-configs.sh \
         --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name {topic} --add-config \
         cleanup.policy=delete",
        .role.when_compacted()
    )]
    Compacted { role: Role, topic: String, policy: String },
    #[error(
        "the rejections topic '{rejections}' takes records up to {found} bytes (max.message.bytes), but must \
         take {wanted}: 128 KiB more than the commands topic '{commands}' takes ({commands_limit}). Raise it, \
         or lower that of the commands topic"
    )]
    RejectionsTooSmall { commands: String, rejections: String, commands_limit: i64, found: i64, wanted: i64 },
    #[error(
        "the notifications topic '{topic}' takes records up to {found} bytes (max.message.bytes), but must take \
         {wanted}: 128 KiB more than the largest command ({largest_command}, limits.value_bytes). Raise it, or \
         lower that limit"
    )]
    NotificationsTooSmall { topic: String, largest_command: usize, found: i64, wanted: i64 },
    #[error(
        "the commands topic '{topic}' has {found} partitions, but an activity id holds {MAX_PARTITIONS} at most. Use a \
         topic with fewer"
    )]
    TooManyPartitions { topic: String, found: usize },
    /// No client can be made with the properties.
    #[error("{0}")]
    Client(String),
    /// Several problems that [`examine`](super::examine) found.
    #[error("{}", list(.0))]
    Several(Vec<TopicsError>),
}

pub(super) fn list(problems: &[TopicsError]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

impl TopicsError {
    /// Whether a later attempt to connect may succeed without a change on this side: brokers start, and their certificates
    /// are renewed.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        matches!(self, Self::Connection(error) if !matches!(error, ConnectionError::LoginRefused { .. }))
    }
}
