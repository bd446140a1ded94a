//! Deliveries of own output, which must arrive, and of replies, which may be dropped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::{OutputRecord, OutputRef};
use rdkafka::{
    Message,
    config::ClientConfig,
    error::RDKafkaErrorCode,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord},
};

use super::{
    PublishError,
    context::{Context, Deliver},
    native,
    refusal::{OutputRefusal, is_consequence, is_timeout},
    replies::{Destination, Refused},
};

/// For space in librdkafka's queue.
const ROOM: Duration = Duration::from_secs(15);

/// Counts deliveries; keeps the first failure of own output and all failures of replies.
#[derive(Debug, Default, Clone)]
pub struct Deliveries(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Records without a delivery report.
    pending: AtomicUsize,
    /// Those of them that are replies.
    pending_replies: AtomicUsize,
    failure: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// The topic of own output that this user may not write to.
    denied: Mutex<Option<String>>,
    replies: Mutex<Replies>,
}

/// Replies since the last [`Deliveries::take_replies`].
#[derive(Debug, Default)]
struct Replies {
    pending: BTreeMap<Destination, usize>,
    sent: BTreeMap<Destination, usize>,
    refused: Vec<Refused>,
}

/// A producer of output and replies.
pub type Publisher = BaseProducer<Context<Deliveries>>;

