//! Errors of setup, posting and waiting.

use std::time::Duration;

use contract::Problems;
use thiserror::Error;

use super::posted::Posted;

/// A client or a stream was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// A librdkafka property on whose value the client's guarantees depend, so it can't be set.
    #[error("librdkafka property `{name}` cannot be set: {reason}")]
    Property { name: String, reason: &'static str },
    /// librdkafka refuses the properties, or they do not fit together.
    #[error("the Kafka client can't be made: {0}")]
    Kafka(String),
}

/// An entry was not posted, or it is unknown whether it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostError {
    /// Not sent, because the processor would reject it for these problems.
    #[error("the entry would be rejected, so it was not posted:\n{0}")]
    Invalid(Problems),
    /// The broker does not have it, as far as the Kafka client knows; it may if the partition's leader changed at that
    /// moment. With an idempotency key it is safe to post it again.
    #[error("the entry was not posted: {0}")]
    NotPosted(String),
    /// The broker may have it. Without an idempotency key, posting it again could create a second activity.
    #[error("it is not known whether the entry was posted: {0}. Send it again only with an idempotency key")]
    Unconfirmed(String),
}

/// Waiting ended without a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WaitError {
    #[error(transparent)]
    Post(#[from] PostError),
    /// No reply came in time. The command was sent, or may still be sent, and may become an activity or be rejected.
    #[error("no reply within {after:?}; the command {}", sent(.posted))]
    TimedOut {
        /// `None`: the broker has not confirmed the command, which the Kafka client may still send.
        posted: Option<Posted>,
        after: Duration,
    },
    /// Nothing was sent in time, because the reply topic could not be read.
    #[error("nothing was sent: replies could not be read within {after:?}")]
    NotReady { after: Duration },
    /// Nothing was sent in time, because the client's queue was full of unanswered commands.
    #[error("nothing was sent: the queue of commands was full for {after:?}")]
    QueueFull { after: Duration },
    /// The client has no topic for replies.
    #[error("nothing was sent: the client has no topic for replies; give it one with `reply_topic`")]
    NoReplyTopic,
    /// The entry has a header of its own for its reply, which would go elsewhere.
    #[error(
        "nothing was sent: the entry has a header of its own for its reply, {header}. Leave it out, or post the entry \
         with `post` and read the reply where the header sends it"
    )]
    OwnReply { header: &'static str },
    /// The reply topic can't be read. Nothing was sent.
    #[error("nothing was sent: replies can't be read: {0}")]
    Replies(String),
    /// The reply topic can no longer be read. The next wait tries again.
    #[error("replies can't be read any more: {reason}; the command {}", sent(.posted))]
    RepliesLost {
        /// `None`: the broker has not confirmed the command, which the Kafka client may still send.
        posted: Option<Posted>,
        reason: String,
    },
    /// The reply is malformed. The command was sent.
    #[error("the command was sent, and its reply can't be understood: {0}")]
    BadReply(String),
}

fn sent(posted: &Option<Posted>) -> String {
    match posted {
        Some(posted) => format!("was sent: {posted}"),
        None => "was handed to the Kafka client, which may still send it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_the_outcome_of_a_command() {
        let id = "01a20ada-2c7b-89d1-8003-000000003039".parse().unwrap();
        let said = |posted| WaitError::TimedOut { posted, after: Duration::from_secs(5) }.to_string();
        assert_eq!(
            said(Some(Posted::As(id))),
            "no reply within 5s; the command was sent: 01a20ada-2c7b-89d1-8003-000000003039"
        );
        assert_eq!(
            said(Some(Posted::SomewhereIn { partition: 3 })),
            "no reply within 5s; the command was sent: in partition 3; the broker does not say where, so its id is \
             unknown"
        );
        assert_eq!(
            said(None),
            "no reply within 5s; the command was handed to the Kafka client, which may still send it"
        );
    }
}
