//! What is posted and not yet answered, and the producer that sends it.
//!
//! A producer can be of no use any more: a fatal error of an idempotent one ends it, and librdkafka can lose all brokers
//! for good (see [`reach`]). Another one takes its place then. What the old one surely never sent is sent by the new one,
//! in its order; what may have been sent is not, since nobody else could tell it from what was posted twice.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, RwLock, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult, Message},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig},
};
use tokio::{sync::oneshot, time::sleep};

use super::silence::Silence;
use crate::{
    activity::Record,
    kafka::{
        Settings, client,
        consumer::record_of,
        native,
        posted::{Delivered, surely_not_taken},
        reach::reach,
    },
};

/// How soon the thread notices that nobody needs it any more, or that its producer failed.
const SLICE: Duration = Duration::from_millis(100);
/// Until a command is tried again that found no room.
const FULL: Duration = Duration::from_millis(10);
/// How long a producer that failed may still hear of what it has sent.
const SETTLE: Duration = Duration::from_secs(5);
/// For another producer to take the place of one that failed.
const ANEW: Duration = Duration::from_secs(30);

/// The broker has it, or not, or nobody knows.
pub(super) type Answer = Result<Delivered, Failed>;

/// Why a command was not delivered.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub error: KafkaError,
    /// The broker may have it all the same.
    pub is_unsure: bool,
}

/// Keeps the order in which commands are posted, also where they wait for room and where the producer is replaced.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    /// Those who wait for room, in their order.
    entrance: tokio::sync::Mutex<()>,
}

struct Shared {
    config: ClientConfig,
    /// With which [`reach`] asks.
    settings: Settings,
    topic: String,
    /// Locked for writing while it is replaced.
    producer: RwLock<Arc<BaseProducer<Reports>>>,
    stop: AtomicBool,
}

/// Brings each delivery report to the one that waits for it.
#[derive(Default)]
struct Reports {
    /// How many commands were taken in.
    places: AtomicU64,
    /// How many reports there were.
    count: AtomicU64,
    /// What a producer of no use any more has surely not sent.
    unsent: Mutex<Vec<(Record, Waiting)>>,
}

impl Reports {
    fn unsent(&self) -> MutexGuard<'_, Vec<(Record, Waiting)>> {
        self.unsent.lock().expect("never poisoned")
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::client_error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let answer = match result {
            Ok(message) => Ok(waiting.delivered(message)),
            Err((error, message)) => {
                let is_sent = native::was_sent(message);
                // Only a fatal error and the replacement below purge the queue.
                if !is_sent && error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue) {
                    self.unsent().push((record_of(message), *waiting));
                    return;
                }
                Err(Failed { error: error.clone(), is_unsure: !surely_not_taken(error, is_sent) })
            }
        };
        // Who wanted to know may be gone.
        let _ = waiting.answer.send(answer);
    }
}

/// Who waits for a delivery report.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// In the order in which commands were taken in.
    place: u64,
    /// The record's own timestamp, which holds where the broker does not set another.
    timestamp: i64,
}

impl Waiting {
    fn delivered(&self, message: &BorrowedMessage<'_>) -> Delivered {
        let timestamp = message.timestamp().to_millis();
        Delivered::read(message.partition(), message.offset(), timestamp, self.timestamp)
    }
}

/// Why a command was not taken into the queue.
enum Refused {
    /// There will be room.
    Full,
    /// The producer failed; another one will take its place.
    Broken(KafkaError),
    For(KafkaError),
}

impl From<Refused> for KafkaError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::MessageProduction(RDKafkaErrorCode::QueueFull),
            Refused::Broken(error) | Refused::For(error) => error,
        }
    }
}

impl Outbox {
    /// A producer of commands, and its thread, which ends with this.
    pub fn open(config: ClientConfig, settings: Settings, topic: &str) -> Result<Self, String> {
        let producer = new_producer(&config).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            config,
            settings,
            topic: topic.to_owned(),
            producer: RwLock::new(Arc::new(producer)),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .name("outbox".into())
            .spawn(move || serving.serve())
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        Ok(Self { shared, entrance: tokio::sync::Mutex::new(()) })
    }

