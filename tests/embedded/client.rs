//! The Rust client beside an embedded broker, and a processor where one is needed.

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::support::{PATIENCE, folder, wait_until};
use super::world::{
    PARTITIONS, broker, client, commands, next, notified, number, processor, publish, stream,
};
use activity_stream_client::{
    ActivityClient, Entry, NotificationStream, PostError, Posted, Reply, SetupError, StreamError, WaitError,
};
use contract::{Decision, REPLY_TOPIC};
use event_log::LogReader;
use futures::future::try_join_all;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

/// Ids of the events in the log.
fn logged(log: &Path) -> BTreeSet<String> {
    let Ok(reader) = LogReader::open(log) else { return BTreeSet::new() };
    let recorded = (0..PARTITIONS).flat_map(|partition| reader.recorded(partition, 0..i64::MAX).unwrap());
    let ids = recorded.filter_map(|recorded| match recorded.decision {
        Decision::Accepted(event) => Some(event.id().to_string()),
        _ => None,
    });
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_what_several_tasks_post_are_those_in_the_log_and_of_the_notifications() {
    let (broker, folder) = (broker(), folder());
    let log = folder.path().join("activity.db");
    let _running = processor(&broker, &log);
    let client = client(&broker);
    let tasks = (0..4_u32).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            let entries: Vec<_> = (0..50).map(|number| notified(task * 50 + number)).collect();
            try_join_all(entries.iter().map(|entry| client.post(entry))).await
        })
    });
    let mut posted = BTreeSet::new();
    for of_task in try_join_all(tasks).await.unwrap() {
        posted.extend(of_task.unwrap().iter().map(|posted| posted.id().expect("an id").to_string()));
    }
    client.flush(PATIENCE).await.unwrap();
    assert_eq!(posted.len(), 200);
    wait_until("all events", || logged(&log).len() == 200);
    assert_eq!(logged(&log), posted);

    let mut stream = stream(&broker).open().unwrap();
    let mut notified = BTreeSet::new();
    while notified.len() < 200 {
        let received = next(&mut stream).await.unwrap();
        assert_eq!(received.header("ce_id"), Some(received.id.to_string().as_str()));
        assert!(notified.insert(received.activity_id.to_string()), "{} came twice", received.id);
        received.acknowledge();
    }
    assert_eq!(notified, posted);
}

