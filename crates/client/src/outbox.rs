//! Commands that are posted and not yet answered, and the producer that sends them.
//!
//! A producer can become useless: a fatal error ends an idempotent one, and librdkafka can lose all brokers permanently (see
//! [`kafka::liveness`]). Then it is replaced. The new producer sends, in order, the commands that the old one definitely
//! never sent. It does not send those that may have been sent, since the processor could not distinguish them from second
//! commands. If a producer fails before it sent anything, its unsent commands fail too: its successor would usually fail
//! again, for example for lack of a right.

use std::{
    fmt, mem,
    sync::{
        Arc, RwLock, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::{Header, Record, topic_bits};
use kafka::{Settings, context::Context, liveness::Liveness, native};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer, PurgeConfig},
};
use tokio::{sync::oneshot, time::sleep};

use super::reports::{Answer, Failed, InFlight, Reports};

/// How soon the thread notices that it has to stop, or that its producer failed.
const SLICE: Duration = Duration::from_millis(100);
/// Between two attempts to put a command into a full queue.
const FULL: Duration = Duration::from_millis(10);
/// How long a failed producer may still receive answers.
const SETTLE: Duration = Duration::from_secs(5);
/// For the replacement of a failed producer.
const REPLACED: Duration = Duration::from_secs(30);

type Producing = BaseProducer<Context<Reports>>;

/// Keeps commands in the order in which they are posted, also while the queue is full and when the producer is replaced.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    /// Callers that wait for a full queue, in order.
    entrance: tokio::sync::Mutex<()>,
}

struct Shared {
    config: ClientConfig,
    settings: Settings,
    topic: String,
    topic_bits: u16,
    /// How long a command may take (`delivery.timeout.ms`).
    lifetime: Duration,
    /// Locked for writing while it is replaced.
    producer: RwLock<Arc<Producing>>,
    /// A caller needs a new producer.
    is_wanted: AtomicBool,
    stop: AtomicBool,
}

/// Why a command is not in the queue.
enum Refused {
    /// The queue is full.
    Full,
    /// The producer failed, and will be replaced.
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
    /// Starts a producer of commands, and its thread, which ends when this is dropped.
    pub fn open(config: ClientConfig, settings: Settings, topic: &str) -> Result<Self, String> {
        let lifetime = lifetime(&config).map_err(|error| error.to_string())?;
        let producer = new_producer(&config).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            config,
            settings,
            topic: topic.to_owned(),
            topic_bits: topic_bits(topic),
            lifetime,
            producer: RwLock::new(Arc::new(producer)),
            is_wanted: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .name("outbox".into())
            .spawn(move || serving.serve())
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        Ok(Self { shared, entrance: tokio::sync::Mutex::new(()) })
    }

    /// Puts a command into the queue, for this partition or for that of its key, and returns the receiver of its answer.
    /// Waits while the queue is full; if that future is dropped, nothing is sent.
    pub async fn take(
        &self,
        record: &Record,
        partition: Option<i32>,
    ) -> Result<oneshot::Receiver<Answer>, Failed> {
        let _turn = self.entrance.lock().await;
        let begun = Instant::now();
        loop {
            let (answer, receiver) = oneshot::channel();
            match self.shared.try_send(record, partition, answer).map_err(|(refused, _)| refused) {
                Ok(()) => return Ok(receiver),
                Err(Refused::Full) => {}
                Err(Refused::Broken(_)) if begun.elapsed() < REPLACED => {
                    self.shared.is_wanted.store(true, Ordering::Relaxed);
                }
                Err(Refused::Broken(error) | Refused::For(error)) => return Err(Failed::unsent(error)),
            }
            sleep(FULL).await;
        }
    }

