//! The processor as a process of its own, against an embedded broker in this one: stopped by signal and by
//! kill in mid-stream, under errors of the broker, and beside a second one.
//!
//! The embedded broker has no transactions, so these tests prove "at least once" for notifications, and "exactly once"
//! for decisions and the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::support::{
    self, Finished, PATIENCE, Running, broker, deaf_address, folder, poster::Poster, program, topics,
    wait_until,
};
use bytes::Bytes;
use contract::{Claim, Decider, Decision, Header, Limits, Reading, Record, settle};
use event_log::{LogReader, read_model::ReadModel};
use kafka::{Settings, client, context::Context, embedded::EmbeddedBroker, records::record_of};
use nix::sys::signal::Signal;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    mocking::MockCoordinator,
    types::RDKafkaRespErr as Code,
};

const PARTITIONS: i32 = 3;
const WINDOW_MS: i64 = 7 * 24 * 3600 * 1000;

fn settings(broker: &EmbeddedBroker) -> Settings {
    support::settings(broker, topics(PARTITIONS))
}

/// `run` with a short session, so that a killed member is soon forgotten.
fn processor(broker: &str, log: &Path, more: &[&str]) -> Command {
    let mut command = program(&["run", "--guarantee", "at-least-once", "-b", broker]);
    command.args(["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=200"]);
    command.args(["-X", "fetch.wait.max.ms=10", "--log-file"]).arg(log).args(more);
    command
}

/// Commands of all kinds: valid, broken, notified, repeated under a key, and with a key used again.
fn command(number: u32) -> (Vec<u8>, Vec<Header>) {
    let object = number % 37;
    let key = |key: String| vec![Header::new("idempotency-key", key)];
    match number % 10 {
        0 => (b"{\"objectType\":\"case\"".to_vec(), Vec::new()),
        1 => (
            format!(r#"{{"objectType":"case","objectId":"{object}","targets":[]}}"#).into_bytes(),
            Vec::new(),
        ),
        2 | 3 => {
            let first = number - number % 10;
            let value = format!(r#"{{"objectType":"case","objectId":"k","content":"keyed {first}"}}"#);
            (value.into_bytes(), key(format!("key-{first}")))
        }
        4 => {
            let first = number - number % 10;
            let value = format!(r#"{{"objectType":"case","objectId":"k","content":"other {first}"}}"#);
            (value.into_bytes(), key(format!("key-{first}")))
        }
        _ => {
            let value = format!(
                r#"{{"objectType":"case","objectId":"{object}","n":{number},"targets":[
                   {{"targetId":"anna","notify":true}},{{"@type":"Everyone"}},
                   {{"@type":"Members","notify":{}}}]}}"#,
                number.is_multiple_of(2)
            );
            (value.into_bytes(), Vec::new())
        }
    }
}

