//! `verify` on a real broker: a correct run passes, and deviations planted by the test's own producers are reported.

use std::{process::Stdio, time::Duration};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;

use super::{
    broker,
    check::Findings,
    load::Load,
    process::{PATIENCE, Setup},
    progress::Progress,
    reading::{Read, read},
    say, seed, topics,
};

const PARTITIONS: i32 = 3;

/// What `verify --json` says of the whole, and of what.
#[derive(Debug)]
pub struct Said {
    deviations: Vec<Value>,
    unchecked: Vec<Value>,
    summary: Value,
}

impl Said {
    fn kinds(&self) -> Vec<String> {
        let kind =
            |line: &Value| format!("{} {}", line["kind"].as_str().unwrap(), line["what"].as_str().unwrap());
        let mut kinds: Vec<_> = self.deviations.iter().map(kind).collect();
        kinds.sort();
        kinds
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.deviations.is_empty() && self.unchecked.is_empty(), "{self:#?}");
    }
}

#[track_caller]
pub fn verify(setup: &Setup, logs: &[&str], more: &[&str]) -> Said {
    let mut command = setup.program(&["verify", "--json"]);
    for log in logs {
        command.arg("--log").arg(setup.log(log));
    }
    let output = command.args(more).stdin(Stdio::null()).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let mut said = Said { deviations: Vec::new(), unchecked: Vec::new(), summary: Value::Null };
    for line in lines.lines() {
        let Value::Object(mut line) = serde_json::from_str(line).expect("JSON") else { panic!("{line}") };
        assert!(said.summary.is_null(), "the summary comes last: {lines}");
        if let Some(deviation) = line.remove("deviation") {
            said.deviations.push(deviation);
        } else if let Some(unchecked) = line.remove("unchecked") {
            said.unchecked.push(unchecked);
        } else {
            said.summary = line.remove("summary").expect("a summary");
        }
    }
    assert!(said.summary.is_object(), "{}: {stderr}", output.status);
    assert_eq!(output.status.code(), Some(i32::from(!said.deviations.is_empty())), "{said:#?}");
    said
}

/// Commands, decided by one processor, and the topics' names.
fn processed(test: &str, commands: u32) -> Setup {
    let load = Load { seed: seed(test), commands };
    let setup = Setup::new(test, &broker::shared(), PARTITIONS);
    let mut instance = setup.start("only", &[]);
    load.post(&setup.servers, &setup.names.commands, 0..load.commands).finish();
    let progress = Progress::of(&setup);
    progress.await_published(load.commands.into(), 2 * PATIENCE, || instance.assert_running());
    let log = instance.log.clone();
    instance.stop();
    let mut findings = Findings::of_topics(&setup, load);
    findings.log(&log, &(0..PARTITIONS).collect::<Vec<_>>());
    findings.assert_none();
    setup
}

fn records(setup: &Setup, topic: &str) -> Vec<Read> {
    let mut all = Vec::new();
    read(&setup.servers, topic, Duration::from_secs(3), None, |record| all.push(record));
    all
}

fn producer(setup: &Setup, transactional_id: Option<&str>) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &setup.servers).set("message.max.bytes", "2000000");
    if let Some(id) = transactional_id {
        config.set("transactional.id", format!("{}-{id}", setup.names.group));
        config.set("transaction.timeout.ms", "60000");
    }
    config.create().expect("a producer")
}

fn send(producer: &BaseProducer, topic: &str, record: &Read) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
        headers.insert(Header { key: std::str::from_utf8(name).expect("UTF-8"), value: Some(value) })
    });
    let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition).headers(headers);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    assert!(producer.send(message).is_ok());
    producer.poll(Duration::ZERO);
}

/// A topic that holds what another one does, in order, after `change`.
fn copy(setup: &Setup, from: &str, name: &str, change: impl Fn(usize, Read) -> Vec<Read>) -> String {
    let to = format!("{from}.{name}");
    topics::create(&setup.servers, &to, PARTITIONS, &[("max.message.bytes", "2000000")]);
    topics::await_known(&setup.servers, &to, PARTITIONS);
    let producer = producer(setup, None);
    for (index, record) in records(setup, from).into_iter().enumerate() {
        change(index, record).iter().for_each(|record| send(&producer, &to, record));
    }
    producer.flush(PATIENCE).expect("all is written");
    to
}

