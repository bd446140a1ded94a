//! The largest commands, outputs and rejections that the contract allows, and one byte more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    error::RDKafkaErrorCode,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    broker,
    process::{PATIENCE, Setup},
    progress::Progress,
    reading::{self, Read},
    say, verifying,
};

/// Contract, section 1: bytes of a value. Section 3: bytes of a command's output.
const VALUE: usize = 512 * 1024;
const OUTPUT: usize = 32 * 1024 * 1024;
/// Bytes of a record with its batch that a topic with Kafka's defaults takes.
const TOPIC: usize = 1_048_588;
const TIME: &str = "2026-11-24T01:20:00Z";
const KEY: &str = "case/7";

/// What became of one record: its offset, or why the broker did not take it.
type Report = Result<i64, RDKafkaErrorCode>;

#[derive(Debug, Default)]
struct Reports(Arc<Mutex<Option<Report>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().expect("a code")),
        };
        *self.0.lock().expect("never poisoned") = Some(report);
    }
}

/// Posts values one by one, as large as the broker takes them.
struct Poster<'a> {
    producer: BaseProducer<Reports>,
    topic: &'a str,
}

impl<'a> Poster<'a> {
    fn new(setup: &'a Setup, compression: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &setup.servers)
            .set("message.max.bytes", "100000000")
            .set("compression.type", compression)
            .create_with_context(Reports::default())
            .expect("a producer");
        Self { producer, topic: &setup.names.commands }
    }

    fn try_post(&self, value: &[u8], filler: &str) -> Report {
        let headers = OwnedHeaders::new().insert(Header { key: "filler", value: Some(filler) });
        let record = BaseRecord::to(self.topic).key(KEY).payload(value).headers(headers);
        self.producer.send(record).map_err(|(error, _)| error).expect("the producer takes it");
        self.producer.flush(PATIENCE).expect("an answer");
        self.producer.context().0.lock().expect("never poisoned").take().expect("a report")
    }

    fn post(&self, value: &[u8]) -> i64 {
        self.try_post(value, "").expect("the broker takes it")
    }

    /// The largest value of this kind that the topic takes, with its offset.
    fn post_largest(&self, value: impl Fn(usize) -> Vec<u8>, filler: impl Fn(usize) -> String) -> Posted {
        for size in (0..TOPIC).rev().skip(40) {
            let (value, filler) = (value(size), filler(size));
            match self.try_post(&value, &filler) {
                Ok(offset) => return Posted { offset, value, filler },
                Err(RDKafkaErrorCode::MessageSizeTooLarge) => {}
                Err(code) => panic!("{size} bytes: {code}"),
            }
        }
        unreachable!("the broker takes nothing")
    }
}

struct Posted {
    offset: i64,
    value: Vec<u8>,
    filler: String,
}

/// A command with this content and these targets, and nothing that depends on its record's time.
fn command(content: &str, targets: &[String]) -> String {
    let targets = targets.join(",");
    format!(
        r#"{{"@type":"share","objectType":"case","objectId":"7","publishedAt":"{TIME}","targets":[{targets}],"content":"{content}"}}"#
    )
}

