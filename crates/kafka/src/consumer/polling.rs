//! Polling librdkafka, and what an error of a poll means.

use std::time::Duration;

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use crate::{
    Polled, Settings, SourceError,
    access::{Access, Operation},
    client,
    context::Context,
    native,
    notes::Notes,
};

/// The binding's poll returns nothing for a log line, and log lines come before rebalances and records.
pub(super) fn poll_past_log_lines<'a>(
    consumer: &'a BaseConsumer<Context>,
    notes: &Notes,
    timeout: Duration,
) -> Option<Result<BorrowedMessage<'a>, KafkaError>> {
    let mut polled = consumer.poll(timeout);
    let mut waiting = usize::MAX;
    while polled.is_none() && notes.rebalances().is_empty() {
        let left = native::waiting(consumer.client());
        // Polling does not take what is left.
        if left == 0 || left >= waiting {
            break;
        }
        waiting = left;
        polled = consumer.poll(Duration::ZERO);
    }
    polled
}

/// What an error of a poll means; librdkafka recovers from most of them.
pub(super) fn classify(settings: &Settings, error: &KafkaError) -> Result<Option<Polled>, SourceError> {
    let topic = &settings.topics.commands;
    if let Some(lacking) = lacking(settings, error) {
        return Err(SourceError::Retriable(lacking));
    }
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Err(SourceError::Retriable(format!(
                "'{topic}' no longer holds an offset that is to be read next: {error}"
            )))
        }
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => Err(SourceError::Retriable(format!("the topic '{topic}' is not there: {error}"))),
        Some(RDKafkaErrorCode::InvalidSessionTimeout) => Err(SourceError::Fatal(
            "the broker does not allow this session.timeout.ms: it lies outside of the broker's \
             group.min.session.timeout.ms and group.max.session.timeout.ms. Change the property"
                .into(),
        )),
        Some(RDKafkaErrorCode::FencedInstanceId) => Err(SourceError::Fatal(
            "another process joined the consumer group with the same group.instance.id, and Kafka gave it this one's \
             membership. Give each process an id of its own, then start this one again"
                .into(),
        )),
        // In the new protocol the first one keeps the membership. It passes: that one may be a process that was killed, or
        // this one's earlier session.
        Some(RDKafkaErrorCode::UnreleasedInstanceId) => Err(SourceError::Retriable(
            "the consumer group has a member with the same group.instance.id: another process, or one that was killed \
             and whose session has not timed out. Give each process an id of its own"
                .into(),
        )),
        Some(RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature)
            if client::is_new_protocol(settings) =>
        {
            Err(SourceError::Fatal(
                "the brokers do not have group.protocol=consumer, which needs Kafka 4.0. Leave the property out".into(),
            ))
        }
        _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
            Err(SourceError::Fatal(format!("the consumer failed permanently: {error}")))
        }
        Some(RDKafkaErrorCode::PollExceeded) => {
            tracing::warn!(%error, "left the group");
            Ok(None)
        }
        _ => {
            tracing::debug!(%error, "while polling");
            Ok(None)
        }
    }
}

/// The missing right, if the error is one of access.
pub(super) fn lacking(settings: &Settings, error: &KafkaError) -> Option<String> {
    let (topic, group) = (&settings.topics.commands, &settings.group);
    Access::of(settings).lacking(error, (Operation::Read, topic), (Operation::Read, group))
}