#[tokio::test]
async fn a_bad_entry_is_not_sent_and_its_problems_are_those_of_a_rejection() {
    let broker = broker();
    let client = client(&broker);
    let bad = Entry::new("", "7").property("tragets", "anna");
    let Err(PostError::Invalid(problems)) = client.post(&bad).await else { panic!("it was posted") };
    let codes: Vec<_> = problems.0.iter().map(|it| (it.pointer.as_str(), it.code.as_str())).collect();
    assert_eq!(codes, [("/objectType", "empty"), ("/tragets", "misspelt_targets")]);
    let waited = client.post_and_wait(&bad, PATIENCE).await;
    assert_eq!(waited, Err(WaitError::Post(PostError::Invalid(problems))));
    assert_eq!(commands(&broker), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wait_gets_the_verdict_on_its_own_entry() {
    let (broker, folder) = (broker(), folder());
    let _running = processor(&broker, &folder.path().join("activity.db"));
    let client = client(&broker);
    let keyed = |content: &str| Entry::new("case", "7").content(content).idempotency_key("k");
    let first = client.post_and_wait(&keyed("a"), PATIENCE).await.unwrap();
    let Reply::Accepted { id } = first else { panic!("{first:?}") };
    let (again, other) = (keyed("a"), keyed("b"));
    let fresh: Vec<_> = (0..20).map(|number| Entry::new("case", number.to_string())).collect();
    let (again, other, fresh) = tokio::join!(
        client.post_and_wait(&again, PATIENCE),
        client.post_and_wait(&other, PATIENCE),
        try_join_all(fresh.iter().map(|entry| client.post_and_wait(entry, PATIENCE))),
    );
    assert_eq!(again.unwrap(), Reply::Duplicate { id });
    let Reply::Rejected { problems } = other.unwrap() else { panic!("it was accepted") };
    assert_eq!(problems.first_code(), "idempotency_key_reused");
    let ids: BTreeSet<_> = fresh.unwrap().into_iter().map(|reply| format!("{reply:?}")).collect();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|reply| reply.starts_with("Accepted")), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_without_an_answer_says_what_was_sent() {
    let broker = broker();
    let entry = Entry::new("case", "7");
    let waiting = client(&broker);
    // Nobody decides. Too short a time is not enough to have it sent and confirmed.
    let (mut after, mut sent) = (Duration::from_secs(1), 0);
    let id = loop {
        assert!(after < PATIENCE, "it was never confirmed");
        match waiting.post_and_wait(&entry, after).await {
            Err(WaitError::TimedOut { posted: Some(Posted::As(id)), .. }) => break id,
            Err(WaitError::TimedOut { posted: None, .. }) => sent += 1,
            Err(WaitError::NotReady { .. }) => {}
            other => panic!("{other:?}"),
        }
        after *= 2;
    };
    assert_eq!((id.offset(), commands(&broker)), (sent, sent + 1));

    let without = ActivityClient::builder(broker.bootstrap_servers()).build().unwrap();
    assert_eq!(without.post_and_wait(&entry, PATIENCE).await, Err(WaitError::NoReplyTopic));
    let beyond = ActivityClient::builder(broker.bootstrap_servers()).reply_partition("answers", PARTITIONS);
    let beyond = beyond.build().unwrap().post_and_wait(&entry, PATIENCE).await;
    let Err(WaitError::Replies(reason)) = beyond else { panic!("{beyond:?}") };
    assert!(reason.contains("3 partitions, and none with number 3"), "{reason}");
    let nowhere = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("nowhere");
    let nowhere = nowhere.build().unwrap().post_and_wait(&entry, PATIENCE).await;
    let Err(WaitError::Replies(reason)) = nowhere else { panic!("{nowhere:?}") };
    assert!(
        reason.ends_with("does not exist. Create it, and name it in the processor's topics.replies"),
        "{reason}"
    );
    assert_eq!(commands(&broker), sent + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_may_be_without_an_end() {
    let (broker, folder) = (broker(), folder());
    let _running = processor(&broker, &folder.path().join("activity.db"));
    let client = client(&broker);
    let entry = Entry::new("case", "7");
    let waited = tokio::time::timeout(PATIENCE, client.post_and_wait(&entry, Duration::MAX)).await;
    let reply = waited.expect("waited in vain for a reply");
    assert!(matches!(reply, Ok(Reply::Accepted { .. })), "{reply:?}");
    let flushed = tokio::time::timeout(PATIENCE, client.flush(Duration::MAX)).await;
    assert_eq!(flushed.expect("waited in vain for nothing"), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_has_its_reply_sent_elsewhere_can_be_posted_and_not_waited_for() {
    let broker = broker();
    let client = client(&broker);
    let entry = Entry::new("case", "7").header(REPLY_TOPIC, "somebody.else");
    let waited = client.post_and_wait(&entry, PATIENCE).await;
    let Err(error @ WaitError::OwnReply { header: REPLY_TOPIC }) = waited else { panic!("{waited:?}") };
    assert!(error.to_string().contains("post the entry with `post`"), "{error}");
    assert_eq!(commands(&broker), 0);
    client.post(&entry).await.unwrap();
    assert_eq!(commands(&broker), 1);
    // What no processor could follow is a problem all the same.
    let bad = Entry::new("case", "7").header(REPLY_TOPIC, "");
    let Err(PostError::Invalid(problems)) = client.post(&bad).await else { panic!("it was posted") };
    assert_eq!(problems.first_code(), "bad_reply_header");
}

#[tokio::test]
async fn properties_that_keep_the_promises_are_refused() {
    let refused = ActivityClient::builder("localhost:1").property("acks", "1").build().unwrap_err();
    assert!(matches!(&refused, SetupError::Property { name, .. } if name == "acks"), "{refused}");
    let refused =
        NotificationStream::builder("localhost:1", "g").property("group.id", "h").open().unwrap_err();
    assert!(matches!(&refused, SetupError::Property { name, .. } if name == "group.id"), "{refused}");
    let unknown = ActivityClient::builder("localhost:1").property("no.such", "1").build().unwrap_err();
    assert!(unknown.to_string().contains("no.such"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_at_the_first_unacknowledged_notification() {
    let broker = broker();
    publish(&broker, 0..10, &[]);
    let mut first = stream(&broker).open().unwrap();
    let mut received = Vec::new();
    for expected in 0..10 {
        received.push(next(&mut first).await.unwrap());
        assert_eq!(number(&received[expected as usize]), expected);
    }
    // All but number 4, backwards.
    let mut open = None;
    for received in received.into_iter().rev() {
        if number(&received) == 4 { open = Some(received) } else { received.acknowledge() }
    }
    first.commit().await.unwrap();
    first.close().await;
    // It is too late for that one now.
    open.expect("number 4").acknowledge();

    publish(&broker, 10..12, &[]);
    let mut second = stream(&broker).open().unwrap();
    for expected in 4..12 {
        let received = next(&mut second).await.unwrap();
        assert_eq!(number(&received), expected);
        received.acknowledge();
    }
    // What was acknowledged is committed by the end of the stream, without being asked to.
    drop(second);
    publish(&broker, 12..13, &[]);
    let mut third = stream(&broker).open().unwrap();
    assert_eq!(number(&next(&mut third).await.unwrap()), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_repeated_notifications_and_passes_other_records() {
    let broker = broker();
    publish(&broker, 0..3, &["no notification"]);
    publish(&broker, 0..4, &[]);
    let mut first = stream(&broker).open().unwrap();
    let Err(StreamError::NotANotification { what, acknowledgement }) = next(&mut first).await else {
        panic!("a notification");
    };
    let said = what.to_string();
    assert!(said.starts_with("partition 0, offset 0 of the topic 'activity.notifications' is no"), "{said}");
    acknowledgement.acknowledge();
    for expected in 0..4 {
        let received = next(&mut first).await.unwrap();
        assert_eq!((number(&received), received.header("traceparent")), (expected, Some("00-1")));
        received.acknowledge();
    }
    first.close().await;
    publish(&broker, 4..5, &[]);
    let mut second = stream(&broker).open().unwrap();
    assert_eq!(number(&next(&mut second).await.unwrap()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_over_what_was_not_acknowledged() {
    let broker = broker();
    publish(&broker, 0..6, &[]);
    let mut first = stream(&broker).open().unwrap();
    for expected in 0..6 {
        let received = next(&mut first).await.unwrap();
        assert_eq!(number(&received), expected);
        if expected < 2 {
            received.acknowledge();
        }
    }
    let mut second = stream(&broker).open().unwrap();
    let taken = tokio::spawn(async move { (number(&next(&mut second).await.unwrap()), second) });
    // The first leaves while the second waits to be given something.
    first.close().await;
    let (number, _second) = taken.await.unwrap();
    assert_eq!(number, 2);
}

/// As where a second member joins in the moment in which the first leaves: brokers refuse a commit while the group waits
/// for its members to agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_amid_a_rebalance_commits_acknowledged_notifications() {
    let broker = broker();
    publish(&broker, 0..6, &[]);
    let builder = stream(&broker).property("auto.commit.interval.ms", "3600000");
    let mut first = builder.open().unwrap();
    for expected in 0..2 {
        let received = next(&mut first).await.unwrap();
        assert_eq!(number(&received), expected);
        received.acknowledge();
    }
    let refused = [Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 2];
    broker.cluster().request_errors(Api::OffsetCommit, &refused);
    first.close().await;
    let mut second = stream(&broker).open().unwrap();
    assert_eq!(number(&next(&mut second).await.unwrap()), 2);
}
