//! Exactly-once: outputs and offsets in one Kafka transaction, checked against the group (KIP-98, KIP-447).

use std::{
    fmt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use contract::{OutputRef, ReplyRecord};
use crossbeam_channel::Receiver;
use rdkafka::{
    TopicPartitionList,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::Producer,
};
use uuid::Uuid;

use super::{
    OutputTopic, PublishError, Settings, Sink,
    access::{Access, Operation, Resource},
    client,
    consumer::Membership,
    deliveries::{Deliveries, Publisher, delivery_error, no_producer},
    mark::NextOffset,
    offsets::marked_list,
    refusal::{OutputRefusal, is_consequence, is_timeout},
    replies::{Refused, ReplyCounts, Routes},
};

/// For one request of the transaction protocol; librdkafka retries within it.
const REQUEST: Duration = Duration::from_secs(15);
/// For the replies of a transaction. They can't delay other commands for longer.
pub(super) const REPLIES: Duration = Duration::from_secs(3);
/// For the reports of records that are purged.
const PURGE: Duration = Duration::from_secs(1);
/// For the offsets: librdkafka stops with the transaction's time-out, unless it hangs.
const OFFSETS: Duration = Duration::from_millis(client::TRANSACTION_TIMEOUT_MS as u64 + 1_000);

/// The transactional publisher: two producers that take turns.
///
/// A commit is acknowledged once it is decided. The coordinator then writes its markers to each partition, and refuses the
/// next transaction of the same id until that is done (`CONCURRENT_TRANSACTIONS`), which librdkafka retries after 20 ms.
/// Another id does not have to wait. The order stays: a transaction begins when the one before is decided, so its records
/// and offsets follow those, and a `read_committed` consumer waits for the last marker. Only one transaction is open at a
/// time, so only one can have an unknown outcome.
pub struct Transactional {
    settings: Settings,
    transactional_id: String,
    batch_bytes: usize,
    /// None, or one for each id.
    producers: Vec<Transacting>,
    /// The producer of the current transaction, or of the last one.
    turn: usize,
    routes: Routes,
    /// For the group's coordinator.
    offsets_within: Duration,
}

/// One producer, with the deliveries of its records. Shared at most with a thread that hangs in librdkafka.
type Transacting = Arc<Publisher>;

impl fmt::Debug for Transactional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").field("id", &self.transactional_id).finish_non_exhaustive()
    }
}

/// The first of the two transactional ids of a log's instance.
#[must_use]
pub fn id(prefix: &str, group: &str, instance: Uuid) -> String {
    format!("{prefix}-{group}-{instance}")
}

/// One for each producer.
fn ids(id: &str) -> [String; 2] {
    [id.to_owned(), format!("{id}-2")]
}

fn made(settings: &Settings, batch_bytes: usize, id: &str) -> Result<Publisher, PublishError> {
    let mut properties = client::producer(settings, batch_bytes);
    Deliveries::default().publisher(client::transactional(&mut properties, id))
}

/// Fences whoever uses the transactional ids, and waits until what is open of them is aborted.
pub(crate) fn fence(settings: &Settings, id: &str) -> Result<(), PublishError> {
    let fence = |id: String| {
        let producer = made(settings, client::BATCH_BYTES, &id)?;
        producer.init_transactions(REQUEST).map_err(|error| classify("init_transactions", &error))
    };
    // At the same time: an instance that runs, and is fenced, makes both producers again at once.
    thread::scope(|scope| {
        let fencing = ids(id).map(|id| scope.spawn(move || fence(id)));
        fencing.into_iter().try_for_each(|fencing| fencing.join().expect("no panic"))
    })
}

impl Transactional {
    /// `transactional_id`, also as a prefix, belongs to this instance alone: another producer that uses it fences this one.
    /// Both output topics have to accept batches of `batch_bytes`.
    #[must_use]
    pub fn new(settings: &Settings, transactional_id: String, batch_bytes: usize) -> Self {
        Self {
            settings: settings.clone(),
            transactional_id,
            batch_bytes,
            producers: Vec::new(),
            turn: 0,
            routes: Routes::new(settings),
            offsets_within: OFFSETS,
        }
    }

