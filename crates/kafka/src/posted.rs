//! What a delivery report says of a posted command: where it lies, or why it was not taken.

use contract::Coordinates;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{
    access::{Access, Operation, Resource},
    embedded::ANSWERED_APPEND_TIME,
};

/// Where the record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    At(Coordinates),
    /// The broker had it already from an earlier attempt, and does not say where.
    SomewhereIn {
        partition: i32,
    },
}

impl Delivered {
    /// Reads a report. `own` is the timestamp that the record was sent with, which holds where the broker does not
    /// set another; both are in milliseconds since 1970.
    #[must_use]
    pub fn read(partition: i32, offset: i64, timestamp: Option<i64>, own: i64) -> Self {
        match timestamp {
            Some(timestamp) if offset >= 0 => {
                let timestamp = if timestamp == ANSWERED_APPEND_TIME { own } else { timestamp };
                Self::At(Coordinates { partition, offset, timestamp })
            }
            _ => Self::SomewhereIn { partition },
        }
    }
}

/// Why a command of so many bytes was not taken, in words.
#[must_use]
pub fn reason(access: &Access, error: &KafkaError, topic: &str, bytes: usize) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => format!(
            "{bytes} bytes, or what was sent together with them (batch.size), are more than the client (message.max.bytes) \
             or the topic '{topic}' (max.message.bytes) takes"
        ),
        Some(RDKafkaErrorCode::MessageTimedOut) => {
            "the broker did not answer in time (delivery.timeout.ms); it may have the command or not".into()
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            access.lacks(Operation::Write, Resource::Topic(topic))
        }
        Some(RDKafkaErrorCode::ClusterAuthorizationFailed) => format!(
            "{}. Brokers before Kafka 2.8 want IdempotentWrite on the cluster too",
            access.lacks(Operation::Write, Resource::Topic(topic))
        ),
        Some(RDKafkaErrorCode::UnknownPartition) => {
            format!("the topic '{topic}' has no such partition")
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            format!("the topic '{topic}' is not there")
        }
        _ => error.to_string(),
    }
}

/// Whether the broker surely has nothing of a command that failed so. Where it is not sure, sending it again could
/// post it twice. `is_sent` is what the Kafka client noted of it: it may have come to a broker.
#[must_use]
pub fn surely_not_taken(error: &KafkaError, is_sent: bool) -> bool {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::QueueFull,
        ) => true,
        // The client's own, of which no broker said anything, or what is said of a later attempt without a look at the
        // command: an earlier one, whose answer was lost, may have brought it there.
        Some(
            Code::MessageTimedOut
            | Code::PurgeQueue
            | Code::Fatal
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition,
        ) => !is_sent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_an_offset_does_not_say_where_the_record_lies() {
        let at = |offset, timestamp| Delivered::read(2, offset, timestamp, 77);
        let known = |timestamp| Delivered::At(Coordinates { partition: 2, offset: 5, timestamp });
        assert_eq!(at(5, Some(90)), known(90));
        assert_eq!(at(5, Some(ANSWERED_APPEND_TIME)), known(77));
        assert_eq!(at(5, None), Delivered::SomewhereIn { partition: 2 });
        assert_eq!(at(-1001, Some(90)), Delivered::SomewhereIn { partition: 2 });
    }

    #[test]
    fn a_command_without_an_answer_may_have_been_taken_once_it_was_sent() {
        let failed = |code, is_sent| surely_not_taken(&KafkaError::MessageProduction(code), is_sent);
        assert!(failed(RDKafkaErrorCode::MessageSizeTooLarge, true));
        for code in [
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::ClusterAuthorizationFailed,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownTopic,
            RDKafkaErrorCode::UnknownPartition,
        ] {
            assert!(!failed(code, true), "{code}");
            assert!(failed(code, false), "{code}");
        }
        for is_sent in [true, false] {
            assert!(!failed(RDKafkaErrorCode::NotEnoughReplicasAfterAppend, is_sent));
        }
    }
}