impl Deliveries {
    /// Makes a producer whose reports come here.
    pub fn publisher(self, config: &ClientConfig) -> Result<Publisher, PublishError> {
        let log = self.clone();
        config
            .create_with_context(
                Context::delivering(self).on_log(move |facility, message| log.read_log(facility, message)),
            )
            .map_err(|error| PublishError::Fatal(format!("the Kafka producer can't be made: {error}")))
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    pub fn send(&self, producer: &Publisher, topic: &str, record: OutputRef<'_>) -> Result<(), PublishError> {
        let Err((code, text)) = self.hand_over(producer, topic, None, record) else { return Ok(()) };
        if code == RDKafkaErrorCode::TopicAuthorizationFailed {
            self.deny(topic);
        }
        Err(delivery_error(code, text))
    }

    /// The same for a reply. One that librdkafka refuses at once is not an error: the code is returned.
    pub fn send_reply(
        &self,
        producer: &Publisher,
        to: Destination,
        record: &OutputRecord,
    ) -> Result<Option<RDKafkaErrorCode>, PublishError> {
        use RDKafkaErrorCode as Code;
        let (topic, partition) = to.clone();
        {
            let mut replies = self.replies();
            *replies.pending.entry(to.clone()).or_default() += 1;
            *replies.sent.entry(to.clone()).or_default() += 1;
        }
        self.0.pending_replies.fetch_add(1, Ordering::AcqRel);
        let handed_over = record.with_ref(|record| self.hand_over(producer, &topic, Some(partition), record));
        let Err((code, text)) = handed_over else {
            return Ok(None);
        };
        self.reply_reported(&to);
        match code {
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::MessageSizeTooLarge => Ok(Some(code)),
            _ => Err(delivery_error(code, text)),
        }
    }

    fn hand_over(
        &self,
        producer: &Publisher,
        topic: &str,
        reply_to: Option<i32>,
        record: OutputRef<'_>,
    ) -> Result<(), (RDKafkaErrorCode, String)> {
        let deadline = Instant::now() + ROOM;
        // Distinguishes a reply from own output in its report.
        let opaque = reply_to.map_or(0, |_| record.bytes().max(1));
        loop {
            let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, opaque);
            message.partition = reply_to;
            message.key = record.key;
            message.payload = record.value;
            if !record.headers.is_empty() {
                message = message.headers(native::to_native(record.headers.iter().copied()));
            }
            self.0.pending.fetch_add(1, Ordering::AcqRel);
            let Err((error, _)) = producer.send(message) else { return Ok(()) };
            self.0.pending.fetch_sub(1, Ordering::AcqRel);
            match error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown) {
                RDKafkaErrorCode::QueueFull if Instant::now() < deadline => serve(producer),
                code => return Err((code, format!("a record for '{topic}': {error}"))),
            }
        }
    }

    /// Serves the producer until every record is delivered or failed, or until `until`.
    pub fn wait(&self, producer: &Publisher, until: Instant) -> bool {
        self.wait_for(producer, until, Self::pending)
    }

    /// The same for own output only.
    pub fn wait_for_own(&self, producer: &Publisher, until: Instant) -> bool {
        self.wait_for(producer, until, Self::own_pending)
    }

    fn wait_for(&self, producer: &Publisher, until: Instant, missing: impl Fn(&Self) -> usize) -> bool {
        while missing(self) > 0 {
            if Instant::now() >= until {
                return false;
            }
            serve(producer);
        }
        true
    }

    pub fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Acquire)
    }

    pub fn own_pending(&self) -> usize {
        self.pending().saturating_sub(self.0.pending_replies.load(Ordering::Acquire))
    }

    /// Replies that were sent and have no report yet.
    pub fn pending_replies(&self) -> Vec<(Destination, usize)> {
        self.replies().pending.iter().map(|(to, count)| (to.clone(), *count)).collect()
    }

    pub fn any_refused(&self) -> bool {
        !self.replies().refused.is_empty()
    }

    /// The first failure of own output.
    pub fn failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.failure.lock().expect("never poisoned").clone()
    }

    /// Takes it.
    pub fn take_failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.failure.lock().expect("never poisoned").take()
    }

    /// Takes the topic of own output that this user may not write to.
    pub fn take_denied(&self) -> Option<String> {
        self.0.denied.lock().expect("never poisoned").take()
    }

    fn deny(&self, topic: &str) {
        self.0.denied.lock().expect("never poisoned").get_or_insert_with(|| topic.to_owned());
    }

    /// Takes the destinations of replies, and the refused ones, since the last call.
    pub fn take_replies(&self) -> (Vec<Destination>, Vec<Refused>) {
        let mut replies = self.replies();
        let sent = std::mem::take(&mut replies.sent).into_keys().collect();
        (sent, std::mem::take(&mut replies.refused))
    }

    fn replies(&self) -> std::sync::MutexGuard<'_, Replies> {
        self.0.replies.lock().expect("never poisoned")
    }

    fn read_log(&self, facility: &str, message: &str) {
        let Some((to, code)) = not_added(facility, message) else { return };
        let mut replies = self.replies();
        if replies.sent.contains_key(&to) {
            replies.refused.push(Refused { to, code, bytes: 0 });
        } else if code == RDKafkaErrorCode::TopicAuthorizationFailed {
            self.deny(&to.0);
        }
    }

    fn reply_reported(&self, to: &Destination) {
        let mut replies = self.replies();
        if let Some(count) = replies.pending.get_mut(to) {
            *count -= 1;
            if *count == 0 {
                replies.pending.remove(to);
            }
        }
        self.0.pending_replies.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes delivery reports, and yields to librdkafka's threads. A poll with a time-out uses all of it even if reports arrive,
/// and `flush` waits in steps of 100 ms.
pub fn serve(producer: &Publisher) {
    producer.poll(Duration::ZERO);
    thread::sleep(Duration::from_micros(100));
}

/// A partition that could not be added to the transaction. librdkafka names it only in its log, and reports all records of
/// the transaction as purged.
fn not_added(facility: &str, message: &str) -> Option<(Destination, RDKafkaErrorCode)> {
    if facility != "ADDPARTS" {
        return None;
    }
    let (_, rest) = message.split_once("Failed to add partition \"")?;
    let (topic, rest) = rest.split_once("\" [")?;
    let (partition, reason) = rest.split_once("] to transaction: ")?;
    let code = match reason {
        // Not attempted, because another partition failed.
        reason if reason.contains("not attempted") => return None,
        reason if reason.contains("uthorization failed") => RDKafkaErrorCode::TopicAuthorizationFailed,
        _ => RDKafkaErrorCode::UnknownTopicOrPartition,
    };
    Some(((topic.to_owned(), partition.parse().ok()?), code))
}

impl Deliver for Deliveries {
    /// The bytes of a reply; 0 for own output.
    type Opaque = usize;

    fn delivered(&self, result: &DeliveryResult<'_>, reply_bytes: usize) {
        let message = match result {
            Ok(message) | Err((_, message)) => message,
        };
        let code = result
            .as_ref()
            .err()
            .map(|(error, _)| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown));
        if reply_bytes > 0 {
            let to = (message.topic().to_owned(), message.partition());
            if let Some(code) = code {
                self.replies().refused.push(Refused { to: to.clone(), code, bytes: reply_bytes });
            }
            self.reply_reported(&to);
        } else if let (Some(code), Err((error, _))) = (code, result) {
            if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.deny(message.topic());
            }
            let mut failure = self.0.failure.lock().expect("never poisoned");
            // The first cause, not its consequences for other records.
            if failure.as_ref().is_none_or(|(first, _)| is_consequence(*first) && !is_consequence(code)) {
                *failure = Some((code, format!("a record for '{}': {error}", message.topic())));
            }
        }
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Before the first [`reset`](super::Sink::reset).
pub fn no_producer() -> PublishError {
    PublishError::Unknown("there is no producer yet".into())
}

/// What a record's failure means for its batch.
pub fn delivery_error(code: RDKafkaErrorCode, text: String) -> PublishError {
    use RDKafkaErrorCode as Code;
    if let Some(refusal) = OutputRefusal::of(code, || text.clone()) {
        return PublishError::Refused(refusal);
    }
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            PublishError::Fatal(format!("{text}. Allow this user to write there, then start again"))
        }
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced => PublishError::Fenced(text),
        code if is_timeout(code) => PublishError::TimedOut(text),
        _ => PublishError::Unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_errors_are_refusals_with_a_way_out() {
        use RDKafkaErrorCode as Code;
        let of = |code| delivery_error(code, "a record for 'r': no".into());
        for (code, way_out) in [
            (Code::InvalidRecord, "cleanup.policy=delete"),
            (Code::MessageSizeTooLarge, "max.message.bytes=BYTES"),
            (Code::MessageBatchTooLarge, "max.message.bytes=BYTES"),
            (Code::InvalidTimestamp, "clock"),
            (Code::OffsetMetadataTooLarge, "offset.metadata.max.bytes"),
            (Code::PolicyViolation, "then start again"),
        ] {
            let error = of(code);
            assert!(matches!(&error, PublishError::Refused(refusal) if refusal.code == code), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("a record for 'r': no. ") && text.contains(way_out), "{text}");
        }
        for code in [Code::NotEnoughReplicas, Code::LeaderNotAvailable, Code::UnknownTopicOrPartition] {
            assert!(matches!(of(code), PublishError::Unknown(_)), "{code:?}");
        }
        assert!(matches!(of(Code::MessageTimedOut), PublishError::TimedOut(_)));
    }

    #[test]
    fn the_partition_that_could_not_be_added_is_read_from_the_log() {
        let line = |reason: &str| {
            format!("[thrd:main]: b:9092/1: Failed to add partition \"r.x\" [2] to transaction: {reason}")
        };
        let code = |reason: &str| not_added("ADDPARTS", &line(reason));
        let to = || ("r.x".to_owned(), 2);
        let denied = code("Broker: Topic authorization failed");
        assert_eq!(denied, Some((to(), RDKafkaErrorCode::TopicAuthorizationFailed)));
        let gone = code("Broker: Unknown topic or partition");
        assert_eq!(gone, Some((to(), RDKafkaErrorCode::UnknownTopicOrPartition)));
        assert_eq!(code("Broker: Operation not attempted"), None);
        assert_eq!(not_added("TXNERR", &line("Broker: Topic authorization failed")), None);
    }
}
