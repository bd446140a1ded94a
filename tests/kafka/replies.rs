//! Replies: each is published once, together with its outcome, and an undeliverable reply delays nothing.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    process::Stdio,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    broker::{self, Cluster},
    distribution,
    guard::Guarded,
    process::{Instance, PATIENCE, Setup},
    progress::Progress,
    reading::{self, LONG_IDLE, Read},
    say, topics, wait_until, wait_within,
};

const GOOD: &str = r#"{"objectType":"case","objectId":"7","targets":[{"targetId":"anna","notify":true}]}"#;
/// In the header of a record that is no reply.
const END: &str = "end";
const BAD: &str = r#"{"objectType":"case","objectId":""}"#;

/// One test's topics of replies beside its others.
struct Asking {
    setup: Setup,
    producer: BaseProducer,
    posted: u64,
}

impl Asking {
    fn new(test: &str, servers: &str) -> Self {
        let setup = Setup::new(test, servers, 1);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer");
        Self { setup, producer, posted: 0 }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.setup.names.group)
    }

    fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let topic = self.topic(name);
        topics::create(&self.setup.servers, &topic, partitions, settings);
        topics::await_known(&self.setup.servers, &topic, partitions);
        topic
    }

    /// Starts the processor, which may reply on these topics.
    fn start(&self, names: &[&str]) -> Instance {
        let allowed: Vec<String> = names.iter().map(|name| self.topic(name)).collect();
        self.setup.start("only", &["--set", &format!("topics.replies={}", allowed.join(","))])
    }

    /// A command that asks for a reply, under a correlation id.
    fn post(&mut self, value: &str, topic: &str, partition: Option<i32>, id: &str, key: Option<&str>) {
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: "kafka_replyTopic", value: Some(topic) })
            .insert(Header { key: "kafka_correlationId", value: Some(id) });
        if let Some(partition) = partition {
            let bytes = partition.to_be_bytes();
            headers = headers.insert(Header { key: "kafka_replyPartition", value: Some(&bytes) });
        }
        if let Some(key) = key {
            headers = headers.insert(Header { key: "idempotency-key", value: Some(key) });
        }
        let record = BaseRecord::to(&self.setup.names.commands).key("case/7").payload(value).headers(headers);
        self.producer.send(record).map_err(|(error, _)| error).expect("the producer takes it");
        self.posted += 1;
    }

    /// Until all that was posted is published.
    fn settle(&self, instance: &mut Instance) -> Duration {
        self.producer.flush(PATIENCE).expect("posted");
        let begun = Instant::now();
        Progress::of(&self.setup).await_published(self.posted, PATIENCE, || instance.assert_running());
        begun.elapsed()
    }

    /// The replies on a topic by their correlation ids, each of which may be there once. Everything up to a last record
    /// that is written here to each of its partitions, so however slow the reader is, it has seen what is there.
    fn replies(&self, topic: &str, partitions: i32) -> BTreeMap<String, Read> {
        let end = format!("{:x}", fastrand::u32(..));
        for partition in 0..partitions {
            let headers = OwnedHeaders::new().insert(Header { key: END, value: Some(&end) });
            let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key("end").headers(headers);
            self.producer.send(record).map_err(|(error, _)| error).expect("the producer takes it");
        }
        self.producer.flush(PATIENCE).expect("posted");
        let mut replies: BTreeMap<String, Read> = BTreeMap::new();
        let mut left = partitions;
        let whole = reading::read_until(&self.setup.servers, topic, LONG_IDLE, None, |read| {
            if let Some(found) = read.header(END) {
                left -= i32::from(found == end);
                return if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            let id = read.header("kafka_correlationId").expect("a correlation id").to_owned();
            assert_eq!((read.key.as_ref(), read.header("content-type")), (None, Some("application/json")));
            assert!(replies.insert(id.clone(), read).is_none(), "{topic}: two replies to {id}");
            ControlFlow::Continue(())
        });
        assert!(whole, "{topic}: {left} partitions could not be read to their end");
        replies
    }

    /// Notifications, of which each accepted command has one.
    fn notified(&self, wanted: usize) -> usize {
        reading::read_all(&self.setup.servers, &self.setup.names.notifications, wanted).len()
    }
}

