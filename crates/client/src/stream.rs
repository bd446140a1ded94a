//! Receiving notifications and acknowledging them.

use std::{
    fmt, mem,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use contract::Record;
use futures::{Stream, stream};
use kafka::{
    Settings, client,
    liveness::Liveness,
    reader::{failure, is_group_denied, is_lasting},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::RDKafkaErrorCode,
};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    acks::{Acks, Ticket},
    connection::Connection,
    error::SetupError,
    member::{Joined, Ledger},
    notification::{NotANotification, Notification, NotificationId},
    seen::Seen,
    thread::on_its_own,
};

/// Ids that are remembered by default.
const WINDOW: usize = 100_000;
/// How long an acknowledgement may wait for its commit. librdkafka's own default is 5 s.
const COMMIT_INTERVAL_MS: &str = "1000";
/// Between two polls while nothing arrives: `max.poll.interval.ms` may be short.
const TICK: Duration = Duration::from_millis(500);

/// The notifications of a topic, shared among the members of a consumer group.
///
/// Every notification is delivered until it is [acknowledged](Received::acknowledge). A partition's offset is committed up
/// to the first unacknowledged notification, in whatever order you acknowledge. After a crash, or when another member
/// takes over, unacknowledged notifications are redelivered, and so may be those acknowledged within the last second. One
/// notification that is never acknowledged holds back the commit of its partition for as long as the stream lives.
///
/// The stream reads only committed records. It drops a redelivered notification by its id, unless more than
/// [`window`](StreamBuilder::window) others arrived between. To act exactly once across restarts, store the
/// [id](Notification::id) with the effect.
///
/// A stream never ends: after an error you can ask for the next notification. Dropping the future of `next` loses nothing.
/// Polling keeps the stream in its group, so move work that takes minutes (`max.poll.interval.ms`) to another task. Poll it
/// within a Tokio runtime.
///
/// The stream waits for unreachable brokers. It replaces its consumer when that fails permanently, or can't find the brokers
/// again, which happens to librdkafka ([5301](https://github.com/confluentinc/librdkafka/issues/5301)). Then
/// unacknowledged notifications are redelivered.
///
/// Dropping the stream commits acknowledged notifications and leaves the group. That blocks for a moment, or 3 s if no
/// broker answers; [`close`](Self::close) does the same without blocking. Later acknowledgements are ignored.
///
/// ```no_run
/// use activity_stream_client::{NotificationStream, StreamError};
/// use futures::StreamExt;
///
/// # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
/// let mut notifications = NotificationStream::builder("localhost:9092", "mail").open()?;
/// while let Some(received) = notifications.next().await {
///     match received {
///         Ok(notification) => {
///             println!("{}: {:?}", notification.key, notification.activity.content());
///             notification.acknowledge();
///         }
///         Err(StreamError::NotANotification { what, acknowledgement }) => {
///             eprintln!("{what}");
///             acknowledgement.acknowledge();
///         }
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct NotificationStream {
    received: Pin<Box<dyn Stream<Item = Result<Received, StreamError>> + Send>>,
    shared: Arc<Shared>,
}

/// See [`NotificationStream::builder`].
#[derive(Debug, Clone)]
pub struct StreamBuilder {
    connection: Connection,
    group: String,
    topic: String,
    window: usize,
}

/// A notification to acknowledge.
#[derive(Debug)]
pub struct Received {
    notification: Notification,
    acknowledgement: Acknowledgement,
}

/// Acknowledges one record. If it is dropped unused, the record is redelivered to the next reader of its partition.
#[must_use = "unacknowledged records are redelivered"]
pub struct Acknowledgement {
    ticket: Ticket,
    id: Option<NotificationId>,
    shared: Weak<Shared>,
}

/// Instead of a notification.
#[derive(Debug, Error)]
pub enum StreamError {
    /// A record that another program wrote to the topic. Once acknowledged, it is not redelivered.
    #[error("{what}")]
    NotANotification { what: Box<NotANotification>, acknowledgement: Acknowledgement },
    /// The topic can't be read, and waiting does not help: it does not exist, or this user may not read it.
    #[error("{0}")]
    Kafka(String),
}

struct Shared {
    config: ClientConfig,
    settings: Settings,
    topic: String,
    ledger: Ledger,
    /// Locked after the ledger, where both are.
    joined: Mutex<Arc<Joined>>,
}

