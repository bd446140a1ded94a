//! A load of commands that a seed gives: good ones, bad ones, repeated ones. A command is a function of the seed and
//! its number, so what must become of it is known without keeping it.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastrand::Rng;
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::content::Content;

/// Every command carries its number in this header, by which a reader knows it again.
pub const NUMBER: &str = "number";

/// Commands numbered from 0.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub seed: u64,
    pub commands: u32,
}

/// A command as it is posted.
#[derive(Debug, Clone)]
pub struct Command {
    pub key: Option<String>,
    pub headers: Vec<(&'static str, String)>,
    pub value: Option<Vec<u8>>,
    pub meaning: Meaning,
}

/// What the contract makes of it.
#[derive(Debug, Clone)]
pub enum Meaning {
    /// Its one problem.
    Bad(Problem),
    /// An event, unless another command in its partition came before with the same idempotency key.
    Valid { content: Content, idempotency_key: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    pub pointer: &'static str,
    pub code: &'static str,
}

/// What kind of command a number has; all that follows from it is drawn later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bad,
    /// With an idempotency key of its own.
    Keyed,
    /// With the idempotency key of the keyed command this number of commands before it.
    Repeated {
        back: u32,
    },
    Plain,
}

impl Load {
    fn random(&self, number: u32) -> Rng {
        // Neighbouring seeds give neighbouring first numbers; the multiplication spreads them.
        Rng::with_seed(self.seed ^ u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// 5 % bad, 3 % repeated, 20 % with an idempotency key.
    fn kind(random: &mut Rng) -> Kind {
        match random.u32(0..100) {
            0..5 => Kind::Bad,
            5..8 => Kind::Repeated { back: random.u32(1..200) },
            8..28 => Kind::Keyed,
            _ => Kind::Plain,
        }
    }

    /// The command with this number.
    pub fn command(&self, number: u32) -> Command {
        let mut random = self.random(number);
        let kind = Self::kind(&mut random);
        let mut command = match kind {
            Kind::Bad => bad(number, &mut random),
            Kind::Keyed => self.keyed(number),
            Kind::Plain => {
                let content = Content::new(number, &mut random);
                let key = (random.u8(0..100) >= 15).then(|| content.object());
                Command {
                    key,
                    headers: Vec::new(),
                    value: Some(content.posted().into()),
                    meaning: Meaning::Valid { content, idempotency_key: None },
                }
            }
            Kind::Repeated { back } => {
                let before = self.keyed_before(number.saturating_sub(back));
                // One in four says something else with the same key, and is rejected for that.
                let differs = before.is_some() && random.u8(0..4) == 0;
                let other = differs.then(|| Content::new(number, &mut random));
                self.keyed_with(before.unwrap_or(number), other)
            }
        };
        command.headers.insert(0, (NUMBER, number.to_string()));
        command
    }

    /// The last keyed command up to this one.
    fn keyed_before(&self, number: u32) -> Option<u32> {
        (number.saturating_sub(500)..=number)
            .rev()
            .find(|&number| Self::kind(&mut self.random(number)) == Kind::Keyed)
    }

    fn keyed(&self, number: u32) -> Command {
        self.keyed_with(number, None)
    }

    /// The keyed command with this number, with other content where that is given. Its key is in a header of its own, or
    /// the source and id of the CloudEvent that carries it, in binary or in structured mode.
    fn keyed_with(&self, number: u32, other: Option<Content>) -> Command {
        let mut random = self.random(number);
        Self::kind(&mut random);
        let form = random.u8(0..4);
        let first = Content::new(number, &mut random);
        let record_key = first.object();
        let content = other.unwrap_or(first);
        let (key, posted) = (format!("key-{number}"), content.posted());
        let (headers, value) = match form {
            0 => (binary_event(&key), posted),
            1 => structured_event(&key, &posted),
            _ => (vec![("idempotency-key", key.clone())], posted),
        };
        Command {
            key: Some(record_key),
            headers,
            value: Some(value.into()),
            meaning: Meaning::Valid { content, idempotency_key: Some(key) },
        }
    }

    /// Posts these commands in their order, in the background; see [`Posting`].
    pub fn post(self, servers: &str, topic: &str, numbers: Range<u32>) -> Posting {
        let pace = Arc::new(Pace::new(numbers.start));
        let (servers, topic) = (servers.to_owned(), topic.to_owned());
        let mut posting = Posting { load: self, servers, topic, end: numbers.end, pace, thread: None };
        posting.go_on();
        posting
    }
}

fn producer(servers: &str) -> BaseProducer<Reports> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "2")
        .set("message.timeout.ms", "600000")
        .set("reconnect.backoff.max.ms", "1000")
        .create_with_context(Reports::default())
        .expect("a producer")
}

/// Posts from the next command on, as the pace lets it, until that is ended; then waits until the topic has all.
fn post(load: Load, producer: &BaseProducer<Reports>, topic: &str, end: u32, pace: &Pace) {
    let mut next = pace.next.load(Ordering::SeqCst);
    while next < end && !pace.ended.load(Ordering::SeqCst) {
        if next < pace.limit() {
            send(producer, topic, &load.command(next));
            next += 1;
            pace.next.store(next, Ordering::SeqCst);
        } else {
            producer.poll(Duration::from_millis(2));
        }
    }
    producer.flush(Duration::from_secs(300)).expect("all is delivered");
    let failed = producer.context().failed.load(Ordering::SeqCst);
    assert_eq!(failed, 0, "commands were not delivered");
}

/// How far commands may go.
#[derive(Debug)]
struct Pace {
    start: u32,
    begun: Instant,
    limit: AtomicU32,
    per_second: AtomicU32,
    /// The next command.
    next: AtomicU32,
    ended: AtomicBool,
}

impl Pace {
    fn new(start: u32) -> Self {
        let free = || AtomicU32::new(u32::MAX);
        Self {
            start,
            begun: Instant::now(),
            limit: free(),
            per_second: free(),
            next: AtomicU32::new(start),
            ended: AtomicBool::new(false),
        }
    }

