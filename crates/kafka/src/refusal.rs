//! Permanent refusals by the brokers: a retry does not help.

use std::{borrow::Cow, fmt};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::mark::Mark;

/// Why the brokers refuse something, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRefusal {
    pub code: Code,
    /// What was refused, and the broker's words.
    pub text: String,
}

impl OutputRefusal {
    /// For a permanent error. `None` for one that may pass, or is unknown.
    pub fn of(code: Code, text: impl FnOnce() -> String) -> Option<Self> {
        let is_refusal = matches!(
            code,
            Code::InvalidRecord
                | Code::InvalidDifferentRecord
                | Code::InvalidTimestamp
                | Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::MessageBatchTooLarge
                | Code::UnsupportedForMessageFormat
                | Code::UnsupportedCompressionType
                | Code::PolicyViolation
                | Code::InvalidTopic
                | Code::OffsetMetadataTooLarge
                | Code::InvalidCommitOffsetSize
        );
        is_refusal.then(|| Self { code, text: text() })
    }

    /// The same for an error that has a code.
    pub(crate) fn of_error(error: &KafkaError, text: impl FnOnce() -> String) -> Option<Self> {
        Self::of(error.rdkafka_error_code()?, text)
    }

    fn way_out(&self) -> Cow<'static, str> {
        let way_out = match self.code {
            Code::InvalidRecord | Code::InvalidDifferentRecord => {
                "A compacted topic refuses records without a key: set its cleanup.policy to delete (kafka-configs.sh \
                 --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name TOPIC --add-config \
                 cleanup.policy=delete), then start again"
            }
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
                "Raise that topic's max.message.bytes (kafka-configs.sh --bootstrap-server HOST:PORT --alter \
                 --entity-type topics --entity-name TOPIC --add-config max.message.bytes=BYTES), or this side's \
                 message.max.bytes (-X) where that is smaller, then start again"
            }
            Code::InvalidTimestamp => {
                "Compare this machine's clock with the brokers', and look at the topic's \
                 message.timestamp.before.max.ms and message.timestamp.after.max.ms, then start again"
            }
            Code::OffsetMetadataTooLarge => {
                return format!(
                    "This program commits offsets with metadata of up to {} bytes: raise offset.metadata.max.bytes to that \
                     or more in each broker's server.properties (Kafka's default is 4096), restart the brokers, then start \
                     again",
                    Mark::MOST_BYTES
                )
                .into();
            }
            _ => "Change what the broker objects to, then start again",
        };
        way_out.into()
    }
}

impl fmt::Display for OutputRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.text, self.way_out())
    }
}

/// Whether a record failed with this code only because another one did.
#[must_use]
pub(crate) fn is_consequence(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::InvalidDifferentRecord)
}

/// Whether there was no answer in time.
#[must_use]
pub(crate) fn is_timeout(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut | Code::MessageTimedOut | Code::RequestTimedOut | Code::TimedOutQueue
    )
}
