//! A consumer that leaves its group, if it has one, without waiting for unreachable brokers.

use std::{fmt, ops::Deref, sync::Arc, thread, time::Duration, time::Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::{Context, Group};

/// How long closing may wait for the broker. Leaving the group is a courtesy; the session time-out replaces it.
const CLOSE: Duration = Duration::from_millis(1500);
/// librdkafka checks only once a second whether a close is complete that asks the group nothing, as a static member's, and
/// whenever it is called.
const CHECK: Duration = Duration::from_millis(50);
/// How long dropping a member may take at most.
const LEAVE: Duration = Duration::from_millis(3000);

/// Leaves its group when it is dropped, within 3 s and [`Group::leaving_takes`]. The binding's own drop waits for the brokers
/// for ever.
pub struct Member {
    /// `None` only while it is dropped.
    consumer: Option<Arc<BaseConsumer<Context>>>,
}

impl Member {
    pub fn new(consumer: BaseConsumer<Context>) -> Self {
        Self { consumer: Some(Arc::new(consumer)) }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

/// A clone of the inner reference does not keep the member in its group.
impl Deref for Member {
    type Target = Arc<BaseConsumer<Context>>;

    fn deref(&self) -> &Self::Target {
        self.consumer.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        // A consumer that only reads or asks is in no group.
        let is_member = consumer.subscription().is_ok_and(|topics| topics.count() > 0);
        let patience = LEAVE + consumer.context().group().map_or(Duration::ZERO, Group::leaving_takes);
        let (done, left) = crossbeam_channel::bounded(1);
        // On a separate thread, which is abandoned if it hangs: a revocation that is answered just as the close ends is never
        // acknowledged, and librdkafka waits for that for ever.
        let closing = thread::Builder::new().name("leave".into()).spawn(move || {
            let closed = close(&consumer);
            if closed {
                drop(consumer);
            } else {
                // The binding's own drop would wait for the broker for ever.
                std::mem::forget(consumer);
            }
            let _ = done.send(closed);
        });
        let has_left = closing.is_ok() && left.recv_timeout(patience) == Ok(true);
        if is_member && !has_left {
            tracing::warn!("the broker does not answer; the group will notice by the session time-out");
        }
    }
}

/// Whether the consumer has left the group.
fn close(consumer: &BaseConsumer<Context>) -> bool {
    let group = consumer.context().group();
    if let Some(group) = group {
        group.before_leaving(consumer);
    }
    if consumer.close_queue().is_ok() {
        if let Some(group) = group {
            group.leaving(consumer);
        }
        let mut check_at = Instant::now() + CHECK;
        let deadline = Instant::now() + CLOSE;
        while !consumer.closed() && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(20));
            if Instant::now() >= check_at {
                check_at = Instant::now() + CHECK;
                // Says that it is under way, and does not wait.
                let _ = consumer.close_queue();
            }
        }
    }
    // One that failed permanently has no membership to give back, and waits for nothing.
    consumer.closed() || consumer.client().fatal_error().is_some()
}

#[cfg(test)]
mod tests {
    use rdkafka::{ClientConfig, TopicPartitionList, types::RDKafkaRespErr};

    use super::*;
    use testing::said_by;

    /// As a consumer whose broker answers nothing, or whose machine is too busy.
    struct Slow;

    impl Group for Slow {
        fn rebalance(&self, _: &BaseConsumer<Context>, _: RDKafkaRespErr, _: &TopicPartitionList) {}

        fn before_leaving(&self, _: &BaseConsumer<Context>) {
            thread::sleep(LEAVE + Duration::from_secs(60));
        }
    }

    fn slow() -> Member {
        let context = Context::default().member(Arc::new(Slow));
        Member::new(ClientConfig::new().set("group.id", "g").create_with_context(context).unwrap())
    }

    #[test]
    fn a_member_that_cannot_leave_in_time_says_so() {
        let member = slow();
        member.subscribe(&["c"]).unwrap();
        let (said, ()) = said_by(|| drop(member));
        assert!(said.contains("the group will notice by the session time-out"), "{said}");
    }

    #[test]
    fn one_that_never_joined_says_nothing_of_a_group() {
        let (said, ()) = said_by(|| drop(slow()));
        assert_eq!(said, "");
    }
}