    /// Takes a command in, which is under way from then on, and gives what its answer will come by. Waits while there is
    /// no room; where that future is dropped, nothing is sent.
    pub async fn take(&self, record: &Record) -> Result<oneshot::Receiver<Answer>, Failed> {
        let _turn = self.entrance.lock().await;
        let begun = Instant::now();
        loop {
            let (answer, receiver) = oneshot::channel();
            match self.shared.try_send(record, answer).map_err(|(refused, _)| refused) {
                Ok(()) => return Ok(receiver),
                Err(Refused::Full) => {}
                Err(Refused::Broken(_)) if begun.elapsed() < ANEW => {}
                Err(Refused::Broken(error) | Refused::For(error)) => {
                    return Err(Failed { error, is_unsure: false });
                }
            }
            sleep(FULL).await;
        }
    }

    /// Waits until all that was taken in is answered.
    pub async fn settled(&self) {
        let is_settled = || match self.shared.producer.try_read() {
            // What lingers is sent now.
            Ok(producer) => producer.flush(Duration::ZERO).is_ok() && producer.context().unsent().is_empty(),
            Err(_) => false,
        };
        while !is_settled() {
            sleep(FULL).await;
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Serves delivery reports, and replaces the producer where it is of no use any more.
    fn serve(&self) {
        let mut silence = Silence::begin();
        let mut heard = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let producer = Arc::clone(&self.producer.read().expect("never poisoned"));
            producer.poll(SLICE);
            if let Some((code, reason)) = producer.client().fatal_error() {
                tracing::warn!(%code, reason, "the producer failed for good; going on with another one");
                self.replace(producer);
                silence.broken();
                continue;
            }
            let count = producer.context().count.load(Ordering::Relaxed);
            if mem::replace(&mut heard, count) != count || producer.in_flight_count() == 0 {
                silence.broken();
                continue;
            }
            if !silence.is_due() {
                continue;
            }
            let (asked, settings, topic) = (Arc::clone(&producer), self.settings.clone(), self.topic.clone());
            if silence.is_final(move || reach(asked.client(), &settings, &topic)) {
                tracing::warn!("the producer has lost the brokers; going on with another one");
                self.replace(producer);
            }
        }
    }

    /// Sends what the old producer has not sent by a new one. Meanwhile nothing is taken in.
    fn replace(&self, old: Arc<BaseProducer<Reports>>) {
        let mut current = self.producer.write().expect("never poisoned");
        old.purge(PurgeConfig::default().queue());
        settle(&old, SETTLE);
        old.purge(PurgeConfig::default().queue().inflight());
        settle(&old, SLICE);
        let mut unsent = mem::take(&mut *old.context().unsent());
        // What was to be tried again was purged later than what stood behind it.
        unsent.sort_by_key(|(_, waiting)| waiting.place);
        match new_producer(&self.config) {
            Ok(producer) => *current = Arc::new(producer),
            Err(error) => {
                tracing::warn!(%error, "no other producer could be made; trying again");
                for (_, waiting) in unsent {
                    let _ = waiting.answer.send(Err(Failed { error: error.clone(), is_unsure: false }));
                }
                drop(current);
                thread::sleep(SLICE);
                return;
            }
        }
        for (record, waiting) in unsent {
            // There is room: the old one had no more of it.
            if let Err((refused, answer)) = send(&current, &self.topic, &record, waiting.answer) {
                let _ = answer.send(Err(Failed { error: refused.into(), is_unsure: false }));
            }
        }
        drop(current);
        // It may wait a little for its threads.
        let _ = thread::Builder::new().name("replaced".into()).spawn(move || drop(old));
    }

    fn try_send(
        &self,
        record: &Record,
        answer: oneshot::Sender<Answer>,
    ) -> Result<(), (Refused, oneshot::Sender<Answer>)> {
        match self.producer.try_read() {
            Ok(producer) => send(&producer, &self.topic, record, answer),
            Err(TryLockError::WouldBlock) => Err((Refused::Full, answer)),
            Err(TryLockError::Poisoned(_)) => unreachable!("no holder panics"),
        }
    }
}

fn new_producer(config: &ClientConfig) -> Result<BaseProducer<Reports>, KafkaError> {
    config.create_with_context(Reports::default())
}

/// Waits until all is answered, and no longer than that.
fn settle(producer: &BaseProducer<Reports>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::ZERO);
        // A poll with a time-out uses all of it, whatever arrives.
        thread::sleep(Duration::from_millis(1));
    }
}

