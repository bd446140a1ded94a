//! Posts commands: a producer that remembers which record was which command.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use contract::{Header, OutputRecord, object_key};
use jiff::Timestamp;
use kafka::{
    Settings,
    access::Access,
    client,
    context::{Context, Deliver},
    native,
    posted::{Delivered, reason},
};
use rdkafka::{
    Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::output::StdoutError;

/// The broker's answer to one posted command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which command it was, as counted by whoever posted it.
    pub index: usize,
    pub result: Result<Delivered, String>,
}

/// What is known of a command before the broker answers.
#[derive(Debug)]
struct Posted {
    index: usize,
    /// The record's own, which holds where the broker does not set another.
    timestamp: i64,
}

#[derive(Debug, Default, Clone)]
struct Reports(Arc<Mutex<VecDeque<Report>>>);

/// Which command it was, and where it lies, or why it was not taken and how many bytes it has.
type Report = (usize, Result<Delivered, (KafkaError, usize)>);

impl Deliver for Reports {
    type Opaque = Box<Posted>;

    fn delivered(&self, result: &DeliveryResult<'_>, posted: Box<Posted>) {
        let Posted { index, timestamp: own } = *posted;
        let result = match result {
            Err((error, message)) => Err((error.clone(), message.payload().map_or(0, <[u8]>::len))),
            Ok(message) => Ok(Delivered::read(
                message.partition(),
                message.offset(),
                message.timestamp().to_millis(),
                own,
            )),
        };
        self.0.lock().expect("never poisoned").push_back((index, result));
    }
}

/// Nobody reads on, as with `| head`: that is no success where it keeps commands from being posted.
pub fn still_posted(error: anyhow::Error) -> anyhow::Error {
    if !StdoutError::is_unread(&error) {
        return error;
    }
    anyhow!(
        "standard output was closed, so not all commands were posted. What was posted stays posted; redirect the output \
         to a file to post everything"
    )
}

/// A producer of commands.
pub struct Poster {
    producer: BaseProducer<Context<Reports>>,
    reports: Reports,
    topic: String,
    access: Access,
}

impl std::fmt::Debug for Poster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poster").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Poster {
    pub fn new(kafka: &Settings) -> anyhow::Result<Self> {
        let reports = Reports::default();
        let producer = client::producer(kafka, client::POST_BATCH_BYTES)
            .create_with_context(Context::delivering(reports.clone()))
            .map_err(|error| anyhow!("the Kafka producer can't be made: {error}"))?;
        Ok(Self { producer, reports, topic: kafka.topics.commands.clone(), access: Access::of(kafka) })
    }

    /// Posts a command, keyed by its object where it names one. Waits while the client's queue is full.
    pub fn post(&self, index: usize, value: &[u8], headers: &[Header]) -> Result<(), String> {
        let key = object_key(value);
        self.send(index, None, key.as_deref().map(str::as_bytes), Some(value), headers)
    }

    /// Posts a record as it is, to that partition or where its key belongs.
    pub fn post_record(
        &self,
        index: usize,
        partition: Option<i32>,
        record: &OutputRecord,
    ) -> Result<(), String> {
        self.send(index, partition, record.key.as_deref(), record.value.as_deref(), &record.headers)
    }

    fn send(
        &self,
        index: usize,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), String> {
        let timestamp = Timestamp::now().as_millisecond();
        loop {
            let posted = Box::new(Posted { index, timestamp });
            let mut record = BaseRecord::<[u8], [u8], Box<Posted>>::with_opaque_to(&self.topic, posted);
            record.timestamp = Some(timestamp);
            record.partition = partition;
            record.payload = value;
            record.key = key;
            if !headers.is_empty() {
                record = record.headers(native::to_native(headers));
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => {
                    return Err(self.reason(error, value.map_or(0, <[u8]>::len)));
                }
            }
        }
    }

    /// Where a user may write to no topic at all, a producer that keeps order fails as a whole, and its commands with it.
    fn reason(&self, error: KafkaError, bytes: usize) -> String {
        use RDKafkaErrorCode as Code;
        let error = match self.producer.client().fatal_error() {
            Some((code @ (Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed), _)) => {
                KafkaError::MessageProduction(code)
            }
            _ => error,
        };
        reason(&self.access, &error, &self.topic, bytes)
    }

    /// What has been answered since the last call, waiting at most `timeout` for the first.
    pub fn deliveries(&self, timeout: Duration) -> Vec<Delivery> {
        let deadline = Instant::now() + timeout;
        loop {
            self.producer.poll(Duration::ZERO);
            let mut reports = self.reports.0.lock().expect("never poisoned");
            if !reports.is_empty() || Instant::now() >= deadline {
                let reports = reports.drain(..).collect::<Vec<_>>().into_iter();
                return reports
                    .map(|(index, result)| {
                        let result = result.map_err(|(error, bytes)| self.reason(error, bytes));
                        Delivery { index, result }
                    })
                    .collect();
            }
            drop(reports);
            // A poll with a time-out uses all of it, whatever arrives.
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Commands that were posted and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}
