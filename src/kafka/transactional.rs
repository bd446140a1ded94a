//! Exactly-once: outputs and offsets in one Kafka transaction, checked against the group (KIP-98, KIP-447).

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{
    OutputTopic, PublishError, Settings, Sink, client,
    consumer::{Membership, offset_list},
    native,
};
use crate::activity::OutputRecord;

/// For one request of the transaction protocol; librdkafka retries within it.
const REQUEST: Duration = Duration::from_secs(15);
/// For the offsets: librdkafka does not go on for longer than the transaction may last, unless it forgets to stop.
const OFFSETS: Duration = Duration::from_millis(client::TRANSACTION_TIMEOUT_MS as u64 + 1_000);

/// Counts what is delivered, and keeps the first failure.
#[derive(Debug, Default, Clone)]
pub struct Deliveries {
    pending: Arc<AtomicUsize>,
    failure: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Deliveries {
    fn take_failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.failure.lock().expect("never poisoned").take()
    }

    /// Serves the producer until every record was delivered or failed.
    pub fn drain(&self, producer: &BaseProducer<Self>, timeout: Duration) -> Result<(), PublishError> {
        let deadline = Instant::now() + timeout;
        while self.pending.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return Err(PublishError::Unknown("the broker did not confirm the records in time".into()));
            }
            serve(producer);
        }
        match self.take_failure() {
            None => Ok(()),
            Some((code, text)) => Err(delivery_error(code, text)),
        }
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    pub fn send(
        &self,
        producer: &BaseProducer<Self>,
        topic: &str,
        record: &OutputRecord,
    ) -> Result<(), PublishError> {
        let deadline = Instant::now() + REQUEST;
        loop {
            let mut message = BaseRecord::<[u8], [u8]>::to(topic);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            if !record.headers.is_empty() {
                message = message.headers(native::to_native(&record.headers));
            }
            self.pending.fetch_add(1, Ordering::AcqRel);
            let Err((error, _)) = producer.send(message) else { return Ok(()) };
            self.pending.fetch_sub(1, Ordering::AcqRel);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) if Instant::now() < deadline => serve(producer),
                Some(code) => return Err(delivery_error(code, format!("a record for '{topic}': {error}"))),
                None => return Err(PublishError::Fatal(format!("a record for '{topic}': {error}"))),
            }
        }
    }
}

/// Takes delivery reports, and lets librdkafka's threads work. A poll with a time-out uses all of it
/// whatever arrives, and `flush` waits in steps of 100 ms.
fn serve(producer: &BaseProducer<Deliveries>) {
    producer.poll(Duration::ZERO);
    thread::sleep(Duration::from_micros(100));
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::client_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            let topic = rdkafka::Message::topic(message);
            let mut failure = self.failure.lock().expect("never poisoned");
            failure.get_or_insert_with(|| (code, format!("a record for '{topic}': {error}")));
        }
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a record's failure means for its batch.
fn delivery_error(code: RDKafkaErrorCode, text: String) -> PublishError {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => PublishError::Fatal(format!(
            "{text}. Raise that topic's max.message.bytes (and the broker's message.max.bytes), then start again"
        )),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            PublishError::Fatal(format!("{text}. Allow this user to write there, then start again"))
        }
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced => PublishError::Fenced(text),
        _ => PublishError::Unknown(text),
    }
}

/// The transactional publisher.
pub struct Transactional {
    settings: Settings,
    transactional_id: String,
    /// Shared with a thread that librdkafka does not let go, at most.
    producer: Option<Arc<BaseProducer<Deliveries>>>,
    deliveries: Deliveries,
    /// How long the group's coordinator may take.
    offsets_within: Duration,
}

impl fmt::Debug for Transactional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").field("id", &self.transactional_id).finish_non_exhaustive()
    }
}

impl Transactional {
    /// `transactional_id` is this instance's alone: whoever uses it next fences this one.
    #[must_use]
    pub fn new(settings: &Settings, transactional_id: String) -> Self {
        Self {
            settings: settings.clone(),
            transactional_id,
            producer: None,
            deliveries: Deliveries::default(),
            offsets_within: OFFSETS,
        }
    }

    fn producer(&self) -> Result<&Arc<BaseProducer<Deliveries>>, PublishError> {
        self.producer.as_ref().ok_or_else(|| PublishError::Unknown("there is no producer yet".into()))
    }

    fn topic(&self, topic: OutputTopic) -> &str {
        match topic {
            OutputTopic::Notifications => &self.settings.topics.notifications,
            OutputTopic::Rejections => &self.settings.topics.rejections,
        }
    }