    fn limit(&self) -> u32 {
        let steady = self.begun.elapsed().as_secs_f64() * f64::from(self.per_second.load(Ordering::SeqCst));
        // A float becomes the nearest number that there is.
        self.limit.load(Ordering::SeqCst).min(self.start.saturating_add(steady as u32))
    }
}

/// Posts commands into the topic, as fast as it accepts them unless configured otherwise.
#[derive(Debug)]
pub struct Posting {
    load: Load,
    servers: String,
    topic: String,
    end: u32,
    pace: Arc<Pace>,
    thread: Option<JoinHandle<()>>,
}

impl Posting {
    /// Commands from this number on wait until they are let through.
    pub fn up_to(&self, limit: u32) {
        self.pace.limit.store(limit, Ordering::SeqCst);
    }

    /// How many are on their way or there.
    pub fn posted(&self) -> u32 {
        self.pace.next.load(Ordering::SeqCst) - self.pace.start
    }

    /// Stops posting until [`Posting::go_on`], and waits until the posted commands are in the topic.
    /// No producer is left that could permanently lose the brokers because it gets metadata without brokers from a broker
    /// that stops (librdkafka's issue 5301).
    pub fn pause(&mut self) {
        self.pace.ended.store(true, Ordering::SeqCst);
        self.join();
    }

    /// Goes on, with a new producer.
    pub fn go_on(&mut self) {
        assert!(self.thread.is_none(), "it goes on already");
        self.pace.ended.store(false, Ordering::SeqCst);
        let (load, producer) = (self.load, producer(&self.servers));
        let (topic, end, pace) = (self.topic.clone(), self.end, Arc::clone(&self.pace));
        self.thread = Some(thread::spawn(move || post(load, &producer, &topic, end, &pace)));
    }

    /// Posts at this rate from the beginning on. Commands that are due in a pause follow at once: a real producer's
    /// commands do not stop while a broker is away, and a backlog is part of what is to be outlasted; see
    /// [`super::members::Members::catch_up`].
    pub fn steadily(self, per_second: u32) -> Self {
        self.pace.per_second.store(per_second, Ordering::SeqCst);
        self
    }

    /// Lets all through and waits until each is in the topic.
    pub fn finish(mut self) {
        self.up_to(u32::MAX);
        self.pace.per_second.store(u32::MAX, Ordering::SeqCst);
        self.join();
    }

