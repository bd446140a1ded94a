//! Clients that received metadata of a cluster without brokers, and no longer look for any: the processor and `tail` replace
//! them. Clients that have not lost the brokers are kept. `crates/kafka/src/liveness.rs` explains the cause.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::relay::Relay;
use super::support::{PATIENCE, Running, deaf_address, folder, poster::Poster, program, topics, wait_until};
use activity_stream::admin;
use contract::{Header, REPLY_TOPIC};
use event_log::LogReader;
use kafka::{Settings, Topics, client, context::Context, embedded::EmbeddedBroker};
use nix::sys::signal::Signal;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code},
};

const PARTITIONS: i32 = 3;
const REPLIES: &str = "answers";

/// No session ends because the machine is busy: that would be another way to leave the group.
const CALM: [&str; 2] = ["-X", "session.timeout.ms=120000"];

/// The program behind a relay, and whoever posts and reads without one.
struct World {
    broker: EmbeddedBroker,
    relay: Relay,
    poster: Poster,
    reader: BaseConsumer<Context>,
    folder: tempfile::TempDir,
    running: Running,
}

impl World {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// `run` with these arguments too.
    fn start_with(more: &[&str]) -> Self {
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
        run.args(more).args(["--set", &format!("topics.replies={REPLIES}"), "--log-file"]);
        let running = Running::start({
            run.arg(folder.path().join("activity.db"));
            run
        });
        let reader = client::reader(&settings).create_with_context(Context::default()).unwrap();
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

    /// Posts commands that request replies until this number of further ones is decided and replied to.
    #[track_caller]
    fn await_more(&self, more: u32) {
        let (decided, replied) = (self.decided() + u64::from(more), self.replied() + i64::from(more));
        wait_until("decisions and replies", || {
            let value = br#"{"objectType":"case","objectId":"7"}"#;
            self.poster.post(value, &[Header::new(REPLY_TOPIC, REPLIES)]).unwrap();
            self.poster.deliveries(Duration::from_millis(100));
            self.decided() >= decided && self.replied() >= replied
        });
    }

    /// The consumer asks again who leads the partitions.
    fn ask_for_leaders(&self) {
        let nine = [Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 9];
        self.broker.cluster().request_errors(Api::Fetch, &nine);
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
    world.ask_for_leaders();
    // A client that finds its way back is misled again.
    wait_until("the loss", || world.running.stderr().contains("which lost them"));
    world.relay.mislead_nobody();
    world.await_more(20);
    world.stop();
}

/// The answer to the question whether anybody is there then waits behind that to a fetch, longer than it does elsewhere.
#[test]
fn a_consumer_whose_fetches_wait_long_is_left_alone() {
    let filter = "telemetry.filter=info,activity_stream_processor=debug";
    let calm = ["-X", "fetch.wait.max.ms=8000", "--set", filter];
    let world = World::start_with(&[&CALM[..], &calm].concat());
    world.await_more(1);
    wait_until("the brokers to be asked twice", || {
        let said = world.running.stderr();
        assert!(!said.contains("left the consumer group"), "{said}");
        said.matches("probed the brokers probe=Reached").count() >= 2
    });
    world.await_more(1);
    let said = world.stop();
    assert!(!said.contains("left the consumer group"), "{said}");
}

#[test]
fn reports_and_waits_for_brokers_that_advertise_unreachable_addresses() {
    let admin: SocketAddr = deaf_address().parse().expect("an address");
    let world = World::start_with(&[&CALM[..], &["--set", &format!("admin.listen={admin}")]].concat());
    let readiness = || admin::probe_ready(admin, PATIENCE).map_err(|reason| reason.to_string());
    world.await_more(1);
    wait_until("readiness", || readiness().is_ok());
    let deaf = deaf_address();
    world.relay.name(Some(deaf.parse().expect("an address")));
    world.ask_for_leaders();
    let wanted = format!("not at the addresses that they name ({deaf})");
    let is_reported = || readiness().is_err_and(|reason| reason.contains(&wanted));
    wait_until("the reason", is_reported);
    let said = world.running.stderr();
    assert!(!said.contains("left the consumer group"), "another client would fare no better: {said}");
    world.relay.name(None);
    wait_until("readiness", || readiness().is_ok());
    world.await_more(1);
    world.stop();
}

#[test]
fn a_client_of_tail_that_lost_all_brokers_is_replaced() {
    let broker = EmbeddedBroker::start(&topics(PARTITIONS)).expect("it starts");
    let relay = Relay::start(&broker.bootstrap_servers(), PARTITIONS);
    let settings = Settings {
        bootstrap_servers: broker.bootstrap_servers(),
        group: "g".into(),
        properties: BTreeMap::new(),
        // What is posted is what is followed.
        topics: Topics { commands: "activity.notifications".into(), ..topics(PARTITIONS) },
    };
    let poster = Poster::new(&settings).unwrap();
    let post = |value: &str| {
        poster.post(value.as_bytes(), &[]).unwrap();
        poster.deliveries(PATIENCE);
    };
    let mut tail =
        program(&["tail", "notifications", "--json", "--limit", "3", "-b", &relay.bootstrap_servers()]);
    tail.args(["--from", "beginning"]);
    post("1");
    let mut tail = Running::start(tail);
    tail.lines(1);
    relay.mislead("activity-stream-reader");
    broker.cluster().request_errors(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 9]);
    wait_until("the loss", || tail.stderr().contains("lost the brokers"));
    relay.mislead_nobody();
    post("2");
    post("3");
    let finished = tail.wait(PATIENCE);
    let values: Vec<&str> =
        finished.stdout.lines().filter_map(|line| Some(line.rsplit_once(':')?.1)).collect();
    assert_eq!(values[0], "1}", "{}", finished.transcript());
    let mut later = [values[1], values[2]];
    later.sort_unstable();
    assert_eq!(later, ["2}", "3}"], "{}", finished.transcript());
}

#[test]
fn replies_continue_after_the_client_that_looks_up_their_topics_lost_all_brokers() {
    let world = World::start_with(&CALM);
    world.await_more(1);
    world.relay.mislead("activity-stream-admin");
    wait_until("the client to ask, as it does every 5 s", || world.relay.has_misled());
    world.relay.mislead_nobody();
    world.await_more(100);
    let said = world.stop();
    assert!(!said.contains("left the consumer group"), "the consumer had nothing to do with it: {said}");
}
