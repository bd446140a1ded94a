//! Commands that are in the topic and cannot be read: after an open transaction, or on a node that is unavailable. The
//! processor does not report itself as ready, and the progress of the other partitions stays visible.

use std::{thread, time::Duration};

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::{NewTopic, TopicReplication},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    admin::{LISTEN, metric, unready},
    broker::{self, Cluster},
    poison::{await_ready, await_unready, post, valid},
    process::{PATIENCE, Setup},
    progress::Progress,
    topics, verifying, wait_until,
};

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn an_open_transaction_of_a_producer_makes_it_unready_and_lags() {
    let setup = Setup::new("open", &broker::shared(), 2);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &setup.servers)
        .set("transactional.id", format!("{}-open", setup.names.group))
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("an answer");
    post(&setup, "none", 0, [valid(0)]);
    let stall = ["--set", "processor.stall_timeout=3s"];
    let mut instance = setup.start("only", &[&LISTEN[..], &stall].concat());
    let progress = Progress::of(&setup);
    progress.await_published(1, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);

    producer.begin_transaction().expect("none is open");
    let open = valid(1);
    let record = BaseRecord::<(), _>::to(&setup.names.commands).partition(0).payload(&open);
    producer.send(record).map_err(|(error, _)| error).expect("room");
    producer.flush(PATIENCE).expect("posted");
    // Committed, and held back all the same.
    post(&setup, "none", 0, [valid(2), valid(3)]);
    await_unready(&mut instance, &["partition 0 is stalled at offset 1 ", "ends at 4", "open transaction"]);
    // Metrics are set once a second, and readiness is asked for meanwhile.
    wait_until("all of it to lag", || metric(&instance, "lag_records") == (3, 2));
    wait_until("a warning", || instance.stderr().contains("producer's open transaction"));

    producer.commit_transaction(PATIENCE).expect("committed");
    // The mark of the commit has an offset, too.
    progress.await_published(5, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    wait_until("no lag", || metric(&instance, "lag_records") == (0, 2));
    let said = instance.stop();
    assert!(said.contains("the partition moves again"), "{said}");
    verifying::verify(&setup, &["only"], &[]).assert_clean();
}

/// Three nodes, of which each has one partition of the commands; all else has replicas on each.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_a_partition_whose_only_node_is_down_and_processes_the_others() {
    let mut cluster = Cluster::start(3);
    let setup = Setup::without_topics("leaderless", &cluster.servers(), 3);
    let on_one_each = TopicReplication::Variable(&[&[1], &[2], &[3]]);
    let commands = NewTopic::new(&setup.names.commands, 3, on_one_each);
    let made = block_on(topics::admin(&setup.servers).create_topics([&commands], &topics::options()));
    made.expect("an answer").into_iter().for_each(|result| drop(result.expect("made")));
    topics::await_known(&setup.servers, &setup.names.commands, 3);
    setup.names.create_outputs(&setup.servers, 3);
    let stall = ["--set", "processor.stall_timeout=5s"];
    let mut instance = setup.start("only", &[&LISTEN[..], &stall].concat());
    let progress = Progress::of(&setup);
    let post_to = |node: usize| post(&setup, "none", i32::try_from(node).expect("small"), [valid(node)]);
    (0..3).for_each(post_to);
    progress.await_published(3, PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    let coordinator = cluster.leader_now("__consumer_offsets", 0);
    let (away, third) = ((coordinator + 1) % 3, (coordinator + 2) % 3);

    // The group does not notice.
    cluster.kill(away);
    let unknown = format!("the end of partition {away} has been unknown for ");
    await_unready(&mut instance, &[&unknown, &format!("partition {away} has no leader")]);
    post_to(third);
    wait_until("another partition to go on", || metric(&instance, "published_offset").0 >= 4);
    for _ in 0..20 {
        instance.assert_running();
        assert!(unready(&instance).is_some(), "it is ready, and one partition has no leader");
        thread::sleep(Duration::from_millis(250));
    }
    // Not with `topics::delete`, which waits until each node has forgotten it.
    let admin = topics::admin(&setup.servers);
    let deleted = block_on(admin.delete_topics(&[&setup.names.rejections], &topics::options()));
    deleted.expect("an answer").into_iter().for_each(|result| drop(result.expect("deleted")));
    let gone = format!("the topic '{}' does not exist", setup.names.rejections);
    await_unready(&mut instance, &[&gone]);
    cluster.restart(away);
    topics::create(&setup.servers, &setup.names.rejections, 3, &[]);
    post_to(away);
    progress.await_published(5, 2 * PATIENCE, || instance.assert_running());
    await_ready(&mut instance);

    // Without its coordinator the group begins again. It starts the partitions that have a leader.
    let coordinator = cluster.leader_now("__consumer_offsets", 0);
    cluster.kill(coordinator);
    let named = format!("partition {coordinator}");
    await_unready(&mut instance, &[&named]);
    let others = [0, 1, 2].into_iter().filter(|&node| node != coordinator);
    others.for_each(post_to);
    wait_until("the other partitions to go on", || metric(&instance, "published_offset").0 >= 7);
    await_unready(&mut instance, &[&named]);
    cluster.restart(coordinator);
    post_to(coordinator);
    progress.await_published(8, 2 * PATIENCE, || instance.assert_running());
    await_ready(&mut instance);
    instance.stop();
    verifying::verify(&setup, &["only"], &[]).assert_clean();
}
