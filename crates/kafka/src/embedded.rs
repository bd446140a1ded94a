//! A broker inside this process: librdkafka's mock cluster, for librdkafka clients on this machine. Other clients need
//! versions of the protocol that it does not know, and hang or fail.
//!
//! For demonstrations and tests. It keeps everything in memory, up to 5 MiB or 100,000 message sets a partition, and its
//! transactions have no effect: use the at-least-once guarantee.

use std::fmt;

use rdkafka::{
    bindings as sys,
    config::FromClientConfigAndContext,
    mocking::MockCluster,
    producer::{BaseProducer, Producer},
};
use thiserror::Error;

use super::{Topics, context::Context};

/// The log append time in each of its answers, in milliseconds, although it stores the record's own timestamp. A real broker
/// never returns it: it is a second after the start of 1970.
pub const ANSWERED_APPEND_TIME: i64 = 1234;

/// A running embedded broker, until it is dropped.
pub struct EmbeddedBroker {
    // Owns the cluster, which ends with the client.
    client: BaseProducer<Context>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("address", &self.bootstrap_servers()).finish()
    }
}

/// The embedded broker did not start.
#[derive(Debug, Error)]
#[error("the embedded broker did not start: {0}")]
pub struct EmbeddedError(String);

impl EmbeddedBroker {
    /// Starts it on a free port of the loopback interface, with the configured topics.
    pub fn start(topics: &Topics) -> Result<Self, EmbeddedError> {
        Self::with_nodes(1, topics)
    }

    /// The same, with several nodes.
    pub(super) fn with_nodes(nodes: u8, topics: &Topics) -> Result<Self, EmbeddedError> {
        let failed = |error: &dyn fmt::Display| EmbeddedError(error.to_string());
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("test.mock.num.brokers", nodes.to_string())
            .set("client.id", "activity-stream-embedded-broker");
        let client = BaseProducer::from_config_and_context(&config, Context::quiet())
            .map_err(|error| failed(&error))?;
        let broker = Self { client };
        broker.join_at_once();
        let own = [&topics.commands, &topics.notifications, &topics.rejections].map(String::as_str);
        for topic in own.into_iter().chain(topics.replies.names()) {
            broker
                .cluster()
                .create_topic(topic, topics.partitions, 1)
                .map_err(|error| failed(&format!("topic '{topic}': {error}")))?;
        }
        Ok(broker)
    }

    /// The cluster, for injecting errors in tests.
    ///
    /// # Panics
    ///
    /// Never: the client was made with a mock cluster.
    #[must_use]
    pub fn cluster(&self) -> MockCluster<'_, Context> {
        self.client.client().mock_cluster().expect("the client was made with one")
    }

    /// Its address for clients on this machine.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster().bootstrap_servers()
    }

    /// Otherwise a first member waits 3 s for others.
    #[allow(unsafe_code)]
    fn join_at_once(&self) {
        // SAFETY: the client is alive, and the cluster is its own.
        unsafe {
            let cluster = sys::rd_kafka_handle_mock_cluster(self.client.client().native_ptr());
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
