//! The Rust client against a real Kafka: ids, verdicts, and a stream that loses nothing of what it did not acknowledge.

use std::collections::{BTreeMap, BTreeSet};

use activity_stream_client::{ActivityClient, Entry, NotificationStream, PostError, Received, Reply, Target};
use futures::{StreamExt as _, future::try_join_all};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    broker,
    process::{PATIENCE, Setup},
    reading, topics,
};

const PARTITIONS: i32 = 3;

fn entry(number: u32) -> Entry {
    let entry = Entry::new("case", (number % 7).to_string()).content(format!("number {number}"));
    entry.target(Target::identity(format!("anna-{}", number % 5)).notify()).target(Target::members().notify())
}

fn readers(setup: &Setup) -> String {
    format!("{}-readers", setup.names.group)
}

fn stream(setup: &Setup) -> NotificationStream {
    let builder = NotificationStream::builder(&setup.servers, readers(setup));
    builder.topic(&setup.names.notifications).open().expect("a stream")
}

/// A stream that commits only on request, or when it loses a partition.
fn patient_stream(setup: &Setup) -> NotificationStream {
    let builder = NotificationStream::builder(&setup.servers, readers(setup));
    let builder = builder.topic(&setup.names.notifications).property("auto.commit.interval.ms", "3600000");
    // So that a rebalance is soon heard of.
    builder.property("heartbeat.interval.ms", "250").open().expect("a stream")
}

async fn next(stream: &mut NotificationStream) -> Received {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("waited in vain for a notification").expect("a stream does not end").expect("a notification")
}

/// The offset that the readers' group committed of a partition of the notifications.
fn committed(setup: &Setup, partition: i32) -> Option<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &setup.servers).set("group.id", readers(setup));
    let client: BaseConsumer = config.create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition(&setup.names.notifications, partition);
    let list = client.committed_offsets(list, PATIENCE).expect("offsets");
    match list.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Ids of all notifications, as Kafka's own consumer reads them.
fn published(setup: &Setup, wanted: usize) -> BTreeSet<String> {
    let all = reading::read_all(&setup.servers, &setup.names.notifications, wanted);
    all.iter().map(|read| read.header("ce_id").expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: see docs/testing.md"]
async fn every_posted_command_is_answered_and_notified() {
    let setup = Setup::new("client", &broker::shared(), PARTITIONS);
    let answers = format!("{}.answers", setup.names.group);
    topics::create(&setup.servers, &answers, 2, &[]);
    topics::await_known(&setup.servers, &answers, 2);
    let instance = setup.start("only", &["--set", &format!("topics.replies={answers}")]);
    let builder = ActivityClient::builder(&setup.servers).commands_topic(&setup.names.commands);
    let client = builder.reply_topic(&answers).build().expect("a client");

    // The verdicts, among them those that only the processor knows.
    let keyed = |content: &str| entry(0).content(content).idempotency_key("k");
    let Reply::Accepted { id } = client.post_and_wait(&keyed("a"), PATIENCE).await.expect("a reply") else {
        panic!("not accepted");
    };
    let again = client.post_and_wait(&keyed("a"), PATIENCE).await.expect("a reply");
    assert_eq!(again, Reply::Duplicate { id });
    let Reply::Rejected { problems } = client.post_and_wait(&keyed("b"), PATIENCE).await.expect("a reply")
    else {
        panic!("not rejected");
    };
    assert_eq!(problems.first_code(), "idempotency_key_reused");

    // Ids by delivery report, of several tasks.
    let tasks = (0..4_u32).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            let entries: Vec<_> = (0..250).map(|number| entry(task * 250 + number)).collect();
            try_join_all(entries.iter().map(|entry| client.post(entry))).await
        })
    });
    let mut expected = BTreeSet::from([format!("{id}/0"), format!("{id}/1")]);
    for posted in try_join_all(tasks).await.expect("no panic").into_iter().flat_map(|it| it.expect("posted"))
    {
        let id = posted.id().expect("an id");
        expected.extend([format!("{id}/0"), format!("{id}/1")]);
    }
    client.flush(PATIENCE).await.expect("all is answered");
    assert_eq!(expected.len(), 2002);

    // A stream that is dropped now and then, and acknowledges two of three, out of order.
    let mut notified: BTreeMap<String, u32> = BTreeMap::new();
    let mut done = BTreeSet::new();
    for round in 0..4 {
        let mut stream = stream(&setup);
        let mut taken = Vec::new();
        for _ in 0..400 {
            let received = next(&mut stream).await;
            *notified.entry(received.id.to_string()).or_default() += 1;
            taken.push(received);
        }
        for (index, received) in taken.into_iter().enumerate().rev() {
            if (index + round) % 3 != 0 {
                done.insert(received.id.to_string());
                received.acknowledge();
            }
        }
        stream.close().await;
    }
    let mut last = stream(&setup);
    while done.len() < expected.len() {
        let received = next(&mut last).await;
        *notified.entry(received.id.to_string()).or_default() += 1;
        done.insert(received.id.to_string());
        received.acknowledge();
    }
    last.close().await;
    assert_eq!(done, expected);
    assert_eq!(notified.into_keys().collect::<BTreeSet<_>>(), expected);
    instance.stop();
    assert_eq!(published(&setup, expected.len()), expected);
}

