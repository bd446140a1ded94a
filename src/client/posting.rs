//! Posting entries.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use rdkafka::{
    config::FromClientConfigAndContext,
    producer::{FutureProducer, FutureRecord, Producer},
    util::Timeout,
};
use tokio::{
    sync::OnceCell,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    ActivityId, Entry, PostError, Reply, SetupError, WaitError, connection::Connection, replies::Replies,
};
use crate::{
    activity::{Decider, Header, Limits, Reading, Record, topic_bits},
    kafka::{
        Settings, client, native,
        posted::{Delivered, reason, surely_not_taken},
    },
};

/// Until a command without an answer is given up, as in Kafka's Java client. librdkafka's own default is five minutes.
const DELIVERY_TIMEOUT_MS: &str = "120000";

/// Posts activities.
///
/// Cheap to clone and made to be shared: all clones use one connection, batch what they post, and wait while
/// librdkafka's queue is full. Commands of one record key that one task posts after one another stay in that order.
///
/// Once an entry is under way it is sent, also where the future is dropped. One that the broker does not answer within
/// two minutes (`delivery.timeout.ms`) is given up. When the last clone is dropped, what the
/// broker has not confirmed may be lost: [`flush`](Self::flush) first.
///
/// It has to be used within a Tokio runtime.
#[derive(Clone)]
pub struct ActivityClient {
    inner: Arc<Inner>,
}

struct Inner {
    producer: FutureProducer<client::Logging>,
    settings: Settings,
    decider: Decider,
    topic_bits: u16,
    reply_to: Option<ReplyTo>,
    replies: OnceCell<Replies>,
}

/// Where replies are wanted.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    pub topic: String,
    /// `None`: one of those that there are.
    pub partition: Option<i32>,
}

/// What is told apart of one client from another; see [`ActivityClient::builder`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    connection: Connection,
    topic: String,
    limits: Limits,
    reply_to: Option<ReplyTo>,
}

/// The broker has the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It becomes the activity with this id, if it is accepted.
    As(ActivityId),
    /// Its id is unknown, because the broker did not say where in this partition it lies. That is so where it had the
    /// command from an earlier attempt, or the place is too large for an id.
    SomewhereIn { partition: i32 },
}

impl Posted {
    /// The id, where it is known.
    #[must_use]
    pub fn id(&self) -> Option<ActivityId> {
        match self {
            Self::As(id) => Some(*id),
            Self::SomewhereIn { .. } => None,
        }
    }
}

impl fmt::Display for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(id) => id.fmt(f),
            Self::SomewhereIn { partition } => {
                write!(f, "in partition {partition}; the broker does not say where, so its id is unknown")
            }
        }
    }
}

impl ClientBuilder {
    /// The commands topic; `activity.commands`, unless it is set.
    #[must_use]
    pub fn commands_topic(self, topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..self }
    }

    /// The limits that the processor is configured with; the contract's, unless they are set.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The topic that [`post_and_wait`](ActivityClient::post_and_wait) asks for replies on: one of the processor's
    /// `topics.replies`. One partition of it is read, chosen at random, so that many clients share the work.
    #[must_use]
    pub fn reply_topic(self, topic: impl Into<String>) -> Self {
        Self { reply_to: Some(ReplyTo { topic: topic.into(), partition: None }), ..self }
    }

    /// The same, with the partition that is read.
    #[must_use]
    pub fn reply_partition(self, topic: impl Into<String>, partition: i32) -> Self {
        Self { reply_to: Some(ReplyTo { topic: topic.into(), partition: Some(partition) }), ..self }
    }

    /// Passes a librdkafka property on: for SASL, TLS, `linger.ms`, `delivery.timeout.ms`, …
    ///
    /// `batch.size` is 128 KiB, unless it is set. What is sent together counts together for the `max.message.bytes` of the
    /// commands topic, so no more than that.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.set(name.into(), value.into());
        self
    }

    /// Makes the client. No broker is asked: one that is not there shows when something is posted.
    ///
    /// # Errors
    ///
    /// [`SetupError`] where a property is one of those that can't be set, or librdkafka refuses it.
    pub fn build(self) -> Result<ActivityClient, SetupError> {
        let mut settings = self.connection.settings("activity-client", &self.topic, "")?;
        let timeout = settings.properties.entry("delivery.timeout.ms".to_owned());
        timeout.or_insert_with(|| DELIVERY_TIMEOUT_MS.to_owned());
        let mut config = client::producer(&settings, client::POST_BATCH_BYTES);
        // A misspelt topic is an error, and not a new topic.
        config.set("allow.auto.create.topics", "false");
        let producer = FutureProducer::from_config_and_context(&config, client::Logging)
            .map_err(|error| SetupError::Kafka(error.to_string()))?;
        let replies = self.reply_to.iter().map(|to| to.topic.clone()).collect();
        let topic_bits = topic_bits(&self.topic);
        let decider = Decider::new(self.topic, self.limits).with_reply_topics(replies);
        let inner = Inner {
            producer,
            settings,
            decider,
            topic_bits,
            reply_to: self.reply_to,
            replies: OnceCell::new(),
        };
        Ok(ActivityClient { inner: Arc::new(inner) })
    }
}

