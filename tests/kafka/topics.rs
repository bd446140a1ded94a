//! The names of one test on a shared broker, and how the topics are made.

use std::time::Duration;

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
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
        create(servers, &self.commands, partitions, &[("message.timestamp.type", "LogAppendTime")]);
        create(servers, &self.notifications, partitions, &[]);
        let larger = (1_048_588 + 128 * 1024).to_string();
        create(servers, &self.rejections, partitions, &[("max.message.bytes", &larger)]);
        for topic in [&self.commands, &self.notifications, &self.rejections] {
            await_known(servers, topic, partitions);
        }
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

/// An admin client, for what else a test wants of the topics.
pub fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", servers).create().expect("an admin client")
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
