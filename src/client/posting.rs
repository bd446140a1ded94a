//! Posting entries.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use rdkafka::error::RDKafkaErrorCode;
use tokio::{
    sync::oneshot::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};

use super::{
    ActivityId, Entry, PostError, Reply, SetupError, WaitError,
    connection::Connection,
    outbox::Outbox,
    replies::Replies,
    reports::{Answer, Failed},
    thread::on_its_own,
};
use crate::{
    activity::{
        CORRELATION_ID, Decider, Header, Limits, REPLY_PARTITION, REPLY_TOPIC, Reading, Record, ReplyTopics,
        topic_bits,
    },
    kafka::{
        Settings, client,
        posted::{Delivered, reason},
    },
};

/// Until a command without an answer is given up, as in Kafka's Java client. librdkafka's own default is five minutes.
const DELIVERY_TIMEOUT_MS: &str = "120000";

/// Posts activities.
///
/// Cheap to clone and made to be shared: all clones use one connection, batch what they post, and wait while
/// librdkafka's queue is full. Commands of one record key that one task posts, one after another or many at once, stay in
/// that order.
///
/// Once an entry is in the queue it is sent, also where the future is dropped; where that is dropped while the queue is
/// full, nothing is sent. One that the broker does not answer within two minutes (`delivery.timeout.ms`) is given up.
/// When the last clone is dropped, what the broker has not confirmed may be lost: [`flush`](Self::flush) first. Dropping
/// waits for nobody.
///
/// Brokers that are away are waited for. Where the Kafka client can't find back to brokers that are there again, as
/// librdkafka's may ([5301](https://github.com/confluentinc/librdkafka/issues/5301)), and where it failed for good,
/// another one takes its place. It sends what was not sent, for which the two minutes begin again, unless they are over;
/// what may have been sent is [`Unconfirmed`](PostError::Unconfirmed), and may come behind what is posted after it. Where
/// it failed before anything was sent, as without the right to write, what was posted is
/// [`NotPosted`](PostError::NotPosted).
///
/// It has to be used within a Tokio runtime.
#[derive(Clone)]
pub struct ActivityClient {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Outbox,
    settings: Settings,
    decider: Decider,
    topic_bits: u16,
    reply_to: Option<ReplyTo>,
    replies: Mutex<Option<Starting>>,
}

