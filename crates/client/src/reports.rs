//! The delivery reports of one producer, each delivered to its waiter, and what they mean for a command.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use contract::{ActivityId, Coordinates, Record};
use kafka::{
    access::{Access, Operation, Resource},
    context::Deliver,
    embedded::ANSWERED_APPEND_TIME,
    native,
    records::record_of,
};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Message},
};
use tokio::sync::oneshot;

use super::{error::PostError, posted::Posted};

/// Whether the broker has the command.
pub(super) type Answer = Result<Posted, Failed>;

/// Why a command was not delivered.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub error: KafkaError,
    /// The broker may have it nevertheless.
    pub may_be_persisted: bool,
    /// What the Kafka client adds to the error.
    pub detail: Option<String>,
}

impl Failed {
    pub fn unsent(error: KafkaError) -> Self {
        Self { error, may_be_persisted: false, detail: None }
    }

    /// In words, for a command of this size.
    pub fn explain(&self, access: &Access, topic: &str, bytes: usize) -> PostError {
        let code = self.error.rdkafka_error_code();
        if code == Some(Code::MessageTimedOut) && !self.may_be_persisted {
            return PostError::NotPosted(
                "it could not be sent to a broker in time (delivery.timeout.ms)".to_owned(),
            );
        }
        let mut reason = match code {
            Some(Code::MessageSizeTooLarge) => format!(
                "{bytes} bytes, or what was sent together with them (batch.size), are more than the client \
                 (message.max.bytes) or the topic '{topic}' (max.message.bytes) takes"
            ),
            Some(Code::MessageTimedOut) => {
                "the broker did not answer in time (delivery.timeout.ms); it may have the command or not"
                    .into()
            }
            Some(Code::TopicAuthorizationFailed) => access.lacks(Operation::Write, Resource::Topic(topic)),
            Some(Code::ClusterAuthorizationFailed) => format!(
                "{}. Brokers before Kafka 2.8 want IdempotentWrite on the cluster too",
                access.lacks(Operation::Write, Resource::Topic(topic))
            ),
            Some(Code::UnknownPartition) => format!("the topic '{topic}' has no such partition"),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                format!("the topic '{topic}' is not there")
            }
            _ => self.error.to_string(),
        };
        if let Some(detail) = &self.detail {
            reason = format!("{reason} ({detail})");
        }
        if self.may_be_persisted { PostError::Unconfirmed(reason) } else { PostError::NotPosted(reason) }
    }
}

/// Delivers each report to its waiter.
#[derive(Default)]
pub(super) struct Reports {
    /// The number of commands so far.
    pub places: AtomicU64,
    /// The number of reports so far.
    pub count: AtomicU64,
    /// A command reached a broker, or may have.
    pub has_sent: AtomicBool,
    /// Commands that a replaced producer has definitely not sent.
    unsent: Mutex<Vec<(Record, InFlight)>>,
}

impl Reports {
    pub fn unsent(&self) -> MutexGuard<'_, Vec<(Record, InFlight)>> {
        self.unsent.lock().expect("never poisoned")
    }
}

impl Deliver for Reports {
    type Opaque = Box<InFlight>;

    fn delivered(&self, result: &DeliveryResult<'_>, waiting: Box<InFlight>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let answer = match result {
            Ok(message) => {
                self.has_sent.store(true, Ordering::Relaxed);
                let timestamp = message.timestamp().to_millis();
                Ok(waiting.posted(message.partition(), message.offset(), timestamp))
            }
            Err((error, message)) => {
                let is_sent = native::was_sent(message);
                self.has_sent.fetch_or(is_sent, Ordering::Relaxed);
                // Only a fatal error and a replacement purge the queue.
                if !is_sent && error.rdkafka_error_code() == Some(Code::PurgeQueue) {
                    self.unsent().push((record_of(message), *waiting));
                    return;
                }
                let may_be_persisted = !definitely_not_persisted(error, is_sent);
                Err(Failed { error: error.clone(), may_be_persisted, detail: None })
            }
        };
        // The waiter may be gone.
        let _ = waiting.answer.send(answer);
    }
}

/// A command that is not answered yet.
pub(super) struct InFlight {
    pub answer: oneshot::Sender<Answer>,
    /// When the first producer got the command.
    pub since: Instant,
    /// Its place in the order of commands.
    pub place: u64,
    /// The partition that was asked for.
    pub partition: Option<i32>,
    /// The record's own timestamp, which is valid unless the broker sets another.
    pub timestamp: i64,
    pub topic_bits: u16,
}

impl InFlight {
    /// Reads a successful report.
    fn posted(&self, partition: i32, offset: i64, timestamp: Option<i64>) -> Posted {
        match timestamp {
            Some(timestamp) if offset >= 0 => {
                let timestamp = if timestamp == ANSWERED_APPEND_TIME { self.timestamp } else { timestamp };
                let at = Coordinates { partition, offset, timestamp };
                match at.fits_id() {
                    Ok(()) => Posted::As(ActivityId::new(self.topic_bits, at)),
                    Err(_) => Posted::SomewhereIn { partition },
                }
            }
            // The broker had it from an earlier attempt.
            _ => Posted::SomewhereIn { partition },
        }
    }
}

/// Whether no broker has a command that failed with this error. Otherwise sending it again could post it twice. `is_sent`:
/// by the Kafka client's notes, it may have reached a broker.
fn definitely_not_persisted(error: &KafkaError, is_sent: bool) -> bool {
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::QueueFull,
        ) => true,
        // Errors of the client itself, or of a later attempt that was refused without a look at the command: an earlier
        // attempt, whose answer was lost, may have delivered it.
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
        let (answer, _) = oneshot::channel();
        let waiting = InFlight {
            answer,
            since: Instant::now(),
            place: 0,
            partition: None,
            timestamp: 77,
            topic_bits: 5,
        };
        let known =
            |timestamp| Posted::As(ActivityId::new(5, Coordinates { partition: 2, offset: 5, timestamp }));
        assert_eq!(waiting.posted(2, 5, Some(90)), known(90));
        assert_eq!(waiting.posted(2, 5, Some(ANSWERED_APPEND_TIME)), known(77));
        assert_eq!(waiting.posted(2, 5, None), Posted::SomewhereIn { partition: 2 });
        assert_eq!(waiting.posted(2, -1001, Some(90)), Posted::SomewhereIn { partition: 2 });
    }

    #[test]
    fn a_command_without_an_answer_may_be_persisted_once_it_was_sent() {
        let failed = |code, is_sent| definitely_not_persisted(&KafkaError::MessageProduction(code), is_sent);
        assert!(failed(Code::MessageSizeTooLarge, true));
        for code in [
            Code::MessageTimedOut,
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::UnknownTopicOrPartition,
            Code::UnknownTopic,
            Code::UnknownPartition,
        ] {
            assert!(!failed(code, true), "{code}");
            assert!(failed(code, false), "{code}");
        }
        for is_sent in [true, false] {
            assert!(!failed(Code::NotEnoughReplicasAfterAppend, is_sent));
        }
    }
}