    /// The producer of the current transaction.
    fn producer(&self) -> Result<&Transacting, PublishError> {
        self.producers.get(self.turn).ok_or_else(no_producer)
    }

    /// Fences the id's previous producer, and waits until its open transaction is settled.
    fn make(&self, transactional_id: &str) -> Result<Transacting, PublishError> {
        let producer = made(&self.settings, self.batch_bytes, transactional_id)?;
        producer
            .init_transactions(REQUEST)
            .map_err(|error| self.lacking(&error).unwrap_or_else(|| classify("init_transactions", &error)))?;
        Ok(Arc::new(producer))
    }

    /// Starts to add the offsets to the transaction, on a separate thread: if the group's coordinator is gone, librdkafka
    /// ignores the time-out, and may never return (its issues 5456 and 5511). Then thread and producer are abandoned; the
    /// next producer with the same transactional id fences that one, and the thread ends if the call ever returns.
    fn send_offsets(
        &self,
        offsets: TopicPartitionList,
        membership: &Membership,
    ) -> Result<Receiver<KafkaResult<()>>, PublishError> {
        let (producer, metadata) = (Arc::clone(self.producer()?), Arc::clone(&membership.metadata));
        let (done, sent) = crossbeam_channel::bounded(1);
        thread::Builder::new()
            .name("offsets".into())
            .spawn(move || {
                let result = producer.send_offsets_to_transaction(&offsets, &metadata, REQUEST);
                // Otherwise this could be the last reference, and the producer would be closed here.
                drop(producer);
                // After the time-out, nobody receives the result.
                let _ = done.send(result);
            })
            .map_err(|error| PublishError::Unknown(format!("a thread could not be started: {error}")))?;
        Ok(sent)
    }

    /// Waits for records and offsets, which are sent at the same time. Always waits for the offsets: librdkafka accepts one
    /// transactional call at a time, including an abort.
    fn deliver(&mut self, offsets: TopicPartitionList, membership: &Membership) -> Result<(), PublishError> {
        let until = Instant::now() + self.offsets_within;
        let offsets = self.send_offsets(offsets, membership)?;
        // Commits take 0.3 to 4 ms once nothing is in flight, and 100 ms otherwise.
        let drained = self.drain();
        let Ok(sent) = offsets.recv_deadline(until) else {
            let text = "the group's coordinator did not take the offsets in time";
            return Err(PublishError::TimedOut(text.into()));
        };
        let lacking = sent.as_ref().err().and_then(|error| self.lacking(error));
        match sent.map_err(|error| lacking.unwrap_or_else(|| classify("send_offsets_to_transaction", &error)))
        {
            Ok(()) => drained,
            // In a transaction that can only be aborted, records are reported as purged, which hides the cause.
            Err(error @ (PublishError::StaleMembership(_) | PublishError::Fenced(_))) => Err(error),
            // The right may be missing for a reply, which its record shows. The next attempt drops it.
            Err(error @ PublishError::Fatal(_)) if !self.producer()?.context().deliveries().any_refused() => {
                Err(error)
            }
            Err(error) => drained.and(Err(error)),
        }
    }

    /// Names a fencing that shows only in the records: once the client has failed permanently, they are reported as purged,
    /// or as failed with it.
    fn named(&self, error: PublishError) -> PublishError {
        use RDKafkaErrorCode as Code;
        let (PublishError::Unknown(text) | PublishError::TimedOut(text)) = &error else { return error };
        match self.producer().ok().and_then(|producer| producer.client().fatal_error()) {
            Some((Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced, reason)) => {
                PublishError::Fenced(format!("{text}: {reason}"))
            }
            _ => error,
        }
    }

    /// The missing right, if the error is one of access. librdkafka does not name the topic whose partition could not be
    /// added to the transaction: see [`Transactional::denied`].
    fn lacking(&self, error: &KafkaError) -> Option<PublishError> {
        use RDKafkaErrorCode as Code;
        let access = Access::of(&self.settings);
        let (operation, resource) = match error.rdkafka_error_code()? {
            Code::TransactionalIdAuthorizationFailed => {
                // Of all instances of the group: this one's id ends with the instance.
                let group = format!("-{}-", self.settings.group);
                let id = &self.transactional_id;
                let ids = id.rfind(&group).map_or(&id[..], |at| &id[..at + group.len()]);
                (Operation::Write, Resource::TransactionalIds(ids))
            }
            Code::GroupAuthorizationFailed => (Operation::Read, Resource::Group(&self.settings.group)),
            _ => return None,
        };
        Some(PublishError::Fatal(access.lacks(operation, resource)))
    }

