//! Faults that can stop a partition for ever: batches that no client can uncompress, output that its topic refuses, missing
//! topics. The processor continues, or names the record and says what to do; until then it is never ready.

use std::{sync::Mutex, thread, time::Duration};

use futures::executor::block_on;
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    admin::{self, LISTEN, metric, unready},
    broker::{self, Cluster},
    process::{Instance, PATIENCE, Setup},
    progress::Progress,
    reading, topics,
    verifying::verify,
    wait_until,
};

/// More than a buffer of librdkafka's default of 100 MB holds.
const UNPACKED: usize = 150_000_000;
/// Of which one batch unpacks to more than a third of that default.
const COMMANDS: usize = 330_000;

pub(super) fn valid(number: usize) -> String {
    format!(
        r#"{{"objectType":"case","objectId":"7","content":"{number:06}","targets":[{{"@type":"Everyone"}}],"padding":"{}"}}"#,
        "x".repeat(30)
    )
}

fn notifying(number: usize) -> String {
    format!(
        r#"{{"objectType":"case","objectId":"7","content":"{number}","targets":[{{"targetId":"anna","notify":true}}]}}"#
    )
}

/// Why a record was not taken.
#[derive(Debug, Default)]
struct Refused(Mutex<Option<KafkaError>>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.0.lock().expect("never poisoned") = Some(error.clone());
        }
    }
}

/// What is posted together is one batch.
fn posting(servers: &str, compression: &str) -> BaseProducer<Refused> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        // Or a batch may be in the topic twice.
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "1000000000")
        .set("batch.size", "1000000000")
        .set("batch.num.messages", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("linger.ms", "200000")
        .set("compression.type", compression)
        .create_with_context(Refused::default())
        .expect("a producer")
}

