//! Helpers for tests of the Rust client: an embedded broker with a topic for replies, and notifications as the processor
//! would write them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{ops::Range, path::Path, time::Duration};

use activity_stream_client::{
    ActivityClient, Entry, NotificationStream, Received, StreamBuilder, StreamError, Target,
};
use contract::{Coordinates, Decider, Header, Limits, OutputRecord, Reading, Record};
use futures::StreamExt as _;
use kafka::{Settings, Topics, embedded::EmbeddedBroker, scan::Scanner};

use super::support::{PATIENCE, Running, poster::Poster, program, topics, wait_until};

pub const PARTITIONS: i32 = 3;

pub fn names() -> Topics {
    Topics { replies: ["answers".to_owned()].into_iter().collect(), ..topics(PARTITIONS) }
}

pub fn broker() -> EmbeddedBroker {
    EmbeddedBroker::start(&names()).expect("the embedded broker starts")
}

pub fn settings(broker: &EmbeddedBroker) -> Settings {
    super::support::settings(broker, names())
}

pub fn processor(broker: &EmbeddedBroker, log: &Path) -> Running {
    let mut command = program(&["run", "--guarantee", "at-least-once", "-b", &broker.bootstrap_servers()]);
    command.args(["--set", "topics.replies=answers", "-X", "fetch.wait.max.ms=10", "--log-file"]).arg(log);
    Running::start(command)
}

/// Waits for replies on the topic of [`names`].
pub fn client(broker: &EmbeddedBroker) -> ActivityClient {
    let builder = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("answers");
    builder.property("fetch.wait.max.ms", "10").build().expect("a client")
}

pub fn stream(broker: &EmbeddedBroker) -> StreamBuilder {
    let builder = NotificationStream::builder(broker.bootstrap_servers(), "readers");
    builder.property("fetch.wait.max.ms", "10")
}

pub fn notified(number: u32) -> Entry {
    let entry = Entry::new("case", (number % 17).to_string()).content(format!("number {number}"));
    entry.target(Target::identity(format!("anna-{}", number % 5)).notify())
}

pub async fn next(stream: &mut NotificationStream) -> Result<Received, StreamError> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("waited in vain for a notification").expect("a stream does not end")
}

/// Records of the commands topic.
pub fn commands(broker: &EmbeddedBroker) -> i64 {
    let scanner = Scanner::new(&settings(broker)).unwrap();
    let bounds = scanner.bounds(&names().commands, PARTITIONS as usize).unwrap();
    bounds.iter().map(|bounds| bounds.end).sum()
}

/// Writes notifications as the processor would, one an entry, and what else is given, to partition 0.
pub fn publish(broker: &EmbeddedBroker, entries: Range<u32>, before: &[&str]) {
    let mut names = names();
    names.commands = names.notifications.clone();
    let poster = Poster::new(&Settings { topics: names, ..settings(broker) }).unwrap();
    let mut records: Vec<OutputRecord> = before
        .iter()
        .map(|&value| OutputRecord { key: None, value: Some(value.to_owned().into()), headers: Vec::new() })
        .collect();
    let decider = Decider::new("activity.commands", Limits::default());
    for number in entries {
        let command = Record {
            coordinates: Coordinates { partition: 0, offset: number.into(), timestamp: 1 },
            key: None,
            value: Some(notified(number).to_json().into()),
            headers: vec![Header::new("traceparent", "00-1")],
        };
        let Reading::Valid { event, .. } = decider.read(&command).reading else { panic!("rejected") };
        records.extend(event.notifications("activity-stream", &command.headers).map(|it| it.record));
    }
    for record in &records {
        poster.post_record(Some(0), record).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
}

pub fn number(received: &Received) -> i64 {
    received.activity_id.offset()
}