impl ActivityClient {
    /// A client of the brokers at `bootstrap_servers` (`host:port`, separated by commas). It is idempotent, waits for
    /// all replicas, and chooses partitions as Kafka's Java client does.
    #[must_use]
    pub fn builder(bootstrap_servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            connection: Connection::new(bootstrap_servers.into()),
            topic: "activity.commands".to_owned(),
            limits: Limits::default(),
            reply_to: None,
        }
    }

    /// Posts an entry, and says which activity it becomes as soon as the broker has the command. Whether it is accepted
    /// is not known then: an idempotency key that was used before is seen by the processor alone.
    ///
    /// # Errors
    ///
    /// [`PostError::Invalid`] with all problems of an entry that would be rejected; it is not sent. The others say
    /// whether the broker surely does not have the command.
    pub async fn post(&self, entry: &Entry) -> Result<Posted, PostError> {
        let record = self.record(entry, Vec::new())?;
        self.send(&record).await
    }

    /// Posts an entry, and waits for what the processor says of it: accepted, a duplicate or rejected. `timeout` is for
    /// all of it.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] where no reply came in time: replies come at most once. The command was sent then, and
    /// the error has its id where the broker told it. Without [`ClientBuilder::reply_topic`], nothing is sent.
    pub async fn post_and_wait(&self, entry: &Entry, timeout: Duration) -> Result<Reply, WaitError> {
        // What is wrong with the entry is said before any broker is asked.
        self.record(entry, Vec::new())?;
        let deadline = Instant::now() + timeout;
        let Ok(replies) = timeout_at(deadline, self.replies()).await else {
            return Err(WaitError::NotReady { after: timeout });
        };
        let mut awaited = replies?.expect();
        let record = self.record(entry, awaited.headers())?;
        let mut posted = None;
        let reply = async {
            // The reply can be quicker than the delivery report.
            tokio::select! {
                sent = self.send(&record) => posted = Some(sent?),
                reply = awaited.reply() => return reply,
            }
            awaited.reply().await
        };
        match timeout_at(deadline, reply).await {
            Ok(reply) => reply,
            Err(_) => Err(WaitError::TimedOut { posted, after: timeout }),
        }
    }

    /// Waits until the broker has answered all that was posted.
    ///
    /// # Errors
    ///
    /// [`PostError::Unconfirmed`] where something is not answered within `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), PostError> {
        let producer = self.inner.producer.clone();
        let flushed = spawn_blocking(move || producer.flush(timeout)).await;
        let unconfirmed = |error: &dyn fmt::Display| PostError::Unconfirmed(error.to_string());
        flushed.map_err(|error| unconfirmed(&error))?.map_err(|error| unconfirmed(&error))
    }

    /// The entry as a record, if it is valid.
    fn record(&self, entry: &Entry, headers: Vec<Header>) -> Result<Record, PostError> {
        let record = entry.to_record(Timestamp::now().as_millisecond(), headers);
        match self.inner.decider.read(&record).reading {
            Reading::Valid { .. } => Ok(record),
            Reading::Rejected(problems) => Err(PostError::Invalid(problems)),
        }
    }

    async fn send(&self, record: &Record) -> Result<Posted, PostError> {
        let topic = self.inner.decider.topic();
        let own = record.coordinates.timestamp;
        let value = record.value.as_deref().unwrap_or_default();
        let mut sent = FutureRecord::<[u8], [u8]>::to(topic).payload(value).timestamp(own);
        sent.key = record.key.as_deref();
        if !record.headers.is_empty() {
            sent = sent.headers(native::to_native(&record.headers));
        }
        let delivery = self.inner.producer.send(sent, Timeout::Never).await;
        let delivery = delivery.map_err(|(error, _)| {
            let reason = reason(&error, topic, value.len());
            if surely_not_taken(&error) {
                PostError::NotPosted(reason)
            } else {
                PostError::Unconfirmed(reason)
            }
        })?;
        let timestamp = delivery.timestamp.to_millis();
        Ok(self.posted(Delivered::read(delivery.partition, delivery.offset, timestamp, own)))
    }

    fn posted(&self, delivered: Delivered) -> Posted {
        match delivered {
            Delivered::At(at) if at.fits_id().is_ok() => {
                Posted::As(ActivityId::new(self.inner.topic_bits, at))
            }
            Delivered::At(at) => Posted::SomewhereIn { partition: at.partition },
            Delivered::SomewhereIn { partition } => Posted::SomewhereIn { partition },
        }
    }

    /// The replies, which are read from the first wait on.
    async fn replies(&self) -> Result<&Replies, WaitError> {
        let inner = &self.inner;
        let reply_to = inner.reply_to.as_ref().ok_or(WaitError::NoReplyTopic)?;
        let start = || async {
            let (settings, reply_to) = (inner.settings.clone(), reply_to.clone());
            let started = spawn_blocking(move || Replies::start(&settings, &reply_to)).await;
            started.map_err(|error| error.to_string())?
        };
        inner.replies.get_or_try_init(start).await.map_err(WaitError::Replies)
    }
}

impl fmt::Debug for ActivityClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityClient")
            .field("topic", &self.inner.decider.topic())
            .field("reply_to", &self.inner.reply_to)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shared_between_tasks() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<ActivityClient>();
    }

    #[test]
    fn what_became_of_a_command_is_said_in_words() {
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
            "no reply within 5s; the command was sent, and the broker has not confirmed it"
        );
    }
}