fn with_value(mut record: Read, value: &[u8]) -> Read {
    record.value = Some(value.to_vec());
    record
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_each_lost_doubled_altered_or_foreign_record() {
    let setup = processed("verifying", 5_000);
    let (notifications, rejections) = (setup.names.notifications.clone(), setup.names.rejections.clone());
    let said = verify(&setup, &["only"], &[]);
    said.assert_clean();
    assert_eq!(said.summary["commands"], 5_000);
    assert_eq!(said.summary["notifications"], records(&setup, &notifications).len());
    assert_eq!(said.summary["rejections"], records(&setup, &rejections).len());

    // Copies of the topics; the second one of all has each of the faults.
    let faulty = |index: usize, record: Read| match index {
        7 => Vec::new(),
        11 => vec![record.clone(), record],
        13 => vec![with_value(record, b"{}")],
        17 => {
            let foreign = Read { headers: Vec::new(), ..with_value(record.clone(), b"hello") };
            vec![record, foreign]
        }
        _ => vec![record],
    };
    let wanted = |what: &str| ["altered", "doubled", "foreign", "lost"].map(|kind| format!("{kind} {what}"));
    let sound = copy(&setup, &notifications, "sound", |_, record| vec![record]);
    verify(&setup, &["only"], &["--notifications-topic", &sound]).assert_clean();
    let altered = copy(&setup, &notifications, "altered", faulty);
    let said = verify(&setup, &["only"], &["--notifications-topic", &altered]);
    assert_eq!(said.kinds(), wanted("notification"), "{said:#?}");
    assert!(said.unchecked.is_empty(), "{said:#?}");
    for deviation in &said.deviations {
        assert_eq!(deviation["topic"], *altered);
        assert_eq!(deviation["offset"].is_i64(), deviation["kind"] != "lost", "{deviation}");
        assert_eq!(deviation["command"].is_object(), deviation["kind"] != "foreign", "{deviation}");
    }
    let altered = copy(&setup, &rejections, "altered", faulty);
    let said = verify(&setup, &["only"], &["--rejections-topic", &altered]);
    assert_eq!(said.kinds(), wanted("rejection"), "{said:#?}");

    // In the topic itself: an aborted transaction is nothing, a committed one is found.
    let first = records(&setup, &notifications).remove(0);
    let transactional = producer(&setup, Some("planted"));
    transactional.init_transactions(PATIENCE).expect("a producer");
    let in_transaction = || {
        transactional.begin_transaction().expect("begun");
        send(&transactional, &notifications, &first);
        transactional.flush(PATIENCE).expect("written");
    };
    in_transaction();
    transactional.abort_transaction(PATIENCE).expect("aborted");
    verify(&setup, &["only"], &[]).assert_clean();
    in_transaction();
    transactional.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(verify(&setup, &["only"], &[]).kinds(), ["doubled notification"]);
    // An open one in front of another: what it holds back is said, not passed over.
    in_transaction();
    let plain = producer(&setup, None);
    send(&plain, &notifications, &first);
    plain.flush(PATIENCE).expect("written");
    let said = verify(&setup, &["only"], &[]);
    assert_eq!(said.kinds(), ["doubled notification"], "{said:#?}");
    assert_eq!(said.unchecked.len(), 1, "{said:#?}");
    assert_eq!(
        (&said.unchecked[0]["topic"], &said.unchecked[0]["partition"]),
        (&notifications.into(), &first.partition.into())
    );
    transactional.abort_transaction(PATIENCE).expect("aborted");
    assert_eq!(verify(&setup, &["only"], &[]).kinds(), ["doubled notification"; 2]);
    say!("verifying: every fault was named");
}

/// Deletes the first records of every partition of a topic.
fn delete(setup: &Setup, topic: &str, below: i64) {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &setup.servers).create().expect("a client");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(below)).expect("a number");
    }
    let deleted =
        futures::executor::block_on(client.delete_records(&list, &AdminOptions::new())).expect("deleted");
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn reports_deleted_records_and_checks_the_rest() {
    let setup = processed("retention", 5_000);
    let all = verify(&setup, &["only"], &[]).summary;
    delete(&setup, &setup.names.commands, 700);
    let said = verify(&setup, &["only"], &[]);
    assert!(said.deviations.is_empty(), "{said:#?}");
    assert_eq!((&said.summary["commands"], &said.summary["events"]), (&all["commands"], &all["events"]));
    // The commands themselves, and keys that they may have used.
    assert_eq!(said.unchecked.len(), 2 * PARTITIONS as usize, "{said:#?}");
    delete(&setup, &setup.names.notifications, 700);
    let said = verify(&setup, &["only"], &[]);
    assert!(said.deviations.is_empty() && said.unchecked.len() > 2 * PARTITIONS as usize, "{said:#?}");
    // A log that began after that has a hole, which it tells.
    let mut late = setup.start("late", &[]);
    super::wait_until("the late one to have everything", || {
        late.assert_running();
        // Until then no log knows of some commands.
        late.log.exists() && verify(&setup, &["late"], &[]).deviations.is_empty()
    });
    late.stop();
    let said = verify(&setup, &["late", "only"], &[]);
    assert!(said.deviations.is_empty(), "{said:#?}");
    let first = records(&setup, &setup.names.notifications).remove(0);
    let plain = producer(&setup, None);
    send(&plain, &setup.names.notifications, &first);
    plain.flush(PATIENCE).expect("written");
    assert_eq!(verify(&setup, &["only"], &[]).kinds(), ["doubled notification"]);
}

/// The most memory that the checker ever had, in KiB.
fn peak(setup: &Setup) -> u64 {
    let mut command = setup.program(&["verify"]);
    command.arg("--log").arg(setup.log("only")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = super::guard::Guarded::start(&mut command, setup.folder()).expect("the program starts");
    let status = format!("/proc/{}/status", process.id());
    let mut peak = 0;
    while process.ended().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(process.ended().is_some_and(|status| status.success()));
    assert!(peak > 0, "this system does not tell");
    peak
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn memory_does_not_grow_with_topics_and_log() {
    let load = Load { seed: seed("memory"), commands: 180_000 };
    let setup = Setup::new("memory", &broker::shared(), PARTITIONS);
    let mut peaks = Vec::new();
    for numbers in [0..45_000, 45_000..load.commands] {
        let mut instance = setup.start("only", &[]);
        load.post(&setup.servers, &setup.names.commands, numbers.clone()).finish();
        let progress = Progress::of(&setup);
        progress.await_published(numbers.end.into(), Duration::from_secs(600), || instance.assert_running());
        instance.stop();
        peaks.push(peak(&setup));
    }
    let size = std::fs::metadata(setup.log("only")).expect("the log").len();
    say!("memory: {peaks:?} KiB at 45,000 and at 180,000 commands, with a log of {size} bytes");
    // The sums of ranges have as many cells for 45,000 as for four times as many. SQLite's cache of keys and repeated
    // commands has a limit of its own, which neither reaches. 124 bytes for each command more: far less than a command
    // with its event and notifications. `tests/verify_memory.rs` counts to the byte.
    assert!(peaks[1] < peaks[0] + 16 * 1024, "{peaks:?} KiB");
}