#[track_caller]
fn value(replies: &BTreeMap<String, Read>, id: &str) -> serde_json::Value {
    let read = replies.get(id).unwrap_or_else(|| panic!("no reply to {id}"));
    serde_json::from_slice(read.value.as_deref().expect("a value")).expect("JSON")
}

fn said(instance: &Instance, reason: &str) -> bool {
    instance.stderr().lines().any(|line| line.contains("can't be delivered") && line.contains(reason))
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn sends_outcomes_and_drops_undeliverable_replies() {
    let mut asking = Asking::new("replies", &broker::shared());
    let answers = asking.create("answers", 2, &[]);
    let small = asking.create("small", 1, &[("max.message.bytes", "150")]);
    let compacted = asking.create("compacted", 1, &[("cleanup.policy", "compact")]);
    let never = asking.topic("never");
    let mut instance = asking.start(&["answers", "small", "compacted", "never"]);
    // All of them in one batch, or nearly.
    asking.post(GOOD, &answers, None, "first", Some("k"));
    asking.post(GOOD, &answers, Some(1), "again", Some("k"));
    asking.post(BAD, &answers, Some(0), "bad", None);
    asking.post(GOOD, &answers, Some(2), "beyond", None);
    asking.post(GOOD, &never, None, "never", None);
    asking.post(GOOD, &small, None, &"too-large".repeat(40), None);
    asking.post(GOOD, &compacted, None, "compacted", None);
    asking.post(GOOD, "elsewhere", None, "elsewhere", None);
    asking.post(GOOD, &answers, Some(0), "last", None);
    asking.settle(&mut instance);
    for reason in ["partition_missing", "topic_missing", "too_large", "refused"] {
        wait_until(reason, || said(&instance, reason));
    }
    let log = instance.log.clone();
    instance.stop();

    let replies = asking.replies(&answers, 2);
    assert_eq!(replies.keys().collect::<Vec<_>>(), ["again", "bad", "first", "last"]);
    let id = value(&replies, "first")["id"].as_str().expect("an id").to_owned();
    assert_eq!(value(&replies, "first"), serde_json::json!({"status": "accepted", "id": id}));
    assert_eq!(value(&replies, "again"), serde_json::json!({"status": "duplicate", "id": id}));
    assert_eq!(value(&replies, "bad")["status"], "rejected");
    assert_eq!(value(&replies, "bad")["problems"][0]["code"], "empty");
    assert_eq!((replies["again"].partition, replies["bad"].partition), (1, 0));
    assert!(asking.replies(&small, 1).is_empty());
    assert!(asking.replies(&compacted, 1).is_empty());
    // Every outcome is out all the same.
    assert_eq!(asking.notified(6), 6);
    let log = rusqlite::Connection::open(log).expect("the log");
    let count = |table: &str| -> i64 {
        log.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
    };
    assert_eq!((count("events"), count("duplicates"), count("rejections")), (6, 1, 2));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_topic_of_replies_may_go_and_come_back() {
    // It comes back when somebody makes it, and not because the processor asks for it.
    let cluster = Cluster::with_settings(1, &[("auto.create.topics.enable", "true")]);
    let mut asking = Asking::new("replies-gone", &cluster.servers());
    let answers = asking.create("answers", 1, &[]);
    let fleeting = asking.create("fleeting", 1, &[]);
    let mut instance = asking.start(&["answers", "fleeting"]);
    asking.post(GOOD, &fleeting, None, "while it was there", None);
    asking.settle(&mut instance);
    topics::delete(&asking.setup.servers, &fleeting);
    // Within the time in which the processor takes it to be there still.
    for number in 0..20 {
        asking.post(GOOD, &fleeting, None, &format!("gone {number}"), None);
        asking.post(GOOD, &answers, None, &format!("{number}"), None);
    }
    let took = asking.settle(&mut instance);
    say!("replies-gone: {took:?} with a topic that had just gone");
    // Fails where it is there.
    let fleeting = asking.create("fleeting", 1, &[]);
    let mut number = 0;
    // What was refused is remembered for half a minute.
    wait_within(3 * PATIENCE, "replies on the topic that came back", || {
        asking.post(GOOD, &fleeting, None, &format!("back {number}"), None);
        number += 1;
        asking.settle(&mut instance);
        !asking.replies(&fleeting, 1).is_empty()
    });
    instance.stop();
    assert_eq!(asking.replies(&answers, 1).len(), 20);
    let back = asking.replies(&fleeting, 1);
    assert!(back.keys().all(|id| id.starts_with("back")), "{:?}", back.keys());
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_topic_that_may_not_be_written_to_holds_up_nothing() {
    let open = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let cluster = Cluster::with_settings(1, &open);
    let mut asking = Asking::new("replies-denied", &cluster.servers());
    let answers = asking.create("answers", 1, &[]);
    let denied = asking.create("denied", 1, &[]);
    let mut java = distribution::java(256);
    java.arg("org.apache.kafka.tools.AclCommand").args(["--bootstrap-server", &cluster.servers()]);
    java.args(["--add", "--deny-principal", "User:*", "--operation", "Write", "--topic", &denied, "--force"]);
    java.args(["--allow-principal", "User:*", "--operation", "Describe"]);
    java.stdin(Stdio::null());
    let mut process = Guarded::start(&mut java, asking.setup.folder()).expect("java starts");
    let status = process.wait(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    let mut instance = asking.start(&["answers", "denied"]);
    for number in 0..20 {
        asking.post(GOOD, &denied, None, &format!("denied {number}"), None);
        asking.post(GOOD, &answers, None, &format!("{number}"), None);
    }
    let took = asking.settle(&mut instance);
    say!("replies-denied: {took:?} with a topic that may not be written to");
    wait_until("forbidden", || said(&instance, "forbidden"));
    instance.stop();
    assert_eq!(asking.replies(&answers, 1).len(), 20);
    assert_eq!(asking.notified(40), 40);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn killed_again_and_again_it_replies_once() {
    const COMMANDS: u64 = 30_000;
    const KILLS: u64 = 12;
    let mut asking = Asking::new("replies-killed", &broker::shared());
    let answers = asking.create("answers", 3, &[]);
    let progress = Progress::of(&asking.setup);
    for kill in 0..=KILLS {
        let mut instance = asking.start(&["answers"]);
        while asking.posted < COMMANDS * (kill + 1) / (KILLS + 1) {
            let (number, value) = (asking.posted, if asking.posted.is_multiple_of(9) { BAD } else { GOOD });
            let key = number.is_multiple_of(5).then(|| format!("k{}", number / 10));
            asking.post(value, &answers, None, &number.to_string(), key.as_deref());
        }
        asking.producer.flush(PATIENCE).expect("posted");
        if kill == KILLS {
            asking.settle(&mut instance);
            instance.stop();
            break;
        }
        let goal = progress.published().unwrap_or(0) + fastrand::u64(1..COMMANDS / KILLS);
        wait_until("progress", || {
            instance.assert_running();
            progress.published().unwrap_or(0) >= goal.min(asking.posted)
        });
        instance.kill();
    }
    let replies = asking.replies(&answers, 3);
    let missing = COMMANDS - replies.len() as u64;
    // A kill loses none. A broker that takes seconds to answer can, and that is reported.
    let said =
        fs::read_to_string(asking.setup.folder().join("only.stderr")).expect("what all instances said");
    let left_out: Vec<_> = said.lines().filter(|line| line.contains("can't be delivered")).collect();
    if left_out.is_empty() {
        assert_eq!(missing, 0, "replies are lost");
    }
    let slow = |line: &&str| ["unavailable", "refused"].iter().any(|reason| line.contains(reason));
    assert!(left_out.iter().all(slow) && missing < COMMANDS / 10, "{missing} are missing: {left_out:#?}");
    let status = |status: &str| replies.keys().filter(|id| value(&replies, id)["status"] == status).count();
    say!(
        "replies-killed: {KILLS} kills, {} duplicates, {} rejections, {missing} left out because the broker was slow",
        status("duplicate"),
        status("rejected")
    );
    let accepted = status("accepted");
    let notified = asking.notified(accepted);
    assert!(
        (accepted..=accepted + missing as usize).contains(&notified),
        "{notified} for {accepted} accepted"
    );
}
