//! Following a topic outside any group, as `tail` does.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{Settings, SourceError, client, consumer::record_of};
use crate::activity::Record;

/// For the ends of all partitions.
const ASK: Duration = Duration::from_secs(10);

/// Where to start in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record that is still retained.
    Beginning,
    /// The first record that is not there yet.
    End,
}

/// Says once when nobody answers any more; librdkafka goes on trying.
#[derive(Default)]
struct Watching {
    said: AtomicBool,
}

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!("no broker answers any more; waiting for one");
            }
        } else {
            client::client_error(&error, reason);
        }
    }
}

impl ConsumerContext for Watching {}

/// Reads all partitions of a topic, only what is committed, and leaves no trace on the brokers.
pub struct Follower {
    consumer: BaseConsumer<Watching>,
    topic: String,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Follower {
    /// Starts at the beginnings, or at the ends as they are now, of that many partitions.
    pub fn start(
        settings: &Settings,
        topic: &str,
        partitions: usize,
        start: Start,
    ) -> Result<Self, SourceError> {
        let consumer: BaseConsumer<Watching> = client::reader(settings)
            .create_with_context(Watching::default())
            .map_err(|error| SourceError::Fatal(format!("the Kafka reader can't be made: {error}")))?;
        let failed = |error: KafkaError| failure(topic, &error);
        let mut list = TopicPartitionList::new();
        let offset = match start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
        };
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            list.add_partition_offset(topic, partition, offset).map_err(failed)?;
        }
        if start == Start::End {
            // Numbers instead of "the end", which would be where it is when the first fetch comes to it.
            list = consumer.offsets_for_times(list, ASK).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    /// The next record, if one arrives in time.
    pub fn next(&self, timeout: Duration) -> Result<Option<Record>, SourceError> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => {
                self.consumer.context().said.store(false, Ordering::Relaxed);
                Ok(Some(record_of(&message)))
            }
            Some(Err(error)) if is_lasting(&error) => Err(failure(&self.topic, &error)),
            Some(Err(error)) => {
                tracing::debug!(%error, "while following");
                Ok(None)
            }
        }
    }
}

/// What librdkafka does not mend by trying again.
pub(crate) fn is_lasting(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
            )
        )
}

pub(crate) fn failure(topic: &str, error: &KafkaError) -> SourceError {
    SourceError::Fatal(match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => format!(
            "the topic '{topic}' no longer holds the record that comes next: it was deleted, or the topic was \
             made anew. Start again"
        ),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => format!("the topic '{topic}' is no longer there"),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
            format!("the broker does not let this user read the topic '{topic}': {error}")
        }
        _ => format!("reading the topic '{topic}' failed: {error}"),
    })
}