pub(super) fn post(
    setup: &Setup,
    compression: &str,
    partition: i32,
    values: impl IntoIterator<Item = String>,
) {
    let producer = posting(&setup.servers, compression);
    for value in values {
        let record = BaseRecord::<(), _>::to(&setup.names.commands).partition(partition).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("reported");
    assert_eq!(producer.context().0.lock().expect("never poisoned").take(), None);
}

#[track_caller]
pub(super) fn await_unready(instance: &mut Instance, parts: &[&str]) {
    let mut last = None;
    wait_until(&format!("it to be unready with {parts:?}"), || {
        instance.assert_running();
        // It begins to listen after its first line.
        if admin::address(instance).is_some() {
            last = unready(instance);
        }
        last.as_ref().is_some_and(|said| parts.iter().all(|part| said.contains(part)))
    });
}

#[track_caller]
pub(super) fn await_ready(instance: &mut Instance) {
    wait_until("it to be ready", || {
        instance.assert_running();
        admin::address(instance).is_some() && unready(instance).is_none()
    });
}

/// Sets these and no other settings of a topic.
fn alter(setup: &Setup, topic: &str, settings: &[(&str, &str)]) {
    let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        change = change.set(name, value);
    }
    let altered = block_on(topics::admin(&setup.servers).alter_configs([&change], &topics::options()));
    altered.expect("an answer").into_iter().for_each(|result| drop(result.expect("altered")));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_batch_that_unpacks_to_much_stops_nothing() {
    let setup = Setup::new("unpacked", &broker::shared(), 1);
    post(&setup, "zstd", 0, (0..COMMANDS).map(|_| valid(0)));
    post(&setup, "zstd", 0, [" ".repeat(UNPACKED)]);
    post(&setup, "none", 0, [valid(1)]);
    let mut instance = setup.start("only", &[]);
    let progress = Progress::of(&setup);
    progress.await_published(COMMANDS as u64 + 2, 2 * PATIENCE, || instance.assert_running());
    instance.stop();
    assert_eq!(reading::read_all(&setup.servers, &setup.names.rejections, 1).len(), 1);
    verify(&setup, &["only"], &[]).assert_clean();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_batch_that_cannot_be_unpacked_makes_it_unready_with_partition_and_offset() {
    let setup = Setup::new("packed", &broker::shared(), 2);
    post(&setup, "none", 0, [valid(1)]);
    post(&setup, "zstd", 0, [" ".repeat(UNPACKED)]);
    post(&setup, "none", 0, [valid(2)]);
    let lowered = ["-X", "receive.message.max.bytes=100000000", "--set", "processor.stall_timeout=3s"];
    let mut instance = setup.start("only", &[&LISTEN[..], &lowered].concat());
    await_unready(
        &mut instance,
        &["partition 0 is stalled at offset 1 ", "the topic ends at 3", "last error: "],
    );
    // The other partition continues, and the processor is not ready all the same.
    post(&setup, "none", 1, [valid(3)]);
    wait_until("the other partition to be published", || metric(&instance, "published_offset") == (2, 2));
    assert!(unready(&instance).is_some());
    wait_until("the lag of the one", || metric(&instance, "lag_records") == (2, 2));
    let said = instance.stop();
    assert!(said.contains("the partition is stalled"), "{said}");

    let mut instance = setup.start("only", &LISTEN);
    Progress::of(&setup).await_published(4, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    instance.stop();
    verify(&setup, &["only"], &[]).assert_clean();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn output_that_its_topic_refuses_stops_it_with_the_record_and_the_way_out() {
    let setup = Setup::new("output-refused", &broker::shared(), 1);
    let larger = (1_048_588 + 128 * 1024).to_string();
    let larger = ("max.message.bytes", larger.as_str());
    let mut instance = setup.start("only", &LISTEN);
    await_ready(&mut instance);
    alter(&setup, &setup.names.rejections, &[larger, ("cleanup.policy", "compact")]);
    // Without a key. In one batch with others, which are not at fault.
    let broken = "{".to_owned();
    post(&setup, "none", 0, [valid(0), valid(1), broken, valid(3)]);
    let said = instance.refusal();
    let wanted = format!(
        "partition 0, offset 2: the broker refuses the output of this command: a record for '{}'",
        setup.names.rejections
    );
    assert!(said.contains(&wanted) && said.contains("cleanup.policy=delete"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    alter(&setup, &setup.names.rejections, &[larger, ("cleanup.policy", "delete")]);
    let mut instance = setup.start("only", &[]);
    Progress::of(&setup).await_published(4, PATIENCE, || instance.assert_running());
    instance.stop();
    verify(&setup, &["only"], &[]).assert_clean();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn lag_and_readiness_are_true_while_nothing_can_be_published() {
    let mut cluster = Cluster::start(3);
    let setup = Setup::without_topics("lag", &cluster.servers(), 1);
    setup.names.create_commands(&setup.servers, 1);
    let larger = (1_048_588 + 128 * 1024).to_string();
    topics::create(&setup.servers, &setup.names.rejections, 1, &[("max.message.bytes", &larger)]);
    // All else has replicas on the two other nodes.
    let on_the_second = TopicReplication::Variable(&[&[2]]);
    let notifications = NewTopic::new(&setup.names.notifications, 1, on_the_second);
    let made = block_on(topics::admin(&setup.servers).create_topics([&notifications], &topics::options()));
    made.expect("an answer").into_iter().for_each(|result| drop(result.expect("made")));
    topics::await_known(&setup.servers, &setup.names.notifications, 1);
    let mut instance = setup.start("only", &LISTEN);
    let progress = Progress::of(&setup);
    post(&setup, "none", 0, (0..30).map(notifying));
    progress.await_published(30, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    // The lag alone says nothing yet: it is computed from the last reported end, which may be that of the empty topic.
    let before = (30, 1);
    wait_until("all to be published", || metric(&instance, "published_offset") == before);
    wait_until("no lag", || metric(&instance, "lag_records") == (0, 1));

    cluster.kill(1);
    post(&setup, "none", 0, (30..60).map(notifying));
    wait_until("all of it to lag", || metric(&instance, "lag_records") >= (30, 1));
    await_unready(&mut instance, &["producer"]);
    for _ in 0..60 {
        instance.assert_running();
        assert!(unready(&instance).is_some(), "it is ready, and nothing can be published");
        assert_eq!(metric(&instance, "published_offset"), before);
        let lag = metric(&instance, "lag_records");
        assert!(lag >= (30, 1) && lag.1 == 1, "{lag:?}");
        assert_eq!(metric(&instance, "end_offset_age_seconds").1, 1);
        thread::sleep(Duration::from_millis(250));
    }

    cluster.restart(1);
    progress.await_published(60, 2 * PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    wait_until("no lag", || metric(&instance, "lag_records") == (0, 1));
    instance.stop();
    assert_eq!(reading::read_all(&setup.servers, &setup.names.notifications, 60).len(), 60);
    verify(&setup, &["only"], &[]).assert_clean();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_notifications_topic_that_is_gone_makes_it_unready_until_it_is_back() {
    let setup = Setup::new("gone", &broker::shared(), 1);
    let mut instance = setup.start("only", &LISTEN);
    post(&setup, "none", 0, [valid(0)]);
    let progress = Progress::of(&setup);
    progress.await_published(1, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    topics::delete(&setup.servers, &setup.names.notifications);
    let wanted = format!("the topic '{}' does not exist", setup.names.notifications);
    await_unready(&mut instance, &[&wanted]);
    topics::create(&setup.servers, &setup.names.notifications, 1, &[]);
    await_ready(&mut instance);
    post(&setup, "none", 0, [valid(1)]);
    progress.await_published(2, PATIENCE, || instance.assert_running());
    instance.stop();
    verify(&setup, &["only"], &[]).assert_clean();
}