/// A target, and what its notification has in front of the activity.
fn target(number: usize, name: &str) -> (String, String) {
    let name = if name.is_empty() { String::new() } else { format!(r#","name":"{name}""#) };
    let shown = format!(r#"{{"@type":"Identity","targetId":{{"id":"user-{number}"{name}}}"#);
    (format!(r#"{shown},"notify":true}}"#), format!("{shown}}}"))
}

/// Key and value of the notification of target `place`: contract, section 3.
fn notification(id: &str, place: usize, shown: &str, content: &str) -> (String, String) {
    let activity = format!(
        r#"{{"@type":"share","objectType":"case","objectId":"7","publishedAt":"{TIME}","content":"{content}"}}"#
    );
    let value =
        format!(r#"{{"id":"{id}/{place}","activityId":"{id}","target":{shown},"activity":{activity}}}"#);
    (format!("Identity:user-{place}"), value)
}

/// Bytes of key, value and headers less the value of `ce_source`, which is configured.
fn bytes(id: &str, place: usize, (key, value): &(String, String)) -> usize {
    let headers = [
        "ce_specversion1.0",
        "ce_id",
        id,
        "/",
        &place.to_string(),
        "ce_source",
        "ce_typeactivity-stream.notification",
        "ce_time2026-11-24T01:20:00.000Z",
        "ce_subjectcase/7",
        "content-typeapplication/json",
    ];
    key.len() + value.len() + headers.iter().map(|text| text.len()).sum::<usize>()
}

/// 1,000 targets whose notifications have exactly a given size, by the length of content and names.
struct Large {
    content: String,
    targets: Vec<(String, String)>,
}

impl Large {
    const TARGETS: usize = 1_000;
    /// Has a name of any length up to 512, by which the rest is filled.
    const NAMED: usize = 4;

    fn with_output(wanted: usize) -> Self {
        let id = "01a20ada-2c7b-89d1-8003-000000003039";
        let with = |content: usize, names: usize| {
            let name = |number| match number {
                0..Self::NAMED => "n".repeat(names / Self::NAMED + usize::from(number < names % Self::NAMED)),
                _ => String::new(),
            };
            let targets = (0..Self::TARGETS).map(|number| target(number, &name(number)));
            Self { content: "c".repeat(content), targets: targets.collect() }
        };
        let least = with(0, Self::NAMED);
        let base: usize = least.bytes(id);
        // The last thousand bytes and what is left of them are names.
        let content = (wanted - base) / Self::TARGETS - 1;
        let names = Self::NAMED + wanted - base - content * Self::TARGETS;
        let large = with(content, names);
        assert_eq!(large.bytes(id), wanted);
        large
    }

    fn notification(&self, id: &str, place: usize) -> (String, String) {
        notification(id, place, &self.targets[place].1, &self.content)
    }

    fn bytes(&self, id: &str) -> usize {
        (0..self.targets.len()).map(|place| bytes(id, place, &self.notification(id, place))).sum()
    }

    fn command(&self) -> String {
        let targets: Vec<String> = self.targets.iter().map(|(posted, _)| posted.clone()).collect();
        command(&self.content, &targets)
    }
}

/// A rejection's own command, as far as it came with it.
#[track_caller]
fn assert_rejected(read: &Read, code: &str, posted: &Posted, omitted: Option<&str>) {
    let place = read.place();
    assert_eq!(read.header("__connect.errors.exception.class.name"), Some(code), "{place}");
    assert_eq!(read.header("activity-stream.omitted"), omitted, "{place}");
    assert_eq!(read.key.as_deref(), Some(KEY.as_bytes()), "{place}");
    assert_eq!(read.header("filler"), Some(posted.filler.as_str()), "{place}");
    let value = omitted.is_none().then_some(&posted.value);
    assert!(read.value.as_ref() == value, "{place}: another value");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn accepts_the_largest_output_and_rejects_one_byte_more() {
    let setup = Setup::new("largest", &broker::shared(), 1);
    let poster = Poster::new(&setup, "none");
    let one = target(0, "").0;
    let exact = |size: usize| {
        let rest = size - command("", std::slice::from_ref(&one)).len();
        command(&"c".repeat(rest), std::slice::from_ref(&one)).into_bytes()
    };
    let posted = |offset, value: Vec<u8>| Posted { offset, value, filler: String::new() };
    let mut rejected: Vec<(Posted, &str, Option<&str>)> = Vec::new();

    let largest = exact(VALUE);
    assert_eq!(largest.len(), VALUE);
    let largest = posted(poster.post(&largest), largest);
    let value = exact(VALUE + 1);
    rejected.push((posted(poster.post(&value), value), "too_large", None));

    let output = Large::with_output(OUTPUT);
    let output_offset = poster.post(output.command().as_bytes());
    let value = Large::with_output(OUTPUT + 1).command().into_bytes();
    rejected.push((posted(poster.post(&value), value), "output_too_large", None));

    // The largest record that the commands topic takes; also as one that has as many problems as are reported.
    rejected.push((poster.post_largest(exact, |_| String::new()), "too_large", None));
    let bad: Vec<String> = (0..VALUE / 1_200).map(|_| format!(r#"{{"{}":1}}"#, "p".repeat(1_000))).collect();
    let bad = command("", &bad).into_bytes();
    let problems = poster.post_largest(|_| bad.clone(), |size| "f".repeat(size - bad.len()));
    rejected.push((problems, "unknown_property", None));

    // Compressed on its way, far larger than any topic takes uncompressed.
    for compression in ["gzip", "zstd"] {
        let value = exact(8 << 20);
        let offset = Poster::new(&setup, compression).post(&value);
        rejected.push((posted(offset, value), "too_large", Some("value")));
    }
    let last = poster.post(br#"{"objectType":"case","objectId":"7"}"#);

    let mut instance = setup.start("only", &[]);
    let total = u64::try_from(last + 1).expect("a count");
    Progress::of(&setup).await_published(total, 2 * PATIENCE, || instance.assert_running());
    instance.stop();

    let mut found = BTreeMap::new();
    for read in reading::read_all(&setup.servers, &setup.names.rejections, rejected.len()) {
        let offset: i64 =
            read.header("__connect.errors.offset").expect("an offset").parse().expect("a number");
        assert!(found.insert(offset, read).is_none(), "the rejection of {offset} is there twice");
    }
    assert_eq!(found.len(), rejected.len(), "{:?}", found.keys());
    for (posted, code, omitted) in &rejected {
        assert_rejected(&found[&posted.offset], code, posted, *omitted);
    }
    let mut places: BTreeMap<i64, Vec<bool>> = BTreeMap::new();
    places.insert(largest.offset, vec![false]);
    places.insert(output_offset, vec![false; Large::TARGETS]);
    let content = "c".repeat(VALUE - command("", &[one]).len());
    for read in reading::read_all(&setup.servers, &setup.names.notifications, Large::TARGETS + 1) {
        let id = read.header("ce_id").expect("an id");
        let (id, place) = id.split_once('/').expect("an id with a place");
        let offset = i64::from_str_radix(&id[id.len() - 12..], 16).expect("an offset");
        let place: usize = place.parse().expect("a number");
        let (key, value) = match offset == output_offset {
            true => output.notification(id, place),
            false => notification(id, place, &target(0, "").1, &content),
        };
        assert!(read.key == Some(key.into_bytes()), "{id}/{place}: another key");
        assert!(read.value == Some(value.into_bytes()), "{id}/{place}: another value");
        let seen = places.get_mut(&offset).and_then(|seen| seen.get_mut(place)).expect("a notified target");
        assert!(!std::mem::replace(seen, true), "{id}/{place} is there twice");
    }
    assert!(places.values().flatten().all(|seen| *seen), "notifications are missing");
    verifying::verify(&setup, &["only"], &[]).assert_clean();
    say!(
        "largest: {VALUE} bytes of value and {OUTPUT} of output in 1,001 notifications, {} rejections, of which the \
         largest has {} bytes of value",
        rejected.len(),
        found.values().filter_map(|read| read.value.as_ref()).map(Vec::len).max().unwrap_or(0)
    );
}
