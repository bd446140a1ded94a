//! Partitions that are added to topics while everything runs.

use std::{fs::File, process::Stdio, time::Duration};

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::NewPartitions,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    broker,
    guard::Guarded,
    process::{PATIENCE, Setup},
    progress::Progress,
    topics,
    verifying::verify,
    wait_until, wait_within,
};

const COMMANDS: usize = 20;

/// It takes 30 s at most. This leaves time for a busy machine, and tells it from a client that finds the partitions by
/// itself: librdkafka looks every five minutes, and both clients have just begun.
const SOON: Duration = Duration::from_secs(90);

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn partitions_added_to_topics_are_read_within_seconds() {
    let mut setup = Setup::new("added", &broker::shared(), 1);
    let mut instance = setup.start("only", &[]);
    let followed = setup.folder().join("tail.out");
    let (out, said) = (File::create(&followed), File::create(setup.folder().join("tail.err")));
    let mut tail = setup.program(&["tail", "notifications", "--json"]);
    tail.stdin(Stdio::null()).stdout(out.expect("a file")).stderr(said.expect("a file"));
    let mut tail = Guarded::start(&mut tail, setup.folder()).expect("it starts");
    // Both have begun with one partition.
    post(&setup, 0);
    Progress::of(&setup).await_published(COMMANDS as u64, PATIENCE, || instance.assert_running());
    let lines = || std::fs::read_to_string(&followed).expect("the output").lines().count();
    wait_until("the notifications of the first partition", || {
        if lines() == 0 {
            // The tail may have begun after them.
            post(&setup, 0);
        }
        lines() > 0
    });
    let admin = topics::admin(&setup.servers);
    for topic in [&setup.names.commands, &setup.names.notifications] {
        let results = block_on(admin.create_partitions(&[NewPartitions::new(topic, 2)], &topics::options()));
        results.expect("an answer")[0].as_ref().expect("a partition more");
        topics::await_known(&setup.servers, topic, 2);
    }
    setup.partitions = 2;
    let before = lines();
    post(&setup, 1);
    wait_within(SOON, "the commands of the added partition to be published", || {
        instance.assert_running();
        Progress::of(&setup).committed_now().get(&1) >= Some(&(COMMANDS as i64))
    });
    // Their notifications go to either partition.
    wait_within(SOON, "their notifications", || lines() >= before + COMMANDS);
    tail.kill();
    instance.stop();
    verify(&setup, &["only"], &[]).assert_clean();
}

/// Commands to this partition, each of which notifies somebody else.
fn post(setup: &Setup, partition: i32) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &setup.servers).create().expect("a producer");
    for person in 0..COMMANDS {
        let command = format!(
            r#"{{"objectType":"case","objectId":"7","targets":[{{"targetId":"person-{person}","notify":true}}]}}"#
        );
        let record = BaseRecord::<str, str>::to(&setup.names.commands).partition(partition).payload(&command);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("posted");
}
