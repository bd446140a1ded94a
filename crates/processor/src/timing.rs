//! How long the stages wait for one another and for Kafka.

use std::time::Duration;

use kafka::client::TRANSACTION_TIMEOUT_MS;

/// Every wait of intake and publisher. The simulation makes them nothing, and stays what it tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a rebalance waits for what is in flight. After that it is stale here, and the next owner's work.
    pub drain: Duration,
    /// Between two attempts to start partitions whose facts could not be had.
    pub retry: Duration,
    /// How often it is said that something is still waited for.
    pub say: Duration,
    /// After so long without a sign of brokers and group they are asked for one, and again and again.
    pub silence: Duration,
    /// For the group to take this member in while the brokers answer; then it is tried with a new one.
    pub unjoined: Duration,
    /// How often rebalances are looked for while there is no room for records.
    pub serve: Duration,
    /// How often an idle partition's position is looked at, for control records, and whether each partition gets on.
    pub positions: Duration,
    /// How often the brokers are asked where the topic ends.
    pub ends: Duration,
    /// A partition that has records, and does not move for this long, is stalled.
    pub stall: Duration,
    /// For the group to tell this member of its next generation, before the same one is tried again.
    pub generation: Duration,
    /// Before the first repetition of a transaction that was aborted; each further one waits that much longer.
    pub aborted: Duration,
    /// Between attempts to get a producer.
    pub reset: Duration,
    /// Two fencings within this time are somebody else on a copy of this log; one can be chance.
    pub fenced_twice: Duration,
    /// How long a transaction may last before the broker ends it, and fences its producer.
    pub transaction: Duration,
}

/// In which the members of a group have to join it again, unless an operator set another time: librdkafka's default of
/// `max.poll.interval.ms`, and that of Kafka's Java client.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// What a group may need beyond that to take its members in.
const JOINING: Duration = Duration::from_secs(30);

impl Timing {
    /// In a group whose members may let so much time pass between two polls (`max.poll.interval.ms`). It waits for its
    /// slowest member, which need not have the same configuration as this one.
    #[must_use]
    pub fn of_group(poll_interval: Duration, stall: Duration) -> Self {
        Self { unjoined: POLL_INTERVAL.max(poll_interval) + JOINING, stall, ..Self::default() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(20),
            retry: Duration::from_millis(500),
            say: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            unjoined: POLL_INTERVAL + JOINING,
            serve: Duration::from_millis(200),
            positions: Duration::from_secs(1),
            ends: Duration::from_secs(5),
            stall: Duration::from_secs(60),
            generation: Duration::from_millis(500),
            aborted: Duration::from_millis(50),
            reset: Duration::from_millis(500),
            fenced_twice: Duration::from_secs(300),
            transaction: Duration::from_millis(TRANSACTION_TIMEOUT_MS.into()),
        }
    }
}