impl StreamBuilder {
    /// The notifications topic. Default: `activity.notifications`.
    #[must_use]
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..self }
    }

    /// How many of the last ids are remembered, to drop redelivered notifications. Default: 100,000 (about 15 MB). With 0
    /// none is dropped.
    #[must_use]
    pub fn window(self, ids: usize) -> Self {
        Self { window: ids, ..self }
    }

    /// Sets a librdkafka property: for SASL, TLS, `session.timeout.ms`, `auto.commit.interval.ms`, …
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.set(name.into(), value.into());
        self
    }

    /// Joins the group, without waiting for a broker. A group without an offset for a partition, or whose offset is no
    /// longer retained, starts with the first retained notification.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if a property can't be set, or librdkafka refuses it.
    pub fn open(self) -> Result<NotificationStream, SetupError> {
        let mut settings = self.connection.settings(&self.group, "", &self.topic)?;
        let interval = settings.properties.entry("auto.commit.interval.ms".to_owned());
        interval.or_insert_with(|| COMMIT_INTERVAL_MS.to_owned());
        let mut config = client::consumer(&settings);
        // librdkafka commits stored offsets, and only acknowledged ones are stored.
        config.set("enable.auto.commit", "true").set("auto.offset.reset", "earliest");
        let ledger = Ledger::new(Seen::new(self.window));
        let joined = Joined::join(&config, &self.topic, &ledger)
            .map_err(|error| SetupError::Kafka(error.to_string()))?;
        let joined = Mutex::new(Arc::new(joined));
        let shared = Arc::new(Shared { config, settings, topic: self.topic, ledger, joined });
        let liveness = Liveness::new(&shared.settings, &shared.topic);
        let received = stream::unfold((Arc::clone(&shared), liveness), |(shared, mut liveness)| async {
            let received = next(&shared, &mut liveness).await;
            Some((received, (shared, liveness)))
        });
        Ok(NotificationStream { received: Box::pin(received), shared })
    }
}

impl NotificationStream {
    /// A stream of the brokers at `bootstrap_servers` (`host:port`, separated by commas), as a member of the consumer
    /// group `group`.
    #[must_use]
    pub fn builder(bootstrap_servers: impl Into<String>, group: impl Into<String>) -> StreamBuilder {
        StreamBuilder {
            connection: Connection::new(bootstrap_servers.into()),
            group: group.into(),
            topic: "activity.notifications".to_owned(),
            window: WINDOW,
        }
    }

    /// Commits acknowledged notifications now, instead of within the next second.
    ///
    /// # Errors
    ///
    /// [`StreamError::Kafka`] if the broker refuses it. Acknowledged notifications are then committed later, or redelivered.
    pub fn commit(&self) -> impl Future<Output = Result<(), StreamError>> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let consumer = Arc::clone(shared.joined().consumer());
            let committed =
                on_its_own("commit", move || consumer.commit_consumer_state(CommitMode::Sync)).await;
            let failed = match committed {
                Ok(Err(error)) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset) => {
                    error.to_string()
                }
                Ok(_) => return Ok(()),
                Err(failed) => failed,
            };
            let topic = &shared.topic;
            Err(StreamError::Kafka(format!("the place in the topic '{topic}' was not committed: {failed}")))
        }
    }

    /// Commits acknowledged notifications and leaves the group, as dropping does, but without blocking the runtime.
    pub async fn close(self) {
        // Without a thread it was dropped here.
        let _ = on_its_own("close", move || drop(self)).await;
    }
}

impl Stream for NotificationStream {
    type Item = Result<Received, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.received.as_mut().poll_next(context)
    }
}

impl fmt::Debug for NotificationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationStream").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

async fn next(shared: &Arc<Shared>, liveness: &mut Liveness) -> Result<Received, StreamError> {
    loop {
        let joined = shared.joined();
        match timeout(TICK, joined.record()).await {
            Ok(Ok(record)) => {
                liveness.heard();
                if let Some(received) = take(shared, record) {
                    return received;
                }
            }
            Ok(Err(error)) if is_lasting(&error) || is_group_denied(&error) => {
                if joined.consumer().client().fatal_error().is_some() {
                    shared.join_again();
                }
                return Err(StreamError::Kafka(failure(&shared.settings, &shared.topic, &error).to_string()));
            }
            Ok(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PollExceeded) => {
                tracing::warn!(%error, "the stream was not polled for too long; joining the group again");
            }
            Ok(Err(error)) => tracing::debug!(%error, "while reading notifications"),
            Err(_) => {}
        }
        if liveness.is_client_stuck(joined.consumer()) {
            tracing::warn!("the stream's Kafka client lost the brokers; joining the group with a new one");
            shared.join_again();
        }
    }
}

