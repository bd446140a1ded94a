//! Replies beside an embedded broker: asked for with plain headers, read from their topic.

use std::{collections::BTreeMap, time::Duration};

use super::support::{PATIENCE, Running, folder, poster::Poster, program, settings, topics, wait_until};
use bytes::Bytes;
use contract::{CORRELATION_ID, Header, REPLY_PARTITION, REPLY_TOPIC, Record, Reply};
use kafka::{Topics, client, context::Context, embedded::EmbeddedBroker, records::record_of};
use nix::sys::signal::Signal;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

const PARTITIONS: i32 = 2;
const GOOD: &str = r#"{"objectType":"case","objectId":"7"}"#;
const BAD: &str = r#"{"objectType":"case","objectId":""}"#;

fn asks(id: &[u8], topic: &str, more: &[(&str, &[u8])]) -> Vec<Header> {
    let mut headers = vec![Header::new(REPLY_TOPIC, topic), Header::new(CORRELATION_ID, id)];
    headers.extend(more.iter().map(|(name, value)| Header::new(*name, *value)));
    headers
}

/// The replies on the topic `answers`, by their correlation ids.
fn replies(reader: &BaseConsumer<Context>, found: &mut BTreeMap<Bytes, (Record, Reply)>) {
    while let Some(polled) = reader.poll(Duration::from_millis(20)) {
        let record = record_of(&polled.expect("a record"));
        let id = record.headers.iter().find(|header| header.name == CORRELATION_ID.as_bytes());
        let id = id.and_then(|header| header.value.clone()).expect("a correlation id");
        let reply = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("a reply");
        assert!(found.insert(id, (record, reply)).is_none(), "two replies to one command");
    }
}

#[test]
fn replies_to_every_command_that_asks() {
    let folder = folder();
    let names = Topics { replies: ["answers".to_owned()].into_iter().collect(), ..topics(PARTITIONS) };
    let broker = EmbeddedBroker::start(&names).expect("it starts");
    let settings = settings(&broker, names);
    let mut run = program(&["run", "--guarantee", "at-least-once", "-b", &settings.bootstrap_servers]);
    run.args(["--set", "topics.replies=answers,missing", "--log-file"]);
    let mut running = Running::start({
        run.arg(folder.path().join("activity.db"));
        run
    });

    let key = ("idempotency-key", &b"k"[..]);
    let poster = Poster::new(&settings).unwrap();
    let commands: [(&str, Vec<Header>); 8] = [
        (GOOD, asks(b"first", "answers", &[key])),
        (GOOD, asks(&[0, 0xff], "answers", &[key])),
        (BAD, asks(b"bad", "answers", &[(REPLY_PARTITION, &[0, 0, 0, 1])])),
        (GOOD, asks(b"beyond", "answers", &[(REPLY_PARTITION, &[0, 0, 1, 0])])),
        (GOOD, asks(b"missing", "missing", &[])),
        (GOOD, asks(b"not allowed", "activity.commands", &[])),
        (GOOD, asks(b"no partition", "answers", &[(REPLY_PARTITION, b"1")])),
        (GOOD, asks(b"last", "answers", &[])),
    ];
    for (value, headers) in &commands {
        poster.post(value.as_bytes(), headers).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });

    let reader: BaseConsumer<Context> =
        client::reader(&settings).create_with_context(Context::default()).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("answers", partition, Offset::Beginning).unwrap();
    }
    reader.assign(&list).unwrap();
    let mut found = BTreeMap::new();
    wait_until("the replies", || {
        replies(&reader, &mut found);
        found.len() >= 4
    });
    // What comes late would come before the processor has stopped in order.
    running.signal(Signal::SIGTERM);
    let said = running.wait(PATIENCE).transcript();
    replies(&reader, &mut found);

    assert_eq!(found.keys().collect::<Vec<_>>(), [&[0, 0xff][..], b"bad", b"first", b"last"]);
    let Reply::Accepted { id } = found[&b"first"[..]].1 else { panic!("{found:?}") };
    assert_eq!(found[&[0, 0xff][..]].1, Reply::Duplicate { id });
    let (record, Reply::Rejected { problems }) = &found[&b"bad"[..]] else { panic!("{found:?}") };
    assert_eq!((record.coordinates.partition, problems.first_code()), (1, "empty"));
    assert!(matches!(found[&b"last"[..]].1, Reply::Accepted { .. }));
    for reason in ["partition_missing", "topic_missing"] {
        assert_eq!(said.matches(reason).count(), 1, "{said}");
    }
}