    /// Waits until every command is answered.
    pub async fn settled(&self) {
        let is_settled = || match self.shared.producer.try_read() {
            // An incomplete batch is sent once `linger.ms` is over.
            Ok(producer) => {
                producer.flush(Duration::ZERO).is_ok() && producer.context().deliveries().unsent().is_empty()
            }
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
    /// Serves delivery reports, and replaces a useless producer.
    fn serve(&self) {
        let mut liveness = Liveness::new(&self.settings, &self.topic);
        let mut heard = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let producer = Arc::clone(&self.producer.read().expect("never poisoned"));
            producer.poll(SLICE);
            if let Some((code, reason)) = producer.client().fatal_error() {
                // A producer that fails repeatedly is replaced only as often as somebody posts.
                if self.is_needed(&producer) {
                    tracing::warn!(%code, reason, "the producer failed permanently; continuing with a new one");
                    self.replace(producer, Some((code, reason)));
                } else {
                    thread::sleep(FULL);
                }
                liveness.heard();
                continue;
            }
            let count = producer.context().deliveries().count.load(Ordering::Relaxed);
            if mem::replace(&mut heard, count) != count || producer.in_flight_count() == 0 {
                liveness.heard();
                continue;
            }
            if liveness.is_client_stuck(&producer) {
                tracing::warn!("the producer lost the brokers; continuing with a new one");
                self.replace(producer, None);
            }
        }
    }

    /// Whether there is something for the producer to send.
    fn is_needed(&self, producer: &Producing) -> bool {
        self.is_wanted.swap(false, Ordering::Relaxed)
            || producer.in_flight_count() > 0
            || !producer.context().deliveries().unsent().is_empty()
    }

    /// Moves unsent commands to a new producer, unless the old one failed (`fatal`) in a way in which the new one would too.
    /// The queue is closed until then.
    fn replace(&self, old: Arc<Producing>, fatal: Option<(RDKafkaErrorCode, String)>) {
        let mut current = self.producer.write().expect("never poisoned");
        old.purge(PurgeConfig::default().queue());
        settle(&old, SETTLE);
        old.purge(PurgeConfig::default().queue().inflight());
        settle(&old, SETTLE);
        let mut unsent = mem::take(&mut *old.context().deliveries().unsent());
        // Commands that were to be retried were purged after later ones.
        unsent.sort_by_key(|(_, waiting)| waiting.place);
        match new_producer(&self.config) {
            Ok(producer) => *current = Arc::new(producer),
            Err(error) => {
                tracing::warn!(%error, "a new producer could not be made; trying again");
                for (_, waiting) in unsent {
                    let _ = waiting.answer.send(Err(Failed::unsent(error.clone())));
                }
                drop(current);
                thread::sleep(SLICE);
                return;
            }
        }
        let fatal = fatal.filter(|_| !old.context().deliveries().has_sent.load(Ordering::Relaxed));
        for (record, waiting) in unsent {
            let InFlight { answer, since, partition, .. } = waiting;
            if let Some((code, reason)) = &fatal {
                let failed = Failed::unsent(KafkaError::MessageProduction(*code));
                let _ = answer.send(Err(Failed { detail: Some(reason.clone()), ..failed }));
            } else if since.elapsed() >= self.lifetime {
                let late = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
                let _ = answer.send(Err(Failed::unsent(late)));
            } else if let Err((refused, answer)) = self.send(&current, &record, partition, answer, since) {
                // The queue has space for them, as the old one had.
                let _ = answer.send(Err(Failed::unsent(refused.into())));
            }
        }
        drop(current);
        // Dropping may wait for its threads.
        let _ = thread::Builder::new().name("replaced".into()).spawn(move || drop(old));
    }

    fn send(
        &self,
        producer: &Producing,
        record: &Record,
        partition: Option<i32>,
        answer: oneshot::Sender<Answer>,
        since: Instant,
    ) -> Result<(), (Refused, oneshot::Sender<Answer>)> {
        let timestamp = record.coordinates.timestamp;
        let place = producer.context().deliveries().places.fetch_add(1, Ordering::Relaxed);
        let topic_bits = self.topic_bits;
        let waiting = Box::new(InFlight { answer, since, place, partition, timestamp, topic_bits });
        let mut sent = BaseRecord::<[u8], [u8], Box<InFlight>>::with_opaque_to(&self.topic, waiting);
        sent.timestamp = Some(timestamp);
        sent.partition = partition;
        sent.payload = record.value.as_deref();
        sent.key = record.key.as_deref();
        if !record.headers.is_empty() {
            sent = sent.headers(native::to_native(record.headers.iter().map(Header::as_parts)));
        }
        producer.send(sent).map_err(|(error, sent)| {
            let refused = if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                Refused::Full
            } else if let Some((code, _)) = producer.client().fatal_error() {
                Refused::Broken(KafkaError::MessageProduction(code))
            } else {
                Refused::For(error)
            };
            (refused, sent.delivery_opaque.answer)
        })
    }

