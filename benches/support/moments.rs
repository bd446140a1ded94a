//! When a command was acknowledged, and when its notification could be read.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::ActivityId;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, DeliveryResult},
    producer::ProducerContext,
};

/// Where a notification says which command it is of: {"id":"01a20ada-…/1", ….
pub const ID: Range<usize> = 7..43;
/// For one answer of the brokers.
const ASK: Duration = Duration::from_secs(60);

/// When something happened to the command at a partition and an offset.
pub type Moments = HashMap<(i32, i64), Instant>;

/// The context of a producer: when it got its acknowledgements.
#[derive(Clone, Default)]
pub struct Acknowledged(pub Arc<Mutex<Moments>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let now = Instant::now();
        let message = result.as_ref().expect("delivered");
        self.0.lock().expect("never poisoned").insert((message.partition(), message.offset()), now);
    }
}

/// Reads notifications as soon as they are committed: all, or those from now on.
pub fn reader(servers: &str, topic: &str, partitions: i32, is_all: bool) -> BaseConsumer {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", servers)
        .set("group.id", "latency-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let end = || consumer.fetch_watermarks(topic, partition, ASK).expect("an answer").1;
        let offset = if is_all { Offset::Beginning } else { Offset::Offset(end()) };
        list.add_partition_offset(topic, partition, offset).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    consumer
}

/// The partition and the offset of the command that a notification is of.
pub fn command_of(notification: &BorrowedMessage<'_>) -> (i32, i64) {
    let value = std::str::from_utf8(notification.payload().expect("a value")).expect("UTF-8");
    let id: ActivityId = value[ID].parse().expect("an id");
    (id.partition(), id.offset())
}
