//! How long the stages wait for one another and for Kafka.

use std::time::Duration;

use crate::kafka::client::TRANSACTION_TIMEOUT_MS;

/// Every wait of intake and publisher. The simulation makes them nothing, and stays what it tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a rebalance waits for what is in flight. After that it is void here, and the next owner's work.
    pub drain: Duration,
    /// Between two attempts to take up partitions whose facts could not be had.
    pub retry: Duration,
    /// How often it is said that something is still waited for.
    pub say: Duration,
    /// After so long without a sign of brokers and group they are asked for one, and again and again.
    pub silence: Duration,
    /// For the group to take this member in while the brokers answer; then it is tried with a new one.
    pub unjoined: Duration,
    /// How often rebalances are looked for while there is no room for records.
    pub serve: Duration,
    /// How often an idle partition's position is looked at, for control records.
    pub positions: Duration,
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

impl Default for Timing {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(20),
            retry: Duration::from_millis(500),
            say: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            // A group waits for its slowest member, at most for 300 s (`max.poll.interval.ms`).
            unjoined: Duration::from_secs(330),
            serve: Duration::from_millis(200),
            positions: Duration::from_secs(1),
            generation: Duration::from_millis(500),
            aborted: Duration::from_millis(50),
            reset: Duration::from_millis(500),
            fenced_twice: Duration::from_secs(300),
            transaction: Duration::from_millis(TRANSACTION_TIMEOUT_MS.into()),
        }
    }
}
