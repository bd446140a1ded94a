//! The delivery reports of one producer, each brought to the one that waits for it.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use contract::Record;
use kafka::{
    consumer::record_of,
    context::Deliver,
    native,
    posted::{Delivered, surely_not_taken},
};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult, Message},
};
use tokio::sync::oneshot;

/// The broker has it, or not, or nobody knows.
pub(super) type Answer = Result<Delivered, Failed>;

/// Why a command was not delivered.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub error: KafkaError,
    /// The broker may have it all the same.
    pub is_unsure: bool,
    /// What the Kafka client says of it beyond the error.
    pub detail: Option<String>,
}

impl Failed {
    /// The broker surely does not have it.
    pub fn unsent(error: KafkaError) -> Self {
        Self { error, is_unsure: false, detail: None }
    }
}

/// Brings each delivery report to the one that waits for it.
#[derive(Default)]
pub(super) struct Reports {
    /// How many commands were taken in.
    pub places: AtomicU64,
    /// How many reports there were.
    pub count: AtomicU64,
    /// A command came to a broker, or may have.
    pub has_sent: AtomicBool,
    /// What a producer of no use any more has surely not sent.
    unsent: Mutex<Vec<(Record, Waiting)>>,
}

impl Reports {
    pub fn unsent(&self) -> MutexGuard<'_, Vec<(Record, Waiting)>> {
        self.unsent.lock().expect("never poisoned")
    }
}

impl Deliver for Reports {
    type Opaque = Box<Waiting>;

    fn delivered(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let answer = match result {
            Ok(message) => {
                self.has_sent.store(true, Ordering::Relaxed);
                Ok(waiting.delivered(message))
            }
            Err((error, message)) => {
                let is_sent = native::was_sent(message);
                self.has_sent.fetch_or(is_sent, Ordering::Relaxed);
                // Only a fatal error and the replacement below purge the queue.
                if !is_sent && error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue) {
                    self.unsent().push((record_of(message), *waiting));
                    return;
                }
                Err(Failed {
                    error: error.clone(),
                    is_unsure: !surely_not_taken(error, is_sent),
                    detail: None,
                })
            }
        };
        // Who wanted to know may be gone.
        let _ = waiting.answer.send(answer);
    }
}

/// Who waits for a delivery report.
pub(super) struct Waiting {
    pub answer: oneshot::Sender<Answer>,
    /// When the first producer took the command in.
    pub since: Instant,
    /// In the order in which commands were taken in.
    pub place: u64,
    /// The record's own timestamp, which holds where the broker does not set another.
    pub timestamp: i64,
}

impl Waiting {
    fn delivered(&self, message: &BorrowedMessage<'_>) -> Delivered {
        let timestamp = message.timestamp().to_millis();
        Delivered::read(message.partition(), message.offset(), timestamp, self.timestamp)
    }
}
