//! Rejected commands put back after a limit was raised, by `rejections replay`.

use std::collections::BTreeMap;

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::NewPartitions,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rusqlite::{Connection, OpenFlags};

use super::{
    broker,
    process::{PATIENCE, Setup},
    progress::Progress,
    reading::{self, Read},
    say, topics,
};

const VALUE: &str = r#"{"objectType":"case","objectId":"7","targets":[{"targetId":"anna","notify":true}]}"#;

/// To partition 0, where they are rejected for their size: without any key, with a key of 10 KB, with an idempotency
/// key and no record key, and asking for a reply.
fn post(setup: &Setup) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &setup.servers).create().expect("a producer");
    let header = |key: &'static str, value: &'static [u8]| Header { key, value: Some(value) };
    let commands = [
        (None, vec![]),
        (Some(vec![0xff; 10_000]), vec![header("not-text", &[0xff])]),
        (None, vec![header("idempotency-key", b"own")]),
        (Some(b"k".to_vec()), vec![header("kafka_replyTopic", b"none"), header("kafka_correlationId", b"1")]),
    ];
    for (key, headers) in &commands {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, header| all.insert(header.clone()));
        let mut record = BaseRecord::<[u8], str>::to(&setup.names.commands).partition(0);
        record = record.payload(VALUE).headers(headers);
        record.key = key.as_deref();
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("posted");
}

/// Runs `rejections replay`, which says this in its last line.
#[track_caller]
fn replay(setup: &Setup, more: &[&str], last: &str) {
    let mut command = setup.program(&["rejections", "replay"]);
    let output = command.args(more).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().last()), (Some(0), Some(last)), "{said}{errors}");
}

/// Waits until the output of so many commands is out, in as many partitions as there are now.
fn await_published(setup: &Setup, instance: &mut super::process::Instance, total: u64) {
    Progress::of(setup).await_published(total, 2 * PATIENCE, || instance.assert_running());
}

fn read(setup: &Setup, topic: &str, count: u32) -> Vec<Read> {
    let mut records = Vec::new();
    // One more than there should be, so that it is seen.
    reading::read(&setup.servers, topic, reading::IDLE, Some(count + 1), |record| records.push(record));
    records
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn replaying_twice_posts_once() {
    let mut setup = Setup::new("replay", &broker::shared(), 1);
    post(&setup);
    let mut instance = setup.start("only", &["--set", "limits.value_bytes=10"]);
    await_published(&setup, &mut instance, 4);
    // These are refused like their originals.
    replay(&setup, &["--code", "too_large"], "4 rejections: 4 posted");
    await_published(&setup, &mut instance, 8);
    instance.stop();

    // A key may belong to another partition now; the command goes to its own all the same.
    let names = setup.names.clone();
    let more = NewPartitions::new(&names.commands, 3);
    let added = block_on(topics::admin(&setup.servers).create_partitions([&more], &topics::options()));
    added.expect("an answer").into_iter().for_each(|result| drop(result.expect("partitions")));
    topics::await_known(&setup.servers, &names.commands, 3);
    setup.partitions = 3;
    let dry = ["--code", "too_large", "--dry-run"];
    replay(&setup, &dry, "8 rejections: 4 would be posted, 4 repeated");
    replay(&setup, &dry[..2], "8 rejections: 4 posted, 4 repeated");
    replay(&setup, &["--at", "0:1"], "1 rejection: 1 posted");

    let mut instance = setup.start("only", &[]);
    await_published(&setup, &mut instance, 13);
    let log = Connection::open_with_flags(&instance.log, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let counted = |table: &str| -> BTreeMap<i32, u32> {
        let query = format!("SELECT partition, count(*) FROM {table} GROUP BY partition");
        let mut statement = log.prepare(&query).expect("a query");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("numbers")
    };
    assert_eq!(counted("events"), BTreeMap::from([(0, 4)]));
    assert_eq!(counted("duplicates"), BTreeMap::from([(0, 1)]));
    assert_eq!(counted("rejections"), BTreeMap::from([(0, 8)]));
    instance.stop();
    assert_eq!(read(&setup, &names.notifications, 4).len(), 4);
    let replayed = read(&setup, &names.commands, 13).split_off(8);
    for command in replayed {
        let headers: Vec<_> = command.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        assert!(command.key.as_ref().is_some_and(|key| !key.is_empty()), "{headers:?}");
        assert!(command.header("idempotency-key").is_some(), "{headers:?}");
        assert!(
            !headers.iter().any(|name| name.starts_with("__connect") || name.starts_with("kafka_")),
            "{headers:?}"
        );
    }
    say!("replay: 4 commands became 4 activities, replayed 9 times");
}