    /// Adds the offsets to the transaction, on a thread of its own: where the group's coordinator has gone, librdkafka
    /// forgets the time-out that it was given, and may never return (its issues 5456 and 5511). Then thread and producer
    /// are left behind; the next producer with the same transactional id fences that one, and the thread ends
    /// if its call ever does.
    fn send_offsets(&self, offsets: TopicPartitionList, membership: &Membership) -> Result<(), PublishError> {
        let (producer, metadata) = (Arc::clone(self.producer()?), Arc::clone(&membership.metadata));
        let (done, sent) = crossbeam_channel::bounded(1);
        thread::Builder::new()
            .name("offsets".into())
            .spawn(move || {
                let result = producer.send_offsets_to_transaction(&offsets, &metadata, REQUEST);
                // Else the last reference could be this one, and the producer would end here.
                drop(producer);
                // Nobody listens any more where it took too long.
                let _ = done.send(result);
            })
            .map_err(|error| PublishError::Unknown(format!("a thread could not be started: {error}")))?;
        match sent.recv_timeout(self.offsets_within) {
            Ok(result) => result.map_err(|error| classify("send_offsets_to_transaction", &error)),
            Err(_) => {
                Err(PublishError::Unknown("the group's coordinator did not take the offsets in time".into()))
            }
        }
    }

    /// Names a fencing that shows itself only in what it did to the records: once the client has failed for good,
    /// they are reported as purged, or as failed with it.
    fn named(&self, error: PublishError) -> PublishError {
        use RDKafkaErrorCode as Code;
        let PublishError::Unknown(text) = error else { return error };
        match self.producer.as_ref().and_then(|producer| producer.client().fatal_error()) {
            Some((Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced, reason)) => {
                PublishError::Fenced(format!("{text}: {reason}"))
            }
            _ => PublishError::Unknown(text),
        }
    }

    /// Aborts after `error`, and says what the batch's end is.
    fn aborted(&mut self, error: PublishError) -> PublishError {
        let error = self.named(error);
        if matches!(error, PublishError::Unknown(_) | PublishError::Fenced(_)) {
            return error;
        }
        match self.abort() {
            Ok(()) => error,
            Err(abort) => {
                if matches!(error, PublishError::Fatal(_)) {
                    error
                } else {
                    abort
                }
            }
        }
    }
}

impl Sink for Transactional {
    type Membership = Membership;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.producer = None;
        self.deliveries = Deliveries::default();
        let mut producer = client::producer(&self.settings);
        let producer: BaseProducer<Deliveries> = client::transactional(&mut producer, &self.transactional_id)
            .create_with_context(self.deliveries.clone())
            .map_err(|error| PublishError::Fatal(format!("the Kafka producer can't be made: {error}")))?;
        producer.init_transactions(REQUEST).map_err(|error| classify("init_transactions", &error))?;
        self.producer = Some(Arc::new(producer));
        Ok(())
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        let begun = self.producer()?.begin_transaction();
        begun.map_err(|error| self.named(classify("begin_transaction", &error)))
    }

    fn send(&mut self, topic: OutputTopic, record: &OutputRecord) -> Result<(), PublishError> {
        let sent = self.deliveries.send(self.producer()?, self.topic(topic), record);
        sent.map_err(|error| self.named(error))
    }

    fn commit(&mut self, offsets: &[(i32, i64)], membership: &Membership) -> Result<(), PublishError> {
        let offsets = offset_list(&self.settings.topics.commands, offsets);
        let committed = (|| {
            let producer = self.producer()?;
            // Commits take 0.3 to 4 ms once nothing is in flight, and 100 ms otherwise.
            self.deliveries.drain(producer, REQUEST)?;
            self.send_offsets(offsets, membership)?;
            producer.commit_transaction(REQUEST).map_err(|error| classify("commit_transaction", &error))
        })();
        committed.map_err(|error| self.aborted(error))
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        let deadline = Instant::now() + REQUEST;
        let producer = self.producer()?;
        loop {
            // An abort waits for delivery reports that only a poll serves.
            producer.poll(Duration::ZERO);
            match producer.abort_transaction(Duration::from_millis(200)) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                // A transaction that holds nothing has nothing to abort.
                Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::State => break,
                Err(error) => return Err(classify("abort_transaction", &error)),
            }
        }
        while self.deliveries.pending.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            serve(producer);
        }
        self.deliveries.take_failure();
        Ok(())
    }
}