/// The item to hand out for a record; `None` for a redelivered one.
fn take(shared: &Arc<Shared>, record: Record) -> Option<Result<Received, StreamError>> {
    let at = record.coordinates;
    let read = Notification::read(&record);
    let mut ledger = shared.ledger.lock();
    let (acks, seen) = &mut *ledger;
    let ticket = acks.hand_out(at.partition, at.offset);
    let acknowledgement = |id| Acknowledgement { ticket, id, shared: Arc::downgrade(shared) };
    match read {
        Ok(notification) if seen.is_new(notification.id, ticket, |first| acks.is_held(first)) => {
            let acknowledgement = acknowledgement(Some(notification.id));
            Some(Ok(Received { notification, acknowledgement }))
        }
        Ok(_) => {
            shared.done(acks, ticket);
            None
        }
        Err(reason) => {
            let what = Box::new(NotANotification { topic: shared.topic.clone(), record, reason });
            Some(Err(StreamError::NotANotification { what, acknowledgement: acknowledgement(None) }))
        }
    }
}

impl Shared {
    fn joined(&self) -> Arc<Joined> {
        Arc::clone(&self.joined.lock().expect("never poisoned"))
    }

    /// Replaces the consumer. Unacknowledged notifications are redelivered.
    fn join_again(&self) {
        let joined = match Joined::join(&self.config, &self.topic, &self.ledger) {
            Ok(joined) => Arc::new(joined),
            Err(error) => {
                tracing::warn!(%error, "a new Kafka client could not be made; trying again later");
                return;
            }
        };
        let mut ledger = self.ledger.lock();
        let old = mem::replace(&mut *self.joined.lock().expect("never poisoned"), joined);
        old.replaced(&mut ledger.0);
        drop(ledger);
        // Leaving the group may wait for the brokers. Without a thread it happens here.
        let _ = thread::Builder::new().name("replaced".into()).spawn(move || drop(old));
    }

    /// Call it with the ledger locked, so that no offset of a lost partition is stored.
    fn done(&self, acks: &mut Acks, ticket: Ticket) {
        let Some(next_offset) = acks.acknowledge(ticket) else { return };
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, ticket.partition, Offset::Offset(next_offset));
        if let Err(error) = added.and_then(|()| self.joined().consumer().store_offsets(&list)) {
            // Then it is redelivered to the partition's new owner.
            tracing::debug!(%error, kafka.partition = ticket.partition, "an acknowledgement came too late");
        }
    }
}

impl Received {
    /// Marks it as done, so that it is not redelivered.
    pub fn acknowledge(self) {
        self.acknowledgement.acknowledge();
    }

    /// The notification and its acknowledgement, to use in different tasks.
    pub fn into_parts(self) -> (Notification, Acknowledgement) {
        (self.notification, self.acknowledgement)
    }
}

impl Deref for Received {
    type Target = Notification;

    fn deref(&self) -> &Notification {
        &self.notification
    }
}

impl Acknowledgement {
    /// Marks the record as done. Ignored after the stream is dropped. If the group took the partition away, the record is
    /// only dropped by its id if it is redelivered to this stream.
    pub fn acknowledge(self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut ledger = shared.ledger.lock();
        let (acks, seen) = &mut *ledger;
        if let Some(id) = self.id {
            seen.acknowledged(id);
        }
        shared.done(acks, self.ticket);
        drop(ledger);
        // If the stream has been dropped, this leaves the group, which may wait for the brokers.
        if let Some(last) = Arc::into_inner(shared) {
            let _ = thread::Builder::new().name("leave".into()).spawn(move || drop(last));
        }
    }
}

impl fmt::Debug for Acknowledgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticket { partition, offset, .. } = self.ticket;
        f.debug_struct("Acknowledgement").field("partition", &partition).field("offset", &offset).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_and_what_it_gives_can_go_to_other_tasks_and_errors_anywhere() {
        fn sent<T: Send>(value: T) -> T {
            value
        }
        fn error<T: std::error::Error + Send + Sync + 'static>() {}
        fn shared<T: Send + Sync + 'static>() {}
        error::<StreamError>();
        shared::<Received>();
        shared::<Acknowledgement>();
        let stream = sent(NotificationStream::builder("localhost:1", "g").open().unwrap());
        drop(sent(stream.commit()));
        drop(sent(stream.close()));
    }
}