    /// Names the output topic that the brokers refuse, if they do.
    fn denied(&self, error: PublishError) -> PublishError {
        match self.producer().ok().and_then(|producer| producer.context().deliveries().take_denied()) {
            Some(topic) => {
                let access = Access::of(&self.settings);
                PublishError::Fatal(access.lacks(Operation::Write, Resource::Topic(&topic)))
            }
            None => error,
        }
    }

    /// Waits until everything is delivered. A reply that takes too long aborts the transaction.
    fn drain(&mut self) -> Result<(), PublishError> {
        let producer = Arc::clone(self.producer()?);
        let deliveries = producer.context().deliveries();
        let until = Instant::now() + REQUEST;
        while !deliveries.wait(&producer, until.min(Instant::now() + REPLIES)) {
            if Instant::now() >= until {
                return Err(PublishError::TimedOut("the broker did not confirm the records in time".into()));
            }
            self.refuse_late_replies()?;
        }
        match deliveries.failure() {
            Some((code, text)) => Err(delivery_error(code, text)),
            // librdkafka would not commit a transaction that lost a record.
            None if deliveries.any_refused() => Err(PublishError::Aborted("a reply was refused".into())),
            None => Ok(()),
        }
    }

    /// Refuses replies that delay the transaction: if only they are missing, or if the brokers now say that they can't be
    /// delivered.
    fn refuse_late_replies(&mut self) -> Result<(), PublishError> {
        let deliveries = self.producer()?.context().deliveries().clone();
        let mut late: Vec<_> = deliveries.pending_replies().into_iter().map(|(to, _)| to).collect();
        if deliveries.own_pending() > 0 {
            late = self.routes.look_again(late);
        }
        if late.is_empty() {
            return Ok(());
        }
        deliveries.take_replies();
        self.routes.refuse(&Refused::all(late, RDKafkaErrorCode::MessageTimedOut));
        Err(PublishError::Aborted("a reply was not taken in time".into()))
    }

    /// Remembers replies that made the transaction fail, so that the next attempt drops them.
    fn blame_replies(&mut self, error: PublishError) -> PublishError {
        let Ok(producer) = self.producer().cloned() else { return error };
        let deliveries = producer.context().deliveries();
        let is_unknown = matches!(error, PublishError::Unknown(_) | PublishError::TimedOut(_));
        if is_unknown {
            // The records of a transaction that can only be aborted are purged, with one report each.
            deliveries.wait(&producer, Instant::now() + PURGE);
        }
        let own = deliveries.take_failure();
        let (sent, refused) = deliveries.take_replies();
        let is_own = own.is_some_and(|(code, _)| !is_consequence(code));
        if refused.is_empty() || is_own || !(is_unknown || matches!(error, PublishError::Aborted(_))) {
            return error;
        }
        let mut causes: Vec<_> = refused.into_iter().filter(|reply| !is_consequence(reply.code)).collect();
        if causes.is_empty() && self.routes.look_again(sent.clone()).is_empty() {
            // Any of them may be the cause; if none was, they are dropped for a while.
            causes = Refused::all(sent, RDKafkaErrorCode::Fail);
        }
        self.routes.refuse(&causes);
        PublishError::Aborted(error.to_string())
    }

    /// Aborts after `error`, and returns the batch's outcome.
    fn aborted(&mut self, error: PublishError) -> PublishError {
        let error = self.named(error);
        let error = self.blame_replies(error);
        let error = self.denied(error);
        // After the other errors a new producer settles the rest of the transaction.
        if !matches!(
            error,
            PublishError::StaleMembership(_) | PublishError::Aborted(_) | PublishError::Fatal(_)
        ) {
            return error;
        }
        match self.abort() {
            Err(abort) if !matches!(error, PublishError::Fatal(_)) => abort,
            _ => error,
        }
    }
}

