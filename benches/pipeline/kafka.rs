//! The broker, topics, and commands on them.

use std::{thread, time::Duration};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    broker::Cluster,
    cpu, distribution, say,
    support::Command,
    topics::{self, Names},
};

/// The broker that everything is measured beside.
pub struct Kafka {
    pub servers: String,
    /// Unless the user named one.
    cluster: Option<Cluster>,
}

impl Kafka {
    pub fn start() -> Self {
        match std::env::var("KAFKA_BOOTSTRAP_SERVERS").ok().filter(|servers| !servers.is_empty()) {
            Some(servers) => Self { servers, cluster: None },
            None => {
                say!("starting Kafka");
                let cluster = Cluster::measured();
                Self { servers: cluster.servers(), cluster: Some(cluster) }
            }
        }
    }

    pub fn version(&self) -> String {
        match self.cluster {
            Some(_) => format!("Apache Kafka {}, one node on the same machine", distribution::version()),
            None => "a Kafka of the user's (KAFKA_BOOTSTRAP_SERVERS)".into(),
        }
    }

    /// CPU time of the broker so far; `None` where its processes are not known.
    pub fn cpu(&self) -> Option<Duration> {
        Some(self.cluster.as_ref()?.process_ids().into_iter().map(cpu::total).sum())
    }
}

/// A commands topic with a backlog, and the output topics of one run after the other.
pub struct Backlog<'a> {
    pub kafka: &'a Kafka,
    pub partitions: i32,
    pub commands: u64,
    topic: String,
}

impl<'a> Backlog<'a> {
    /// Posts this number of commands to a new topic.
    pub fn post(
        kafka: &'a Kafka,
        name: &str,
        partitions: i32,
        commands: u64,
        make: fn(u64) -> Command,
    ) -> Self {
        let names = Names::of(name);
        names.create_commands(&kafka.servers, partitions);
        say!("{name}: posting {commands} commands");
        fill(&kafka.servers, &names.commands, commands, make);
        Self { kafka, partitions, commands, topic: names.commands }
    }

    /// Output topics and a group that nobody used before.
    pub fn names(&self, name: &str) -> Names {
        let names = Names { commands: self.topic.clone(), ..Names::of(name) };
        names.create_outputs(&self.kafka.servers, self.partitions);
        names
    }
}

impl Drop for Backlog<'_> {
    /// Makes room on the disk.
    fn drop(&mut self) {
        if !thread::panicking() {
            topics::delete(&self.kafka.servers, &self.topic);
        }
    }
}

/// A producer for commands.
pub fn producer(servers: &str, linger_ms: u32) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger_ms.to_string());
    client
}

fn fill(servers: &str, topic: &str, commands: u64, make: fn(u64) -> Command) {
    let mut client = producer(servers, 20);
    client.set("batch.size", "500000").set("queue.buffering.max.kbytes", "65536");
    let producer: BaseProducer = client.create().expect("a producer");
    for number in 0..commands {
        let command = make(number);
        let mut record = BaseRecord::to(topic).key(&command.key).payload(&command.value);
        while let Err((error, again)) = producer.send(record) {
            assert!(
                matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                "posting to {topic}: {error}"
            );
            record = again;
            producer.poll(Duration::from_millis(5));
        }
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(600)).expect("all is delivered");
}
