//! Clients that were told of a cluster without brokers, and look for none any more: the processor makes others. How
//! that comes about is told in `src/kafka/reach.rs`.

#[path = "support/relay.rs"]
mod relay;
mod support;

use std::{collections::BTreeMap, time::Duration};

use activity_stream::{
    activity::{Header, REPLY_TOPIC},
    cli::poster::Poster,
    event_log::LogReader,
    kafka::{Settings, Topics, client, embedded::EmbeddedBroker},
};
use nix::sys::signal::Signal;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code},
};
use relay::Relay;
use support::{PATIENCE, Running, folder, program, topics, wait_until};

const PARTITIONS: i32 = 3;
const REPLIES: &str = "answers";

/// The program behind a relay, and whoever posts and reads without one.
struct World {
    broker: EmbeddedBroker,
    relay: Relay,
    poster: Poster,
    reader: BaseConsumer<client::Logging>,
    folder: tempfile::TempDir,
    running: Running,
}

impl World {
    fn start() -> Self {
        let names = Topics { replies: [REPLIES.to_owned()].into_iter().collect(), ..topics(PARTITIONS) };
        let broker = EmbeddedBroker::start(&names).expect("it starts");
        let settings = Settings {
            bootstrap_servers: broker.bootstrap_servers(),
            group: "activity-stream".into(),
            properties: BTreeMap::new(),
            topics: names,
        };
        let relay = Relay::start(&broker.bootstrap_servers(), PARTITIONS);
        let folder = folder();
        let mut run = program(&["run", "--guarantee", "at-least-once", "-b", &relay.bootstrap_servers()]);
        run.args(["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=200"]);
        run.args(["--set", &format!("topics.replies={REPLIES}"), "--log-file"]);
        let running = Running::start({
            run.arg(folder.path().join("activity.db"));
            run
        });
        let reader = client::reader(&settings).create_with_context(client::Logging).unwrap();
        Self { broker, relay, poster: Poster::new(&settings).unwrap(), reader, folder, running }
    }

    fn decided(&self) -> u64 {
        let log = LogReader::open(self.folder.path().join("activity.db"));
        log.map_or(0, |log| log.stats().unwrap().counts.events)
    }

    fn replied(&self) -> i64 {
        let end = |partition| self.reader.fetch_watermarks(REPLIES, partition, PATIENCE).unwrap().1;
        (0..PARTITIONS).map(end).sum()
    }

    /// Posts commands that ask for replies until so many more are decided and replied to.
    #[track_caller]
    fn await_more(&self, more: u32) {
        let (decided, replied) = (self.decided() + u64::from(more), self.replied() + i64::from(more));
        wait_until("decisions and replies", || {
            let value = br#"{"objectType":"case","objectId":"7"}"#;
            self.poster.post(0, value, &[Header::new(REPLY_TOPIC, REPLIES)]).unwrap();
            self.poster.deliveries(Duration::from_millis(100));
            self.decided() >= decided && self.replied() >= replied
        });
    }

    #[track_caller]
    fn stop(mut self) -> String {
        self.running.signal(Signal::SIGTERM);
        let finished = self.running.wait(PATIENCE);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
        finished.transcript()
    }
}

#[test]
fn a_consumer_that_lost_all_brokers_is_replaced() {
    let world = World::start();
    world.await_more(1);
    world.relay.mislead("activity-stream-consumer");
    // Then it asks who leads the partitions.
    world.broker.cluster().request_errors(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 9]);
    wait_until("the consumer to ask", || world.relay.has_misled());
    world.relay.mislead_nobody();
    world.await_more(20);
    world.stop();
}

#[test]
fn replies_go_on_where_the_client_that_looks_for_their_topics_lost_all_brokers() {
    let world = World::start();
    world.await_more(1);
    world.relay.mislead("activity-stream-admin");
    wait_until("the client to ask, as it does every 5 s", || world.relay.has_misled());
    world.relay.mislead_nobody();
    world.await_more(100);
    let said = world.stop();
    assert!(!said.contains("left the group"), "the consumer had nothing to do with it: {said}");
}