impl Sink for Transactional {
    type Membership = Membership;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.producers.clear();
        // All or none: the last used producer may have left a transaction open.
        self.producers =
            ids(&self.transactional_id).iter().map(|id| self.make(id)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        self.turn = (self.turn + 1) % self.producers.len().max(1);
        let begun = self.producer()?.begin_transaction();
        begun.map_err(|error| self.named(classify("begin_transaction", &error)))?;
        self.routes.begin();
        Ok(())
    }

    fn send(&mut self, topic: OutputTopic, record: OutputRef<'_>) -> Result<(), PublishError> {
        let producer = self.producer()?;
        let sent = producer.context().deliveries().send(producer, self.settings.topics.output(topic), record);
        sent.map_err(|error| self.aborted(error))
    }

    fn reply(&mut self, reply: &ReplyRecord) -> Result<(), PublishError> {
        let producer = self.producers.get(self.turn).ok_or_else(no_producer)?;
        let sent = self.routes.send(producer, reply);
        sent.map_err(|error| self.aborted(error))
    }

    fn commit(
        &mut self,
        offsets: &[NextOffset],
        membership: &Membership,
    ) -> Result<ReplyCounts, PublishError> {
        let offsets = marked_list(&self.settings.topics.commands, offsets);
        let committed = (|| {
            self.deliver(offsets, membership)?;
            let committed = self.producer()?.commit_transaction(REQUEST);
            committed.map_err(|error| {
                self.lacking(&error).unwrap_or_else(|| classify("commit_transaction", &error))
            })
        })();
        match committed {
            Ok(()) => {
                self.producer()?.context().deliveries().take_replies();
                Ok(self.routes.take_counts())
            }
            Err(error) => Err(self.aborted(error)),
        }
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        let deadline = Instant::now() + REQUEST;
        let producer = self.producer()?;
        let deliveries = producer.context().deliveries();
        loop {
            // An abort waits for delivery reports, which only a poll serves.
            producer.poll(Duration::ZERO);
            match producer.abort_transaction(Duration::from_millis(200)) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                // An empty transaction has nothing to abort.
                Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::State => break,
                // A retry would use the other producer, while this transaction is still open.
                Err(error) => {
                    return Err(match classify("abort_transaction", &error) {
                        error @ (PublishError::Fenced(_) | PublishError::Fatal(_)) => error,
                        error => PublishError::Unknown(error.to_string()),
                    });
                }
            }
        }
        deliveries.wait(producer, deadline);
        deliveries.take_failure();
        deliveries.take_replies();
        Ok(())
    }
}