/// A second member joins and gets a partition of the first, which still acknowledges records of that partition.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: see docs/testing.md"]
async fn a_revoked_partition_continues_elsewhere_after_the_last_acknowledged_notification() {
    let setup = Setup::new("client-rebalance", &broker::shared(), 2);
    let instance = setup.start("only", &[]);
    let client = ActivityClient::builder(&setup.servers).commands_topic(&setup.names.commands);
    let client = client.build().expect("a client");
    let entries: Vec<_> = (0..40).map(entry).collect();
    try_join_all(entries.iter().map(|entry| client.post(entry))).await.expect("posted");

    let mut first = patient_stream(&setup);
    let mut held: [Vec<Received>; 2] = Default::default();
    while held.iter().map(Vec::len).sum::<usize>() < 80 {
        let received = next(&mut first).await;
        held[received.at.partition as usize].push(received);
    }
    instance.stop();
    // A third of each partition, and one more that nothing is committed for.
    let mut done = BTreeSet::new();
    let mut acknowledge = |received: Received| {
        done.insert(received.id);
        received.acknowledge();
    };
    for held in &mut held {
        assert!(held.len() > 8, "the audiences are badly spread: {}", held.len());
        let third = held.len() / 3;
        acknowledge(held.remove(third + 1));
        held.drain(..third).for_each(&mut acknowledge);
    }
    let began = [0, 1].map(|partition: usize| held[partition][0].at.offset);
    assert_eq!([0, 1].map(|partition| committed(&setup, partition)), [None, None]);

    let mut second = patient_stream(&setup);
    let given = tokio::select! {
        given = next(&mut second) => given,
        more = next(&mut first) => panic!("came again: {more:?}"),
    };
    let lost = given.at.partition;
    let kept = 1 - lost;
    assert_eq!(given.at.offset, began[lost as usize]);
    let mut taken = vec![given];
    while taken.last().expect("one").id != held[lost as usize].last().expect("some").id {
        taken.push(next(&mut second).await);
    }
    // The one that was acknowledged out of order comes again, to a member that knows nothing of it.
    assert_eq!(taken.len(), held[lost as usize].len() + 1);

    // Of what it lost, the first says that it is done, also before and after the second says so of some.
    let mut late = held[lost as usize].drain(..);
    late.by_ref().take(2).for_each(Received::acknowledge);
    first.commit().await.expect("committed");
    assert_eq!(committed(&setup, lost), Some(began[lost as usize]));
    taken.drain(..4).for_each(&mut acknowledge);
    second.commit().await.expect("committed");
    let goes_on = taken[0].at.offset;
    assert_eq!(committed(&setup, lost), Some(goes_on));
    late.for_each(Received::acknowledge);
    first.commit().await.expect("committed");
    assert_eq!(committed(&setup, lost), Some(goes_on));
    // What it kept is its own as before.
    assert_eq!(committed(&setup, kept), Some(began[kept as usize]));
    held[kept as usize].drain(..3).for_each(&mut acknowledge);
    first.commit().await.expect("committed");
    let kept_from = held[kept as usize][0].at.offset;
    assert_eq!(committed(&setup, kept), Some(kept_from));

    first.close().await;
    second.close().await;
    let mut third = stream(&setup);
    let expected = 80 - done.len();
    let mut seen = BTreeMap::<i32, i64>::new();
    let mut notified = BTreeSet::new();
    while notified.len() < expected {
        let received = next(&mut third).await;
        seen.entry(received.at.partition).or_insert(received.at.offset);
        if !done.contains(&received.id) {
            notified.insert(received.id);
        }
        received.acknowledge();
    }
    assert_eq!(seen, BTreeMap::from([(lost, goes_on), (kept, kept_from)]));
    let wanted = notified.len() + done.len();
    assert_eq!(wanted, published(&setup, wanted).len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: see docs/testing.md"]
async fn a_client_makes_no_topic() {
    let setup = Setup::without_topics("client-none", &broker::shared(), 1);
    let builder = ActivityClient::builder(&setup.servers).commands_topic(&setup.names.commands);
    // Enough for the brokers to say that they know no such topic.
    let builder = builder.property("delivery.timeout.ms", "60000");
    let client = builder.property("topic.metadata.propagation.max.ms", "1000").build().expect("a client");
    let posted = tokio::time::timeout(PATIENCE, client.post(&entry(0))).await.expect("an answer");
    let Err(PostError::NotPosted(reason)) = posted else { panic!("{posted:?}") };
    assert!(reason.contains(&setup.names.commands), "{reason}");
    let metadata = topics::admin(&setup.servers);
    let metadata = metadata.inner().fetch_metadata(None, PATIENCE).expect("the topics");
    assert!(metadata.topics().iter().all(|topic| topic.name() != setup.names.commands));
}
