//! Posts as any Kafka client could.

use std::time::{Duration, Instant};

use bytes::Bytes;
use contract::{Header, OutputRecord, object_key};
use kafka::{Settings, client, context::Context, native};
use rdkafka::{
    error::RDKafkaErrorCode,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

/// A producer of the commands topic.
pub struct Poster {
    producer: BaseProducer<Context>,
    topic: String,
}

impl Poster {
    pub fn new(kafka: &Settings) -> Result<Self, rdkafka::error::KafkaError> {
        let producer =
            client::producer(kafka, client::POST_BATCH_BYTES).create_with_context(Context::default())?;
        Ok(Self { producer, topic: kafka.topics.commands.clone() })
    }

    /// Posts a command, keyed by its object where it names one.
    pub fn post(&self, value: &[u8], headers: &[Header]) -> Result<(), String> {
        let key = object_key(value).map(Bytes::from);
        let record = OutputRecord { key, value: Some(value.to_vec().into()), headers: headers.to_vec() };
        self.post_record(None, &record)
    }

    /// Posts a record as it is, to that partition or where its key belongs.
    pub fn post_record(&self, partition: Option<i32>, record: &OutputRecord) -> Result<(), String> {
        loop {
            let mut sent = BaseRecord::<[u8], [u8]>::to(&self.topic);
            sent.partition = partition;
            sent.payload = record.value.as_deref();
            sent.key = record.key.as_deref();
            if !record.headers.is_empty() {
                sent = sent.headers(native::to_native(record.headers.iter().map(Header::as_parts)));
            }
            match self.producer.send(sent) {
                Ok(()) => return Ok(()),
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.to_string()),
            }
        }
    }

    /// Waits for what is posted to be answered, and no longer than that.
    pub fn deliveries(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            self.producer.poll(Duration::ZERO);
            if self.in_flight() == 0 || Instant::now() >= deadline {
                return;
            }
            // A poll with a time-out uses all of it, whatever arrives.
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    pub fn in_flight(&self) -> i32 {
        self.producer.in_flight_count()
    }
}