/// What an error of the transaction protocol says of the batch's end.
fn classify(request: &str, error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as Code;
    let text = format!("{request}: {error}");
    let KafkaError::Transaction(transaction) = error else { return PublishError::Unknown(text) };
    match transaction.code() {
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced => PublishError::Fenced(text),
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::FencedInstanceId
        | Code::RebalanceInProgress => PublishError::StaleMembership(text),
        Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TopicAuthorizationFailed => PublishError::Fatal(format!(
            "{text}. Allow this user what the message names (operating guide: access rights), then start again"
        )),
        _ if transaction.is_fatal() => PublishError::Unknown(text),
        _ if transaction.txn_requires_abort() => PublishError::Aborted(text),
        _ => PublishError::Unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        mocking::MockCoordinator,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };

    use super::*;
    use crate::kafka::{Source, Topics, consumer::GroupConsumer, embedded::EmbeddedBroker};

    fn settings() -> Settings {
        let topics = Topics {
            commands: "c".into(),
            notifications: "n".into(),
            rejections: "r".into(),
            partitions: 1,
            replication_factor: 1,
            largest_command: 1024,
        };
        Settings {
            bootstrap_servers: String::new(),
            group: "g".into(),
            properties: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
            topics,
        }
    }

    fn membership(settings: &Settings) -> (GroupConsumer, Membership) {
        let mut member = GroupConsumer::join(settings).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < deadline, "no member in time");
            member.poll(Duration::from_millis(50)).unwrap();
            if let Some(membership) = member.membership() {
                return (member, membership);
            }
        }
    }

    fn record() -> OutputRecord {
        OutputRecord { key: None, value: Some(b"{}".to_vec()), headers: Vec::new() }
    }

    /// A second process on a copy of the log uses the same transactional id. The broker says so when the
    /// transaction takes up its first partition, which is long before the commit.
    #[test]
    fn a_fencing_is_known_by_its_name_however_early_it_comes() {
        let mut settings = settings();
        let broker = EmbeddedBroker::start(&settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let (_member, membership) = membership(&settings);
        let mut sink = Transactional::new(&settings, "t".into());
        sink.reset().unwrap();
        sink.begin().unwrap();
        let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED; 3];
        broker.cluster().request_errors(RDKafkaApiKey::AddPartitionsToTxn, &fenced);
        sink.send(OutputTopic::Notifications, &record()).unwrap();
        let error = sink.commit(&[(0, 1)], &membership).unwrap_err();
        assert!(matches!(error, PublishError::Fenced(_)), "{error:?}");
        // Made anew, it is the newer one.
        broker.cluster().clear_request_errors(RDKafkaApiKey::AddPartitionsToTxn);
        sink.reset().unwrap();
    }

    /// A commit never waits without an end, which librdkafka does (its issue 5456).
    #[test]
    fn a_commit_ends_while_the_groups_coordinator_is_away() {
        let mut settings = settings();
        let broker = EmbeddedBroker::with_nodes(2, &settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let cluster = broker.cluster();
        cluster.coordinator(MockCoordinator::Group("g".into()), 2).unwrap();
        cluster.coordinator(MockCoordinator::Transaction("t".into()), 1).unwrap();
        for topic in ["c", "n", "r"] {
            cluster.partition_leader(topic, 0, Some(1)).unwrap();
        }
        let (_member, membership) = membership(&settings);
        let mut sink = Transactional::new(&settings, "t".into());
        sink.offsets_within = Duration::from_secs(1);
        sink.reset().unwrap();
        sink.begin().unwrap();
        sink.send(OutputTopic::Notifications, &record()).unwrap();
        cluster.broker_down(2).unwrap();
        let (done, committed) = crossbeam_channel::bounded(1);
        thread::spawn(move || {
            let ended = sink.commit(&[(0, 1)], &membership);
            done.send((sink, membership, ended)).unwrap();
        });
        let ended = committed.recv_timeout(Duration::from_secs(60));
        let (mut sink, membership, ended) = ended.expect("the commit ends");
        assert!(matches!(ended, Err(PublishError::Unknown(_))), "{ended:?}");
        // Another node coordinates from now on, and the next producer does not wait for what the last one waits for.
        cluster.coordinator(MockCoordinator::Group("g".into()), 1).unwrap();
        sink.offsets_within = OFFSETS;
        sink.reset().unwrap();
        sink.begin().unwrap();
        sink.send(OutputTopic::Notifications, &record()).unwrap();
        sink.commit(&[(0, 1)], &membership).unwrap();
    }
}
