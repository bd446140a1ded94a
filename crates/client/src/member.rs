//! The stream's member of the readers' group.

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
    client,
    consumer::record_of,
    member::{Leaving, Member},
    native,
};
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{acks::Acks, seen::Seen};

/// What is under way, known to the consumer's callbacks too.
#[derive(Clone)]
pub(super) struct Ledger(Arc<Mutex<(Acks, Seen)>>);

/// One consumer, as a member of the group until it is dropped.
pub(super) struct Joined {
    consumer: Member<Watching>,
    waker: Arc<AtomicWaker>,
}

/// Notes which partitions the group takes away.
pub(super) struct Watching {
    ledger: Ledger,
    /// Another consumer is the stream's member now. Set and read with the ledger locked.
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

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::client_error(&error, reason);
    }
}

impl ConsumerContext for Watching {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let acks = &mut self.ledger.lock().0;
        if self.replaced.load(Ordering::Relaxed) {
            return;
        }
        match rebalance {
            // What was stored before is committed with the revocation; nothing can be stored after.
            Rebalance::Revoke(list) => acks.lose(list.elements().iter().map(|element| element.partition())),
            Rebalance::Error(_) => acks.lose_all(),
            Rebalance::Assign(_) => {}
        }
    }
}

impl Leaving for Watching {
    const LAST_COMMIT: Duration = Duration::from_secs(3);

    /// Commits what is acknowledged. Closing does so too, but only once, and a broker refuses it while the group waits for
    /// its members to agree, as where another one joins just now: then all of it would be delivered again.
    fn before_leaving(&self, consumer: &BaseConsumer<Self>) {
        let deadline = Instant::now() + Self::LAST_COMMIT;
        while let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
            let is_of_a_rebalance = error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress);
            if !is_of_a_rebalance || Instant::now() >= deadline {
                break;
            }
            // The consumer takes its part in the rebalance. A record is not acknowledged by being polled.
            consumer.poll(Duration::from_millis(20));
        }
    }
}

impl Joined {
    pub fn join(config: &ClientConfig, topic: &str, ledger: &Ledger) -> Result<Self, KafkaError> {
        let watching = Watching { ledger: ledger.clone(), replaced: AtomicBool::new(false) };
        let mut consumer: BaseConsumer<Watching> = config.create_with_context(watching)?;
        let waker = Arc::new(AtomicWaker::new());
        let woken = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || woken.wake());
        let consumer = Member::new(consumer);
        consumer.subscribe(&[topic])?;
        Ok(Self { consumer, waker })
    }

    /// It is left from now on what the group does with it: another one is the stream's member.
    ///
    /// Called with the ledger locked.
    pub fn replaced(&self, acks: &mut Acks) {
        self.consumer.context().replaced.store(true, Ordering::Relaxed);
        acks.lose_all();
    }

    /// The consumer, which may be kept without keeping it in the group.
    pub fn consumer(&self) -> &Arc<BaseConsumer<Watching>> {
        &self.consumer
    }

    /// The next record. Nothing is lost where the future is dropped. To be awaited by one task at a time.
    pub async fn record(&self) -> Result<Record, KafkaError> {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.consumer.poll(Duration::ZERO) {
                Some(polled) => Poll::Ready(polled.map(|message| record_of(&message))),
                None => {
                    // The consumer wakes only when its queue was empty.
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
