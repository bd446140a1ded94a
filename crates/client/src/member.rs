//! The stream's member of its consumer group.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use contract::Record;
use futures::task::AtomicWaker;
use kafka::{
    context::{Context, Group},
    member::Member,
    native,
    records::record_of,
};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::{acks::Acks, seen::Seen};

/// For the last commit of a member that leaves.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// The notifications that are handed out, shared with the consumer's callbacks.
#[derive(Clone)]
pub(super) struct Ledger(Arc<Mutex<(Acks, Seen)>>);

/// One consumer, as a member of the group until it is dropped.
pub(super) struct Joined {
    consumer: Member,
    watching: Arc<Watching>,
    waker: Arc<AtomicWaker>,
}

/// Records revoked partitions.
struct Watching {
    ledger: Ledger,
    /// A new consumer is the stream's member now. Set and read with the ledger locked.
    replaced: AtomicBool,
}

impl Ledger {
    pub fn new(seen: Seen) -> Self {
        Self(Arc::new(Mutex::new((Acks::default(), seen))))
    }

    pub fn lock(&self) -> MutexGuard<'_, (Acks, Seen)> {
        self.0.lock().expect("never poisoned")
    }
}

impl Watching {
    /// Drops the lost partitions from the ledger, and unlocks it before librdkafka is called, so that acknowledgements on
    /// other threads do not wait for the rebalance.
    fn lose(&self, event: RDKafkaRespErr, partitions: &TopicPartitionList) {
        let acks = &mut self.ledger.lock().0;
        if self.replaced.load(Ordering::Relaxed) {
            return;
        }
        match event {
            // Stored offsets are committed with the revocation; nothing can be stored afterwards.
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                acks.lose(partitions.elements().iter().map(|element| element.partition()));
            }
            _ => acks.lose_all(),
        }
    }
}

impl Group for Watching {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        event: RDKafkaRespErr,
        partitions: &TopicPartitionList,
    ) {
        let is_assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !is_assigned {
            self.lose(event, partitions);
        }
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match (is_assigned, is_cooperative) {
            (true, true) => consumer.incremental_assign(partitions),
            (true, false) => consumer.assign(partitions),
            (false, true) => consumer.incremental_unassign(partitions),
            (false, false) => consumer.unassign(),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "while rebalancing");
        }
    }

    fn leaving_takes(&self) -> Duration {
        LAST_COMMIT
    }

    /// Commits acknowledged notifications. Closing commits too, but only once, and the broker refuses that during a
    /// rebalance: then all of them would be redelivered.
    fn before_leaving(&self, consumer: &BaseConsumer<Context>) {
        let deadline = Instant::now() + LAST_COMMIT;
        while let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
            let is_of_a_rebalance = error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress);
            if !is_of_a_rebalance || Instant::now() >= deadline {
                break;
            }
            // Polling takes part in the rebalance. It does not acknowledge a record.
            consumer.poll(Duration::from_millis(20));
        }
    }
}

impl Joined {
    pub fn join(config: &ClientConfig, topic: &str, ledger: &Ledger) -> Result<Self, KafkaError> {
        let watching = Arc::new(Watching { ledger: ledger.clone(), replaced: AtomicBool::new(false) });
        let context = Context::default().member(watching.clone());
        let mut consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        let waker = Arc::new(AtomicWaker::new());
        let woken = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || woken.wake());
        let consumer = Member::new(consumer);
        consumer.subscribe(&[topic])?;
        Ok(Self { consumer, watching, waker })
    }

    /// Ignores the group from now on, because a new consumer is the stream's member. Call it with the ledger locked.
    pub fn replaced(&self, acks: &mut Acks) {
        self.watching.replaced.store(true, Ordering::Relaxed);
        acks.lose_all();
    }

    /// The consumer. A reference does not keep it in the group.
    pub fn consumer(&self) -> &Arc<BaseConsumer<Context>> {
        &self.consumer
    }

    /// The next record. Dropping the future loses nothing. Await it in one task at a time.
    pub async fn record(&self) -> Result<Record, KafkaError> {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.consumer.poll(Duration::ZERO) {
                Some(polled) => Poll::Ready(polled.map(|message| record_of(&message))),
                None => {
                    // The consumer wakes only for an empty queue.
                    if native::waiting(self.consumer.client()) > 0 {
                        context.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// After this a test has failed, on a slow machine too.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn an_assignment_does_not_wait_for_the_ledger() {
        let ledger = Ledger::new(Seen::new(1));
        let watching = Watching { ledger: ledger.clone(), replaced: AtomicBool::new(false) };
        let consumer: BaseConsumer<Context> =
            ClientConfig::new().set("group.id", "g").create_with_context(Context::default()).unwrap();
        let (done, assigned) = mpsc::channel();
        let locked = ledger.lock();
        let rebalancing = thread::spawn(move || {
            let mut partitions = TopicPartitionList::new();
            partitions.add_partition("t", 0);
            let event = RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
            watching.rebalance(&consumer, event, &partitions);
            let assignment = consumer.assignment().unwrap();
            done.send(assignment.find_partition("t", 0).is_some()).unwrap();
        });
        assert_eq!(assigned.recv_timeout(PATIENCE), Ok(true));
        drop(locked);
        rebalancing.join().unwrap();
    }
}