/// Every record of a topic, from the first to the last.
fn read_all(broker: &EmbeddedBroker, topic: &str) -> Vec<Record> {
    let settings = settings(broker);
    let mut config = client::reader(&settings);
    let reader: BaseConsumer<Context> =
        config.set("enable.partition.eof", "true").create_with_context(Context::default()).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    reader.assign(&list).unwrap();
    let (mut records, mut ended) = (Vec::new(), BTreeSet::new());
    wait_until("the end of every partition", || {
        while let Some(polled) = reader.poll(Duration::from_millis(20)) {
            match polled {
                Ok(message) => records.push(record_of(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
                Err(error) => panic!("{error}"),
            }
        }
        ended.len() == usize::try_from(PARTITIONS).unwrap()
    });
    records
}

/// What each command becomes, decided here once more with nothing but a map as memory.
fn expected(broker: &EmbeddedBroker) -> BTreeMap<(i32, i64), Decision> {
    let decider = Decider::new(topics(PARTITIONS).commands, Limits::default());
    let mut claims: BTreeMap<(i32, [u8; 16]), Claim> = BTreeMap::new();
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut decisions = BTreeMap::new();
    let mut records = read_all(broker, decider.topic());
    records.sort_by_key(|record| (record.coordinates.partition, record.coordinates.offset));
    for record in records {
        let at = record.coordinates;
        let clock = clocks.entry(at.partition).or_default();
        *clock = at.timestamp.max(*clock);
        let decision = match decider.read(&record).reading {
            Reading::Rejected(problems) => Decision::Rejected(problems),
            Reading::Valid { event, key: None } => Decision::Accepted(event),
            Reading::Valid { event, key: Some(key) } => {
                let id = event.id();
                let claim = claims.get_mut(&(at.partition, key.hash));
                let decision = settle(event, Some(key), claim.as_deref(), *clock, WINDOW_MS);
                match (&decision, claim) {
                    (Decision::Accepted(_), _) => {
                        let claim = Claim { first: id, fingerprint: key.fingerprint, last_seen: *clock };
                        claims.insert((at.partition, key.hash), claim);
                    }
                    (Decision::Duplicate { .. }, Some(claim)) => claim.last_seen = *clock,
                    _ => {}
                }
                decision
            }
        };
        decisions.insert((at.partition, at.offset), decision);
    }
    decisions
}

/// What the log says of every command.
fn logged(log: &Path) -> BTreeMap<(i32, i64), Decision> {
    let Ok(reader) = LogReader::open(log) else { return BTreeMap::new() };
    let mut decisions = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for recorded in reader.recorded(partition, 0..i64::MAX).unwrap() {
            let at = (recorded.coordinates.partition, recorded.coordinates.offset);
            assert!(decisions.insert(at, recorded.decision).is_none(), "{at:?} is in the log twice");
        }
    }
    decisions
}

fn decided(log: &Path) -> u64 {
    let Ok(reader) = LogReader::open(log) else { return 0 };
    let counts = reader.stats().unwrap().counts;
    counts.events + counts.duplicates + counts.rejections
}

/// The log holds each decision once, and every notification and rejection is out.
#[track_caller]
fn assert_complete(broker: &EmbeddedBroker, log: &Path) {
    let expected = expected(broker);
    assert_eq!(logged(log), expected);
    let names = topics(PARTITIONS);
    let wanted: BTreeSet<String> = expected
        .values()
        .filter_map(|decision| match decision {
            Decision::Accepted(event) => Some(event),
            _ => None,
        })
        .flat_map(|event| event.notifications("activity-stream", &[]).map(|n| n.id).collect::<Vec<_>>())
        .collect();
    wait_until("the notifications", || {
        let found = read_all(broker, &names.notifications).into_iter().map(|record| id_of(&record));
        found.collect::<BTreeSet<_>>() == wanted
    });
    let rejected = expected.values().filter(|decision| matches!(decision, Decision::Rejected(_))).count();
    wait_until("the rejections", || {
        let found = read_all(broker, &names.rejections);
        found.iter().map(origin).collect::<BTreeSet<_>>().len() == rejected
    });
}

fn id_of(notification: &Record) -> String {
    let value: serde_json::Value = serde_json::from_slice(notification.value.as_ref().unwrap()).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

fn origin(rejection: &Record) -> (Bytes, Bytes) {
    let header = |name: &str| {
        let header = rejection.headers.iter().rev().find(|header| header.name == name.as_bytes());
        header.unwrap().value.clone().unwrap()
    };
    (header("__connect.errors.partition"), header("__connect.errors.offset"))
}

/// Posts commands one after another, in the background, until all are posted.
fn post(broker: &EmbeddedBroker, numbers: std::ops::Range<u32>, pause: Duration) {
    let poster = Poster::new(&settings(broker)).unwrap();
    for number in numbers {
        let (value, headers) = command(number);
        poster.post(&value, &headers).unwrap();
        if number.is_multiple_of(20) {
            thread::sleep(pause);
            poster.deliveries(Duration::ZERO);
        }
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
}

fn stopped_in_order(mut running: Running) -> Finished {
    running.signal(Signal::SIGTERM);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
    finished
}

struct Place {
    _folder: tempfile::TempDir,
    log: PathBuf,
}

fn place() -> Place {
    let folder = folder();
    Place { log: folder.path().join("activity.db"), _folder: folder }
}

#[test]
fn killed_and_stopped_in_mid_stream_it_decides_each_command_once() {
    let (broker, place) = (broker(PARTITIONS), place());
    let address = broker.bootstrap_servers();
    // How far each round gets before it is ended, of the 400 commands that are posted meanwhile.
    let rounds = [37, 250, 3, 120, 390, 60, 1, 200];
    let mut total = 0;
    for (round, progress) in rounds.into_iter().enumerate() {
        let mut running = Running::start(processor(&address, &place.log, &[]));
        let before = decided(&place.log);
        thread::scope(|scope| {
            scope.spawn(|| post(&broker, total..total + 400, Duration::from_millis(5)));
            wait_until("progress", || decided(&place.log) >= before + progress);
            if round % 4 == 3 {
                stopped_in_order(running);
            } else {
                running.signal(Signal::SIGKILL);
                assert_eq!(running.wait(PATIENCE).status.code(), None);
            }
        });
        total += 400;
    }
    let running = Running::start(processor(&address, &place.log, &[]));
    wait_until("all decisions", || decided(&place.log) == u64::from(total));
    assert_complete(&broker, &place.log);
    stopped_in_order(running);
}

#[test]
fn errors_of_the_broker_are_outlasted() {
    let (broker, place) = (broker(PARTITIONS), place());
    let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
    post(&broker, 0..200, Duration::ZERO);
    wait_until("the first decisions", || decided(&place.log) == 200);
    let cluster = broker.cluster();
    use rdkafka::types::RDKafkaApiKey as Api;
    let moved = [Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
    let few =
        [Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT];
    let coordinator =
        [Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE];
    let regrouped = [Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
    cluster.request_errors(Api::Produce, &moved);
    cluster.request_errors(Api::Fetch, &moved);
    cluster.request_errors(Api::Produce, &few);
    cluster.request_errors(Api::OffsetCommit, &coordinator);
    post(&broker, 200..400, Duration::ZERO);
    wait_until("decisions under errors", || decided(&place.log) == 400);
    cluster.request_errors(Api::OffsetCommit, &regrouped);
    cluster.request_errors(Api::Heartbeat, &regrouped);
    cluster.request_errors(Api::OffsetFetch, &coordinator);
    cluster.coordinator(MockCoordinator::Group("activity-stream".into()), 1).unwrap();
    post(&broker, 400..600, Duration::ZERO);
    wait_until("decisions after the group moved on", || decided(&place.log) == 600);
    assert_complete(&broker, &place.log);
    stopped_in_order(running);
}

#[test]
fn a_broker_that_was_away_is_waited_for() {
    let (broker, place) = (broker(PARTITIONS), place());
    let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
    post(&broker, 0..100, Duration::ZERO);
    wait_until("the first decisions", || decided(&place.log) == 100);
    support::take_down(&broker);
    thread::sleep(Duration::from_secs(3));
    broker.cluster().broker_up(1).unwrap();
    post(&broker, 100..200, Duration::ZERO);
    wait_until("decisions after it was back", || decided(&place.log) == 200);
    assert_complete(&broker, &place.log);
    stopped_in_order(running);
}

#[test]
fn two_processors_share_the_partitions_and_one_takes_over() {
    let (broker, first, second) = (broker(PARTITIONS), place(), place());
    let address = broker.bootstrap_servers();
    let one = Running::start(processor(&address, &first.log, &[]));
    post(&broker, 0..300, Duration::ZERO);
    wait_until("the first decisions", || decided(&first.log) == 300);
    let other = Running::start(processor(&address, &second.log, &[]));
    post(&broker, 300..600, Duration::ZERO);
    // Whoever has a partition has all of its history.
    wait_until("all decisions of both", || {
        let union: BTreeSet<_> =
            logged(&first.log).into_keys().chain(logged(&second.log).into_keys()).collect();
        union.len() == 600 && decided(&second.log) > 0
    });
    stopped_in_order(one);
    post(&broker, 600..900, Duration::ZERO);
    wait_until("the second to have everything", || decided(&second.log) == 900);
    assert_complete(&broker, &second.log);
    stopped_in_order(other);
}

#[test]
fn a_second_process_on_the_same_log_is_refused() {
    let (broker, place) = (broker(PARTITIONS), place());
    let address = broker.bootstrap_servers();
    let running = Running::start(processor(&address, &place.log, &[]));
    wait_until("the log", || place.log.exists());
    let refused = support::run(processor(&address, &place.log, &[]), b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("another process runs on the event log"), "{}", refused.stderr);
    stopped_in_order(running);
}

#[test]
fn refuses_a_topic_that_was_created_again() {
    let place = place();
    {
        let broker = broker(PARTITIONS);
        let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
        post(&broker, 0..100, Duration::ZERO);
        wait_until("decisions", || decided(&place.log) == 100);
        stopped_in_order(running);
    }
    for commands in [0, 40, 400] {
        let before = logged(&place.log);
        let broker = broker(PARTITIONS);
        post(&broker, 0..commands, Duration::ZERO);
        let refused = support::run(processor(&broker.bootstrap_servers(), &place.log, &[]), b"");
        assert_eq!(refused.status.code(), Some(1), "{commands}: {}", refused.transcript());
        let said = refused.stderr.contains("beyond the topic's end")
            || refused.stderr.contains("this is not the topic that the log was made from");
        assert!(said, "{commands}: {}", refused.stderr);
        assert_eq!(logged(&place.log), before);
        assert_eq!(read_all(&broker, &topics(PARTITIONS).notifications), []);
    }
}

#[test]
fn an_old_log_beside_a_new_embedded_broker_is_refused_with_the_way_out() {
    let place = place();
    {
        let broker = broker(PARTITIONS);
        let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
        post(&broker, 0..10, Duration::ZERO);
        wait_until("decisions", || decided(&place.log) == 10);
        stopped_in_order(running);
    }
    let mut command = program(&["run", "--embedded", "--log-file"]);
    command.arg(&place.log);
    let refused = support::run(command, b"");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.transcript());
    // Where it starts it says for whom: others would hang.
    assert!(refused.stdout.contains("for librdkafka clients"), "{}", refused.stdout);
    assert!(refused.stderr.contains("is empty at every start"), "{}", refused.stderr);
    assert!(refused.stderr.contains("beyond the topic's end"), "{}", refused.stderr);
}

#[test]
fn the_read_model_follows_while_it_runs() {
    let (broker, place) = (broker(PARTITIONS), place());
    let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
    post(&broker, 0..8000, Duration::ZERO);
    wait_until("decisions", || decided(&place.log) == 8000);
    let covered = || {
        let log = LogReader::open(&place.log).unwrap();
        ReadModel::open(&place.log).map_or(0, |model| model.covered(&log).unwrap())
    };
    wait_until("a run of the read model", || covered() >= 4096);
    stopped_in_order(running);
}

#[test]
fn reports_an_unreachable_broker_and_stops_on_a_signal() {
    let place = place();
    let address = deaf_address();
    let running = Running::start(processor(&address, &place.log, &[]));
    wait_until("the sentence", || running.stderr().contains(&format!("no broker answers at '{address}'")));
    stopped_in_order(running);
}

#[test]
fn a_second_signal_stops_at_once() {
    let (broker, place) = (broker(PARTITIONS), place());
    let mut running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &[]));
    post(&broker, 0..100, Duration::ZERO);
    wait_until("decisions", || decided(&place.log) == 100);
    // Nothing of what is now under way can be finished.
    post(&broker, 100..200, Duration::ZERO);
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(30)).unwrap();
    // At the same time: after the first one it may wait for a few seconds only.
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGINT);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(130), "{}", finished.transcript());
    assert!(finished.stderr.contains(": finishing what is in flight"), "{}", finished.transcript());
}

#[test]
fn health_and_metrics_tell_what_it_does() {
    let (broker, place) = (broker(PARTITIONS), place());
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("admin.listen=127.0.0.1:{port}");
    let running = Running::start(processor(&broker.bootstrap_servers(), &place.log, &["--set", &listen]));
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    wait_until("readiness", || activity_stream::admin::probe_ready(address, Duration::from_secs(1)).is_ok());
    post(&broker, 0..100, Duration::ZERO);
    wait_until("decisions", || decided(&place.log) == 100);
    wait_until("metrics", || {
        let text = get(address, "/metrics");
        ["activity_stream_commands_total{outcome=\"event\"} 60", "activity_stream_partitions_held 3"]
            .iter()
            .all(|wanted| text.contains(wanted))
    });
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    stopped_in_order(running);
}

fn get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