    /// Posts no more, waits until those that were posted are in the topic, and says which would have been the next.
    pub fn end(mut self) -> u32 {
        self.pause();
        self.pace.next.load(Ordering::SeqCst)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        self.pace.ended.store(true, Ordering::SeqCst);
    }
}

/// CloudEvents 1.0.2, Kafka protocol binding, section 3.2.
fn binary_event(id: &str) -> Vec<(&'static str, String)> {
    let attributes =
        [("ce_specversion", "1.0"), ("ce_id", id), ("ce_source", "/tests"), ("ce_type", "posted")];
    let headers = attributes.into_iter().chain([("content-type", "application/json")]);
    headers.map(|(name, value)| (name, value.to_owned())).collect()
}

/// The same, section 3.3.
fn structured_event(id: &str, data: &str) -> (Vec<(&'static str, String)>, String) {
    let value =
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/tests","type":"posted","data":{data}}}"#);
    (vec![("content-type", "application/cloudevents+json; charset=utf-8".to_owned())], value)
}

fn bad(number: u32, random: &mut Rng) -> Command {
    let (pointer, code, value): (_, _, &[u8]) = match random.u8(0..15) {
        0 => ("", "not_json", br#"{"objectType":"case""#),
        1 => ("/objectId", "missing", br#"{"objectType":"case"}"#),
        2 => ("/targets", "no_targets", br#"{"objectType":"case","objectId":"7","targets":[]}"#),
        3 => (
            "/targets/0/notify",
            "wrong_type",
            br#"{"objectType":"case","objectId":"7","targets":[{"targetId":"bo","notify":"yes"}]}"#,
        ),
        4 => (
            "/targets/1/notfy",
            "unknown_property",
            br#"{"objectType":"case","objectId":"7","targets":["bo",{"targetId":"anna","notfy":true}]}"#,
        ),
        5 => ("", "not_utf8", b"{\"objectType\":\"case\",\"objectId\":\"\xff\"}"),
        6 => ("", "tombstone", b""),
        7 => ("", "not_an_object", b"[]"),
        8 => ("", "idempotency_key_without_record_key", br#"{"objectType":"case","objectId":"7"}"#),
        9 => ("/objectId", "empty", br#"{"objectType":"case","objectId":""}"#),
        10 => ("", "bad_cloud_event", br#"{"objectType":"case","objectId":"7"}"#),
        11 => (
            "/data/objectId",
            "missing",
            br#"{"specversion":"1.0","id":"7","source":"/tests","type":"posted","data":{"objectType":"case"}}"#,
        ),
        12 => ("/cc", "foreign_audience", br#"{"objectType":"case","objectId":"7","cc":["bo"]}"#),
        13 => (
            "/targets/0/targetId",
            "unexpected_target_id",
            br#"{"objectType":"case","objectId":"7","targets":[{"@type":"Public","targetId":"bo"}]}"#,
        ),
        _ => ("/target", "misspelt_targets", br#"{"objectType":"case","objectId":"7","target":["bo"]}"#),
    };
    let keyless = code == "idempotency_key_without_record_key";
    let headers = match code {
        "idempotency_key_without_record_key" => vec![("idempotency-key", format!("key-{number}"))],
        // It lacks its id.
        "bad_cloud_event" => {
            binary_event("").into_iter().filter(|(name, _)| *name != "ce_id").collect::<Vec<_>>()
        }
        _ if pointer.starts_with("/data") => structured_event("", "").0,
        _ => Vec::new(),
    };
    Command {
        key: (!keyless).then(|| format!("case/{}", number % 50)),
        headers,
        value: (code != "tombstone").then(|| value.to_vec()),
        meaning: Meaning::Bad(Problem { pointer, code }),
    }
}

/// Sends one command, waiting where the producer's queue is full.
fn send(producer: &BaseProducer<Reports>, topic: &str, command: &Command) {
    let mut headers = OwnedHeaders::new_with_capacity(command.headers.len());
    for (key, value) in &command.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
    record.key = command.key.as_deref().map(str::as_bytes);
    record.payload = command.value.as_deref();
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => panic!("posting to {topic}: {error}"),
        }
    }
    producer.poll(Duration::ZERO);
}

/// Counts what was not delivered.
#[derive(Debug, Default)]
struct Reports {
    failed: AtomicU32,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
    }
}
