//! What became of commands: the events in the log, and the records on the output topics.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{Headers as _, OwnedMessage},
};
use rusqlite::Connection;
use serde_json::Value;

use super::topics::Names;

/// Partition and offset of a command.
pub type Place = (i32, i64);
type Header = (String, Option<Vec<u8>>);

#[derive(Debug, Default)]
pub struct Outcome {
    pub events: BTreeMap<Place, Event>,
    pub notifications: BTreeMap<(Place, String), Notification>,
    pub rejections: BTreeMap<Place, Rejection>,
    /// Records and rows that are there again.
    pub repeated: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub timestamp: i64,
    pub text: String,
    json: Value,
}

/// As JSON: free properties may be written differently.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.timestamp, &self.json) == (other.timestamp, &other.json)
    }
}

#[derive(Debug, PartialEq)]
pub struct Notification {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Value,
    headers: Vec<Header>,
}

#[derive(Debug, PartialEq)]
pub struct Rejection {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// All but the problems, whose sentences and order differ.
    headers: Vec<Header>,
    /// Pointers and codes.
    pub problems: BTreeSet<(String, String)>,
    /// Whether the rejection's code is that of its first problem.
    is_of_first: bool,
}

const CODE: &str = "__connect.errors.exception.class.name";
const PROBLEMS: &str = "__connect.errors.exception.message";

impl Outcome {
    pub fn read(servers: &str, names: &Names, partitions: i32, log: &Path) -> Self {
        let mut outcome = Self::default();
        outcome.read_events(log);
        for message in records(servers, &names.notifications, partitions) {
            let headers = headers(&message);
            let id = text(&headers, "ce_id");
            let place = place_of_activity(&id).unwrap_or_else(|| panic!("a notification with the id {id:?}"));
            let notification = Notification {
                partition: message.partition(),
                key: message.key().map(<[u8]>::to_vec),
                value: serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON"),
                headers,
            };
            if outcome.notifications.insert((place, id.clone()), notification).is_some() {
                outcome.repeated.push(format!("notification {id}"));
            }
        }
        for message in records(servers, &names.rejections, partitions) {
            let mut headers = headers(&message);
            let number = |name| text(&headers, name).parse::<i64>().expect("a number");
            let place = (number("__connect.errors.partition") as i32, number("__connect.errors.offset"));
            let (code, problems) = (text(&headers, CODE), text(&headers, PROBLEMS));
            let problems: Vec<BTreeMap<String, String>> = serde_json::from_str(&problems).expect("problems");
            headers.retain(|(name, _)| name != CODE && name != PROBLEMS && name != "__connect.errors.topic");
            let rejection = Rejection {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers,
                is_of_first: problems.first().is_some_and(|first| first["code"] == code),
                problems: problems
                    .into_iter()
                    .map(|it| (it["pointer"].clone(), it["code"].clone()))
                    .collect(),
            };
            if outcome.rejections.insert(place, rejection).is_some() {
                outcome.repeated.push(format!("rejection of {place:?}"));
            }
        }
        outcome
    }

    fn read_events(&mut self, log: &Path) {
        let log = Connection::open(log).expect("the log");
        let mut rows = log.prepare("SELECT partition, offset, timestamp, json FROM events").expect("events");
        let mut rows = rows.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let place = (row.get(0).expect("a partition"), row.get(1).expect("an offset"));
            let text: String = row.get(3).expect("an entry");
            let json = serde_json::from_str(&text).expect("JSON");
            let event = Event { timestamp: row.get(2).expect("a timestamp"), text, json };
            if self.events.insert(place, event).is_some() {
                self.repeated.push(format!("event of {place:?}"));
            }
        }
    }
}

/// From the id of a notification, which begins with the activity's.
fn place_of_activity(id: &str) -> Option<Place> {
    let low = id.get(19..23)?.to_owned() + id.get(24..36)?;
    let low = u64::from_str_radix(&low, 16).ok()?;
    Some(((low >> 48 & 0x3fff) as i32, (low & 0xffff_ffff_ffff) as i64))
}

/// Everything that is committed on a topic.
pub fn records(servers: &str, topic: &str, partitions: i32) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "peers-check")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut all, mut ends) = (Vec::new(), 0);
    while ends < partitions {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(message)) => all.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => panic!("{topic}: no answer from the broker"),
        }
    }
    all
}

fn headers(message: &OwnedMessage) -> Vec<Header> {
    let all = message.headers().into_iter().flat_map(|headers| headers.iter());
    all.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

fn text(headers: &[Header], name: &str) -> String {
    let value = headers.iter().rfind(|(known, _)| known == name).and_then(|(_, value)| value.clone());
    String::from_utf8(value.unwrap_or_default()).expect("UTF-8")
}