/// Goes on where nobody waits for it, so that a short time-out does not have it begin again and again.
type Starting = Shared<BoxFuture<'static, Result<Arc<Replies>, String>>>;

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
        let outbox = Outbox::open(config, settings.clone(), &self.topic).map_err(SetupError::Kafka)?;
        let topic_bits = topic_bits(&self.topic);
        // Which topics the processor allows, it alone knows.
        let decider = Decider::new(self.topic, self.limits).with_reply_topics(ReplyTopics::any());
        let inner = Inner {
            outbox,
            settings,
            decider,
            topic_bits,
            reply_to: self.reply_to,
            replies: Mutex::default(),
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
        let answer = self.take(&record).await?;
        self.posted(&record, answer.await)
    }

    /// Posts an entry, and waits for what the processor says of it: accepted, a duplicate or rejected. `timeout` is for
    /// all of it. Where the future is dropped, the command may have been sent or not.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] where no reply came in time: replies come at most once. The command was sent then, and
    /// the error has its id where the broker told it. Without [`ClientBuilder::reply_topic`], nothing is sent.
    pub async fn post_and_wait(&self, entry: &Entry, timeout: Duration) -> Result<Reply, WaitError> {
        // What is wrong with the entry is said before any broker is asked.
        let asked = self.record(entry, Vec::new())?.headers;
        for header in [REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID] {
            if asked.iter().any(|given| given.name == header.as_bytes()) {
                return Err(WaitError::OwnReply { header });
            }
        }
        let after = timeout;
        let deadline = Deadline::after(timeout);
        let replies = deadline.of(self.replies()).await.ok_or(WaitError::NotReady { after })??;
        let mut awaited = replies.expect();
        let record = self.record(entry, awaited.headers())?;
        let answer = deadline.of(self.take(&record)).await.ok_or(WaitError::QueueFull { after })??;
        let mut posted = None;
        let reply = async {
            // The reply can be quicker than the delivery report.
            tokio::select! {
                answer = answer => posted = Some(self.posted(&record, answer)?),
                reply = awaited.reply() => return Ok(reply),
            }
            Ok::<_, PostError>(awaited.reply().await)
        };
        match deadline.of(reply).await {
            None => Err(WaitError::TimedOut { posted, after }),
            Some(reply) => match reply? {
                Ok(reply) => reply.map_err(WaitError::BadReply),
                Err(reason) => Err(WaitError::RepliesLost { posted, reason }),
            },
        }
    }

    /// Waits until the broker has answered all that was posted. What lingers for others of its batch (`linger.ms`, 5 ms
    /// unless it is set) is not sent sooner.
    ///
    /// # Errors
    ///
    /// [`PostError::Unconfirmed`] where something is not answered within `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), PostError> {
        let settled = Deadline::after(timeout).of(self.inner.outbox.settled()).await;
        settled.ok_or_else(|| PostError::Unconfirmed(format!("not all was answered within {timeout:?}")))
    }

    /// The entry as a record, if it is valid.
    fn record(&self, entry: &Entry, headers: Vec<Header>) -> Result<Record, PostError> {
        let record = entry.to_record(Timestamp::now().as_millisecond(), headers);
        match self.inner.decider.read(&record).reading {
            Reading::Valid { .. } => Ok(record),
            Reading::Rejected(problems) => Err(PostError::Invalid(problems)),
        }
    }

    async fn take(&self, record: &Record) -> Result<Receiver<Answer>, PostError> {
        self.inner.outbox.take(record).await.map_err(|failed| self.failed(record, &failed))
    }

    fn posted(&self, record: &Record, answer: Result<Answer, RecvError>) -> Result<Posted, PostError> {
        let ended = |_| PostError::Unconfirmed("the Kafka client has ended".to_owned());
        let delivered = answer.map_err(ended)?.map_err(|failed| self.failed(record, &failed))?;
        Ok(match delivered {
            Delivered::At(at) if at.fits_id().is_ok() => {
                Posted::As(ActivityId::new(self.inner.topic_bits, at))
            }
            Delivered::At(at) => Posted::SomewhereIn { partition: at.partition },
            Delivered::SomewhereIn { partition } => Posted::SomewhereIn { partition },
        })
    }

    fn failed(&self, record: &Record, failed: &Failed) -> PostError {
        let bytes = record.value.as_ref().map_or(0, Vec::len);
        let mut reason = reason(&failed.error, self.inner.decider.topic(), bytes);
        if let Some(detail) = &failed.detail {
            reason = format!("{reason} ({detail})");
        }
        if failed.is_unsure {
            return PostError::Unconfirmed(reason);
        }
        PostError::NotPosted(match failed.error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageTimedOut) => {
                "it could not be sent to a broker in time (delivery.timeout.ms)".to_owned()
            }
            _ => reason,
        })
    }

    /// The replies, which are read from the first wait on, and anew where the reading has ended.
    async fn replies(&self) -> Result<Arc<Replies>, WaitError> {
        let reply_to = self.inner.reply_to.as_ref().ok_or(WaitError::NoReplyTopic)?;
        self.starting(reply_to).await.map_err(WaitError::Replies)
    }

    fn starting(&self, reply_to: &ReplyTo) -> Starting {
        let mut kept = self.inner.replies.lock().expect("never poisoned");
        let of_use = kept.as_ref().filter(|starting| match starting.peek() {
            None => true,
            Some(started) => started.as_ref().is_ok_and(|replies| !replies.have_ended()),
        });
        if let Some(starting) = of_use {
            return starting.clone();
        }
        let (settings, reply_to) = (self.inner.settings.clone(), reply_to.clone());
        let start = on_its_own("replies-start", move || Replies::start(&settings, &reply_to));
        let starting = async move { start.await?.map(Arc::new) }.boxed().shared();
        *kept = Some(starting.clone());
        starting
    }
}

/// The end of a wait. There may be none: a time-out can be longer than the clock goes.
#[derive(Debug, Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// `None` where it is not ready in time.
    async fn of<F: Future>(self, future: F) -> Option<F::Output> {
        match self.0 {
            Some(deadline) => timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
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
