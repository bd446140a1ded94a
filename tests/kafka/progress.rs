//! A group's progress, queried from the broker.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::{topics::Names, waiting::PATIENCE};

const ASK: Duration = Duration::from_secs(5);
/// A transaction that is open for so long is of no instance that runs.
const PENDING: Duration = Duration::from_millis(700);

/// Watches the group's committed offsets without being a member.
pub struct Progress {
    topic: String,
    partitions: i32,
    config: ClientConfig,
    client: Mutex<BaseConsumer>,
}

impl Progress {
    pub fn new(servers: &str, names: &Names, partitions: i32) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", servers)
            .set("group.id", &names.group)
            // Else the broker makes it wait for transactions that are open.
            .set("isolation.level", "read_uncommitted")
            .set("reconnect.backoff.max.ms", "500")
            .set("log_level", "0");
        let client = Mutex::new(config.create().expect("a consumer"));
        Self { topic: names.commands.clone(), partitions, config, client }
    }

    /// The group's committed offsets, where there are any; `None` where the brokers do not answer just now.
    pub fn committed(&self) -> Option<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = self.ask(|client| client.committed_offsets(list, ASK))?;
        let offsets = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Some(offsets.collect())
    }

    /// The same, asked until the brokers answer.
    #[track_caller]
    pub fn committed_now(&self) -> BTreeMap<i32, i64> {
        super::wait_for("the group's offsets", || self.committed())
    }

    /// The brokers' answer, if they answer just now.
    fn ask<T>(&self, ask: impl FnOnce(&BaseConsumer) -> KafkaResult<T>) -> Option<T> {
        let mut client = self.client.lock().expect("never poisoned");
        let answer = ask(&client).ok();
        if answer.is_none() {
            // It may have lost its brokers permanently (librdkafka's issue 5301).
            *client = self.config.create().expect("a consumer");
        }
        answer
    }

    /// Whether a transaction stays open that moves some of the group's offsets.
    pub fn has_open_transaction(&self) -> bool {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let mut config = self.config.clone();
        config.set("isolation.level", "read_committed");
        let client: BaseConsumer = config.create().expect("a consumer");
        // The first time, it may be late because it connects. After that, the brokers may be writing the end of a transaction,
        // which does not take so long.
        let ask = || client.committed_offsets(list.clone(), PENDING);
        let is_late =
            |error: KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut);
        ask().is_err() && (0..2).all(|_| ask().is_err_and(is_late))
    }

    /// Commands whose output is out; `None` where the brokers do not answer just now.
    pub fn published(&self) -> Option<u64> {
        self.committed().map(|offsets| offsets.values().sum::<i64>().try_into().expect("a count"))
    }

    /// The first offset of each partition that is still retained.
    pub fn starts(&self) -> BTreeMap<i32, i64> {
        let client = self.client.lock().expect("never poisoned");
        let start = |partition| {
            let (start, _) = client.fetch_watermarks(&self.topic, partition, PATIENCE).expect("an answer");
            (partition, start)
        };
        (0..self.partitions).map(start).collect()
    }

    /// The number of commands in the topic of a test that has posted all; more than it posted, if the producer appended some
    /// again.
    #[track_caller]
    pub fn appended(&self) -> u64 {
        let end = |partition| {
            self.ask(|client| client.fetch_watermarks(&self.topic, partition, ASK)).map(|(_, end)| end)
        };
        let all = || (0..self.partitions).map(end).sum::<Option<i64>>();
        super::wait_for("the ends of the commands", all).try_into().expect("a count")
    }

    /// Puts the group's offsets somewhere else, as an operator can while the group has no members.
    pub fn commit(&self, offsets: &BTreeMap<i32, i64>) {
        let mut list = TopicPartitionList::new();
        for (&partition, &offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).expect("an offset");
        }
        super::wait_until("the group to take offsets", || {
            let client = self.client.lock().expect("never poisoned");
            client.commit(&list, CommitMode::Sync).is_ok()
        });
    }

    /// Waits until as many commands are published as `total` says, calling `meanwhile` in between.
    #[track_caller]
    pub fn await_published(&self, total: u64, patience: Duration, mut meanwhile: impl FnMut()) {
        let deadline = Instant::now() + patience;
        let mut last = 0;
        while last < total {
            assert!(
                Instant::now() < deadline,
                "only {last} of {total} commands are published after {patience:?}"
            );
            meanwhile();
            thread::sleep(Duration::from_millis(50));
            last = self.published().unwrap_or(last);
        }
    }
}
