//! Posting entries.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use contract::{
    CORRELATION_ID, Decider, Limits, REPLY_PARTITION, REPLY_TOPIC, Reading, Record, Reply, ReplyTopics,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use kafka::{Settings, access::Access, client};
use rdkafka::ClientConfig;

use super::{
    connection::Connection,
    entry::Entry,
    error::{PostError, SetupError, WaitError},
    outbox::Outbox,
    posted::Posted,
    replies::{Replies, ReplyTo},
    reports::Failed,
    thread::on_its_own,
    verdict::Deadline,
};

/// Properties of the producer, unless the user sets them.
const DEFAULTS: [(&str, &str); 2] = [
    // After this a command without an answer has failed, as in Kafka's Java client. librdkafka's own default is five minutes.
    ("delivery.timeout.ms", "120000"),
    (IN_FLIGHT, "1"),
];
const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";

/// Posts activities.
///
/// Clones are cheap and share one producer: they batch what they post, and wait while librdkafka's queue is full. Commands
/// with one record key that one task posts, one after another or many at once, keep their order.
///
/// An entry in the queue is sent even if its future is dropped. If the future is dropped while it waits for a full queue,
/// nothing is sent. Posting fails if the broker does not answer within two minutes (`delivery.timeout.ms`). Dropping the
/// last clone does not block, and may lose entries that the broker has not confirmed: [`flush`](Self::flush) first.
///
/// The client waits for unreachable brokers. It replaces its producer when that fails permanently, or can't find the brokers
/// again, which happens to librdkafka ([5301](https://github.com/confluentinc/librdkafka/issues/5301)). The new producer
/// sends the entries that were not sent yet; their two minutes start again, unless they were over. Entries that may have
/// been sent are [`Unconfirmed`](PostError::Unconfirmed), and may arrive after later ones. If the producer fails before it
/// sent anything, for example for lack of the right to write, its entries are [`NotPosted`](PostError::NotPosted).
///
/// Use it within a Tokio runtime.
#[derive(Clone)]
pub struct ActivityClient {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Outbox,
    settings: Settings,
    decider: Decider,
    reply_to: Option<ReplyTo>,
    replies: Mutex<Option<Starting>>,
}

/// Continues even if nobody waits for it, so that short time-outs do not keep restarting it.
type Starting = Shared<BoxFuture<'static, Result<Arc<Replies>, String>>>;

/// Configures a client; see [`ActivityClient::builder`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    connection: Connection,
    topic: String,
    limits: Limits,
    reply_to: Option<ReplyTo>,
}

impl ClientBuilder {
    /// The commands topic. Default: `activity.commands`.
    #[must_use]
    pub fn commands_topic(self, topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..self }
    }

    /// The limits that the processor is configured with. Default: the contract's.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The topic for the replies that [`post_and_wait`](ActivityClient::post_and_wait) waits for: one of the processor's
    /// `topics.replies`. The client reads one partition, chosen at random, so that many clients share the work.
    #[must_use]
    pub fn reply_topic(self, topic: impl Into<String>) -> Self {
        Self { reply_to: Some(ReplyTo { topic: topic.into(), partition: None }), ..self }
    }

    /// The same, reading this partition.
    #[must_use]
    pub fn reply_partition(self, topic: impl Into<String>, partition: i32) -> Self {
        Self { reply_to: Some(ReplyTo { topic: topic.into(), partition: Some(partition) }), ..self }
    }

    /// Sets a librdkafka property: for SASL, TLS, `linger.ms`, `delivery.timeout.ms`, …
    ///
    /// The default of `max.in.flight.requests.per.connection` is 1. With more, librdkafka is likelier to append an entry twice
    /// when a partition's leader changes ([4953](https://github.com/confluentinc/librdkafka/issues/4953)); an idempotency key
    /// rules that out.
    ///
    /// The default of `batch.size` is 128 KiB. A batch as a whole has to fit the `max.message.bytes` of the commands topic.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.set(name.into(), value.into());
        self
    }

    /// Makes the client without asking a broker: an unreachable one shows when you post.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if a property can't be set, or librdkafka refuses it.
    pub fn build(self) -> Result<ActivityClient, SetupError> {
        let settings = self.connection.settings("activity-client", &self.topic, "")?;
        let config = producer(&settings);
        let outbox = Outbox::open(config, settings.clone(), &self.topic).map_err(SetupError::Kafka)?;
        // Only the processor knows which topics it may reply on.
        let decider = Decider::new(self.topic, self.limits).with_reply_topics(ReplyTopics::any());
        let inner = Inner { outbox, settings, decider, reply_to: self.reply_to, replies: Mutex::default() };
        Ok(ActivityClient { inner: Arc::new(inner) })
    }
}

