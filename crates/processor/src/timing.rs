//! How long the stages wait for one another and for Kafka.

use std::time::Duration;

use kafka::predecessor::PENDING;

/// Every wait of intake and publisher. The simulation sets them to zero, and otherwise runs the same code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a revocation waits for the work in flight. After that, the work is stale, and the next owner's.
    pub drain: Duration,
    /// Between two attempts to start partitions whose facts were unavailable.
    pub retry: Duration,
    /// How often a continuing wait is logged.
    pub say: Duration,
    /// After this long without hearing brokers or group, the brokers are probed, and then repeatedly.
    pub silence: Duration,
    /// How long the group may take to admit this member while the brokers answer; after that, a new member joins.
    pub unjoined: Duration,
    /// How often rebalances are polled for while there is no room for records.
    pub serve: Duration,
    /// How often the position of an idle partition is checked, for control records, and the progress of every partition.
    pub positions: Duration,
    /// How often the topic's ends are queried, and by a follower the group's offsets.
    pub ends: Duration,
    /// A member that was assigned nothing for this long has no partitions, so all of them are followed.
    pub unassigned: Duration,
    /// An instance that is not warm joins the group all the same if neither its log nor the group has moved for this long.
    pub standstill: Duration,
    /// A partition that has records and makes no progress for this long is stalled.
    pub stall: Duration,
    /// How long to wait for the group's next generation before trying again with the same one.
    pub generation: Duration,
    /// The pause before an aborted transaction is retried; each further retry waits that much longer.
    pub aborted: Duration,
    /// Between attempts to make a producer.
    pub reset: Duration,
    /// Fencings within this time are one: of both producers, by several owners of partitions that this process had. Longer than
    /// the brokers may take for one.
    pub fenced_once: Duration,
    /// Two fencings within this time mean that another process runs on a copy of this log; a single one can be chance.
    pub fenced_twice: Duration,
    /// How old a transaction is at least when the brokers or the partitions' next owner abort it.
    pub aborted_by_others: Duration,
}

/// The time in which members have to rejoin the group, unless an operator changed it: the default of
/// `max.poll.interval.ms`, in librdkafka and in Kafka's Java client.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// What a group may need beyond that to admit its members.
const JOINING: Duration = Duration::from_secs(30);

impl Timing {
    /// The timing for a group whose members may let `poll_interval` pass between two polls (`max.poll.interval.ms`). The
    /// group waits for its slowest member, which may have another configuration than this one.
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
            unassigned: Duration::from_secs(10),
            standstill: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            generation: Duration::from_millis(500),
            aborted: Duration::from_millis(50),
            reset: Duration::from_millis(500),
            fenced_once: Duration::from_secs(20),
            fenced_twice: Duration::from_secs(300),
            aborted_by_others: PENDING,
        }
    }
}
