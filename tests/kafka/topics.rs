//! The names of one test on a shared broker, and how the topics are made.

use std::{collections::BTreeMap, time::Duration};

use futures::executor::block_on;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
};

/// Topics and group of one test, used by nobody else.
#[derive(Debug, Clone)]
pub struct Names {
    pub commands: String,
    pub notifications: String,
    pub rejections: String,
    pub group: String,
}

impl Names {
    /// `test` and something random, so that a test can be repeated on the same broker.
    pub fn of(test: &str) -> Self {
        let run: String = (0..6).map(|_| fastrand::lowercase()).collect();
        Self {
            commands: format!("{test}-{run}.commands"),
            notifications: format!("{test}-{run}.notifications"),
            rejections: format!("{test}-{run}.rejections"),
            group: format!("{test}-{run}"),
        }
    }

    /// Makes the three topics as `topics.create=true` would, so that commands can be posted before anything runs.
    pub fn create(&self, servers: &str, partitions: i32) {
        self.create_commands(servers, partitions);
        self.create_outputs(servers, partitions);
    }

    /// The two topics that the program writes to.
    pub fn create_outputs(&self, servers: &str, partitions: i32) {
        create(servers, &self.notifications, partitions, &[]);
        let larger = (1_048_588 + 128 * 1024).to_string();
        create(servers, &self.rejections, partitions, &[("max.message.bytes", &larger)]);
        for topic in [&self.notifications, &self.rejections] {
            await_known(servers, topic, partitions);
        }
    }

    /// The commands topic alone, which some tests make again.
    pub fn create_commands(&self, servers: &str, partitions: i32) {
        create(servers, &self.commands, partitions, &[("message.timestamp.type", "LogAppendTime")]);
        await_known(servers, &self.commands, partitions);
    }
}

/// Waits until every node knows the topic, and who leads its partitions: a node that did not make it hears of it later.
pub fn await_known(servers: &str, topic: &str, partitions: i32) {
    for server in servers.split(',') {
        super::wait_until(&format!("{server} to know {topic}"), || {
            let client = admin(server);
            let metadata = client.inner().fetch_metadata(Some(topic), Duration::from_secs(5));
            metadata.is_ok_and(|metadata| {
                let found = metadata.topics()[0].partitions();
                found.len() == partitions as usize && found.iter().all(|partition| partition.leader() >= 0)
            })
        });
    }
}

/// An admin client, for what else a test wants of the topics. It makes none by looking for it.
pub fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("allow.auto.create.topics", "false");
    config.create().expect("an admin client")
}

pub fn options() -> AdminOptions {
    let patience = Duration::from_secs(30);
    AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience))
}

/// Makes one topic, with as many replicas as the broker's default says.
pub fn create(servers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let results = block_on(admin(servers).create_topics([&new], &options())).expect("an answer");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("the topic {topic} could not be made: {code}"));
    }
}

/// Deletes all records below these offsets, as retention would.
pub fn delete_records(servers: &str, topic: &str, below: &BTreeMap<i32, i64>) {
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in below {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    }
    let deleted = block_on(admin(servers).delete_records(&list, &options())).expect("an answer");
    for element in deleted.elements() {
        element.error().expect("the records are deleted");
        assert_eq!(element.offset(), Offset::Offset(below[&element.partition()]), "{element:?}");
    }
}

/// Deletes a topic, and waits until nobody knows it any more.
pub fn delete(servers: &str, topic: &str) {
    let results = block_on(admin(servers).delete_topics(&[topic], &options())).expect("an answer");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("the topic {topic} could not be deleted: {code}"));
    }
    for server in servers.split(',') {
        super::wait_until(&format!("{server} to forget {topic}"), || {
            let client = admin(server);
            let metadata = client.inner().fetch_metadata(Some(topic), Duration::from_secs(5));
            metadata.is_ok_and(|metadata| metadata.topics()[0].partitions().is_empty())
        });
    }
}

/// Makes Kafka forget a group and its offsets. It does that once the group has no members any more.
pub fn forget(servers: &str, group: &str) {
    super::wait_until(&format!("{group} to be forgotten"), || {
        let results = block_on(admin(servers).delete_groups(&[group], &options())).expect("an answer");
        results.iter().all(|result| match result {
            Ok(_) => true,
            Err((_, RDKafkaErrorCode::NonEmptyGroup)) => false,
            Err((group, code)) => panic!("the group {group} could not be deleted: {code}"),
        })
    });
}
