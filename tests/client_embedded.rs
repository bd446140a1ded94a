//! The Rust client beside an embedded broker, and a processor where one is needed.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use activity_stream::{
    activity::{Decision, Header, OutputRecord},
    cli::poster::Poster,
    client::{
        ActivityClient, Entry, NotificationStream, PostError, Posted, Received, Reply, SetupError,
        StreamBuilder, StreamError, Target, WaitError,
    },
    event_log::LogReader,
    kafka::{Settings, Topics, embedded::EmbeddedBroker, scan::Scanner},
};
use futures::{StreamExt as _, future::try_join_all};
use support::{PATIENCE, Running, folder, program, topics, wait_until};

const PARTITIONS: i32 = 3;

fn names() -> Topics {
    Topics { replies: ["answers".to_owned()].into_iter().collect(), ..topics(PARTITIONS) }
}

fn broker() -> EmbeddedBroker {
    EmbeddedBroker::start(&names()).expect("the embedded broker starts")
}

fn settings(broker: &EmbeddedBroker) -> Settings {
    Settings {
        bootstrap_servers: broker.bootstrap_servers(),
        group: "activity-stream".into(),
        properties: BTreeMap::from([("fetch.wait.max.ms".into(), "10".into())]),
        topics: names(),
    }
}

fn processor(broker: &EmbeddedBroker, log: &Path) -> Running {
    let mut command = program(&["run", "--guarantee", "at-least-once", "-b", &broker.bootstrap_servers()]);
    command.args(["--set", "topics.replies=answers", "-X", "fetch.wait.max.ms=10", "--log-file"]).arg(log);
    Running::start(command)
}

fn client(broker: &EmbeddedBroker) -> ActivityClient {
    let builder = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("answers");
    builder.property("fetch.wait.max.ms", "10").build().expect("a client")
}

fn stream(broker: &EmbeddedBroker) -> StreamBuilder {
    let builder = NotificationStream::builder(broker.bootstrap_servers(), "readers");
    builder.property("fetch.wait.max.ms", "10")
}

fn notified(number: u32) -> Entry {
    let entry = Entry::new("case", (number % 17).to_string()).content(format!("number {number}"));
    entry.target(Target::identity(format!("anna-{}", number % 5)).notify())
}

async fn next(stream: &mut NotificationStream) -> Result<Received, StreamError> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("waited in vain for a notification").expect("a stream does not end")
}

/// Records of the commands topic.
fn commands(broker: &EmbeddedBroker) -> i64 {
    let scanner = Scanner::new(&settings(broker)).unwrap();
    let bounds = scanner.bounds(&names().commands, PARTITIONS as usize).unwrap();
    bounds.iter().map(|bounds| bounds.end).sum()
}

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
    let mut told = BTreeSet::new();
    while told.len() < 200 {
        let received = next(&mut stream).await.unwrap();
        assert_eq!(received.header("ce_id"), Some(received.id.to_string().as_str()));
        assert!(told.insert(received.activity_id.to_string()), "{} came twice", received.id);
        received.acknowledge();
    }
    assert_eq!(told, posted);
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
async fn whoever_waits_gets_the_verdict_on_its_own_entry() {
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
    let after = Duration::from_secs(3);
    // Nobody decides.
    let waited = client(&broker).post_and_wait(&entry, after).await;
    let Err(WaitError::TimedOut { posted: Some(Posted::As(id)), .. }) = waited else { panic!("{waited:?}") };
    assert_eq!((id.offset(), commands(&broker)), (0, 1));

    let without = ActivityClient::builder(broker.bootstrap_servers()).build().unwrap();
    assert_eq!(without.post_and_wait(&entry, after).await, Err(WaitError::NoReplyTopic));
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
    assert_eq!(commands(&broker), 1);
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

/// Writes notifications as the processor would, one an entry, and what else is given, to partition 0.
fn publish(broker: &EmbeddedBroker, entries: std::ops::Range<u32>, before: &[&str]) {
    use activity_stream::activity::{Coordinates, Decider, Limits, Reading, Record};
    let mut names = names();
    names.commands = names.notifications.clone();
    let poster = Poster::new(&Settings { topics: names, ..settings(broker) }).unwrap();
    let mut records: Vec<OutputRecord> = before
        .iter()
        .map(|value| OutputRecord { key: None, value: Some(value.as_bytes().to_vec()), headers: Vec::new() })
        .collect();
    let decider = Decider::new("activity.commands", Limits::default());
    for number in entries {
        let command = Record {
            coordinates: Coordinates { partition: 0, offset: number.into(), timestamp: 1 },
            key: None,
            value: Some(notified(number).to_json().into_bytes()),
            headers: vec![Header::new("traceparent", "00-1")],
        };
        let Reading::Valid { event, .. } = decider.read(&command).reading else { panic!("rejected") };
        records.extend(event.notifications("activity-stream", &command.headers).map(|it| it.record));
    }
    for (index, record) in records.iter().enumerate() {
        poster.post_record(index, Some(0), record).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
}

fn number(received: &Received) -> i64 {
    received.activity_id.offset()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_the_first_that_was_not_acknowledged() {
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
async fn what_comes_again_is_dropped_and_what_is_no_notification_is_passed() {
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
