//! The Rust client against a real Kafka: ids, verdicts, and a stream that loses nothing of what it did not acknowledge.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use activity_stream::client::{
    ActivityClient, Entry, NotificationStream, PostError, Received, Reply, Target,
};
use futures::{StreamExt as _, future::try_join_all};

use super::{
    broker,
    process::{PATIENCE, Setup},
    reading::{self, LONG_IDLE},
    topics,
};

const PARTITIONS: i32 = 3;

fn entry(number: u32) -> Entry {
    let entry = Entry::new("case", (number % 7).to_string()).content(format!("number {number}"));
    entry.target(Target::identity(format!("anna-{}", number % 5)).notify()).target(Target::members().notify())
}

fn stream(setup: &Setup) -> NotificationStream {
    let builder = NotificationStream::builder(&setup.servers, format!("{}-readers", setup.names.group));
    builder.topic(&setup.names.notifications).open().expect("a stream")
}

async fn next(stream: &mut NotificationStream) -> Received {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("waited in vain for a notification").expect("a stream does not end").expect("a notification")
}

/// Ids of all notifications, as Kafka's own consumer reads them.
fn published(setup: &Setup) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    reading::read(&setup.servers, &setup.names.notifications, LONG_IDLE, None, |read| {
        ids.insert(read.header("ce_id").expect("an id").to_owned());
    });
    ids
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
async fn what_is_posted_is_answered_and_told_without_loss() {
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
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    let mut done = BTreeSet::new();
    for round in 0..4 {
        let mut stream = stream(&setup);
        let mut taken = Vec::new();
        for _ in 0..400 {
            let received = next(&mut stream).await;
            *told.entry(received.id.to_string()).or_default() += 1;
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
        *told.entry(received.id.to_string()).or_default() += 1;
        done.insert(received.id.to_string());
        received.acknowledge();
    }
    last.close().await;
    assert_eq!(done, expected);
    assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), expected);
    instance.stop();
    assert_eq!(published(&setup), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
async fn a_client_makes_no_topic() {
    let setup = Setup::without_topics("client-none", &broker::shared(), 1);
    let builder = ActivityClient::builder(&setup.servers).commands_topic(&setup.names.commands);
    let builder = builder.property("delivery.timeout.ms", "5000");
    let client = builder.property("topic.metadata.propagation.max.ms", "1000").build().expect("a client");
    let posted =
        tokio::time::timeout(Duration::from_secs(60), client.post(&entry(0))).await.expect("an answer");
    let Err(PostError::NotPosted(reason)) = posted else { panic!("{posted:?}") };
    assert!(reason.contains(&setup.names.commands), "{reason}");
    let metadata = topics::admin(&setup.servers);
    let metadata = metadata.inner().fetch_metadata(None, Duration::from_secs(10)).expect("the topics");
    assert!(metadata.topics().iter().all(|topic| topic.name() != setup.names.commands));
}