fn producer(settings: &Settings) -> ClientConfig {
    let mut config = client::producer(settings, client::POST_BATCH_BYTES);
    for (name, value) in DEFAULTS {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
}

impl ActivityClient {
    /// A client of the brokers at `bootstrap_servers` (`host:port`, separated by commas). Its producer is idempotent, waits
    /// for all replicas, and chooses partitions as Kafka's Java client does.
    #[must_use]
    pub fn builder(bootstrap_servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            connection: Connection::new(bootstrap_servers.into()),
            topic: "activity.commands".to_owned(),
            limits: Limits::default(),
            reply_to: None,
        }
    }

    /// Posts an entry, and returns the id of its activity as soon as the broker has the command. The processor may still
    /// reject it, or find that its idempotency key was used before.
    ///
    /// # Errors
    ///
    /// [`PostError::Invalid`] with all problems of an entry that would be rejected; it is not sent. The other errors say
    /// whether the broker may have the command.
    pub async fn post(&self, entry: &Entry) -> Result<Posted, PostError> {
        self.enqueue(&self.record(entry)?, None).await?.await
    }

    /// Posts an entry, and waits for the processor's verdict: accepted, a duplicate or rejected. `timeout` covers both. If
    /// the future is dropped, the command may have been sent. Needs [`ClientBuilder::reply_topic`].
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
    /// [`PostError::Invalid`] and [`PostError::NotPosted`]. There may be an activity, now or later, with the others.
    /// [`TimedOut`](WaitError::TimedOut) (replies are delivered at most once) and [`RepliesLost`](WaitError::RepliesLost)
    /// carry the command's id if the broker returned it. [`PostError::Unconfirmed`] is returned when the time is over, since
    /// a reply could still arrive.
    pub async fn post_and_wait(&self, entry: &Entry, timeout: Duration) -> Result<Reply, WaitError> {
        // An invalid entry is refused before any broker is asked.
        let record = self.record(entry)?;
        self.post_record_and_wait(record, timeout).await
    }

    /// Puts a command as it is, valid or not, into the queue: for this partition, or for that of its key. Waits while the
    /// queue is full. Commands are sent in the order of these calls; the returned future waits for the broker's answer.
    ///
    /// # Errors
    ///
    /// [`PostError::NotPosted`] if the Kafka client refuses it. The returned future fails as [`post`](Self::post) does.
    pub async fn enqueue(
        &self,
        record: &Record,
        partition: Option<i32>,
    ) -> Result<impl Future<Output = Result<Posted, PostError>> + Send + use<>, PostError> {
        let bytes = record.value.as_ref().map_or(0, Bytes::len);
        let inner = Arc::clone(&self.inner);
        let failed =
            move |failed: Failed| failed.explain(&Access::of(&inner.settings), inner.decider.topic(), bytes);
        match self.inner.outbox.take(record, partition).await {
            Ok(answer) => Ok(answer.map(move |answered| match answered {
                Ok(answer) => answer.map_err(failed),
                Err(_) => Err(PostError::Unconfirmed("the Kafka client has ended".to_owned())),
            })),
            Err(refused) => Err(failed(refused)),
        }
    }

    /// Posts a command as it is, valid or not, and waits for the processor's verdict.
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
        let enqueued = deadline.of(self.enqueue(&record, None)).await;
        deadline.verdict(enqueued.ok_or(WaitError::QueueFull { after })??, awaited.reply()).await
    }

    /// Waits until the broker has answered everything that was posted. Batches are not sent before `linger.ms` (default:
    /// 5 ms) is over.
    ///
    /// # Errors
    ///
    /// [`PostError::Unconfirmed`] if something is not answered within `timeout`.
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

    /// The reader of replies. It starts with the first wait, and again after it has ended.
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
    fn one_request_is_in_flight_unless_the_user_wants_more() {
        let in_flight = |properties| {
            let config = producer(&Settings::for_test("b:9092", properties));
            config.get(IN_FLIGHT).map(str::to_owned)
        };
        assert_eq!(in_flight(&[]).as_deref(), Some("1"));
        assert_eq!(in_flight(&[(IN_FLIGHT, "5")]).as_deref(), Some("5"));
    }

    #[test]
    fn a_client_is_shared_between_tasks() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<ActivityClient>();
    }
}