    fn try_send(
        &self,
        record: &Record,
        partition: Option<i32>,
        answer: oneshot::Sender<Answer>,
    ) -> Result<(), (Refused, oneshot::Sender<Answer>)> {
        match self.producer.try_read() {
            Ok(producer) => self.send(&producer, record, partition, answer, Instant::now()),
            Err(TryLockError::WouldBlock) => Err((Refused::Full, answer)),
            Err(TryLockError::Poisoned(_)) => unreachable!("no holder panics"),
        }
    }
}

fn new_producer(config: &ClientConfig) -> Result<Producing, KafkaError> {
    config.create_with_context(Context::delivering(Reports::default()))
}

/// How long librdkafka tries to send a command.
fn lifetime(config: &ClientConfig) -> Result<Duration, KafkaError> {
    let millis = config.create_native_config()?.get("delivery.timeout.ms")?;
    // 0 means for ever.
    Ok(millis.parse().ok().filter(|&millis| millis > 0).map_or(Duration::MAX, Duration::from_millis))
}

/// Waits until everything is answered, or until the deadline.
fn settle(producer: &Producing, patience: Duration) {
    let deadline = Instant::now() + patience;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::ZERO);
        // A poll with a time-out uses all of it, whatever arrives.
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use contract::Coordinates;
    use kafka::{Topics, client, embedded::EmbeddedBroker};
    use tokio::{task::block_in_place, time::timeout};

    use super::*;
    use crate::{connection::Connection, posted::Posted};

    const TOPIC: &str = "activity.commands";
    /// After this time a test has failed, even on a slow machine.
    const PATIENCE: Duration = Duration::from_secs(180);

    fn record() -> Record {
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 1 },
            key: Some("case/7".into()),
            value: Some("{}".into()),
            headers: Vec::new(),
        }
    }

    async fn offset(answer: oneshot::Receiver<Answer>) -> i64 {
        match timeout(PATIENCE, answer).await.expect("waited in vain for an answer").expect("a thread") {
            Ok(Posted::As(id)) => id.offset(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_producer_sends_the_unsent_records_of_a_failed_one_once_and_in_order() {
        let broker = EmbeddedBroker::start(&Topics::for_test(TOPIC)).unwrap();
        let settings = Connection::new(broker.bootstrap_servers()).settings("g", TOPIC, "").unwrap();
        let mut config = client::producer(&settings, client::POST_BATCH_BYTES);
        config.set("delivery.timeout.ms", "200000");
        let outbox = Outbox::open(config, settings, TOPIC).unwrap();
        assert_eq!(offset(outbox.take(&record(), None).await.unwrap()).await, 0);

        broker.cluster().broker_down(1).unwrap();
        // Commands that are queued before the connection ends could be sent.
        let producer = Arc::clone(&outbox.shared.producer.read().unwrap());
        let begun = Instant::now();
        while block_in_place(|| producer.client().fetch_metadata(Some(TOPIC), Duration::from_secs(5))).is_ok()
        {
            assert!(begun.elapsed() < PATIENCE, "the broker is still there");
        }
        let mut answers = Vec::new();
        for _ in 1..20 {
            answers.push(outbox.take(&record(), None).await.unwrap());
        }
        // Nobody waits for this command, which is sent all the same.
        drop(outbox.take(&record(), None).await.unwrap());
        // The time for this command is over.
        let (late, given_up) = oneshot::channel();
        let begun =
            Instant::now().checked_sub(Duration::from_secs(200)).expect("a clock that went on so long");
        assert!(outbox.shared.send(&producer, &record(), None, late, begun).is_ok());
        drop(producer);
        let old = Arc::clone(&outbox.shared.producer.read().unwrap());
        block_in_place(|| outbox.shared.replace(Arc::clone(&old), None));
        assert!(!Arc::ptr_eq(&old, &outbox.shared.producer.read().unwrap()));
        let given_up = timeout(PATIENCE, given_up).await.expect("an answer").expect("a thread");
        let Err(Failed { error, may_be_persisted: false, .. }) = given_up else { panic!("{given_up:?}") };
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageTimedOut));
        answers.push(outbox.take(&record(), None).await.unwrap());
        broker.cluster().broker_up(1).unwrap();
        let mut offsets = Vec::new();
        for answer in answers {
            offsets.push(offset(answer).await);
        }
        assert_eq!(offsets, (1..20).chain([21]).collect::<Vec<_>>());
        timeout(PATIENCE, outbox.settled()).await.expect("all is answered");
    }
}
