//! Replays rejected commands with `rejections replay` after a limit was raised.

use std::{collections::BTreeMap, process::Stdio};

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
    reading, say, topics,
};

const VALUE: &str = r#"{"objectType":"case","objectId":"7","targets":[{"targetId":"anna","notify":true}]}"#;

/// An event in structured mode that carries it.
fn structured() -> String {
    format!(r#"{{"specversion":"1.0","id":"s","source":"/tests","type":"t","data":{VALUE}}}"#)
}

/// To partition 0, where they are rejected for their size: without any key, with a key of 10 KB, with an idempotency
/// key and no record key, asking for a reply, and as events in both modes, one with an empty record key.
fn post(setup: &Setup) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &setup.servers).create().expect("a producer");
    let header = |key: &'static str, value: &'static [u8]| Header { key, value: Some(value) };
    let ask = vec![header("kafka_replyTopic", b"none"), header("kafka_correlationId", b"1")];
    let binary: [(&str, &[u8]); 4] =
        [("ce_specversion", b"1.0"), ("ce_id", b"b"), ("ce_source", b"/tests"), ("ce_type", b"t")];
    let structured = structured();
    let commands = [
        (None, VALUE, vec![]),
        (Some(vec![0xff; 10_000]), VALUE, vec![header("not-text", &[0xff])]),
        (None, VALUE, vec![header("idempotency-key", b"own")]),
        (Some(b"k".to_vec()), VALUE, ask),
        (Some(vec![]), VALUE, binary.map(|(name, value)| header(name, value)).into()),
        (None, &structured, vec![header("content-type", b"application/cloudevents+json; charset=utf-8")]),
    ];
    for (key, value, headers) in &commands {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, header| all.insert(header.clone()));
        let mut record = BaseRecord::<[u8], str>::to(&setup.names.commands).partition(0);
        record = record.payload(*value).headers(headers);
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

/// Waits until the output of this number of commands is published, in all partitions that exist now.
fn await_published(setup: &Setup, instance: &mut super::process::Instance, total: u64) {
    Progress::of(setup).await_published(total, 2 * PATIENCE, || instance.assert_running());
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn replaying_twice_posts_once() {
    let mut setup = Setup::new("replay", &broker::shared(), 1);
    post(&setup);
    let mut instance = setup.start("only", &["--set", "limits.value_bytes=10"]);
    await_published(&setup, &mut instance, 6);
    // These are refused like their originals.
    replay(&setup, &["--code", "too_large"], "6 rejections: 6 posted");
    await_published(&setup, &mut instance, 12);
    instance.stop();

    // A key may belong to another partition now; the command goes to its own all the same.
    let names = setup.names.clone();
    let more = NewPartitions::new(&names.commands, 3);
    let added = block_on(topics::admin(&setup.servers).create_partitions([&more], &topics::options()));
    added.expect("an answer").into_iter().for_each(|result| drop(result.expect("partitions")));
    topics::await_known(&setup.servers, &names.commands, 3);
    setup.partitions = 3;
    let dry = ["--code", "too_large", "--dry-run"];
    replay(&setup, &dry, "12 rejections: 6 would be posted, 6 repeated");
    replay(&setup, &dry[..2], "12 rejections: 6 posted, 6 repeated");
    replay(&setup, &["--at", "0:1", "--at", "0:4", "--at", "0:5"], "3 rejections: 3 posted");

    let mut instance = setup.start("only", &[]);
    await_published(&setup, &mut instance, 21);
    let log = Connection::open_with_flags(&instance.log, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let counted = |table: &str| -> BTreeMap<i32, u32> {
        let query = format!("SELECT partition, count(*) FROM {table} GROUP BY partition");
        let mut statement = log.prepare(&query).expect("a query");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("numbers")
    };
    assert_eq!(counted("events"), BTreeMap::from([(0, 6)]));
    assert_eq!(counted("duplicates"), BTreeMap::from([(0, 3)]));
    assert_eq!(counted("rejections"), BTreeMap::from([(0, 12)]));
    instance.stop();
    assert_eq!(reading::read_all(&setup.servers, &names.notifications, 6).len(), 6);
    let commands = reading::read_all(&setup.servers, &names.commands, 21);
    assert_eq!(commands.len(), 21);
    for command in &commands[12..] {
        let headers: Vec<_> = command.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        // An event's id and source are its key, and ask for no record key.
        let event = headers.iter().any(|name| name == "ce_id" || name == "content-type");
        let keyed = command.key.as_ref().is_some_and(|key| !key.is_empty());
        assert_eq!((keyed, command.header("idempotency-key").is_some()), (!event, !event), "{headers:?}");
        assert!(
            !headers.iter().any(|name| name.starts_with("__connect") || name.starts_with("kafka_")),
            "{headers:?}"
        );
    }
    say!("replay: 6 commands became 6 activities, replayed 15 times");
}

/// An open transaction on the rejections topic hides what lies behind its beginning.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_rejections_hidden_by_an_open_transaction() {
    let setup = Setup::new("replay-open", &broker::shared(), 1);
    post(&setup);
    let mut instance = setup.start("only", &["--set", "limits.value_bytes=10"]);
    await_published(&setup, &mut instance, 6);
    instance.stop();
    let open: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &setup.servers)
        .set("transactional.id", format!("{}-open", setup.names.group))
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    open.init_transactions(PATIENCE).expect("an answer");
    open.begin_transaction().expect("none is open");
    let record = BaseRecord::<[u8], str>::to(&setup.names.rejections).partition(0).payload("held back");
    open.send(record).map_err(|(error, _)| error).expect("room");
    open.flush(PATIENCE).expect("posted");

    let commands =
        [&["list"][..], &["show", "0:99"], &["replay", "--all", "--dry-run"], &["replay", "--all"]];
    let running = commands.map(|command| {
        let mut command = setup.program(&[&["rejections"], command].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    });
    let outputs = running.map(|child| child.wait_with_output().expect("it ends"));
    for (command, output) in commands.iter().zip(&outputs) {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
        let reason = "an open transaction holds back partition 0 from offset ";
        assert!(errors.contains(reason) && errors.contains("again then"), "{command:?}: {errors}");
    }
    let said = outputs.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let last = said.each_ref().map(|said| said.lines().last().unwrap_or_default());
    assert_eq!(last, ["6 rejections", "", "6 rejections: 6 would be posted", "6 rejections: 6 posted"]);

    open.abort_transaction(PATIENCE).expect("an answer");
    replay(&setup, &["--all"], "6 rejections: 6 posted");
}
