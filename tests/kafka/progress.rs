//! How far a group is, asked of the broker from outside.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::process::Setup;

const ASK: Duration = Duration::from_secs(5);

/// Watches the group's committed offsets without being a member.
pub struct Progress {
    topic: String,
    partitions: i32,
    client: BaseConsumer,
}

impl Progress {
    pub fn of(setup: &Setup) -> Self {
        let client = ClientConfig::new()
            .set("bootstrap.servers", &setup.servers)
            .set("group.id", &setup.names.group)
            // Else the broker makes it wait for transactions that are open.
            .set("isolation.level", "read_uncommitted")
            .set("reconnect.backoff.max.ms", "500")
            .set("log_level", "0")
            .create()
            .expect("a consumer");
        Self { topic: setup.names.commands.clone(), partitions: setup.partitions, client }
    }

    /// Commands whose output is out; `None` where the brokers do not answer just now.
    pub fn published(&self) -> Option<u64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = self.client.committed_offsets(list, ASK).ok()?;
        let offsets = committed.elements().into_iter().map(|element| match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
            _ => 0,
        });
        Some(offsets.sum())
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