fn send(
    producer: &BaseProducer<Reports>,
    topic: &str,
    record: &Record,
    answer: oneshot::Sender<Answer>,
) -> Result<(), (Refused, oneshot::Sender<Answer>)> {
    let timestamp = record.coordinates.timestamp;
    let place = producer.context().places.fetch_add(1, Ordering::Relaxed);
    let waiting = Box::new(Waiting { answer, place, timestamp });
    let mut sent = BaseRecord::<[u8], [u8], Box<Waiting>>::with_opaque_to(topic, waiting);
    sent.timestamp = Some(timestamp);
    sent.payload = record.value.as_deref();
    sent.key = record.key.as_deref();
    if !record.headers.is_empty() {
        sent = sent.headers(native::to_native(&record.headers));
    }
    producer.send(sent).map_err(|(error, sent)| {
        let refused = if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            Refused::Full
        } else if producer.client().fatal_error().is_some() {
            Refused::Broken(error)
        } else {
            Refused::For(error)
        };
        (refused, sent.delivery_opaque.answer)
    })
}

#[cfg(test)]
mod tests {
    use tokio::{task::block_in_place, time::timeout};

    use super::*;
    use crate::{
        activity::{Coordinates, ReplyTopics},
        client::connection::Connection,
        kafka::{Topics, embedded::EmbeddedBroker},
    };

    const TOPIC: &str = "activity.commands";
    /// After this a test has failed, on a slow machine too.
    const PATIENCE: Duration = Duration::from_secs(180);

    fn record() -> Record {
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 1 },
            key: Some(b"case/7".to_vec()),
            value: Some(b"{}".to_vec()),
            headers: Vec::new(),
        }
    }

    async fn offset(answer: oneshot::Receiver<Answer>) -> i64 {
        match timeout(PATIENCE, answer).await.expect("waited in vain for an answer").expect("a thread") {
            Ok(Delivered::At(at)) => at.offset,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_producer_of_no_use_did_not_send_is_sent_once_and_in_its_order_by_another_one() {
        let broker = EmbeddedBroker::start(&Topics {
            commands: TOPIC.into(),
            notifications: "n".into(),
            rejections: "r".into(),
            replies: ReplyTopics::default(),
            partitions: 1,
            replication_factor: 1,
            largest_command: 1024,
        })
        .unwrap();
        let settings = Connection::new(broker.bootstrap_servers()).settings("g", TOPIC, "").unwrap();
        let config = client::producer(&settings, client::POST_BATCH_BYTES);
        let outbox = Outbox::open(config, settings, TOPIC).unwrap();
        assert_eq!(offset(outbox.take(&record()).await.unwrap()).await, 0);

        broker.cluster().broker_down(1).unwrap();
        let mut answers = Vec::new();
        for _ in 1..20 {
            answers.push(outbox.take(&record()).await.unwrap());
        }
        // Nobody waits for this one, which is sent all the same.
        drop(outbox.take(&record()).await.unwrap());
        let old = Arc::clone(&outbox.shared.producer.read().unwrap());
        block_in_place(|| outbox.shared.replace(Arc::clone(&old)));
        assert!(!Arc::ptr_eq(&old, &outbox.shared.producer.read().unwrap()));
        answers.push(outbox.take(&record()).await.unwrap());
        broker.cluster().broker_up(1).unwrap();
        let mut offsets = Vec::new();
        for answer in answers {
            offsets.push(offset(answer).await);
        }
        assert_eq!(offsets, (1..20).chain([21]).collect::<Vec<_>>());
        timeout(PATIENCE, outbox.settled()).await.expect("all is answered");
    }
}
