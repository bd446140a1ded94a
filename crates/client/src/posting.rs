//! Posting entries.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use contract::{
    CORRELATION_ID, Decider, Limits, REPLY_PARTITION, REPLY_TOPIC, Reading, Record, ReplyTopics, topic_bits,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use kafka::{
    Settings,
    access::Access,
    client,
    posted::{Delivered, reason},
};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot::{Receiver, error::RecvError};

use super::{
    ActivityId, Entry, PostError, Reply, SetupError, WaitError,
    connection::Connection,
    outbox::Outbox,
    replies::{Replies, ReplyTo},
    reports::{Answer, Failed},
    thread::on_its_own,
    verdict::Deadline,
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
        // A misspelt topic is an error, and not a new topic.
        let config = client::producer(&settings, client::POST_BATCH_BYTES);
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
        let record = self.record(entry)?;
        let answer = self.take(&record).await?;
        self.posted(&record, answer.await)
    }

    /// Posts an entry, and waits for what the processor says of it: accepted, a duplicate or rejected. `timeout` is for
    /// all of it. Where the future is dropped, the command may have been sent or not. It needs
    /// [`ClientBuilder::reply_topic`].
    ///
    /// ```no_run
    /// use activity_stream_client::{ActivityClient, Entry, Reply, WaitError};
    /// use std::time::Duration;
    ///
    /// # async fn approve() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ActivityClient::builder("localhost:9092").reply_topic("my.answers").build()?;
    /// let entry = Entry::new("workitem", "w-9").verb("complete").idempotency_key("approve-w-9");
    /// match client.post_and_wait(&entry, Duration::from_secs(10)).await {
    ///     Ok(Reply::Accepted { id } | Reply::Duplicate { id }) => println!("{id}"),
    ///     Ok(Reply::Rejected { problems }) => println!("{problems}"),
    ///     Err(WaitError::TimedOut { posted: Some(posted), .. }) => println!("no verdict yet: {posted}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing was sent with [`NoReplyTopic`](WaitError::NoReplyTopic), [`OwnReply`](WaitError::OwnReply),
    /// [`Replies`](WaitError::Replies), [`NotReady`](WaitError::NotReady), [`QueueFull`](WaitError::QueueFull),
    /// [`PostError::Invalid`] and [`PostError::NotPosted`]. There may be an activity, or come one, with
    /// [`TimedOut`](WaitError::TimedOut), since replies come at most once, and [`RepliesLost`](WaitError::RepliesLost),
    /// which tell the command's id where the broker told it, with [`PostError::Unconfirmed`], which comes when the time is
    /// over, since the reply may come all the same, and with [`BadReply`](WaitError::BadReply).
    pub async fn post_and_wait(&self, entry: &Entry, timeout: Duration) -> Result<Reply, WaitError> {
        // What is wrong with the entry is said before any broker is asked.
        let record = self.record(entry)?;
        self.post_record_and_wait(record, timeout).await
    }

    /// Posts a command as it is, checked or not, and waits for what the processor says of it.
    pub async fn post_record_and_wait(
        &self,
        mut record: Record,
        timeout: Duration,
    ) -> Result<Reply, WaitError> {
        for header in [REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID] {
            if record.headers.iter().any(|given| given.name == header.as_bytes()) {
                return Err(WaitError::OwnReply { header });
            }
        }
        let deadline = Deadline::after(timeout);
        let after = timeout;
        let replies = deadline.of(self.replies()).await.ok_or(WaitError::NotReady { after })??;
        let mut awaited = replies.expect();
        record.headers.extend(awaited.headers());
        let answer = deadline.of(self.take(&record)).await.ok_or(WaitError::QueueFull { after })??;
        deadline.verdict(async { self.posted(&record, answer.await) }, awaited.reply()).await
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
    fn record(&self, entry: &Entry) -> Result<Record, PostError> {
        let record = entry.to_record(Timestamp::now().as_millisecond());
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
        let access = Access::of(&self.inner.settings);
        let mut reason = reason(&access, &failed.error, self.inner.decider.topic(), bytes);
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
        let (starting, is_new) = self.starting(reply_to);
        match starting.await {
            // It may have failed before this wait began, for a reason that has passed.
            started if !is_new && !is_of_use(&started) => self.starting(reply_to).0.await,
            started => started,
        }
        .map_err(WaitError::Replies)
    }

    /// The start that is under way or has succeeded, or a new one, and whether it is new.
    fn starting(&self, reply_to: &ReplyTo) -> (Starting, bool) {
        let mut kept = self.inner.replies.lock().expect("never poisoned");
        if let Some(starting) = kept.as_ref().filter(|starting| starting.peek().is_none_or(is_of_use)) {
            return (starting.clone(), false);
        }
        let (settings, reply_to) = (self.inner.settings.clone(), reply_to.clone());
        let start = on_its_own("replies-start", move || Replies::start(&settings, &reply_to));
        let starting = async move { start.await?.map(Arc::new) }.boxed().shared();
        *kept = Some(starting.clone());
        (starting, true)
    }
}

fn is_of_use(started: &Result<Arc<Replies>, String>) -> bool {
    started.as_ref().is_ok_and(|replies| !replies.have_ended())
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
    use kafka::{Topics, embedded::EmbeddedBroker};

    use super::*;

    #[tokio::test]
    async fn a_start_of_the_replies_that_failed_before_is_tried_again_once() {
        let broker = EmbeddedBroker::start(&Topics::for_test("activity.commands")).unwrap();
        let client = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("n").build().unwrap();
        // Nobody has asked for its outcome yet.
        let failed: Starting = async { Err("the brokers were away".to_owned()) }.boxed().shared();
        *client.inner.replies.lock().unwrap() = Some(failed);
        let replies = client.replies().await.expect("replies");
        assert!(Arc::ptr_eq(&replies, &client.replies().await.expect("the same ones")));

        let client = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("none").build().unwrap();
        let failed = client.replies().await.expect_err("there is no such topic");
        assert!(failed.to_string().contains("the topic 'none' does not exist"), "{failed}");
    }

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
            "no reply within 5s; the command was handed to the Kafka client, which may still send it"
        );
    }
}
