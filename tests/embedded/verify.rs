//! `verify` as a process, against an embedded broker: after a normal run, and with planted faults.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::support::{
    self, Finished, PATIENCE, Running, broker, deaf_address, folder, poster::Poster, program, run,
    run_unread, topics, wait_until,
};
use contract::Header;
use event_log::LogReader;
use kafka::{Settings, client, context::Context, embedded::EmbeddedBroker, native, records::record_of};
use nix::sys::signal::Signal;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;

const PARTITIONS: i32 = 3;
const NOTIFICATIONS: &str = "activity.notifications";

fn settings(broker: &EmbeddedBroker) -> Settings {
    support::settings(broker, topics(PARTITIONS))
}

fn command(number: u32) -> (String, Vec<Header>) {
    let value = match number % 5 {
        0 => r#"{"objectType":"case"}"#.to_owned(),
        1 | 2 => format!(r#"{{"objectType":"case","objectId":"k","n":{}}}"#, number / 5),
        _ => format!(
            r#"{{"objectType":"case","objectId":"{number}","targets":[{{"targetId":"anna","notify":true}}]}}"#
        ),
    };
    let key = Header::new("idempotency-key", format!("key {}", number / 5));
    (value, if matches!(number % 5, 1 | 2) { vec![key] } else { Vec::new() })
}

/// Posts that many commands and has a processor decide them, from start to end.
fn process(broker: &EmbeddedBroker, log: &Path, commands: u32) {
    let poster = Poster::new(&settings(broker)).unwrap();
    for number in 0..commands {
        let (value, headers) = command(number);
        poster.post(value.as_bytes(), &headers).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
    process_with(broker, log, &[], commands);
}

/// Has a processor decide the commands that are there.
fn process_with(broker: &EmbeddedBroker, log: &Path, options: &[&str], commands: u32) {
    let mut arguments = program(&["run", "--guarantee", "at-least-once", "-b", &broker.bootstrap_servers()]);
    arguments.args(["-X", "fetch.wait.max.ms=10", "--log-file"]).arg(log).args(options);
    let mut running = Running::start(arguments);
    wait_until("decisions", || {
        let counts = LogReader::open(log).map(|log| log.stats().unwrap().counts);
        counts
            .is_ok_and(|counts| counts.events + counts.duplicates + counts.rejections == u64::from(commands))
    });
    running.signal(Signal::SIGTERM);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
}

fn verify(broker: &EmbeddedBroker, logs: &[&Path], more: &[&str]) -> Finished {
    let mut command = program(&["verify", "-b", &broker.bootstrap_servers()]);
    for log in logs {
        command.arg("--log").arg(log);
    }
    command.args(more);
    run(command, b"")
}

fn lines(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The first record of a topic, written once more by another producer.
fn write_again(broker: &EmbeddedBroker, topic: &str, change: impl Fn(String) -> String) {
    let settings = settings(broker);
    let reader: BaseConsumer<Context> =
        client::reader(&settings).create_with_context(Context::default()).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    reader.assign(&list).unwrap();
    let message = reader.poll(PATIENCE).expect("a record").unwrap();
    let value = change(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
    let producer: BaseProducer = client::producer(&settings, client::BATCH_BYTES).create().unwrap();
    let record = BaseRecord::to(topic)
        .partition(message.partition())
        .key(message.key().unwrap())
        .payload(&value)
        .headers(native::to_native(record_of(&message).headers.iter().map(Header::as_parts)));
    assert!(producer.send(record).is_ok());
    producer.flush(PATIENCE).unwrap();
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = folder();
    let log = folder.path().join("activity.db");
    (folder, log)
}

#[test]
fn passes_a_normal_run_and_reports_planted_faults() {
    let (broker, (_folder, log)) = (broker(PARTITIONS), place());
    process(&broker, &log, 200);
    let finished = verify(&broker, &[&log], &["--json"]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
    let summary = r#"{"summary":{"commands":200,"events":120,"duplicates":40,"rejections":40,"notifications":80,"deviations":0,"unchecked":0}}"#;
    assert_eq!(finished.stdout.trim(), summary);
    // The configured log is the default.
    let configured = verify(&broker, &[], &["--log-file", log.to_str().unwrap()]);
    assert_eq!(
        configured.stdout,
        "200 commands: 120 events, 40 duplicates, 40 rejections; 80 notifications; 0 deviations, 0 unchecked\n"
    );

    write_again(&broker, NOTIFICATIONS, |value| value);
    write_again(&broker, NOTIFICATIONS, |value| value.replace("/0\"", "/7\""));
    write_again(&broker, NOTIFICATIONS, |_| "hello".into());
    let finished = verify(&broker, &[&log], &["--json"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.transcript());
    let lines = lines(&finished);
    let (summary, deviations) = lines.split_last().unwrap();
    assert_eq!(summary["summary"]["deviations"], 3);
    let mut found: Vec<_> = deviations
        .iter()
        .map(|line| {
            let deviation = &line["deviation"];
            assert_eq!(
                (&deviation["what"], &deviation["topic"]),
                (&"notification".into(), &NOTIFICATIONS.into())
            );
            assert!(
                deviation["partition"].is_i64()
                    && deviation["offset"].is_i64()
                    && deviation["id"].is_string()
            );
            deviation["kind"].as_str().unwrap()
        })
        .collect();
    found.sort_unstable();
    // The last one has the first one's id in its header.
    assert_eq!(found, ["doubled", "doubled", "foreign"], "{}", finished.stdout);
    let finished = verify(&broker, &[&log], &[]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.contains("doubled     notification "), "{}", finished.stdout);
    assert!(
        finished.stdout.ends_with("80 notifications; 3 deviations, 0 unchecked\n"),
        "{}",
        finished.stdout
    );
}

#[test]
fn reports_a_log_without_commands_and_reads_one_that_is_being_written() {
    let (broker, (folder, log)) = (broker(PARTITIONS), place());
    process(&broker, &log, 100);
    let copy = folder.path().join("copy.db");
    std::fs::copy(&log, &copy).unwrap();
    let poster = Poster::new(&settings(&broker)).unwrap();
    for _ in 0..50 {
        poster.post(br#"{"objectType":"case","objectId":"7"}"#, &[]).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
    let mut arguments = program(&["run", "--guarantee", "at-least-once", "-b", &broker.bootstrap_servers()]);
    arguments.args(["-X", "fetch.wait.max.ms=10", "--log-file"]).arg(&log);
    let mut running = Running::start(arguments);
    // A processor runs, and may be at any of the commands.
    wait_until("all of them to be published", || {
        let finished = verify(&broker, &[&log, &copy], &["--json"]);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
        lines(&finished).pop().unwrap()["summary"]["commands"] == 150
    });
    running.signal(Signal::SIGTERM);
    running.wait(PATIENCE);
    let finished = verify(&broker, &[&copy], &["--json"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.transcript());
    let lines = lines(&finished);
    assert_eq!(
        (&lines[0]["deviation"]["kind"], &lines[0]["deviation"]["what"]),
        (&"lost".into(), &"commands".into())
    );
}

#[test]
fn says_in_one_sentence_why_it_cannot_check() {
    let (broker, (folder, log)) = (broker(PARTITIONS), place());
    let refused = |logs: &[&Path], more: &[&str], wanted: &str| {
        let finished = verify(&broker, logs, more);
        assert_eq!(
            (finished.status.code(), finished.stdout.as_str()),
            (Some(1), ""),
            "{}",
            finished.transcript()
        );
        assert!(finished.stderr.contains(wanted), "{}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    };
    refused(&[&log], &[], "there is no event log here");
    process(&broker, &log, 20);
    refused(&[&log], &["--notifications-topic", "none"], "the topic 'none' does not exist");
    refused(
        &[&log],
        &["--group", "nobody"],
        "the group 'nobody' has no committed offsets on 'activity.commands'",
    );
    refused(&[&log], &["--commands-topic", "other"], "the event log belongs to topic `activity.commands`");
    let mut deaf = program(&["verify", "-b", &deaf_address(), "--log"]);
    deaf.arg(&log);
    let finished = run(deaf, b"");
    assert!(
        finished.status.code() == Some(1) && finished.stderr.contains("no broker answers at"),
        "{}",
        finished.stderr
    );
    // A log of another cluster.
    let other = folder.path().join("other.db");
    process(&support::broker(PARTITIONS), &other, 30);
    refused(&[&log, &other], &[], "other.db: partition");
}

/// A processor that allows a topic for replies accepts what one without it rejects.
#[test]
fn the_topics_for_replies_are_among_the_rules_and_others_are_warned_of() {
    let (broker, (_folder, log)) = (broker(PARTITIONS), place());
    let replies = ["--set", "topics.replies=answers"];
    let poster = Poster::new(&settings(&broker)).unwrap();
    poster
        .post(br#"{"objectType":"case","objectId":"1"}"#, &[Header::new("kafka_replyTopic", "answers")])
        .unwrap();
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
    process_with(&broker, &log, &replies, 1);
    let finished = verify(&broker, &[&log], &replies);
    assert_eq!(
        (finished.status.code(), finished.stderr.as_str()),
        (Some(0), ""),
        "{}",
        finished.transcript()
    );
    let finished = verify(&broker, &[&log], &[]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.transcript());
    assert!(
        finished.stderr.contains("under other limits, topics for replies or"),
        "{}",
        finished.transcript()
    );
    // The answer stays the same where nobody reads it.
    let unread =
        run_unread(program(&["verify", "-b", &broker.bootstrap_servers(), "--log", log.to_str().unwrap()]));
    assert_eq!(unread.status.code(), Some(1), "{}", unread.transcript());
}