/// The batch's outcome after an error of the transaction protocol.
fn classify(request: &str, error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as Code;
    let text = format!("{request}: {error}");
    let KafkaError::Transaction(transaction) = error else { return PublishError::Unknown(text) };
    match transaction.code() {
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced => PublishError::Fenced(text),
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::FencedInstanceId
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        | Code::RebalanceInProgress => PublishError::StaleMembership(text),
        Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TopicAuthorizationFailed => {
            PublishError::Fatal(format!("{text}. 'activity-stream check' names the right that is missing"))
        }
        _ if transaction.is_fatal() => PublishError::Unknown(text),
        code => match OutputRefusal::of(code, || text.clone()) {
            Some(refusal) => PublishError::Refused(refusal),
            None if transaction.txn_requires_abort() => PublishError::Aborted(text),
            None if is_timeout(code) => PublishError::TimedOut(text),
            None => PublishError::Unknown(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use contract::OutputRecord;
    use rdkafka::{
        mocking::MockCoordinator,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };

    use super::*;
    use crate::{
        consumer::tests::{PATIENCE, joined},
        embedded::EmbeddedBroker,
        mark::{Mark, RulesHash},
    };

    fn settings() -> Settings {
        Settings::for_test("", &[("fetch.wait.max.ms", "10")])
    }

    fn first() -> NextOffset {
        let mark = Mark { instance: Uuid::nil(), clock: 0, rules: RulesHash(0) };
        NextOffset { partition: 0, offset: 1, mark }
    }

    fn record() -> OutputRecord {
        OutputRecord { key: None, value: Some("{}".into()), headers: Vec::new() }
    }

    /// A second process on a copy of the log uses the same transactional id. The broker says so when the
    /// transaction adds its first partition, long before the commit.
    #[test]
    fn a_fencing_is_known_by_its_name_however_early_it_comes() {
        let mut settings = settings();
        let broker = EmbeddedBroker::start(&settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let (_member, membership) = joined(&settings);
        let mut sink = Transactional::new(&settings, "t".into(), client::BATCH_BYTES);
        sink.reset().unwrap();
        sink.begin().unwrap();
        let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED; 3];
        broker.cluster().request_errors(RDKafkaApiKey::AddPartitionsToTxn, &fenced);
        record().with_ref(|record| sink.send(OutputTopic::Notifications, record)).unwrap();
        let error = sink.commit(&[first()], &membership).unwrap_err();
        assert!(matches!(error, PublishError::Fenced(_)), "{error:?}");
        // The new producer is the newer of the two.
        broker.cluster().clear_request_errors(RDKafkaApiKey::AddPartitionsToTxn);
        sink.reset().unwrap();
    }

    /// librdkafka may learn that a reply is not allowed before it gets the offsets; it then fails the offsets with that
    /// error.
    #[test]
    fn a_reply_that_is_not_allowed_is_left_out() {
        let mut settings = settings();
        settings.topics.replies = ["answers".to_owned()].into_iter().collect();
        let broker = EmbeddedBroker::start(&settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let (_member, membership) = joined(&settings);
        let mut sink = Transactional::new(&settings, "t".into(), client::BATCH_BYTES);
        sink.reset().unwrap();
        let reply = ReplyRecord { topic: "answers".into(), partition: None, record: record() };
        sink.begin().unwrap();
        let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3];
        broker.cluster().request_errors(RDKafkaApiKey::AddPartitionsToTxn, &denied);
        sink.reply(&reply).unwrap();
        // Long enough for the answer to be there first, usually; the outcome is the same in either case.
        thread::sleep(Duration::from_millis(300));
        let error = sink.commit(&[first()], &membership).unwrap_err();
        assert!(matches!(error, PublishError::Aborted(_)), "{error:?}");
        broker.cluster().clear_request_errors(RDKafkaApiKey::AddPartitionsToTxn);
        sink.begin().unwrap();
        sink.reply(&reply).unwrap();
        let counts = sink.commit(&[first()], &membership).unwrap();
        assert_eq!((counts.published, counts.undeliverable.values().sum::<u64>()), (0, 1));
    }

    /// A commit never waits for ever, although librdkafka does (its issue 5456).
    #[test]
    fn a_commit_ends_while_the_groups_coordinator_is_away() {
        let mut settings = settings();
        let broker = EmbeddedBroker::with_nodes(2, &settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let cluster = broker.cluster();
        cluster.coordinator(MockCoordinator::Group("g".into()), 2).unwrap();
        for id in ["t", "t-2"] {
            cluster.coordinator(MockCoordinator::Transaction(id.into()), 1).unwrap();
        }
        for topic in ["c", "n", "r"] {
            cluster.partition_leader(topic, 0, Some(1)).unwrap();
        }
        let (_member, membership) = joined(&settings);
        let mut sink = Transactional::new(&settings, "t".into(), client::BATCH_BYTES);
        sink.offsets_within = Duration::from_secs(1);
        sink.reset().unwrap();
        sink.begin().unwrap();
        record().with_ref(|record| sink.send(OutputTopic::Notifications, record)).unwrap();
        cluster.broker_down(2).unwrap();
        let (done, committed) = crossbeam_channel::bounded(1);
        thread::spawn(move || {
            let ended = sink.commit(&[first()], &membership);
            done.send((sink, membership, ended)).unwrap();
        });
        let ended = committed.recv_timeout(PATIENCE);
        let (mut sink, membership, ended) = ended.expect("the commit ends");
        let is_unknown = matches!(ended, Err(PublishError::Unknown(_) | PublishError::TimedOut(_)));
        assert!(is_unknown, "{ended:?}");
        // Another node is the coordinator from now on, so the next producer does not wait for the same one as the last.
        cluster.coordinator(MockCoordinator::Group("g".into()), 1).unwrap();
        sink.offsets_within = OFFSETS;
        sink.reset().unwrap();
        sink.begin().unwrap();
        record().with_ref(|record| sink.send(OutputTopic::Notifications, record)).unwrap();
        sink.commit(&[first()], &membership).unwrap();
    }
}
